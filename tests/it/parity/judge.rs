//! One expectation for all pairs.

use std::fmt::Debug;

use serde_json::Value;

use super::{
    message::{Ear, Framing, Heard},
    row::{Arrives, Row},
};

/// What came of a row.
pub struct Got {
    pub response: Heard,
    pub arrivals: Vec<Ear>,
    /// What was asked for.
    pub target: String,
    /// The line of the access log.
    pub line: Option<Value>,
}

/// What is not as it should be.
#[derive(Debug, Default)]
pub struct Problems(pub Vec<String>);

impl Problems {
    pub fn add(&mut self, text: impl Into<String>) {
        self.0.push(text.into());
    }
    pub fn compare<T: PartialEq + Debug>(&mut self, what: &str, got: T, expected: T) {
        if got != expected {
            self.add(format!("{what}: expected {}, got {}", short(&expected), short(&got)));
        }
    }
}

fn short(value: &impl Debug) -> String {
    let text = format!("{value:?}");
    if text.len() < 400 { text } else { format!("{} … ({} bytes)", text.chars().take(400).collect::<String>(), text.len()) }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Judges everything but what endpoints have learned, which is known later.
pub fn judge(row: &Row, got: &Got) -> Problems {
    let mut problems = Problems::default();
    response(row, &got.response, &mut problems);
    requests(row, got, &mut problems);
    match &got.line {
        _ if row.want.unlogged => {}
        None => problems.add("no line in the access log"),
        Some(line) => logged(row, line, got, &mut problems),
    }
    if !problems.0.is_empty() {
        problems.add(format!("the log's line: {}", got.line.as_ref().unwrap_or(&Value::Null)));
    }
    problems
}

fn arrives(what: &str, heard: &Heard, wanted: Arrives, problems: &mut Problems) {
    let begun = heard.framing.is_some();
    let right = match wanted {
        Arrives::Whole => heard.is_whole(),
        Arrives::Cut => begun && heard.end.is_some() && !heard.is_whole(),
        Arrives::Any => begun,
        Arrives::Never => !begun,
        Arrives::NotWhole => !heard.is_whole(),
        Arrives::Whatever => true,
    };
    if !right {
        problems.add(format!("{what}: expected {wanted:?}, got {}", short(heard)));
    }
}

fn response(row: &Row, heard: &Heard, problems: &mut Problems) {
    let want = &row.want;
    let wanted = want.response.unwrap_or(Arrives::Whole);
    arrives("the response", heard, wanted, problems);
    if want.reset.is_some() {
        problems.compare("the code of the reset", heard.reset, want.reset);
    }
    let answer = row.answers.last();
    let passed = want.status.is_none() && want.response.is_none();
    if wanted == Arrives::Never || wanted == Arrives::NotWhole && heard.framing.is_none() || wanted == Arrives::Whatever {
        return;
    }
    let status = want.status.or(answer.map(|answer| answer.head.status)).unwrap_or_default();
    problems.compare("the status of the response", heard.status, status);
    let interim = want.interim.clone().unwrap_or_default();
    problems.compare("the informational responses", heard.interim.iter().map(|(status, _)| *status).collect(), interim);
    let hints = |fields: &super::message::Fields| fields.iter().any(|(name, value)| name == "link" && value.contains("a.css"));
    if heard.interim.iter().any(|(status, fields)| *status == 103 && !hints(fields)) {
        problems.add(format!("early hints without their link: {:?}", heard.interim));
    }
    if let Some(body) = want.body.clone().or_else(|| answer.filter(|_| passed).map(super::message::Script::content)) {
        problems.compare("the body of the response", text(&heard.body), text(&body));
    }
    if heard.framing == Some(Framing::Close) && !row.request.head.old {
        problems.add("the response ends with its connection: a client cannot tell whether that is all");
    }
    for (name, value) in &want.response_has {
        problems.compare(&format!("{name} of the response"), heard.all(name), value.split('\n').collect());
    }
    for name in &want.response_lacks {
        problems.compare(&format!("{name} of the response"), heard.all(name), Vec::new());
    }
    // Trailers go on where they can, and are dropped where they cannot (RFC 9110 section 6.5.1).
    let (client, endpoint) = (row.pair.client.is_multiplexed(), row.pair.endpoint.is_h2());
    let trailers = answer.filter(|_| passed && client && endpoint).map(super::message::Script::trailing);
    problems.compare("the trailers of the response", heard.trailers.clone(), trailers.unwrap_or_default());
    if passed
        && let Some(answer) = answer
        && let Framing::Length(length) = answer.head.framing
        && answer.head.status != 204
    {
        problems.compare("content-length of the response", heard.all("content-length"), vec![length.to_string().as_str()]);
    }
}

fn requests(row: &Row, got: &Got, problems: &mut Problems) {
    let (want, ears) = (&row.want, &got.arrivals);
    let expected = want.requests.clone().unwrap_or_else(|| vec![Arrives::Whole; row.answers.len()]);
    let begun =
        expected.iter().filter(|arrives| !matches!(arrives, Arrives::Never | Arrives::NotWhole | Arrives::Whatever)).count();
    if ears.len() < begun || ears.len() > expected.iter().filter(|arrives| **arrives != Arrives::Never).count() {
        problems.add(format!("requests at endpoints: expected {expected:?}, got {}", ears.len()));
        return;
    }
    let told = |ear: &Ear| ear.now().gone || ear.now().reset.is_some() || !ear.now().is_whole();
    if want.cancelled && !ears.last().is_some_and(told) {
        problems.add(format!("the endpoint is not told that nobody wants its answer: {:?}", ears.last().map(Ear::now)));
    }
    for (index, (ear, wanted)) in ears.iter().zip(&expected).enumerate() {
        let (heard, what) = (ear.now(), format!("request {} at an endpoint", index + 1));
        arrives(&what, &heard, *wanted, problems);
        problems.compare(&format!("the method of {what}"), heard.method.as_str(), row.request.head.method);
        problems.compare(&format!("the target of {what}"), &heard.target, &got.target);
        if *wanted == Arrives::Whole {
            let body = row.request.content();
            problems.compare(&format!("the body of {what}"), text(&heard.body), text(&body));
        }
        for (name, value) in &want.request_has {
            problems.compare(&format!("{name} of {what}"), heard.all(name), value.split('\n').collect());
        }
        for name in &want.request_lacks {
            problems.compare(&format!("{name} of {what}"), heard.all(name), Vec::new());
        }
        // Dropped on purpose (RFC 9110 section 6.5.1): nothing that we know of reads them.
        problems.compare(&format!("the trailers of {what}"), heard.trailers.clone(), Vec::new());
        if let Framing::Length(length) = row.request.head.framing {
            problems.compare(
                &format!("content-length of {what}"),
                heard.all("content-length"),
                vec![length.to_string().as_str()],
            );
        }
    }
}

fn logged(row: &Row, line: &Value, got: &Got, problems: &mut Problems) {
    let want = &row.want;
    let answer = row.answers.last().map(|answer| answer.head.status);
    let status = want.logged_status.or(want.status).or(answer).unwrap_or_default();
    problems.compare("the log's status", line["status"].as_u64(), Some(u64::from(status)));
    let version = if row.request.head.old { "1.0" } else { row.pair.client.version() };
    problems.compare("the log's http", line["http"].as_str(), Some(version));
    let word = |key: &str| line["end"][key].as_str().unwrap_or_default().to_owned();
    problems.compare("the log's who", word("who"), want.who.unwrap_or("upstream").to_owned());
    problems.compare("the log's type", word("type"), want.kind.unwrap_or_default().to_owned());
    problems.compare("the log's reason", word("reason"), want.reason.unwrap_or_default().to_owned());
    let outcome = |attempt: &Value| attempt["outcome"].to_string().trim_matches('"').to_owned();
    let attempts: Vec<String> =
        line["attempts"].as_array().map(|attempts| attempts.iter().map(outcome).collect()).unwrap_or_default();
    let expected =
        want.attempts.clone().unwrap_or_else(|| row.answers.iter().map(|answer| answer.head.status.to_string()).collect());
    let is = |(got, expected): (&String, &String)| expected == "*" || got == expected;
    if attempts.len() != expected.len() || !attempts.iter().zip(&expected).all(is) {
        problems.compare("the log's attempts", attempts, expected);
    }
    if got.response.is_whole() && want.response.is_none() && !want.uncounted {
        problems.compare("the log's bytes_out", line["bytes_out"].as_u64(), Some(got.response.body.len() as u64));
    }
    if want.who.is_none() && want.requests.is_none() && !row.request.is_broken() {
        problems.compare("the log's bytes_in", line["bytes_in"].as_u64(), Some(row.request.content().len() as u64));
    }
}
