//! One JSON object per line, written field by field into the buffer that goes to the queue.
//!
//! Keys are in the order of the documentation and always present; what is not known is `null`.

use std::{io::Write, time::Duration};

use super::cut;
use crate::{
    observe::{Attempt, Layer, Outcome},
    types::{Driver, Stage, Version},
};

/// What a client may make us write of each of its strings, in bytes before escaping. They bound a line, and with it
/// what the queue can hold.
const SUBJECT: usize = 512;
const METHOD: usize = 32;
const HOST: usize = 255;
const PATH: usize = 2048;
const AGENT: usize = 512;
const REFERER: usize = 1024;

/// Appends the line, with its end.
pub(super) fn write(line: &mut Vec<u8>, outcome: &Outcome) {
    let mut object = Object { line };
    object.first("ts");
    let _ = write!(object.line, "\"{}\"", humantime::format_rfc3339_micros(outcome.started));
    object.string("request_id", &outcome.request_id);
    object.key("trace_id");
    match &outcome.trace {
        Some(trace) => {
            let _ = write!(object.line, "\"{}\"", trace.id);
        }
        None => object.line.extend_from_slice(b"null"),
    }
    object.key("client");
    let _ = write!(object.line, "\"{}\"", outcome.client);
    object.string("listener", &outcome.listener);
    object.optional("sni", outcome.tls.as_ref().and_then(|tls| tls.sni.as_deref()));
    object.optional("tls", outcome.tls.as_ref().map(|tls| tls.version).and_then(known));
    object.optional("client_cert", outcome.tls.as_ref().and_then(|tls| tls.subject.as_deref()).map(|name| cut(name, SUBJECT)));
    object.optional("http", outcome.http.map(Version::as_str));
    object.optional("method", known(cut(&outcome.method, METHOD)));
    object.optional("host", known(cut(&outcome.host, HOST)));
    object.optional("path", known(cut(&outcome.path, PATH)));
    object.optional("route", outcome.route.as_deref());
    object.optional("upstream", outcome.upstream.as_deref());
    object.optional("endpoint", outcome.attempts.last().map(|attempt| &*attempt.endpoint));
    object.attempts(outcome);
    match outcome.layer {
        Layer::Http => object.number("status", u64::from(outcome.status)),
        Layer::Tcp => object.null("status"),
    }
    object.number("bytes_in", outcome.bytes_in);
    object.number("bytes_out", outcome.bytes_out);
    object.times(outcome);
    object.end(outcome);
    object.number("generation", outcome.generation);
    object.optional("user_agent", outcome.user_agent.as_deref().map(|agent| cut(agent, AGENT)));
    object.optional("referer", outcome.referer.as_deref().map(|referer| cut(referer, REFERER)));
    object.optional("cache", outcome.cache);
    object.optional("driver", outcome.driver.map(Driver::word));
    line.extend_from_slice(b"}\n");
}

/// An empty string in an [`Outcome`] means that the request could not be read so far.
fn known(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

struct Object<'a> {
    line: &'a mut Vec<u8>,
}

impl Object<'_> {
    fn first(&mut self, key: &str) {
        self.line.extend_from_slice(b"{\"");
        self.line.extend_from_slice(key.as_bytes());
        self.line.extend_from_slice(b"\":");
    }
    fn key(&mut self, key: &str) {
        self.line.extend_from_slice(b",\"");
        self.line.extend_from_slice(key.as_bytes());
        self.line.extend_from_slice(b"\":");
    }
    fn string(&mut self, key: &str, text: &str) {
        self.key(key);
        quoted(self.line, text);
    }
    fn optional(&mut self, key: &str, text: Option<&str>) {
        match text {
            Some(text) => self.string(key, text),
            None => self.null(key),
        }
    }
    fn null(&mut self, key: &str) {
        self.key(key);
        self.line.extend_from_slice(b"null");
    }
    fn number(&mut self, key: &str, number: u64) {
        self.key(key);
        decimal(self.line, number);
    }
    fn duration(&mut self, key: &str, duration: Duration) {
        self.key(key);
        millis(self.line, duration);
    }

    fn attempts(&mut self, outcome: &Outcome) {
        self.key("attempts");
        self.line.push(b'[');
        for (index, attempt) in outcome.attempts.iter().enumerate() {
            if index > 0 {
                self.line.push(b',');
            }
            self.first("endpoint");
            quoted(self.line, &attempt.endpoint);
            self.key("outcome");
            match (attempt.failed, attempt.status) {
                (Some(cause), _) => quoted(self.line, cause.word()),
                (None, Some(status)) => decimal(self.line, u64::from(status)),
                (None, None) if outcome.layer == Layer::Tcp => quoted(self.line, "connected"),
                (None, None) => quoted(self.line, Attempt::ABANDONED),
            }
            self.optional("stage", attempt.stage.map(Stage::word));
            self.duration("ms", attempt.took);
            self.line.push(b'}');
        }
        self.line.push(b']');
    }

    fn times(&mut self, outcome: &Outcome) {
        self.key("ms");
        self.first("total");
        millis(self.line, outcome.times.total);
        self.duration("queue", outcome.times.queue);
        self.duration("connect", outcome.times.connect);
        match outcome.times.first_byte {
            Some(first_byte) => self.duration("first_byte", first_byte),
            None => self.null("first_byte"),
        }
        self.line.push(b'}');
    }

    fn end(&mut self, outcome: &Outcome) {
        self.key("end");
        self.first("who");
        quoted(self.line, outcome.who.word());
        self.string("phase", outcome.phase.word());
        self.optional("type", outcome.cause.map(|cause| cause.word()));
        self.optional("reason", outcome.reason);
        self.line.push(b'}');
    }
}

/// Whole microseconds as milliseconds with three digits: exact, and cheaper than floating point.
pub(super) fn millis(line: &mut Vec<u8>, duration: Duration) {
    let micros = duration.as_micros() as u64;
    decimal(line, micros / 1000);
    let rest = micros % 1000;
    line.extend_from_slice(&[b'.', b'0' + (rest / 100) as u8, b'0' + (rest / 10 % 10) as u8, b'0' + (rest % 10) as u8]);
}

pub(super) fn decimal(line: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    line.extend_from_slice(&digits[start..]);
}

/// A JSON string (RFC 8259, section 7) that is also harmless to look at: all control characters are escaped, those
/// of C1 too, since U+009B starts a terminal's control sequence, and so are the line separators of JavaScript.
pub(in crate::observe) fn quoted(line: &mut Vec<u8>, text: &str) {
    line.push(b'"');
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\') {
        line.extend_from_slice(text.as_bytes());
    } else {
        text.chars().for_each(|char| escaped(line, char));
    }
    line.push(b'"');
}

fn escaped(line: &mut Vec<u8>, char: char) {
    match char {
        '"' => line.extend_from_slice(b"\\\""),
        '\\' => line.extend_from_slice(b"\\\\"),
        '\n' => line.extend_from_slice(b"\\n"),
        '\r' => line.extend_from_slice(b"\\r"),
        '\t' => line.extend_from_slice(b"\\t"),
        char if char.is_control() || matches!(char, '\u{2028}' | '\u{2029}') => {
            let _ = write!(line, "\\u{:04x}", u32::from(char));
        }
        char => line.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use compact_str::CompactString;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        observe::testing::outcome,
        types::{Cause, TlsClient},
    };

    fn line(outcome: &Outcome) -> String {
        let mut line = Vec::new();
        write(&mut line, outcome);
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn every_field_in_the_order_of_the_documentation() {
        let mut full = outcome();
        let tls = TlsClient { sni: Some("example.com".into()), version: "TLSv1.3", ..TlsClient::default() };
        full.tls = Some(Arc::new(tls));
        full.attempts.insert(
            0,
            Attempt {
                endpoint: "127.0.0.1:9002".into(),
                failed: Some(Cause::ConnectionRefused),
                status: None,
                stage: Some(Stage::Connecting),
                since: Duration::ZERO,
                took: Duration::from_micros(42),
                span: None,
                detail: None,
            },
        );
        assert_eq!(
            line(&full),
            concat!(
                r#"{"ts":"2026-01-01T00:00:00.123456Z","request_id":"0193-id","trace_id":null,"client":"192.0.2.7","listener":"web","#,
                r#""sni":"example.com","tls":"TLSv1.3","client_cert":null,"http":"1.1","method":"GET","host":"example.com","path":"/a","#,
                r#""route":"api","upstream":"pool","endpoint":"127.0.0.1:9001","attempts":["#,
                r#"{"endpoint":"127.0.0.1:9002","outcome":"connection_refused","stage":"connecting","ms":0.042},"#,
                r#"{"endpoint":"127.0.0.1:9001","outcome":200,"stage":null,"ms":3.000}],"status":200,"bytes_in":10,"bytes_out":20,"#,
                r#""ms":{"total":4.500,"queue":0.000,"connect":1.000,"first_byte":2.000},"#,
                r#""end":{"who":"upstream","phase":"done","type":null,"reason":null},"generation":3,"#,
                r#""user_agent":"curl/8","referer":null,"cache":null,"driver":"lane"}"#,
                "\n"
            )
        );
    }

    #[test]
    fn an_attempt_that_was_abandoned_is_told_with_its_stage() {
        let mut left = outcome();
        (left.attempts[0].status, left.attempts[0].stage) = (None, Some(Stage::Waiting));
        let attempt = r#""attempts":[{"endpoint":"127.0.0.1:9001","outcome":"abandoned","stage":"waiting","ms":3.000}]"#;
        assert!(line(&left).contains(attempt), "{}", line(&left));
    }

    #[test]
    fn a_path_cannot_forge_a_line() {
        let path = "/\"}\n{\"ts\":\"forged\",\\\r\u{0}\u{1b}[2J\u{9b}2J\u{2028}\u{7f}é";
        let text = line(&Outcome { path: path.into(), ..outcome() });
        assert_eq!(text.matches('\n').count(), 1);
        assert!(!text.trim_end().chars().any(char::is_control), "{text:?}");
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["path"], path);
        assert_eq!(value["ts"], "2026-01-01T00:00:00.123456Z");
    }

    #[test]
    fn what_could_not_be_read_is_null() {
        let unread = Outcome { http: None, method: "".into(), host: "".into(), path: "".into(), ..outcome() };
        let value: Value = serde_json::from_str(&line(&unread)).unwrap();
        for key in ["http", "method", "host", "path", "sni", "tls"] {
            assert_eq!(value[key], json!(null), "{key}");
        }
    }

    #[test]
    fn a_line_is_bounded_whatever_the_client_sends() {
        let long = CompactString::from("\u{1}").repeat(1 << 20);
        let fields = (long.clone(), long.clone(), Some(long.clone()), Some(long.clone()));
        let (method, host, user_agent, referer) = fields;
        let text = line(&Outcome { method, host, user_agent, referer, path: long, ..outcome() });
        assert!(text.len() < 6 * (METHOD + HOST + PATH + AGENT + REFERER) + 1024, "{}", text.len());
        serde_json::from_str::<Value>(&text).unwrap();
    }

    proptest! {
        #[test]
        fn every_line_parses_back(path in any::<String>(), agent in any::<Option<String>>(), bytes in any::<u64>(), micros in any::<u32>()) {
            let mut random = Outcome { path: path.into(), user_agent: agent.map(Into::into), bytes_in: bytes, ..outcome() };
            random.times.total = Duration::from_micros(micros.into());
            let text = line(&random);
            prop_assert_eq!(text.matches('\n').count(), 1);
            let value: Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(value["path"].as_str().unwrap_or_default(), cut(&random.path, PATH));
            prop_assert_eq!(value["user_agent"].as_str(), random.user_agent.as_deref().map(|agent| cut(agent, AGENT)));
            prop_assert_eq!(value["bytes_in"].as_u64(), Some(bytes));
            prop_assert!((value["ms"]["total"].as_f64().unwrap() * 1e3 - f64::from(micros)).abs() < 0.01);
        }
    }
}
