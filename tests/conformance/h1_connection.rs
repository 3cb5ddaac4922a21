//! Connections: persistence and pipelining (RFC 9112 section 9).

use crate::{
    setup::{bed, bed_with, get},
    support::{
        Gate,
        origin::{Answer, origin},
    },
};

#[tokio::test]
async fn rfc9112_9_3_2_pipelined_requests_are_answered_in_order() {
    let bed = bed_with(origin().respond_with(|request| Answer::new(200, &request.target)), |edge| edge).await;
    let mut client = bed.client().await;
    let post = "POST /b HTTP/1.1\r\nhost: example.com\r\ncontent-length: 3\r\n\r\nabc";
    let chunked = "POST /c HTTP/1.1\r\nhost: example.com\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    client.send([&get("/a"), post, chunked, &get("/d")].concat()).await;
    for path in ["/a", "/b", "/c", "/d"] {
        assert_eq!(client.read_response().await.text(), path);
    }
    assert!(client.is_open_now());
    assert_eq!(bed.origin.requests().iter().map(|request| request.body.len()).collect::<Vec<_>>(), [0, 3, 3, 0]);
}

#[tokio::test]
async fn rfc9112_9_3_2_a_pipelined_request_waits_for_the_response_before_it() {
    let gate = Gate::new();
    let bed = bed_with(origin().slow(&gate, "first").respond(200, "second"), |edge| edge).await;
    let mut client = bed.client().await;
    client.send(get("/a") + &get("/b")).await;
    assert_eq!(bed.origin.next_request().await.target, "/a");
    assert_eq!(bed.origin.request_count(), 1);
    gate.open();
    assert_eq!((client.read_response().await.text().as_str(), client.read_response().await.text().as_str()), ("first", "second"));
}

#[tokio::test]
async fn rfc9112_9_6_nothing_is_served_behind_connection_close() {
    let bed = bed().await;
    let mut client = bed.client().await;
    let last = "GET /last HTTP/1.1\r\nhost: example.com\r\nconnection: close\r\n\r\n";
    client.send([last, &get("/never")].concat()).await;
    let answer = client.read_response().await;
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert!(client.is_closed().await);
    assert_eq!(bed.origin.request_count(), 1);
}

#[tokio::test]
async fn rfc9112_11_2_nothing_is_served_behind_a_refused_request() {
    let bed = bed().await;
    for refused in [
        "GET /x HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        "POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ] {
        let mut client = bed.client().await;
        client.send([refused, &get("/never")].concat()).await;
        assert_eq!(client.read_response().await.status, 400);
        assert!(client.is_closed().await);
    }
    assert_eq!(bed.origin.request_count(), 0);
}

/// An answer that needs no body must not leave the rest of the body where the next request is looked for.
#[tokio::test]
async fn rfc9112_9_3_a_body_nobody_read_is_never_taken_for_a_request() {
    let bed = bed_with(origin().respond(200, "ok"), |edge| {
        edge.route("here", "match: {path: /here}\nrespond: {status: 200, body: here}")
    })
    .await;
    let inner = get("/smuggled");
    for framed in [
        format!("content-length: {}\r\n\r\n{inner}", inner.len()),
        format!("transfer-encoding: chunked\r\n\r\n{:x}\r\n{inner}\r\n0\r\n\r\n", inner.len()),
    ] {
        let mut client = bed.client().await;
        client.send(format!("POST /here HTTP/1.1\r\nhost: a\r\n{framed}{}", get("/after"))).await;
        assert_eq!(client.read_response().await.text(), "here");
        // The connection may be closed, or go on behind the body.
        if let Ok(Some(answer)) = client.try_read_response().await {
            assert_eq!(answer.text(), "ok");
        }
    }
    assert!(bed.origin.requests().iter().all(|request| request.target == "/after"), "{:?}", bed.origin.requests());
}

/// The same with an origin that answers early, and a body that comes later.
#[tokio::test]
async fn rfc9112_9_3_a_body_that_comes_after_the_response_is_never_a_request() {
    let bed = bed_with(origin().ignoring_bodies().answer(Answer::new(200, "early").close()), |edge| edge).await;
    let inner = get("/smuggled");
    let mut client = bed.client().await;
    client.send(format!("POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", inner.len())).await;
    assert_eq!(client.read_response().await.text(), "early");
    let _ = client.try_send(inner + &get("/after")).await;
    let _ = client.try_read_response().await;
    assert!(bed.origin.requests().iter().all(|request| request.target != "/smuggled"));
}

#[tokio::test]
async fn rfc9112_9_3_http_1_0_closes_unless_asked_not_to() {
    let bed = bed().await;
    let mut client = bed.client().await;
    let answer = client.exchange("GET / HTTP/1.0\r\nhost: a\r\n\r\n").await;
    assert_eq!((answer.status, answer.header("transfer-encoding")), (200, None));
    assert!(client.is_closed().await);
    let mut client = bed.client().await;
    for _ in 0..2 {
        let answer = client.exchange("GET / HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\n\r\n").await;
        assert_eq!((answer.status, answer.header("connection")), (200, Some("keep-alive")));
    }
}

/// A recipient of 1.0 knows no chunks: the end of the body is the end of the connection.
#[tokio::test]
async fn rfc9112_7_1_no_chunks_for_http_1_0() {
    let bed = bed_with(origin().answer(Answer::chunked(200, &["hello", " world"], &[])), |edge| edge).await;
    let mut client = bed.client().await;
    let answer = client.exchange("GET / HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\n\r\n").await;
    assert_eq!((answer.status, answer.header("transfer-encoding"), answer.text().as_str()), (200, None, "hello world"));
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn rfc9112_9_3_connections_to_the_origin_are_used_again() {
    let bed = bed().await;
    for _ in 0..3 {
        assert_eq!(bed.edge.get("/").await.status, 200);
        eventually!(bed.origin.open_connections() == 1);
    }
    assert_eq!(bed.origin.connections(), 1);
}

/// The end of what a client sends is no reason to leave what it has pipelined unanswered; only behind its last request
/// does it look like a client that has gone away.
#[tokio::test]
async fn rfc9112_9_6_a_half_close_behind_pipelined_requests_is_no_abort() {
    let gate = Gate::new();
    let bed = bed_with(origin().slow(&gate, "first").respond(200, "second"), |edge| edge).await;
    let mut client = bed.client().await;
    client.send(get("/a") + &get("/b")).await;
    client.half_close().await;
    bed.origin.next_request().await;
    gate.open();
    assert_eq!(client.read_response().await.text(), "first");
    let _ = client.try_read_response().await;
    assert!(client.is_closed().await);
}
