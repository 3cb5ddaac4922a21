//! An [`Outcome`] as spans, with the attribute names of OpenTelemetry's conventions for HTTP.
//!
//! <https://opentelemetry.io/docs/specs/semconv/http/http-spans/>. What the conventions have no name for is under `weir.`,
//! with the words of the access log. As there, the query stays out, since it may hold secrets.

use std::time::Duration;

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value::Value},
    trace::v1::{
        Span, Status,
        span::{Link, SpanKind},
        status::StatusCode,
    },
};

use super::{SpanId, Trace};
use crate::{
    observe::{Attempt, Outcome, cut},
    types::{Version, Who, bare_host},
};

/// The conventions that the names are from.
pub(super) const SCHEMA: &str = "https://opentelemetry.io/schemas/1.37.0";

/// What a client may make us send of each of its strings, in bytes. They bound a span, and with it the queue and the
/// messages, of which collectors take 4 MiB.
const HOST: usize = 255;
const PATH: usize = 1024;
const AGENT: usize = 256;

/// The methods that the conventions know; any other is `_OTHER`.
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

/// Bits 8 and 9 of a span's flags: it is known whether the parent is in another process, and it is.
const PARENT_IS_KNOWN: u32 = 0x100;
const PARENT_IS_REMOTE: u32 = 0x200;
const SAMPLED: u32 = 1;

/// How many spans [`build`] makes.
pub(super) fn count(outcome: &Outcome) -> usize {
    1 + outcome.attempts.len()
}

/// The server span, then those of the attempts.
pub(super) fn build(outcome: &Outcome, trace: &Trace) -> Vec<Span> {
    let mut spans = Vec::with_capacity(count(outcome));
    spans.push(server(outcome, trace));
    let last = outcome.attempts.len().saturating_sub(1);
    for (index, attempt) in outcome.attempts.iter().enumerate() {
        spans.extend(attempt.span.map(|span| attempted(outcome, trace, attempt, span, (index, index == last))));
    }
    spans
}

fn server(outcome: &Outcome, trace: &Trace) -> Span {
    let method = known_method(&outcome.method);
    let mut span = blank(trace, trace.span, SpanKind::Server);
    span.parent_span_id = trace.parent.map(|parent| parent.bytes().to_vec()).unwrap_or_default();
    if trace.parent.is_some() {
        span.flags |= PARENT_IS_REMOTE;
    }
    // The route's name is as good a low-cardinality target as there is: paths are patterns only in some routes.
    span.name = match &outcome.route {
        Some(route) => format!("{} {route}", method.unwrap_or("HTTP")),
        None => method.unwrap_or("HTTP").to_owned(),
    };
    span.start_time_unix_nano = nanos(outcome, Duration::ZERO);
    span.end_time_unix_nano = nanos(outcome, outcome.times.total);
    span.links.extend(trace.link.map(|(trace, span)| Link {
        trace_id: trace.bytes().to_vec(),
        span_id: span.bytes().to_vec(),
        flags: PARENT_IS_KNOWN | PARENT_IS_REMOTE,
        ..Link::default()
    }));
    let port = trace.port.unwrap_or(trace.scheme.default_port());
    let list = &mut span.attributes;
    list.reserve(24);
    method_of(list, outcome);
    text(list, "url.scheme", trace.scheme.as_str());
    text(list, "url.path", cut(&outcome.path, PATH));
    optional(list, "server.address", Some(cut(&outcome.host, HOST)).filter(|host| !host.is_empty()));
    number(list, "server.port", port.into());
    display(list, "client.address", &outcome.client);
    if outcome.client_port != 0 {
        number(list, "client.port", outcome.client_port.into());
    }
    text(list, "network.protocol.version", outcome.http.map_or("", Version::as_str));
    optional(list, "user_agent.original", outcome.user_agent.as_deref().map(|agent| cut(agent, AGENT)));
    if outcome.status != 0 {
        number(list, "http.response.status_code", outcome.status.into());
    }
    number(list, "http.request.body.size", outcome.bytes_in);
    number(list, "http.response.body.size", outcome.bytes_out);
    text(list, "weir.request_id", &outcome.request_id);
    text(list, "weir.listener", &outcome.listener);
    optional(list, "weir.route", outcome.route.as_deref());
    optional(list, "weir.upstream", outcome.upstream.as_deref());
    optional(list, "weir.endpoint", outcome.attempts.last().map(|attempt| &*attempt.endpoint));
    number(list, "weir.retries", outcome.attempts.len().saturating_sub(1) as u64);
    text(list, "weir.end.who", outcome.who.word());
    text(list, "weir.end.phase", outcome.phase.word());
    optional(list, "weir.end.type", outcome.cause.map(|cause| cause.word()));
    optional(list, "weir.end.reason", outcome.reason);
    number(list, "weir.generation", outcome.generation);
    // A client's mistake is none of the server's (4xx), nor is its leaving.
    let error = outcome.status >= 500 || outcome.error().is_some_and(|_| outcome.status < 400 && outcome.who != Who::Client);
    if error {
        match outcome.error() {
            Some(cause) => failed(&mut span, cause.word()),
            None => failed(&mut span, &outcome.status.to_string()),
        }
    }
    span
}

/// One attempt. The last one, if it was answered, lasts until the response was passed on.
fn attempted(outcome: &Outcome, trace: &Trace, attempt: &Attempt, id: SpanId, (index, last): (usize, bool)) -> Span {
    let mut span = client(outcome, trace, &attempt.endpoint, id, index);
    let passed_on = last && attempt.failed.is_none();
    span.start_time_unix_nano = nanos(outcome, attempt.since);
    span.end_time_unix_nano = nanos(outcome, if passed_on { outcome.times.total } else { attempt.since + attempt.took });
    if let Some(status) = attempt.status {
        number(&mut span.attributes, "http.response.status_code", status.into());
    }
    let broke_off = outcome.cause.filter(|_| passed_on && outcome.who == Who::Upstream);
    match (attempt.failed.or(broke_off), attempt.status) {
        (Some(cause), _) => failed(&mut span, cause.word()),
        (None, Some(status)) if status >= 400 => failed(&mut span, &status.to_string()),
        (None, None) => failed(&mut span, outcome.cause.map_or(Attempt::ABANDONED, |cause| cause.word())),
        _ => {}
    }
    span
}

/// What is the same for every attempt.
fn client(outcome: &Outcome, trace: &Trace, endpoint: &str, id: SpanId, index: usize) -> Span {
    let mut span = blank(trace, id, SpanKind::Client);
    span.parent_span_id = trace.span.bytes().to_vec();
    span.name = known_method(&outcome.method).unwrap_or("HTTP").to_owned();
    let path = cut(trace.onward.path.as_deref().unwrap_or(&outcome.path), PATH);
    let scheme = if trace.onward.tls { "https" } else { "http" };
    let list = &mut span.attributes;
    list.reserve(10);
    method_of(list, outcome);
    match endpoint.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?))) {
        Some((host, port)) => {
            let host = bare_host(host);
            text(list, "server.address", host);
            number(list, "server.port", port.into());
            display(list, "url.full", &format_args!("{scheme}://{endpoint}{path}"));
        }
        // A unix socket has no authority; the host is what the endpoint is asked for.
        None => {
            text(list, "server.address", endpoint);
            text(list, "network.transport", "unix");
            let host = Some(cut(&outcome.host, HOST)).filter(|host| !host.is_empty()).unwrap_or("localhost");
            display(list, "url.full", &format_args!("{scheme}://{host}{path}"));
        }
    }
    if index > 0 {
        number(list, "http.request.resend_count", index as u64);
    }
    optional(list, "weir.upstream", outcome.upstream.as_deref());
    text(list, "weir.endpoint", endpoint);
    span
}

fn blank(trace: &Trace, id: SpanId, kind: SpanKind) -> Span {
    Span {
        trace_id: trace.id.bytes().to_vec(),
        span_id: id.bytes().to_vec(),
        flags: PARENT_IS_KNOWN | SAMPLED,
        kind: kind.into(),
        ..Span::default()
    }
}

/// The request's method, unless a client invented it.
fn known_method(method: &str) -> Option<&str> {
    METHODS.contains(&method).then_some(method)
}

fn method_of(list: &mut Vec<KeyValue>, outcome: &Outcome) {
    const LONGEST: usize = 32;
    match known_method(&outcome.method) {
        Some(method) => text(list, "http.request.method", method),
        None => {
            text(list, "http.request.method", "_OTHER");
            text(list, "http.request.method_original", cut(&outcome.method, LONGEST));
        }
    }
}

/// The span ended in this error.
fn failed(span: &mut Span, word: &str) {
    text(&mut span.attributes, "error.type", word);
    span.status = Some(Status { code: StatusCode::Error.into(), ..Status::default() });
}

/// Nanoseconds since 1970, this long after the request's first byte.
fn nanos(outcome: &Outcome, after: Duration) -> u64 {
    let start = outcome.started.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    (start + after).as_nanos() as u64
}

fn put(list: &mut Vec<KeyValue>, key: &str, value: Value) {
    list.push(KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() });
}

pub(super) fn text(list: &mut Vec<KeyValue>, key: &str, value: &str) {
    put(list, key, Value::StringValue(value.to_owned()));
}

fn display(list: &mut Vec<KeyValue>, key: &str, value: &dyn std::fmt::Display) {
    put(list, key, Value::StringValue(value.to_string()));
}

fn optional(list: &mut Vec<KeyValue>, key: &str, value: Option<&str>) {
    if let Some(value) = value {
        text(list, key, value);
    }
}

pub(super) fn number(list: &mut Vec<KeyValue>, key: &str, value: u64) {
    put(list, key, Value::IntValue(value.min(i64::MAX as u64) as i64));
}
