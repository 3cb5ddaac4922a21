//! Traces: what callers say, what endpoints are told, what a collector gets.

use std::sync::Arc;

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use tonic::{Code, Status};

use crate::support::{
    Gate, PATIENCE, certs,
    client::RawClient,
    collector::{Collector, Seen, collector, collector_that, stuck_collector, text, tls_collector},
    edge::{Edge, EdgeBuilder, edge},
    origin::{origin, refused_address},
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

/// Starts an edge that traces to this collector, with further options.
async fn traced(builder: EdgeBuilder, collector: &Collector, options: &str) -> Edge {
    let tracing = format!("observability:\n  tracing: {{otlp: 'http://{}', {options}}}\n", collector.address);
    let config = builder.config().replace("observability:\n", &tracing);
    builder.start_as(&config).await
}

/// One that trusts this host, as an edge trusts the proxy in front of it.
fn trusting(builder: EdgeBuilder) -> EdgeBuilder {
    builder.listener("trusted_proxies: [127.0.0.1/32]")
}

fn parent(sampled: bool) -> String {
    format!("00-{TRACE}-{SPAN}-0{}", u8::from(sampled))
}

/// A request with these further fields.
async fn get(client: &mut RawClient, fields: &[(&str, &str)]) -> u16 {
    let fields: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    client.exchange(format!("GET /a?secret HTTP/1.1\r\nhost: example.com\r\n{fields}\r\n")).await.status
}

fn servers(spans: &[Seen]) -> Vec<&Seen> {
    spans.iter().filter(|span| span.kind() == SpanKind::Server).collect()
}

#[tokio::test]
async fn an_exchange_joins_the_callers_trace_and_the_endpoint_joins_ours() {
    let (origin, collector) = (origin().spawn().await, collector().await);
    let edge = trusting(edge().upstream("app", &[origin.addr()]).route("all", "upstream: app"));
    let edge = traced(edge, &collector, "sample: 0%, service: front").await;
    let mut client = edge.client().await;
    assert_eq!(
        get(&mut client, &[("traceparent", &parent(true)), ("tracestate", "rojo=1"), ("tracestate", "congo=2")]).await,
        200
    );
    let received = origin.next_request().await;
    let told = received.headers.get("traceparent").expect("a parent").to_owned();
    let state: Vec<_> = received.headers.all("tracestate");
    assert_eq!(state.join(","), "rojo=1,congo=2");
    let spans = collector.spans(2).await;
    let [server, attempt] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!((server.kind(), attempt.kind()), (SpanKind::Server, SpanKind::Client));
    assert_eq!((server.trace().as_str(), server.parent().as_str()), (TRACE, SPAN));
    assert_eq!((attempt.trace().as_str(), attempt.parent()), (TRACE, server.id()));
    assert_eq!(told, format!("00-{TRACE}-{}-01", attempt.id()));
    for (key, value) in [
        ("http.request.method", "GET"),
        ("url.path", "/a"),
        ("weir.route", "all"),
        ("weir.upstream", "app"),
        ("http.response.status_code", "200"),
    ] {
        assert_eq!(server.get(key), value, "{key}");
    }
    assert_eq!(attempt.get("url.full"), format!("http://{}/a", origin.addr()));
    assert!(!format!("{spans:?}").contains("secret"), "the query stays out");
    let message = &collector.messages()[0];
    let resource = message.resource.as_ref().expect("who it is from");
    assert_eq!(text(&resource.attributes, "service.name"), "front");
    assert_eq!(edge.access_log().await[0]["trace_id"], TRACE);
    assert_eq!(edge.access_log().await[0]["request_id"], server.get("weir.request_id").as_str());
    crate::eventually!(edge.metric("weir_spans_exported_total", &[]).await == Some(2.0));
}

#[tokio::test]
async fn each_attempt_is_a_span_of_its_own() {
    let origin = origin().respond(503, "no").respond(200, "yes").spawn().await;
    let collector = collector().await;
    let edge = edge()
        .upstream("app", &[refused_address().await, origin.addr()])
        .route("all", "upstream: app\nretry: {attempts: 4, on: [connect, 503]}");
    let edge = traced(edge, &collector, "sample: 100%").await;
    assert_eq!(edge.get("/").await.status, 200);
    let log = edge.access_log().await;
    let attempts = log[0]["attempts"].as_array().expect("attempts").len();
    assert!(attempts >= 2, "{log:?}");
    let spans = collector.spans(1 + attempts).await;
    let clients: Vec<_> = spans.iter().filter(|span| span.kind() == SpanKind::Client).collect();
    assert_eq!(clients.len(), attempts);
    assert_eq!(spans[0].get("weir.retries"), (attempts - 1).to_string());
    let told: Vec<_> = [origin.next_request().await, origin.next_request().await]
        .iter()
        .map(|received| received.headers.get("traceparent").expect("a parent")[36..52].to_owned())
        .collect();
    let answered: Vec<_> = clients.iter().filter(|span| !span.get("http.response.status_code").is_empty()).collect();
    assert_eq!(answered.iter().map(|span| span.id()).collect::<Vec<_>>(), told, "the endpoint's parent is its own attempt");
    assert_eq!((answered[0].get("error.type").as_str(), answered[0].is_error()), ("503", true));
    assert!(!answered[1].is_error() && !spans[0].is_error());
}

#[tokio::test]
async fn what_failed_says_why() {
    let collector = collector().await;
    let edge = edge().upstream("gone", &[refused_address().await]).route("all", "upstream: gone");
    let edge = traced(edge, &collector, "sample: 100%").await;
    assert_eq!(edge.get("/").await.status, 502);
    let spans = collector.spans(2).await;
    for span in &spans {
        assert_eq!((span.is_error(), span.get("error.type").as_str()), (true, "connection_refused"), "{span:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_decide_nothing_but_can_be_found() {
    let (origin, collector) = (origin().spawn().await, collector().await);
    let edge = edge().upstream("app", &[origin.addr()]).route("all", "upstream: app");
    let edge = traced(edge, &collector, "sample: 0%").await;
    let mut client = edge.client().await;
    get(&mut client, &[("traceparent", &parent(true)), ("tracestate", "rojo=1")]).await;
    let received = origin.next_request().await;
    let told = received.headers.get("traceparent").expect("a parent").to_owned();
    assert!(!told.contains(TRACE) && told.ends_with("-00"), "{told}");
    assert_eq!(received.headers.get("tracestate"), None);
    assert_eq!(edge.access_log().await[0]["trace_id"], told[3..35]);
    assert!(edge.server.observer().flush(PATIENCE));
    assert_eq!(collector.spans_now().len(), 0);
}

#[tokio::test]
async fn a_strangers_trace_is_linked_or_continued_where_that_is_wanted() {
    let collector = collector().await;
    for (options, continues) in [("sample: 100%", false), ("sample: 0%, continue_from: anyone", true)] {
        let before = collector.spans_now().len();
        let edge = traced(edge().route("all", "respond: {}"), &collector, options).await;
        get(&mut edge.client().await, &[("traceparent", &parent(true))]).await;
        let spans = collector.spans(before + 1).await;
        let span = &spans[before];
        assert_eq!((span.trace() == TRACE, span.parent() == SPAN), (continues, continues), "{options}");
        let linked = span.0.links.first().map(|link| crate::support::collector::hex(&link.trace_id));
        assert_eq!(linked.as_deref(), (!continues).then_some(TRACE), "{options}");
    }
}

#[tokio::test]
async fn what_is_malformed_is_replaced() {
    let (origin, collector) = (origin().spawn().await, collector().await);
    let edge = trusting(edge().upstream("app", &[origin.addr()]).route("all", "upstream: app"));
    let edge = traced(edge, &collector, "sample: 100%").await;
    let mut client = edge.client().await;
    let good = parent(true);
    let upper = good.to_uppercase();
    let cases: &[&[(&str, &str)]] = &[
        &[("tracestate", "rojo=1")],
        &[("traceparent", &upper), ("tracestate", "rojo=1")],
        &[("traceparent", "00-1-2-3"), ("tracestate", "rojo=1")],
        &[("traceparent", &good), ("traceparent", &good), ("tracestate", "rojo=1")],
    ];
    for fields in cases {
        assert_eq!(get(&mut client, fields).await, 200);
        let received = origin.next_request().await;
        let told = received.headers.all("traceparent");
        assert!(told.len() == 1 && told[0].len() == 55 && !told[0].contains(TRACE), "{fields:?}: {told:?}");
        assert_eq!(received.headers.get("tracestate"), None, "{fields:?}");
    }
    get(&mut client, &[("traceparent", &good), ("tracestate", "Rojo")]).await;
    let received = origin.next_request().await;
    assert!(received.headers.get("traceparent").is_some_and(|told| told.contains(TRACE)), "a bad state is no bad parent");
    assert_eq!(received.headers.get("tracestate"), None);
}

#[tokio::test]
async fn while_tracing_is_off_the_fields_pass_through() {
    let origin = origin().spawn().await;
    let edge = edge().upstream("app", &[origin.addr()]).route("all", "upstream: app").start().await;
    let good = parent(true);
    get(&mut edge.client().await, &[("traceparent", &good), ("tracestate", "whatever")]).await;
    let received = origin.next_request().await;
    assert_eq!(
        (received.headers.get("traceparent"), received.headers.get("tracestate")),
        (Some(good.as_str()), Some("whatever"))
    );
    assert_eq!(edge.access_log().await[0]["trace_id"], serde_json::Value::Null);
}

#[tokio::test]
async fn it_can_be_switched_while_running() {
    let (one, two) = (collector().await, collector().await);
    let builder = edge().route("all", "respond: {}");
    let config = builder.config();
    let tracing = |tracing: &str| config.replace("observability:\n", &format!("observability:\n  tracing: {tracing}\n"));
    let to = |collector: &Collector| tracing(&format!("{{otlp: 'http://{}', sample: 100%}}", collector.address));
    let edge = builder.start_as(&to(&one)).await;
    edge.get("/").await;
    one.spans(1).await;
    edge.reload(&to(&two)).await;
    edge.get("/").await;
    two.spans(1).await;
    let exporter = edge.server.observer().tracing().clone();
    edge.reload(&to(&two).replace("respond: {}", "respond: {status: 204}")).await;
    assert!(Arc::ptr_eq(exporter.as_ref().expect("on"), edge.server.observer().tracing().as_ref().expect("on")));
    edge.reload(&tracing("off")).await;
    edge.get("/").await;
    let log = edge.access_log_of(3).await;
    assert_eq!(log[2]["trace_id"], serde_json::Value::Null);
    assert_eq!((one.spans_now().len(), two.spans_now().len()), (1, 1));
}

#[tokio::test]
async fn a_stuck_collector_holds_up_nobody() {
    let gate = Gate::new();
    let collector = stuck_collector(&gate).await;
    let edge = traced(edge().route("all", "respond: {}"), &collector, "sample: 100%").await;
    let mut client = edge.client().await;
    // More than the queue and the message on its way hold.
    for _ in 0..5500 {
        client.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert_eq!(client.read_response().await.status, 200);
    }
    let dropped = edge.metric("weir_spans_dropped_total", &[("reason", "queue_full")]).await;
    assert!(dropped > Some(0.0), "{dropped:?}");
    gate.open();
    crate::eventually!(collector.spans_now().len() as f64 + dropped.unwrap_or_default() >= 5500.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_is_reached_over_tls_if_it_is_the_right_one() {
    let (ca, other) = (certs::ca(), certs::ca());
    for (authority, trusted) in [(&ca, true), (&other, false)] {
        let collector = tls_collector(&ca.server(&["localhost"])).await;
        let builder = edge().route("all", "respond: {}");
        std::fs::write(builder.file("ca.pem"), authority.pem()).expect("written");
        let tracing = format!("otlp: 'https://localhost:{}', ca: ca.pem, sample: 100%", collector.address.port());
        let config = builder.config().replace("observability:\n", &format!("observability:\n  tracing: {{{tracing}}}\n"));
        let edge = builder.start_as(&config).await;
        edge.get("/").await;
        edge.access_log().await;
        assert!(edge.server.observer().flush(PATIENCE));
        let lost = edge.metric("weir_spans_dropped_total", &[("reason", "export_failed")]).await;
        assert_eq!((collector.spans_now().len(), lost), (usize::from(trusted), Some(if trusted { 0.0 } else { 1.0 })));
    }
}

#[tokio::test]
async fn a_collector_that_is_away_for_a_moment_gets_them_all() {
    let collector =
        collector_that(|number| if number == 0 { Err(Status::new(Code::Unavailable, "starting")) } else { Ok(0) }).await;
    let edge = traced(edge().route("all", "respond: {}"), &collector, "sample: 100%").await;
    edge.get("/").await;
    collector.spans(1).await;
    assert_eq!(edge.metric("weir_spans_dropped_total", &[]).await, Some(0.0));
}

#[tokio::test]
async fn what_a_collector_refuses_is_counted_and_not_sent_again() {
    let collector =
        collector_that(|number| if number == 0 { Err(Status::new(Code::PermissionDenied, "no")) } else { Ok(1) }).await;
    let edge = traced(edge().route("all", "respond: {}"), &collector, "sample: 100%").await;
    for (reason, count) in [("export_failed", 1.0), ("rejected", 1.0)] {
        edge.get("/").await;
        crate::eventually!(edge.metric("weir_spans_dropped_total", &[("reason", reason)]).await == Some(count));
    }
    assert_eq!(edge.metric("weir_spans_exported_total", &[]).await, Some(0.0));
}

#[tokio::test]
async fn who_leaves_during_an_attempt_leaves_no_parent_missing() {
    let (origin, collector) = (origin().never_answer().spawn().await, collector().await);
    let edge = edge().upstream("app", &[origin.addr()]).route("all", "upstream: app");
    let edge = traced(edge, &collector, "sample: 100%").await;
    let mut client = edge.client().await;
    client.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let told = origin.next_request().await.headers.get("traceparent").expect("a parent").to_owned();
    drop(client);
    let spans = collector.spans(2).await;
    assert_eq!(spans[1].id(), told[36..52]);
    assert_eq!(servers(&spans).len(), 1);
}

// The edge waits for the collector, on a thread of the test.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_spans_are_sent_as_the_edge_stops() {
    let collector = collector().await;
    let edge = traced(edge().route("all", "respond: {}"), &collector, "sample: 100%").await;
    edge.get("/").await;
    edge.stop().await;
    assert_eq!(collector.spans_now().len(), 1);
}
