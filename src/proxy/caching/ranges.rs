//! Parts of what is stored (RFC 9110 section 14.2).
//!
//! Pingora cuts them out and writes the fields. What a client may ask for, and how it is meant, is read here: Pingora takes weak
//! validators for strong ones, a suffix of nothing for a part, and numbers that are too large for none at all.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{RangeType, range_header_filter};

/// More than this many are no part of anything: all of it is sent.
const MOST: usize = 200;

/// Makes a part of this response, if the request asks for one, and says which.
pub(in crate::proxy) fn filter(request: &RequestHeader, response: &mut ResponseHeader) -> RangeType {
    if !request.headers.contains_key(header::RANGE) {
        return range_header_filter(request, response, None);
    }
    let wanted = wanted(request, response);
    // Of no more than a method and a path of our own, so this cannot fail.
    let Ok(mut asked) = RequestHeader::build_no_case(Method::GET, b"/", Some(1)) else { return RangeType::None };
    if let Some(range) = wanted.and_then(|range| HeaderValue::from_str(&range).ok())
        && asked.insert_header(header::RANGE, range).is_err()
    {
        return RangeType::None;
    }
    range_header_filter(&asked, response, None)
}

/// The parts that are wanted, each with its first byte. `None` for all of it.
fn wanted(request: &RequestHeader, response: &ResponseHeader) -> Option<String> {
    if request.method != Method::GET || response.status != StatusCode::OK {
        return None;
    }
    let range = request.headers.get(header::RANGE)?;
    let length = response.headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()?;
    let holds = request.headers.get(header::IF_RANGE).is_none_or(|sent| is_this(sent, &response.headers));
    parts(range.to_str().ok()?, length).filter(|_| holds)
}

/// Is the part that a client lacks one of this very response? Only a strong validator tells.
fn is_this(sent: &HeaderValue, stored: &HeaderMap) -> bool {
    if sent.as_bytes().starts_with(b"\"") {
        return stored.get(header::ETAG) == Some(sent);
    }
    let date = |name: HeaderName| httpdate::parse_http_date(stored.get(name)?.to_str().ok()?).ok();
    // A date is one where nothing can have changed in the same second (RFC 9110 section 8.8.2.2).
    let settled = date(header::LAST_MODIFIED)
        .zip(date(header::DATE))
        .is_some_and(|(modified, made)| made.duration_since(modified).is_ok_and(|since| since >= Duration::from_secs(1)));
    settled && stored.get(header::LAST_MODIFIED) == Some(sent)
}

/// Reads a set of ranges over so many bytes. `None` when it is malformed, or of another unit; a set of which nothing is there asks
/// for what is behind the end.
fn parts(range: &str, length: u64) -> Option<String> {
    let (unit, set) = range.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let mut parts = Vec::new();
    let mut any = false;
    for spec in set.split(',').map(str::trim).filter(|spec| !spec.is_empty()) {
        any = true;
        if parts.len() == MOST {
            return None;
        }
        let (first, last) = (spec.split_once('-')?.0.trim_end(), spec.split_once('-')?.1.trim_start());
        if !(first.bytes().chain(last.bytes()).all(|byte| byte.is_ascii_digit())) {
            return None;
        }
        // More digits than a number holds are beyond every response.
        let number = |text: &str| text.parse().unwrap_or(u64::MAX);
        match (first.is_empty(), last.is_empty()) {
            (true, true) => return None,
            (true, false) if number(last) == 0 => {}
            // All of nothing, which no part can say.
            (true, false) if length == 0 => return None,
            (true, false) => parts.push(format!("{}-", length.saturating_sub(number(last)))),
            (false, false) if number(first) > number(last) => return None,
            (false, _) if number(first) >= length => {}
            (false, true) => parts.push(format!("{}-", number(first))),
            (false, false) => parts.push(format!("{}-{}", number(first), number(last).min(length - 1))),
        }
    }
    match (any, parts.is_empty()) {
        (false, _) => None,
        (true, true) => Some(format!("bytes={length}-")),
        (true, false) => Some(format!("bytes={}", parts.join(","))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_they_are_meant() {
        for (range, length, want) in [
            ("bytes=0-0", 100, Some("bytes=0-0")),
            ("BYTES=10-", 100, Some("bytes=10-")),
            ("bytes=-10", 100, Some("bytes=90-")),
            ("bytes=-1000", 100, Some("bytes=0-")),
            ("bytes=-99999999999999999999999", 100, Some("bytes=0-")),
            ("bytes=0-99999999999999999999999", 100, Some("bytes=0-99")),
            ("bytes=0-1, ,5-6,", 100, Some("bytes=0-1,5-6")),
            ("bytes=0-1,100-,-0", 100, Some("bytes=0-1")),
            ("bytes=-0", 100, Some("bytes=100-")),
            ("bytes=100-", 100, Some("bytes=100-")),
            ("bytes=99999999999999999999999-", 100, Some("bytes=100-")),
            ("bytes=0-", 0, Some("bytes=0-")),
            ("bytes=-5", 0, None),
            ("bytes=5-1", 100, None),
            ("bytes=0-1,5-1", 100, None),
            ("bytes=99999999999999999999999-5", 100, None),
            ("bytes=-", 100, None),
            ("bytes=", 100, None),
            ("bytes=,", 100, None),
            ("bytes=+1-2", 100, None),
            ("bytes=1-2-3", 100, None),
            ("lines=0-1", 100, None),
            ("bytes", 100, None),
        ] {
            assert_eq!(parts(range, length).as_deref(), want, "{range} of {length}");
        }
        let many = |count: u64| parts(&format!("bytes={}", vec!["0-0"; count as usize].join(",")), 10);
        assert!(many(200).is_some() && many(201).is_none());
    }
}
