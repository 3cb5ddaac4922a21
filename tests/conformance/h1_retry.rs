//! Rule 13: what is tried again, and what never is (RFC 9110 section 9.2.2).

use crate::{
    setup::bed_with,
    support::{
        edge::edge,
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
