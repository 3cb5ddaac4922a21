//! Drain (`http.md` rule 17): readiness fails first, no new work, what is in flight completes, and the grace period cuts the rest.

use std::time::Duration;

use crate::{
    setup::{Bed, bed_of, get, h2, raw_h2},
    support::{
        Gate,
        h2_client::{Ended, H2Request},
        h2_raw::{Frame, get_fields, kind},
        origin::{Answer, origin},
        within,
    },
};

/// An edge whose origin answers at the gate.
async fn slow_bed(gate: &Gate) -> Bed {
    bed_of(origin().slow(gate, "done"), "").await
}

/// Drained within the usual patience.
async fn drained(bed: &Bed) {
    within("the drain", bed.edge.server.drained()).await;
}

#[tokio::test]
async fn rule17_readiness_fails_and_nothing_new_is_accepted() {
    let gate = Gate::new();
    let bed = slow_bed(&gate).await;
    assert_eq!(bed.edge.admin_get("/readyz").await.status, 200);
    let mut client = bed.client().await;
    client.send(get("/")).await;
    bed.origin.next_request().await;
    bed.edge.drain();
    assert_eq!(bed.edge.admin_get("/readyz").await.status, 503);
    assert_eq!(bed.edge.admin_get("/healthz").await.status, 200);
    eventually!(tokio::net::TcpStream::connect(bed.address()).await.is_err());
    gate.open();
    assert_eq!(client.read_response().await.text(), "done");
    drained(&bed).await;
    assert_eq!(bed.edge.admin_get("/readyz").await.status, 503, "the admin listener stays up to the end");
}

#[tokio::test]
async fn rfc9112_9_6_http1_in_flight_completes_with_connection_close() {
    let gate = Gate::new();
    let bed = slow_bed(&gate).await;
    let mut client = bed.client().await;
    client.send(get("/")).await;
    bed.origin.next_request().await;
    bed.edge.drain();
    let waiting = tokio::time::timeout(Duration::from_millis(100), bed.edge.server.drained()).await;
    assert!(waiting.is_err(), "a request is in flight");
    gate.open();
    let answer = client.read_response().await;
    assert_eq!((answer.status, answer.text().as_str(), answer.header("connection")), (200, "done", Some("close")));
    assert!(client.is_closed().await);
    drained(&bed).await;
}

#[tokio::test]
async fn rule17_idle_connections_close_at_once() {
    let bed = bed_of(origin().respond(200, "ok"), "keepalive_timeout: 1h").await;
    let mut used = bed.client().await;
    assert_eq!(used.exchange(get("/")).await.status, 200);
    let mut fresh = bed.client().await;
    let mut http2 = h2(&bed.edge).await;
    assert_eq!(http2.get("example.com", "/").await.status, 200);
    eventually!(crate::setup::sample(&bed.edge, "weir_listener_connections{listener=\"web\"}").await == 3);
    let began = std::time::Instant::now();
    bed.edge.drain();
    assert!(used.is_closed().await);
    assert!(fresh.is_closed().await);
    let ended = http2.ended().await;
    assert!(matches!(ended, Ended::Closed | Ended::GoAway(h2::Reason::NO_ERROR)), "{ended:?}");
    drained(&bed).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test]
async fn rfc9113_6_8_http2_gets_goaway_and_completes_what_is_in_flight() {
    let gate = Gate::new();
    let bed = slow_bed(&gate).await;
    let mut raw = raw_h2(&bed.edge).await;
    raw.send(&Frame::headers(1, true, &get_fields("http", "example.com", "/", &[]))).await.expect("HEADERS");
    bed.origin.next_request().await;
    bed.edge.drain();
    assert_eq!(raw.goaway().await, Some(0), "NO_ERROR, before the stream has ended");
    gate.open();
    let data = raw.until(|frame| frame.kind == kind::DATA).await.expect("the answer");
    assert_eq!(data.payload, b"done");
    drop(raw);
    drained(&bed).await;
}

#[tokio::test]
async fn rfc9113_6_8_a_client_library_sees_the_end_after_its_streams() {
    let gate = Gate::new();
    let bed = slow_bed(&gate).await;
    let mut client = h2(&bed.edge).await;
    let first = client.start(&H2Request::get("example.com", "/")).await.expect("a stream");
    let second = client.start(&H2Request::get("example.com", "/")).await.expect("a stream");
    bed.origin.next_request().await;
    bed.origin.next_request().await;
    bed.edge.drain();
    gate.open();
    assert_eq!(first.response().await.expect("complete").text(), "done");
    assert_eq!(second.response().await.expect("complete").text(), "done");
    let ended = client.ended().await;
    assert!(matches!(ended, Ended::Closed | Ended::GoAway(h2::Reason::NO_ERROR)), "{ended:?}");
    drained(&bed).await;
}

#[tokio::test]
async fn rule17_an_upload_in_flight_completes() {
    let bed = bed_of(origin().respond(200, "ok"), "").await;
    let mut client = bed.client().await;
    client.send("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 8\r\n\r\nhalf").await;
    eventually!(bed.origin.connections() == 1);
    bed.edge.drain();
    client.send("half").await;
    let answer = client.read_response().await;
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert_eq!(bed.origin.next_request().await.text(), "halfhalf");
    drained(&bed).await;
}

#[tokio::test]
async fn rule17_a_request_that_arrived_before_the_drain_is_answered() {
    // Its head was half there: it began before the drain, and nobody told its client to go elsewhere.
    let bed = bed_of(origin().respond(200, "ok"), "").await;
    let mut client = bed.client().await;
    assert_eq!(client.exchange(get("/")).await.status, 200);
    client.send("GET / HTTP/1.1\r\nhos").await;
    // The half has arrived when a request on another connection, sent after it, was answered.
    assert_eq!(bed.exchange(get("/")).await.status, 200);
    bed.edge.drain();
    client.send("t: x\r\n\r\n").await;
    let answer = client.read_response().await;
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    drained(&bed).await;
}

#[tokio::test]
async fn rule17_the_grace_period_cuts_what_is_left() {
    let bed = bed_of(origin().never_answer(), "").await;
    let mut http1 = bed.client().await;
    http1.send(get("/")).await;
    let mut http2 = h2(&bed.edge).await;
    let stream = http2.start(&H2Request::get("example.com", "/")).await.expect("a stream");
    bed.origin.next_request().await;
    bed.origin.next_request().await;
    let log = bed.edge.file("access.log");
    let clean = within("the stop", bed.edge.server.stop_within(Duration::from_millis(200))).await;
    assert!(!clean, "something had to be cut");
    assert!(http1.is_closed().await);
    assert!(stream.response().await.is_err());
    // Both have their line, and it was not their clients who ended them.
    let log = std::fs::read_to_string(log).expect("the access log");
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 2, "{log}");
    for line in lines {
        assert_eq!(
            (line["end"]["who"].as_str(), line["end"]["reason"].as_str()),
            (Some("weir"), Some("shutdown_grace")),
            "{line}"
        );
    }
}

#[tokio::test]
async fn rule17_what_was_sent_before_the_cut_is_in_the_log() {
    let gate = Gate::new();
    let half = Answer::raw("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n").bytes("hello").wait(&gate);
    let bed = bed_of(origin().answer(half), "").await;
    let (mut http1, mut http2) = (bed.client().await, h2(&bed.edge).await);
    http1.send(get("/")).await;
    http1.read_head().await;
    assert_eq!(http1.read_bytes(5).await, b"hello");
    let stream = http2.start(&H2Request::get("example.com", "/")).await.expect("a stream");
    let mut body = stream.head().await.expect("a head").into_body();
    assert_eq!(body.data().await.expect("a piece").expect("no error"), "hello");
    let log = bed.edge.file("access.log");
    assert!(!within("the stop", bed.edge.server.stop_within(Duration::from_millis(200))).await, "both are cut");
    let log = std::fs::read_to_string(log).expect("the access log");
    for line in log.lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        assert_eq!((&line["bytes_out"], &line["end"]["reason"]), (&5.into(), &"shutdown_grace".into()), "{line}");
    }
}

#[tokio::test]
async fn rule17_a_tunnel_is_cut_by_the_grace_period_only() {
    let bed = bed_of(origin().answer(Answer::switch("websocket")), "").await;
    let mut client = bed.client().await;
    let upgrade = "GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                   sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    assert_eq!(client.exchange(upgrade).await.status, 101);
    bed.edge.drain();
    client.send("still").await;
    assert_eq!(client.read_bytes(5).await, b"still");
    assert!(!within("the stop", bed.edge.server.stop_within(Duration::from_millis(200))).await);
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn rule17_stopping_an_idle_edge_is_clean() {
    let bed = bed_of(origin().respond(200, "ok"), "").await;
    assert_eq!(bed.exchange(get("/")).await.status, 200);
    assert!(within("the stop", bed.edge.server.stop()).await);
}
