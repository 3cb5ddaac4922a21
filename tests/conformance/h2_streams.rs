//! Many streams on one connection (RFC 9113 section 5): in parallel, up to a limit, each on its own.

use std::time::Duration;

use bytes::Bytes;
use h2::Reason;

use crate::{
    setup::{bed_of, frames_for, h2, h2_bed, raw_h2},
    support::{
        Gate,
        edge::edge,
        h2_client::{Ended, H2Client, H2Request, collect},
        h2_raw::{Frame, get_fields, kind},
        origin::{Answer, origin},
    },
};

#[tokio::test]
async fn rfc9113_5_streams_are_served_in_parallel() {
    let gate = Gate::new();
    let waiting = gate.clone();
    let slow = move |request: &crate::support::wire::RawRequest| match request.target.as_str() {
        "/fast" => Answer::new(200, "fast"),
        path => {
            Answer::nothing().wait(&waiting).bytes(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{path}", path.len()))
        }
    };
    let bed = bed_of(origin().respond_with(slow), "").await;
    let mut client = h2(&bed.edge).await;
    let mut waiting = Vec::new();
    for index in 0..80 {
        waiting.push((index, client.start(&H2Request::get("example.com", &format!("/{index}"))).await.expect("a stream")));
    }
    assert_eq!(client.get("example.com", "/fast").await.text(), "fast", "it overtakes the 80 that wait");
    eventually!(bed.origin.request_count() == 81);
    gate.open();
    for (index, exchange) in waiting {
        assert_eq!(exchange.response().await.expect("an answer").text(), format!("/{index}"));
    }
    assert_eq!(bed.edge.access_log_of(81).await.len(), 81);
}

#[tokio::test]
async fn rfc9113_5_1_2_streams_are_limited() {
    let gate = Gate::new();
    let bed = bed_of(origin().slow(&gate, "done"), "h2_max_concurrent_streams: 5").await;
    let mut raw = crate::support::h2_raw::RawH2::connect(bed.address()).await;
    let settings = raw.handshake().await;
    let announced = settings.payload.chunks(6).find(|pair| pair[..2] == [0, 3]).expect("SETTINGS_MAX_CONCURRENT_STREAMS");
    assert_eq!(announced[2..], [0, 0, 0, 5]);
    for index in 0..6 {
        raw.send(&Frame::headers(index * 2 + 1, true, &get_fields("http", "example.com", "/", &[]))).await.expect("HEADERS");
    }
    let refused = raw.until(|frame| frame.kind == kind::RST_STREAM).await.expect("the sixth is refused");
    assert_eq!((refused.stream, refused.code()), (11, Some(7)), "REFUSED_STREAM: safe to try again");
    eventually!(bed.origin.request_count() == 5);
    gate.open();
    let mut done = 0;
    while done < 5 {
        let frame = raw.next().await.expect("a frame");
        done += usize::from(frame.kind == kind::DATA && frame.payload == b"done");
    }
    // There is room again.
    raw.send(&Frame::headers(13, true, &get_fields("http", "example.com", "/", &[]))).await.expect("HEADERS");
    assert!(raw.until(|frame| frame.stream == 13 && frame.kind == kind::DATA).await.is_some());
}

#[tokio::test]
async fn rfc9113_5_2_a_stalled_stream_does_not_hold_up_others() {
    let bed = bed_of(origin().answer(Answer::new(200, "x".repeat(1 << 20))), "").await;
    let mut client = h2(&bed.edge).await;
    // Its window fills, and nobody reads it.
    let stalled = client.start(&H2Request::get("example.com", "/")).await.expect("a stream").head().await.expect("a head");
    let mut other = h2(&bed.edge).await;
    assert_eq!(other.get("example.com", "/").await.body.len(), 1 << 20);
    // On the same connection, an upload is not held up either.
    let upload = H2Request::post("example.com", "/", vec![b'u'; 100_000]);
    let exchange = client.start(&upload).await.expect("a stream").head().await.expect("a head");
    drop(exchange);
    assert_eq!(collect(&mut stalled.into_body()).await.expect("the rest").0.len(), 1 << 20);
}

#[tokio::test]
async fn rule6_a_body_that_stalls_is_reset_and_logged() {
    let bed = bed_of(origin().respond(200, "ok"), "body_idle_timeout: 200ms").await;
    let mut client = h2(&bed.edge).await;
    let upload = H2Request { method: http::Method::POST, ..H2Request::get("example.com", "/up") };
    let mut exchange = client.open(&upload).await.expect("a stream");
    exchange.send("half", false);
    let began = std::time::Instant::now();
    let ended = exchange.response().await;
    let took = began.elapsed();
    // A reset, or a 408 ahead of one.
    match ended {
        Ok(answer) => assert_eq!(answer.status, 408),
        Err(error) => assert!(error.is_reset(), "{error}"),
    }
    assert!(took >= Duration::from_millis(150) && took < Duration::from_secs(5), "{took:?}");
    let line = bed.edge.access_log().await.remove(0);
    assert_eq!((line["path"].as_str(), line["end"]["who"].as_str()), (Some("/up"), Some("client")), "{line}");
    assert_eq!((line["status"].as_u64(), line["end"]["reason"].as_str()), (Some(408), Some("body_timeout")), "{line}");
    assert_eq!(line["bytes_in"], 4, "{line}");
    assert_eq!(crate::setup::rejected(&bed.edge, "body_timeout").await, 1);
    assert_eq!(client.get("example.com", "/").await.status, 200, "the connection serves on");
    eventually!(bed.origin.request_count() == 1);
}

#[tokio::test]
async fn rule6_a_body_that_goes_on_is_not_reset() {
    let bed = bed_of(origin().respond(200, "ok"), "body_idle_timeout: 1s").await;
    let mut client = h2(&bed.edge).await;
    let upload = H2Request { method: http::Method::POST, ..H2Request::get("example.com", "/up") };
    let mut exchange = client.open(&upload).await.expect("a stream");
    for _ in 0..12 {
        exchange.send("piece", false);
        // Time itself is what is tested: slower in all than the limit, faster at each step.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    exchange.send(Bytes::new(), true);
    assert_eq!(exchange.response().await.expect("an answer").status, 200);
    assert_eq!(bed.origin.next_request().await.text(), "piece".repeat(12));
}

#[tokio::test]
async fn rule6_a_body_that_nobody_reads_yet_does_not_stall() {
    let gate = Gate::new();
    let origin = origin().slow(&gate, "late").spawn().await;
    let edge = edge()
        .listener("http: {h2c: true, body_idle_timeout: 100ms}")
        .upstream_with("app", &[origin.addr()], "limits: {max_requests: 1, queue_timeout: 1h}")
        .route("app", "upstream: app")
        .start()
        .await;
    let mut client = h2(&edge).await;
    let first = client.start(&H2Request::get("example.com", "/")).await.expect("a stream");
    origin.next_request().await;
    let without = client.start(&H2Request::get("example.com", "/")).await.expect("a stream");
    let upload = H2Request { method: http::Method::POST, body: "whole".into(), ..H2Request::get("example.com", "/up") };
    let with = client.start(&upload).await.expect("a stream");
    eventually!(crate::setup::sample(&edge, "weir_http_requests_in_flight{route=\"app\"}").await == 3);
    // Time itself is what is tested: they wait in the queue for five times what a body may stand still.
    tokio::time::sleep(Duration::from_millis(500)).await;
    gate.open();
    for exchange in [first, without, with] {
        assert_eq!(exchange.response().await.expect("an answer").text(), "late");
    }
}

#[tokio::test]
async fn rfc9113_9_1_an_idle_connection_gets_goaway() {
    let bed = bed_of(origin().respond(200, "ok"), "keepalive_timeout: 200ms").await;
    let mut client = h2(&bed.edge).await;
    assert_eq!(client.get("example.com", "/").await.status, 200);
    let ended = client.ended().await;
    assert!(matches!(ended, Ended::Closed | Ended::GoAway(Reason::NO_ERROR)), "{ended:?}");
    // A client that does not react to it is let go all the same.
    let mut raw = raw_h2(&bed.edge).await;
    assert_eq!(raw.goaway().await, Some(0));
    assert!(raw.until(|_| false).await.is_none(), "the connection ends");
    eventually!(crate::setup::sample(&bed.edge, "weir_listener_connections{listener=\"web\"}").await == 0);
}

#[tokio::test]
async fn rfc9113_9_1_a_connection_that_is_used_is_not_idle() {
    let gate = Gate::new();
    let bed = bed_of(origin().slow(&gate, "late"), "keepalive_timeout: 100ms").await;
    let mut client = h2(&bed.edge).await;
    let exchange = client.start(&H2Request::get("example.com", "/")).await.expect("a stream");
    // Time itself is what is tested: five times the limit, with a request in flight.
    tokio::time::sleep(Duration::from_millis(500)).await;
    gate.open();
    assert_eq!(exchange.response().await.expect("an answer").text(), "late");
}

#[tokio::test]
async fn rfc9113_9_1_requests_on_a_connection_are_limited() {
    let bed = bed_of(origin().respond(200, "ok"), "max_requests_per_connection: 3").await;
    let mut client = h2(&bed.edge).await;
    for _ in 0..3 {
        assert_eq!(client.get("example.com", "/").await.status, 200);
    }
    let ended = client.ended().await;
    assert!(matches!(ended, Ended::Closed | Ended::GoAway(Reason::NO_ERROR)), "{ended:?}");
    assert_eq!(h2(&bed.edge).await.get("example.com", "/").await.status, 200);
}

#[tokio::test]
async fn rfc9113_8_2_3_cookies_are_joined_for_http1() {
    let bed = h2_bed().await;
    let crumbs = get_fields("http", "example.com", "/", &[("cookie", "a=1"), ("cookie", "b=2")]);
    frames_for(&bed.edge, &crumbs).await;
    assert_eq!(bed.origin.next_request().await.headers.all("cookie"), ["a=1; b=2"]);
}

#[tokio::test]
async fn rfc9113_3_2_http2_over_tls_by_alpn() {
    let origin = origin().respond(200, "ok").spawn().await;
    let edge = edge().tls().upstream("app", &[origin.addr()]).route("app", "upstream: app").start().await;
    let mut client = H2Client::connect_tls(edge.address("edge"), &edge.trust()).await;
    for _ in 0..10 {
        assert_eq!(client.get("localhost", "/").await.text(), "ok");
    }
    let line = edge.access_log_of(10).await.remove(9);
    assert_eq!(
        (line["http"].as_str(), line["tls"].as_str(), line["sni"].as_str()),
        (Some("2"), Some("TLSv1.3"), Some("localhost"))
    );
    let received = origin.next_request().await;
    assert_eq!((received.version.as_str(), received.header("host")), ("HTTP/1.1", Some("localhost")));
    assert_eq!(received.header("x-forwarded-proto"), Some("https"));
    assert!(received.header("via").is_some_and(|via| via.starts_with('2')), "{:?}", received.headers);
}

#[tokio::test]
async fn rfc9113_6_9_a_body_larger_than_the_windows_passes() {
    let bed = h2_bed().await;
    let mut client = h2(&bed.edge).await;
    let body = vec![b'u'; 3 << 20];
    assert_eq!(client.send(&H2Request::post("example.com", "/", body.clone())).await.expect("an answer").status, 200);
    assert!(bed.origin.next_request().await.body == body);
}
