//! What a request asks of a file beside its content: only if it has changed, only a part (RFC 9110 sections 13 and 14).

use std::{
    fs::Metadata,
    os::unix::fs::MetadataExt,
    time::{Duration, SystemTime},
};

use http::HeaderValue;

use crate::types::Fields;

/// The conditions of a request, as sent.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    if_match: Option<Vec<u8>>,
    if_none_match: Option<Vec<u8>>,
    if_modified_since: Option<SystemTime>,
    if_unmodified_since: Option<SystemTime>,
    if_range: Option<Vec<u8>>,
    range: Option<Vec<u8>>,
}

/// What identifies a representation of a file.
#[derive(Debug)]
pub(super) struct Validators {
    /// With its quotes. Strong: two files of one time, to the nanosecond, and one length are the same file.
    pub(super) etag: String,
    /// In whole seconds, as fields have it.
    pub(super) modified: SystemTime,
}

/// What is sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// All of it.
    Whole,
    /// From this byte to this one, both included.
    Part(u64, u64),
    /// 304.
    NotModified,
    /// 412.
    Failed,
    /// 416.
    Unsatisfiable,
}

impl Validators {
    /// `coding` tells the representations of one file apart.
    pub(super) fn new(facts: &Metadata, coding: Option<&str>) -> Self {
        let (seconds, nanos) = (facts.mtime(), facts.mtime_nsec());
        let dash = if coding.is_some() { "-" } else { "" };
        let etag = format!("\"{seconds:x}.{nanos:x}-{:x}{dash}{}\"", facts.len(), coding.unwrap_or_default());
        let since_epoch = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
        // A clock that was wrong, or dates that are chosen: `Last-Modified` is never after `Date` (RFC 9110 section 8.8.2.1).
        let now = SystemTime::now();
        let modified = SystemTime::UNIX_EPOCH.checked_add(since_epoch).map_or(now, |modified| modified.min(now));
        Self { etag, modified }
    }

    /// `Last-Modified`.
    pub(super) fn last_modified(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&httpdate::fmt_http_date(self.modified)).ok()
    }
}

impl Conditions {
    pub(super) fn of(fields: &dyn Fields) -> Self {
        let list = |name| {
            let mut values = fields.get_all(name);
            let first = values.next()?.to_vec();
            Some(values.fold(first, |list, value| [&list[..], b",", value].concat()))
        };
        // A date that is none is as good as not sent; two of them are one too many.
        let date = |name| httpdate::parse_http_date(std::str::from_utf8(&list(name)?).ok()?).ok();
        Self {
            if_match: list("if-match"),
            if_none_match: list("if-none-match"),
            if_modified_since: date("if-modified-since"),
            if_unmodified_since: date("if-unmodified-since"),
            if_range: list("if-range"),
            range: list("range"),
        }
    }

    /// Judges in the order of RFC 9110 section 13.2.2. `ranges` is false for methods that know none.
    pub(super) fn judge(&self, has: &Validators, length: u64, ranges: bool) -> Answer {
        let failed = match (&self.if_match, self.if_unmodified_since) {
            (Some(list), _) => !named(list, &has.etag, Compare::Strong),
            (None, Some(date)) => has.modified > date,
            (None, None) => false,
        };
        if failed {
            return Answer::Failed;
        }
        let unchanged = match (&self.if_none_match, self.if_modified_since) {
            (Some(list), _) => named(list, &has.etag, Compare::Weak),
            (None, Some(date)) => has.modified <= date,
            (None, None) => false,
        };
        if unchanged {
            return Answer::NotModified;
        }
        match &self.range {
            Some(range) if ranges && self.range_holds(has) => part(range, length),
            _ => Answer::Whole,
        }
    }

    /// Is the part that a client lacks one of this very representation?
    fn range_holds(&self, has: &Validators) -> bool {
        let Some(sent) = &self.if_range else { return true };
        let sent = sent.trim_ascii();
        if sent.starts_with(b"\"") {
            return sent == has.etag.as_bytes();
        }
        let date = std::str::from_utf8(sent).ok().and_then(|sent| httpdate::parse_http_date(sent).ok());
        // A date is a strong validator only of what had not changed within its second: not before that second is over.
        let settled = SystemTime::now().duration_since(has.modified).is_ok_and(|age| age >= Duration::from_secs(1));
        settled && date == Some(has.modified)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Compare {
    Strong,
    Weak,
}

/// Is the entity tag in the list, or the list `*`? Ours have no comma in them, so pieces of others match nothing.
fn named(list: &[u8], etag: &str, compare: Compare) -> bool {
    list.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).any(|one| {
        let one = match compare {
            Compare::Weak => one.strip_prefix(b"W/").unwrap_or(one),
            Compare::Strong => one,
        };
        one == b"*" || one == etag.as_bytes()
    })
}

/// The part that a range asks for. Several at once, other units and what is malformed are answered with the whole.
fn part(range: &[u8], length: u64) -> Answer {
    let text = std::str::from_utf8(range).unwrap_or_default().trim();
    let Some((unit, spec)) = text.split_once('=') else { return Answer::Whole };
    let Some((first, last)) = spec.trim().split_once('-') else { return Answer::Whole };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !unit.eq_ignore_ascii_case("bytes") || !digits(first) || !digits(last) {
        return Answer::Whole;
    }
    // More digits than a number holds are beyond every file.
    let number = |text: &str| text.parse::<u64>().unwrap_or(u64::MAX);
    let Some(end) = length.checked_sub(1) else { return Answer::Unsatisfiable };
    match (first.is_empty(), last.is_empty()) {
        (true, true) => Answer::Whole,
        (true, false) if number(last) == 0 => Answer::Unsatisfiable,
        (true, false) => Answer::Part(length.saturating_sub(number(last)), end),
        (false, false) if number(first) > number(last) => Answer::Whole,
        (false, _) if number(first) > end => Answer::Unsatisfiable,
        (false, true) => Answer::Part(number(first), end),
        (false, false) => Answer::Part(number(first), number(last).min(end)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: &str = "Tue, 01 Oct 2024 12:00:00 GMT";
    const LATER: &str = "Tue, 01 Oct 2024 12:00:01 GMT";
    const EARLIER: &str = "Tue, 01 Oct 2024 11:59:59 GMT";

    fn judge(fields: &[(&'static str, &str)]) -> Answer {
        let mut sent = http::HeaderMap::new();
        for (name, value) in fields {
            sent.append(*name, value.parse().unwrap());
        }
        let has = Validators { etag: "\"a\"".into(), modified: httpdate::parse_http_date(TIME).unwrap() };
        Conditions::of(&sent).judge(&has, 100, true)
    }

    #[test]
    fn conditions_are_judged_in_order() {
        for (fields, want) in [
            (&[][..], Answer::Whole),
            (&[("if-none-match", "\"a\"")], Answer::NotModified),
            (&[("if-none-match", "W/\"a\"")], Answer::NotModified),
            (&[("if-none-match", "\"b\", \"a\"")], Answer::NotModified),
            (&[("if-none-match", "\"b\""), ("if-none-match", "\"a\"")], Answer::NotModified),
            (&[("if-none-match", "*")], Answer::NotModified),
            (&[("if-none-match", "\"b\"")], Answer::Whole),
            (&[("if-none-match", "\"b\""), ("if-modified-since", TIME)], Answer::Whole),
            (&[("if-modified-since", TIME)], Answer::NotModified),
            (&[("if-modified-since", LATER)], Answer::NotModified),
            (&[("if-modified-since", EARLIER)], Answer::Whole),
            (&[("if-modified-since", "yesterday")], Answer::Whole),
            (&[("if-match", "\"a\"")], Answer::Whole),
            (&[("if-match", "W/\"a\"")], Answer::Failed),
            (&[("if-match", "\"b\"")], Answer::Failed),
            (&[("if-match", "*")], Answer::Whole),
            (&[("if-match", "\"b\""), ("if-none-match", "\"a\"")], Answer::Failed),
            (&[("if-unmodified-since", TIME)], Answer::Whole),
            (&[("if-unmodified-since", EARLIER)], Answer::Failed),
            (&[("if-match", "\"a\""), ("if-unmodified-since", EARLIER)], Answer::Whole),
            (&[("if-none-match", "\"a\""), ("range", "bytes=0-1")], Answer::NotModified),
            (&[("if-range", "\"a\""), ("range", "bytes=0-1")], Answer::Part(0, 1)),
            (&[("if-range", "W/\"a\""), ("range", "bytes=0-1")], Answer::Whole),
            (&[("if-range", "\"b\""), ("range", "bytes=0-1")], Answer::Whole),
            (&[("if-range", TIME), ("range", "bytes=0-1")], Answer::Part(0, 1)),
            (&[("if-range", LATER), ("range", "bytes=0-1")], Answer::Whole),
        ] {
            assert_eq!(judge(fields), want, "{fields:?}");
        }
        let has = Validators { etag: "\"a\"".into(), modified: SystemTime::UNIX_EPOCH };
        let sent: http::HeaderMap = [(http::header::RANGE, HeaderValue::from_static("bytes=0-1"))].into_iter().collect();
        assert_eq!(Conditions::of(&sent).judge(&has, 100, false), Answer::Whole, "only GET knows ranges");
    }

    #[test]
    fn ranges_are_read_as_they_are_meant() {
        for (range, want) in [
            ("bytes=0-0", Answer::Part(0, 0)),
            ("bytes=10-19", Answer::Part(10, 19)),
            ("BYTES=10-", Answer::Part(10, 99)),
            ("bytes= 10-200", Answer::Part(10, 99)),
            ("bytes=-10", Answer::Part(90, 99)),
            ("bytes=-1000", Answer::Part(0, 99)),
            ("bytes=99-", Answer::Part(99, 99)),
            ("bytes=100-", Answer::Unsatisfiable),
            ("bytes=-0", Answer::Unsatisfiable),
            ("bytes=99999999999999999999999-", Answer::Unsatisfiable),
            ("bytes=0-99999999999999999999999", Answer::Part(0, 99)),
            ("bytes=0-1,5-6", Answer::Whole),
            ("bytes=5-1", Answer::Whole),
            ("bytes=-", Answer::Whole),
            ("bytes=a-b", Answer::Whole),
            ("bytes=+1-2", Answer::Whole),
            ("bytes", Answer::Whole),
            ("lines=0-1", Answer::Whole),
        ] {
            assert_eq!(judge(&[("range", range)]), want, "{range}");
        }
        assert_eq!(part(b"bytes=0-0", 0), Answer::Unsatisfiable, "an empty file has no first byte");
    }
}
