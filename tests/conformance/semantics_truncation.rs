//! Truncation is never disguised (`RFC 9112` section 8, `RFC 9113` section 8.1): a client can tell a response that ended
//! early from one that is complete.

use h2::Reason;

use crate::{
    setup::{bed_of, end, get, h2, log_line, proxy_errors},
    support::{
        Gate,
        edge::edge,
        h2_client::{H2Request, collect},
        h2_origin::{H2Answer, h2_origin},
        origin::{Answer, origin},
    },
};

const LENGTH: &str = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n";
/// The last chunk has no end: what came before may not have been all.
const BEFORE_LAST: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n";

/// Checks what was written down about a response whose upstream broke off after its head.
async fn is_logged_as_incomplete(edge: &crate::support::edge::Edge) {
    let line = log_line(edge).await;
    assert_eq!(line["status"], 200, "{line}");
    assert_eq!(end(&line), ("upstream", "http_response_incomplete"), "{line}");
    assert_eq!(line["end"]["phase"], "response", "{line}");
    assert_eq!(proxy_errors(edge, "http_response_incomplete").await, 1);
}

#[tokio::test]
async fn rfc9112_8_http1_client_sees_a_close_before_the_end() {
    for (broken, resets) in [(LENGTH, false), (LENGTH, true), (CHUNKED, false), (CHUNKED, true), (BEFORE_LAST, false)] {
        let gate = Gate::new();
        let answer = Answer::raw(broken).wait(&gate);
        let bed = bed_of(origin().answer(if resets { answer.reset() } else { answer.close() }), "").await;
        let mut client = bed.client().await;
        client.send(get("/")).await;
        let head = client.read_head().await;
        assert!(head.start.contains("200"), "{head:?}");
        gate.open();
        let (body, _) = client.read_to_end().await;
        let body = String::from_utf8_lossy(&body).into_owned();
        assert!(body.contains("half"), "{broken:?} {body:?}");
        assert!(!body.contains("0\r\n"), "{broken:?} ends as if it were complete: {body:?}");
        assert!(body.len() < 100, "{body:?}");
        is_logged_as_incomplete(&bed.edge).await;
    }
}

#[tokio::test]
async fn rfc9113_8_1_http2_client_sees_a_reset_before_the_end() {
    for (broken, resets) in [(LENGTH, false), (LENGTH, true), (CHUNKED, false), (CHUNKED, true), (BEFORE_LAST, false)] {
        let gate = Gate::new();
        let answer = Answer::raw(broken).wait(&gate);
        let bed = bed_of(origin().answer(if resets { answer.reset() } else { answer.close() }), "").await;
        let mut client = h2(&bed.edge).await;
        let exchange = client.start(&H2Request::get("example.com", "/")).await.expect("a stream");
        let response = exchange.head().await.expect("a head");
        assert_eq!(response.status(), 200);
        gate.open();
        let ended = collect(&mut response.into_body()).await;
        let error = ended.expect_err("a reset, not an end");
        assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR), "{broken:?}: {error}");
        is_logged_as_incomplete(&bed.edge).await;
        // Only the stream is broken: its connection serves on.
        assert!(client.start(&H2Request::get("example.com", "/")).await.is_ok());
    }
}

#[tokio::test]
async fn rfc9113_8_1_a_reset_of_an_http2_upstream_reaches_both_kinds_of_client() {
    let gate = Gate::new();
    let seen = gate.clone();
    let origin = h2_origin()
        .respond_with(move |_| H2Answer::new(200, "half").reset_after_body(Reason::INTERNAL_ERROR, &seen))
        .spawn()
        .await;
    let edge = edge()
        .listener("http: {h2c: true}")
        .upstream_with("app", &[origin.addr()], "connections: {protocol: h2c}")
        .route("app", "upstream: app")
        .start()
        .await;
    let mut http2 = h2(&edge).await;
    let response = http2.start(&H2Request::get("example.com", "/")).await.expect("a stream").head().await.expect("a head");
    let mut http1 = edge.client().await;
    http1.send(get("/")).await;
    assert!(http1.read_head().await.start.contains("200"));
    gate.open();
    assert!(collect(&mut response.into_body()).await.is_err());
    let (body, _) = http1.read_to_end().await;
    assert!(!body.ends_with(b"0\r\n\r\n"), "{body:?}");
    for line in edge.access_log_of(2).await {
        assert_eq!((end(&line), line["status"].as_u64()), (("upstream", "http_response_incomplete"), Some(200)), "{line}");
    }
}

#[tokio::test]
async fn rfc9112_8_a_response_that_ends_with_its_connection_cannot_be_told_and_closes() {
    let bed = bed_of(origin().answer(Answer::raw("HTTP/1.1 200 OK\r\n\r\nall of it").close()), "").await;
    let mut client = bed.client().await;
    let answer = client.exchange(get("/")).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "all of it"));
    let line = log_line(&bed.edge).await;
    assert_eq!(line["end"]["type"], serde_json::Value::Null, "{line}");
}

#[tokio::test]
async fn rfc9112_8_an_upstream_that_dies_within_its_head_is_a_502() {
    for answer in [Answer::raw("HTTP/1.1 200 OK\r\ncontent-le").close(), Answer::nothing().close(), Answer::nothing().reset()] {
        let bed = bed_of(origin().answer(answer), "").await;
        let answer = bed.exchange(get("/")).await;
        assert_eq!(answer.status, 502);
        assert_eq!(end(&log_line(&bed.edge).await), ("upstream", "connection_terminated"));
    }
}
