use std::{sync::atomic::Ordering::Relaxed, time::Instant};

use compact_str::CompactString;
use opentelemetry_proto::tonic::trace::v1::{
    Span,
    span::SpanKind::{Client, Server},
    status::StatusCode,
};
use smallvec::smallvec;

use super::*;
use crate::{
    observe::{Attempt, testing::outcome},
    types::{Cause, Phase, Ratio, Stage, Who},
};

const LONG: Duration = Duration::from_secs(20);

fn tracing(options: &str) -> (Tracing, Arc<SpanCounts>) {
    // Port 1 of this host: nobody listens.
    let spec: TracingSpec = serde_yaml::from_str(&format!("{{otlp: 'http://127.0.0.1:1', {options}}}")).unwrap();
    let counts = Arc::<SpanCounts>::default();
    (Tracing::open(&spec, counts.clone()).unwrap(), counts)
}

fn incoming(sampled: bool) -> Traceparent {
    Traceparent { trace: TraceId::random(), span: SpanId::random(), sampled }
}

fn begin(tracing: &Tracing, incoming: Option<Traceparent>, trusted: bool) -> Trace {
    tracing.begin(incoming, trusted, Scheme::Http, None)
}

#[test]
fn the_decision_of_a_trusted_caller_holds() {
    for (share, decided) in [(0, true), (100, false)] {
        let (tracing, _) = tracing(&format!("sample: {share}%"));
        let caller = incoming(decided);
        let trace = begin(&tracing, Some(caller), true);
        assert_eq!((trace.sampled, trace.id, trace.parent, trace.link), (decided, caller.trace, Some(caller.span), None));
        assert_ne!(trace.span, caller.span);
    }
}

#[test]
fn a_stranger_decides_nothing() {
    for (share, decided) in [(0, true), (100, false)] {
        let (tracing, _) = tracing(&format!("sample: {share}%"));
        let caller = incoming(decided);
        let trace = begin(&tracing, Some(caller), false);
        assert_eq!((trace.sampled, trace.parent), (!decided, None));
        assert_ne!(trace.id, caller.trace);
        assert_eq!(trace.link, Some((caller.trace, caller.span)), "but can be found");
    }
    let (tracing, _) = tracing("sample: 0%, continue_from: anyone");
    assert!(begin(&tracing, Some(incoming(true)), false).sampled, "unless he may");
}

#[test]
fn about_the_configured_share_is_recorded() {
    let (tracing, _) = tracing("sample: 25%");
    let recorded = (0..4000).filter(|_| begin(&tracing, None, false).sampled).count();
    // Six standard deviations.
    assert!((835..=1165).contains(&recorded), "{recorded}");
}

fn sampled() -> Trace {
    begin(&tracing("sample: 100%").0, None, false)
}

/// The attribute as text.
fn attribute(span: &Span, key: &str) -> Option<String> {
    use opentelemetry_proto::tonic::common::v1::any_value::Value::{IntValue, StringValue};
    let found = span.attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value.clone()?.value? {
        StringValue(text) => Some(text),
        IntValue(number) => Some(number.to_string()),
        _ => None,
    }
}

fn is_error(span: &Span) -> bool {
    span.status.as_ref().is_some_and(|status| status.code == i32::from(StatusCode::Error))
}

#[test]
fn an_exchange_is_a_server_span_and_one_client_span_for_each_attempt() {
    let trace = sampled();
    let attempt = |failed, status, since| Attempt {
        endpoint: "[::1]:9001".into(),
        failed,
        status,
        stage: None,
        since: Duration::from_millis(since),
        took: Duration::from_millis(1),
        span: Some(SpanId::random()),
        detail: None,
    };
    let attempts = vec![attempt(Some(Cause::ConnectionRefused), None, 1), attempt(None, Some(200), 2)];
    let outcome = Outcome { attempts: attempts.into(), ..outcome() };
    let spans = spans::build(&outcome, &trace);
    assert_eq!(spans.len(), spans::count(&outcome));
    let [server, first, last] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!([server.kind(), first.kind(), last.kind()], [Server, Client, Client]);
    assert!(spans.iter().all(|span| span.trace_id == trace.id.bytes()));
    assert_eq!((&server.parent_span_id[..], &first.parent_span_id), (&[][..], &server.span_id));
    assert_eq!(first.span_id, outcome.attempts[0].span.unwrap().bytes());
    let start = server.start_time_unix_nano;
    assert_eq!(start, 1_767_225_600_123_456_000);
    assert_eq!((first.start_time_unix_nano - start, first.end_time_unix_nano - start), (1_000_000, 2_000_000));
    assert_eq!((last.start_time_unix_nano - start, last.end_time_unix_nano - start), (2_000_000, 4_500_000), "to the end");
    for (key, value) in [
        ("http.request.method", "GET"),
        ("url.scheme", "http"),
        ("url.path", "/a"),
        ("server.address", "example.com"),
        ("server.port", "80"),
        ("client.address", "192.0.2.7"),
        ("network.protocol.version", "1.1"),
        ("http.response.status_code", "200"),
        ("user_agent.original", "curl/8"),
        ("weir.route", "api"),
        ("weir.upstream", "pool"),
        ("weir.endpoint", "[::1]:9001"),
        ("weir.retries", "1"),
        ("weir.request_id", "0193-id"),
    ] {
        assert_eq!(attribute(server, key).as_deref(), Some(value), "{key}");
    }
    assert_eq!((server.name.as_str(), first.name.as_str()), ("GET api", "GET"));
    for (key, value) in [("server.address", "::1"), ("server.port", "9001"), ("url.full", "http://[::1]:9001/a")] {
        assert_eq!(attribute(first, key).as_deref(), Some(value), "{key}");
    }
    assert_eq!((is_error(server), is_error(first), is_error(last)), (false, true, false));
    assert_eq!(attribute(first, "error.type").as_deref(), Some("connection_refused"));
    assert_eq!(attribute(last, "http.request.resend_count").as_deref(), Some("1"));
}

#[test]
fn only_the_servers_own_failures_are_errors_of_the_server_span() {
    let ended = |status, cause, who| {
        let spans = spans::build(&Outcome { status, cause, who, ..outcome() }, &sampled());
        (is_error(&spans[0]), attribute(&spans[0], "error.type"))
    };
    let error = |word: &str| (true, Some(word.to_owned()));
    assert_eq!(ended(503, None, Who::Upstream), error("503"));
    assert_eq!(ended(502, Some(Cause::ConnectionRefused), Who::Upstream), error("connection_refused"));
    assert_eq!(ended(200, Some(Cause::HttpResponseIncomplete), Who::Upstream), error("http_response_incomplete"));
    assert_eq!(ended(404, None, Who::Upstream), (false, None));
    assert_eq!(ended(403, Some(Cause::HttpRequestDenied), Who::Weir), (false, None));
    assert_eq!(ended(0, Some(Cause::ConnectionTerminated), Who::Client), (false, None));
}

#[test]
fn who_leaves_during_an_attempt_leaves_its_span_behind() {
    let abandoned = Attempt {
        endpoint: "/run/app.sock".into(),
        status: None,
        stage: Some(Stage::Waiting),
        span: Some(SpanId::random()),
        ..outcome().attempts[0].clone()
    };
    let cause = Some(Cause::ConnectionTerminated);
    let spans = spans::build(&Outcome { attempts: smallvec![abandoned], cause, phase: Phase::Request, ..outcome() }, &sampled());
    assert_eq!(spans.len(), 2);
    assert_eq!(attribute(&spans[1], "error.type").as_deref(), Some("connection_terminated"));
    assert_eq!(attribute(&spans[1], "url.full").as_deref(), Some("http://example.com/a"));
}

#[test]
fn a_span_is_bounded_whatever_the_client_sends() {
    let long = "x".repeat(1 << 20);
    let trace = Trace { onward: Onward { tls: true, path: Some(long.clone()) }, ..sampled() };
    let long = CompactString::from(long);
    let (host, path, method, user_agent) = (long.clone(), long.clone(), long.clone(), Some(long));
    let spans = spans::build(&Outcome { host, path, method, user_agent, ..outcome() }, &trace);
    for span in spans {
        let sizes = span.attributes.iter().map(|attribute| attribute.key.len() + attribute_size(attribute));
        let size: usize = sizes.sum();
        assert!(size < 2600, "{size}");
        assert_eq!(attribute(&span, "http.request.method").as_deref(), Some("_OTHER"));
    }
}

fn attribute_size(attribute: &opentelemetry_proto::tonic::common::v1::KeyValue) -> usize {
    use opentelemetry_proto::tonic::common::v1::any_value::Value::StringValue;
    match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(StringValue(text)) => text.len(),
        _ => 8,
    }
}

#[test]
fn a_collector_that_is_not_there_costs_spans_and_never_time_or_memory() {
    let (tracing, counts) = tracing("sample: 100%");
    let trace = begin(&tracing, None, false);
    let started = Instant::now();
    for _ in 0..20_000 {
        tracing.finished(&outcome(), &trace);
    }
    assert!(started.elapsed() < LONG, "{:?}", started.elapsed());
    let lost = || counts.dropped().iter().map(|(_, count)| count).sum::<u64>();
    assert!(counts.overflowed.load(Relaxed) > 10_000, "{counts:?}");
    assert!(!tracing.flush(Duration::from_millis(1)));
    while !tracing.flush(LONG) {}
    // The attempt has no span of its own here, but its place is counted with the exchange.
    assert!(lost() > 20_000 && counts.exported.load(Relaxed) == 0, "{counts:?}");
}

#[test]
fn nothing_is_queued_that_is_not_recorded() {
    let (tracing, counts) = tracing("sample: 0%");
    let trace = begin(&tracing, None, false);
    assert!(!trace.sampled);
    tracing.finished(&outcome(), &trace);
    assert!(tracing.flush(LONG));
    assert_eq!((counts.failed.load(Relaxed), trace.traceparent(trace.span).text()[54]), (0, b'0'));
    assert_eq!(tracing.spec().sample, Ratio::percent(0));
}
