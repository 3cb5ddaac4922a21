//! A line as the operator wrote it: text with `{fields}`, which have the names of the JSON form.
//!
//! What is not known is `-`. Of what a client sends, quotes, backslashes, control bytes and everything beyond ASCII are
//! written as `\xHH`, as in the combined format: a field between quotes cannot end before its quote, and a line only
//! with the line.

use std::{fmt, io::Write, str::FromStr};

use super::{
    combined::escaped,
    cut,
    json::{decimal, millis},
};
use crate::{
    observe::{Attempt, Outcome},
    types::{Part, Template, TemplateError, Version, nearest},
};

/// What a client may make us write of each of its strings, in bytes before escaping.
const LIMIT: usize = 2048;

/// A line with fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineTemplate {
    text: Box<str>,
    template: Template<Field>,
}

macro_rules! fields {
    ($($name:literal => $field:ident,)+) => {
        /// A field of a line.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        enum Field { $($field),+ }
        /// Every field by its name, in the order of the JSON form, whose members of `ms` and `end` are named with a dot.
        const FIELDS: &[(&str, Field)] = &[$(($name, Field::$field)),+];
    };
}

fields! {
    "ts" => Ts,
    "request_id" => RequestId,
    "trace_id" => TraceId,
    "client" => Client,
    "listener" => Listener,
    "sni" => Sni,
    "tls" => Tls,
    "client_cert" => ClientCert,
    "http" => Http,
    "method" => Method,
    "host" => Host,
    "path" => Path,
    "route" => Route,
    "upstream" => Upstream,
    "endpoint" => Endpoint,
    "attempts" => Attempts,
    "status" => Status,
    "bytes_in" => BytesIn,
    "bytes_out" => BytesOut,
    "ms.total" => MsTotal,
    "ms.queue" => MsQueue,
    "ms.connect" => MsConnect,
    "ms.first_byte" => MsFirstByte,
    "end.who" => EndWho,
    "end.phase" => EndPhase,
    "end.type" => EndType,
    "end.reason" => EndReason,
    "generation" => Generation,
    "user_agent" => UserAgent,
    "referer" => Referer,
    "cache" => Cache,
    "driver" => Driver,
}

impl LineTemplate {
    /// Every field by name.
    pub fn fields() -> impl Iterator<Item = &'static str> {
        FIELDS.iter().map(|(name, _)| *name)
    }

    /// Appends the line, with its end.
    pub(super) fn write(&self, line: &mut Vec<u8>, outcome: &Outcome) {
        for part in self.template.parts() {
            match part {
                Part::Text(text) => line.extend_from_slice(text.as_bytes()),
                Part::Value(field) => field.write(line, outcome),
            }
        }
        line.push(b'\n');
    }
}

impl Field {
    fn write(self, line: &mut Vec<u8>, outcome: &Outcome) {
        let tls = outcome.tls.as_deref();
        let times = &outcome.times;
        match self {
            Field::Ts => show(line, &humantime::format_rfc3339_micros(outcome.started)),
            Field::RequestId => text(line, &outcome.request_id),
            Field::TraceId => match &outcome.trace {
                Some(trace) => show(line, &trace.id),
                None => text(line, ""),
            },
            Field::Client => show(line, &outcome.client),
            Field::Listener => text(line, &outcome.listener),
            Field::Sni => optional(line, tls.and_then(|tls| tls.sni.as_deref())),
            Field::Tls => optional(line, tls.map(|tls| tls.version)),
            Field::ClientCert => optional(line, tls.and_then(|tls| tls.subject.as_deref())),
            Field::Http => text(line, outcome.http.map_or("", Version::as_str)),
            Field::Method => text(line, &outcome.method),
            Field::Host => text(line, &outcome.host),
            Field::Path => text(line, &outcome.path),
            Field::Route => optional(line, outcome.route.as_deref()),
            Field::Upstream => optional(line, outcome.upstream.as_deref()),
            Field::Endpoint => optional(line, outcome.attempts.last().map(|attempt| &*attempt.endpoint)),
            Field::Attempts => attempts(line, &outcome.attempts),
            Field::Status => decimal(line, outcome.status.into()),
            Field::BytesIn => decimal(line, outcome.bytes_in),
            Field::BytesOut => decimal(line, outcome.bytes_out),
            Field::MsTotal => millis(line, times.total),
            Field::MsQueue => millis(line, times.queue),
            Field::MsConnect => millis(line, times.connect),
            Field::MsFirstByte => match times.first_byte {
                Some(first_byte) => millis(line, first_byte),
                None => text(line, ""),
            },
            Field::EndWho => text(line, outcome.who.word()),
            Field::EndPhase => text(line, outcome.phase.word()),
            Field::EndType => optional(line, outcome.cause.map(|cause| cause.word())),
            Field::EndReason => optional(line, outcome.reason),
            Field::Generation => decimal(line, outcome.generation),
            Field::UserAgent => optional(line, outcome.user_agent.as_deref()),
            Field::Referer => optional(line, outcome.referer.as_deref()),
            Field::Cache => optional(line, outcome.cache),
            Field::Driver => optional(line, outcome.driver.map(|driver| driver.word())),
        }
    }
}

/// `-` for what is empty.
fn text(line: &mut Vec<u8>, text: &str) {
    escaped(line, cut(if text.is_empty() { "-" } else { text }, LIMIT));
}

fn optional(line: &mut Vec<u8>, value: Option<&str>) {
    text(line, value.unwrap_or_default());
}

/// For values of ours, which need no escaping.
fn show(line: &mut Vec<u8>, value: &dyn fmt::Display) {
    let _ = write!(line, "{value}");
}

/// `127.0.0.1:9002=connection_refused,127.0.0.1:9001=200`.
fn attempts(line: &mut Vec<u8>, attempts: &[Attempt]) {
    if attempts.is_empty() {
        line.push(b'-');
    }
    for (index, attempt) in attempts.iter().enumerate() {
        if index > 0 {
            line.push(b',');
        }
        text(line, &attempt.endpoint);
        line.push(b'=');
        match (attempt.failed, attempt.status) {
            (Some(cause), _) => text(line, cause.word()),
            (None, Some(status)) => decimal(line, status.into()),
            // On layer 4 there is no status: it connected.
            (None, None) if attempt.stage.is_none() => decimal(line, 0),
            (None, None) => text(line, Attempt::ABANDONED),
        }
    }
}

impl FromStr for LineTemplate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains(char::is_control) {
            return Err("a line of the access log must not hold control characters".into());
        }
        let template = Template::parse(text, FIELDS).map_err(|error| match &error {
            TemplateError::Unknown(name) => {
                let inside: Vec<_> = Self::fields().filter(|known| known.starts_with(&format!("{name}."))).collect();
                let hint = match inside.as_slice() {
                    [] => nearest(name, Self::fields()),
                    inside => nearest("", inside.iter().copied()),
                };
                let hint =
                    hint.unwrap_or_else(|| "the fields are those of the JSON form, such as `{status}` and `{ms.total}`".into());
                format!("the access log has no field `{{{name}}}`; {hint}")
            }
            TemplateError::Unbalanced => "a brace without its partner; fields are `{name}`, braces `{{` and `}}`".into(),
        })?;
        Ok(Self { text: text.into(), template })
    }
}

impl fmt::Display for LineTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use compact_str::CompactString;
    use proptest::prelude::*;

    use super::*;
    use crate::{
        observe::testing::outcome,
        types::{Cause, TlsClient},
    };

    fn line(template: &str, outcome: &Outcome) -> String {
        let mut line = Vec::new();
        template.parse::<LineTemplate>().unwrap().write(&mut line, outcome);
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn every_field_by_the_name_it_has_in_json() {
        let mut full = outcome();
        let tls = TlsClient {
            sni: Some("example.com".into()),
            version: "TLSv1.3",
            subject: Some("CN=me".into()),
            ..TlsClient::default()
        };
        full.tls = Some(Arc::new(tls));
        full.cause = Some(Cause::ConnectionTerminated);
        full.reason = Some("client_gone");
        full.referer = Some("https://r/".into());
        full.attempts.insert(0, Attempt { failed: Some(Cause::ConnectionRefused), status: None, ..full.attempts[0].clone() });
        let mut json = Vec::new();
        super::super::json::write(&mut json, &full);
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        let mut leaves = Vec::new();
        for (key, value) in json.as_object().unwrap() {
            match value.as_object() {
                Some(members) => leaves.extend(members.iter().map(|(member, value)| (format!("{key}.{member}"), value.clone()))),
                None => leaves.push((key.clone(), value.clone())),
            }
        }
        let mut names: Vec<_> = leaves.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        let mut fields: Vec<_> = LineTemplate::fields().collect();
        fields.sort_unstable();
        assert_eq!(fields, names, "the two forms have the same fields");
        for (name, value) in leaves.iter().filter(|(name, _)| name != "attempts") {
            let expected = match value {
                serde_json::Value::String(text) => text.clone(),
                serde_json::Value::Null => "-".into(),
                number => number.to_string(),
            };
            let got = line(&format!("{{{name}}}"), &full);
            let (got, expected) = (got.trim_end(), expected.as_str());
            let same = got == expected || got.parse::<f64>().is_ok_and(|got| expected.parse() == Ok(got));
            assert!(same, "{name}: {got} is not {expected}");
        }
        assert_eq!(line("{attempts}", &full), "127.0.0.1:9001=connection_refused,127.0.0.1:9001=200\n");
    }

    #[test]
    fn text_is_kept_and_what_is_unknown_is_a_dash() {
        let unread = Outcome { method: "".into(), path: "".into(), route: None, attempts: Default::default(), ..outcome() };
        assert_eq!(line("{client} \"{method} {path}\" {{{route}}} {attempts}", &unread), "192.0.2.7 \"- -\" {-} -\n");
        assert_eq!(line("plain", &unread), "plain\n");
    }

    #[test]
    fn a_mistake_is_named_with_what_helps() {
        for (template, expected) in [
            ("{statsu}", "the access log has no field `{statsu}`; did you mean `status`?"),
            ("{ms}", "the access log has no field `{ms}`; allowed here: `ms.total`, `ms.queue`, `ms.connect`, `ms.first_byte`"),
            ("{status", "a brace without its partner; fields are `{name}`, braces `{{` and `}}`"),
            ("{status}\n", "a line of the access log must not hold control characters"),
        ] {
            assert_eq!(template.parse::<LineTemplate>().unwrap_err(), expected);
        }
        assert!("{zzzzzzzzz}".parse::<LineTemplate>().unwrap_err().contains("those of the JSON form"));
    }

    #[test]
    fn a_line_is_bounded_whatever_the_client_sends() {
        let long = CompactString::from("\u{1}").repeat(1 << 20);
        let (method, host, user_agent) = (long.clone(), long.clone(), Some(long.clone()));
        let text =
            line("{method}{host}{path}{user_agent}{referer}", &Outcome { method, host, user_agent, path: long, ..outcome() });
        assert!(text.len() <= 4 * 4 * LIMIT + 2, "{}", text.len());
    }

    proptest! {
        #[test]
        fn nothing_a_client_sends_ends_a_field_or_a_line(path in any::<String>(), agent in any::<Option<String>>(), micros in any::<u32>()) {
            let mut random = Outcome { path: path.into(), user_agent: agent.map(Into::into), ..outcome() };
            random.times.total = Duration::from_micros(micros.into());
            let text = line("\"{path}\" \"{user_agent}\" {ms.total}", &random);
            prop_assert_eq!(text.matches('"').count(), 4);
            prop_assert!(text.trim_end_matches('\n').bytes().all(|byte| matches!(byte, b' '..=b'~')));
        }
    }
}
