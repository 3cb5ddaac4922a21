//! Rule 13: what is tried again, and what never is (RFC 9110 section 9.2.2).

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{
    setup::bed_with,
    support::{
        edge::edge,
        h2_origin::{H2Answer, h2_origin},
        origin::{Answer, origin, refused_address},
    },
};

fn request(method: &str, body: &str) -> String {
    format!("{method} /x HTTP/1.1\r\nhost: example.com\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn rfc9110_9_2_2_a_refused_connection_is_tried_on_another_endpoint() {
    let good = origin().respond(200, "ok").spawn().await;
    let edge = edge().upstream("app", &[refused_address().await, good.addr()]).route("app", "upstream: app").start().await;
    // Nothing was sent, so it does not matter what would have been.
    for method in ["GET", "POST", "PATCH", "GET"] {
        assert_eq!(edge.client().await.exchange(request(method, "hello")).await.text(), "ok");
        assert_eq!(good.next_request().await.text(), "hello");
    }
    assert_eq!(good.request_count(), 4);
    let log = edge.access_log_of(4).await;
    let tried: Vec<_> = log.iter().filter(|line| line["attempts"][0]["outcome"] == "connection_refused").collect();
    assert!(!tried.is_empty(), "{log:?}");
    for line in tried {
        assert_eq!(
            (&line["attempts"][1]["outcome"], &line["status"], &line["end"]["type"]),
            (&200.into(), &200.into(), &().into())
        );
    }
}

#[tokio::test]
async fn rfc9110_15_6_3_connections_refused_everywhere_are_502_after_two_endpoints() {
    let addresses = [refused_address().await, refused_address().await, refused_address().await];
    let edge = edge().upstream("app", &addresses).route("app", "upstream: app").start().await;
    let answer = edge.get("/").await;
    assert_eq!((answer.status, answer.header("cache-control")), (502, Some("no-store")));
    let line = edge.access_log().await.swap_remove(0);
    let attempts = line["attempts"].as_array().unwrap();
    assert_eq!((attempts.len(), &line["end"]["type"]), (2, &"connection_refused".into()), "{line}");
    assert_ne!(attempts[0]["endpoint"], attempts[1]["endpoint"], "never the same endpoint twice");
}

/// A pooled connection that the origin closes just as it is used.
fn stale() -> crate::support::origin::OriginBuilder {
    origin().respond(200, "first").answer(Answer::nothing().close()).respond(200, "again")
}

#[tokio::test]
async fn rfc9110_9_2_2_idempotent_requests_on_a_stale_connection_are_sent_again() {
    for (method, body) in [("GET", ""), ("GET", "with a body"), ("PUT", "content"), ("DELETE", ""), ("OPTIONS", "")] {
        let bed = bed_with(stale(), |edge| edge).await;
        assert_eq!(bed.edge.get("/").await.text(), "first");
        assert_eq!(bed.exchange(request(method, body)).await.text(), "again", "{method}");
        let requests = bed.origin.requests();
        assert_eq!((requests.len(), bed.origin.connections()), (3, 2));
        assert_eq!((requests[1].connection, requests[2].connection), (0, 1));
        assert_eq!((requests[1].head(), requests[2].text().as_str()), (requests[2].head(), body));
    }
}

/// An endpoint that answers the first request of a connection and keeps it, and ends it when the next one comes: with a reset
/// or in order, before or behind the request's bytes. So does a kernel whose service has closed its socket a moment ago.
async fn forgetful(resets: bool, reads: bool) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = Vec::new();
                if read_request(&mut stream, &mut request).await.is_none() {
                    return;
                }
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfresh").await;
                // The next one.
                if reads {
                    let _ = read_request(&mut stream, &mut Vec::new()).await;
                } else {
                    let _ = stream.readable().await;
                }
                if resets {
                    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                }
            });
        }
    });
    address
}

/// Reads a request whose length is declared, to its end.
async fn read_request(stream: &mut TcpStream, request: &mut Vec<u8>) -> Option<()> {
    loop {
        let text = String::from_utf8_lossy(request);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return Some(());
            }
        }
        (stream.read_buf(request).await.ok()? > 0).then_some(())?;
    }
}

#[tokio::test]
async fn rfc9110_9_2_2_a_stale_connection_costs_an_idempotent_request_nothing_however_it_is_noticed() {
    for (resets, reads) in [(true, true), (true, false), (false, true), (false, false)] {
        let address = forgetful(resets, reads).await;
        let edge = edge().upstream("app", &[address]).route("app", "upstream: app").start().await;
        let bodies = [String::new(), "hello".into(), "x".repeat(20_000), "x".repeat(60_000)];
        for _ in 0..12 {
            for (method, body) in
                ["GET", "PUT", "DELETE", "OPTIONS"].iter().flat_map(|method| bodies.iter().map(move |body| (method, body)))
            {
                let answer = edge.client().await.exchange(request(method, body)).await;
                assert_eq!((answer.status, answer.text().as_str()), (200, "fresh"), "{method} with {} bytes", body.len());
            }
        }
        let stats = edge.admin_get("/stats").await.json();
        let endpoint = &stats["upstreams"][0]["endpoints"][0];
        assert_eq!((&endpoint["state"], &endpoint["errors"]), (&"healthy".into(), &0.into()), "{endpoint}");
        let log = edge.access_log_of(192).await;
        let twice = log.iter().filter(|line| line["attempts"].as_array().unwrap().len() == 2).count();
        // The second try of a request opens a connection that is not kept, so that every other request finds a stale one.
        assert!(twice > 80, "{twice} of 192 met a stale connection");
        assert!(log.iter().all(|line| line["end"]["type"].is_null()));
    }
}

#[tokio::test]
async fn rfc9110_9_2_2_others_on_a_stale_connection_are_not() {
    for method in ["POST", "PATCH", "UNKNOWN"] {
        // Nor when half a header block has come.
        let half = origin().respond(200, "first").half_header().respond(200, "again");
        let bed = bed_with(if method == "PATCH" { half } else { stale() }, |edge| edge).await;
        assert_eq!(bed.edge.get("/").await.text(), "first");
        assert_eq!(bed.exchange(request(method, "hello")).await.status, 502, "{method}");
        assert_eq!(bed.origin.request_count(), 2, "{method} was sent twice");
        let line = bed.log_line(1).await;
        assert_eq!((&line["end"]["who"], &line["end"]["type"]), (&"upstream".into(), &"connection_terminated".into()), "{line}");
    }
}

#[tokio::test]
async fn rfc9110_9_2_2_a_body_that_cannot_be_kept_is_not_sent_again() {
    let bed = bed_with(stale(), |edge| edge).await;
    assert_eq!(bed.edge.get("/").await.text(), "first");
    assert_eq!(bed.exchange(request("PUT", &"x".repeat(65 * 1024))).await.status, 502);
    assert_eq!(bed.origin.request_count(), 2);
    let bed = bed_with(stale(), |edge| edge).await;
    assert_eq!(bed.edge.get("/").await.text(), "first");
    assert_eq!(bed.exchange(request("PUT", &"x".repeat(60 * 1024))).await.text(), "again");
    assert_eq!(bed.origin.requests()[2].body.len(), 60 * 1024);
}

#[tokio::test]
async fn rfc9110_9_2_2_nothing_is_sent_again_once_the_client_has_seen_a_response() {
    let body = Answer::raw("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello").close();
    let bed = bed_with(origin().respond(200, "first").answer(body).respond(200, "again"), |edge| edge).await;
    assert_eq!(bed.edge.get("/").await.text(), "first");
    let mut client = bed.client().await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    // Truncated, and visibly so.
    assert!(client.try_read_response().await.is_err());
    assert_eq!(bed.origin.request_count(), 2);
    let line = bed.log_line(1).await;
    assert_eq!(line["end"]["type"], "http_response_incomplete", "{line}");
}

/// On a fresh connection the service may have acted on what it was sent.
#[tokio::test]
async fn rfc9110_9_2_2_a_fresh_connection_that_breaks_is_not_tried_again_unless_asked() {
    let bad = origin().answer(Answer::nothing().reset()).spawn().await;
    let edge = edge().upstream("app", &[bad.addr()]).route("app", "upstream: app").start().await;
    assert_eq!(edge.get("/").await.status, 502);
    assert_eq!(bad.request_count(), 1);
}

/// What an endpoint says it has not processed may be sent again whatever it is (RFC 9113 section 8.7), a few times.
#[tokio::test]
async fn rfc9113_8_7_a_request_that_was_not_processed_is_sent_again_whatever_its_method() {
    let asked = Arc::<AtomicUsize>::default();
    let count = asked.clone();
    let refusing = h2_origin().respond_with(move |request| match (count.fetch_add(1, Relaxed), request.head.uri.path()) {
        (0, _) | (_, "/never") => H2Answer::new(200, "").reset(h2::Reason::REFUSED_STREAM),
        _ => H2Answer::new(200, request.body.clone()),
    });
    let refusing = refusing.spawn().await;
    let upstream = edge().upstream_with("app", &[refusing.addr()], "connections: {protocol: h2c}");
    let edge = upstream.route("app", "upstream: app").start().await;
    assert_eq!(edge.client().await.exchange(request("POST", "hello")).await.text(), "hello");
    assert_eq!(asked.load(Relaxed), 2);
    let never = request("POST", "hello").replace("/x", "/never");
    assert_eq!(edge.client().await.exchange(never).await.status, 502);
    assert_eq!(asked.load(Relaxed), 2 + 4, "not for ever");
    let stats = edge.admin_get("/stats").await.json();
    assert_eq!(stats["upstreams"][0]["endpoints"][0]["errors"], 0, "{stats}");
}
