//! What edges built on the same ground have been attacked with, as it was done.

use crate::{
    setup::{bed, bed_with},
    support::origin::{Answer, origin},
};

const SMUGGLED: &str = "GET /admin HTTP/1.1\r\nhost: internal\r\nx-forwarded-for: 127.0.0.1\r\n\r\n";

/// CVE-2026-2833: the bytes behind any request with an Upgrade field went to the origin as they were, before and
/// whether or not it agreed to switch protocols.
#[tokio::test]
async fn cve_2026_2833_a_premature_upgrade_carries_no_request_past_the_gate() {
    let deny = |edge: crate::support::edge::EdgeBuilder| edge.route("admin", "match: {path: /admin}\nrespond: {status: 403}");
    let bed = bed_with(origin().respond_with(|request| Answer::new(200, &request.target)), deny).await;
    for upgrade in ["websocket", "x", "h2c", "tls/1.2, websocket"] {
        let before = bed.origin.request_count();
        let mut client = bed.client().await;
        let carrier = format!("GET / HTTP/1.1\r\nhost: example.com\r\nconnection: upgrade\r\nupgrade: {upgrade}\r\n\r\n");
        client.send(carrier + SMUGGLED).await;
        assert_eq!(client.read_response().await.text(), "/", "{upgrade}");
        assert_eq!(client.read_response().await.status, 403, "{upgrade}");
        assert_eq!(bed.origin.request_count(), before + 1, "{upgrade}");
    }
    assert!(bed.origin.requests().iter().all(|request| request.target == "/") && bed.origin.broken().is_empty());
}

/// CVE-2026-2835: an HTTP/1.0 request with Transfer-Encoding, or one with several codings, was read to the close and sent
/// on with its framing as it was.
#[tokio::test]
async fn cve_2026_2835_http_1_0_and_odd_codings_are_refused() {
    let bed = bed().await;
    let with = |version: &str, fields: &str| format!("POST / HTTP/{version}\r\nhost: a\r\n{fields}\r\n0\r\n\r\n{SMUGGLED}");
    bed.refuses(with("1.0", "transfer-encoding: chunked\r\n"), 400, "te_on_http10").await;
    bed.refuses(with("1.0", "transfer-encoding: chunked\r\nconnection: keep-alive\r\n"), 400, "te_on_http10").await;
    bed.refuses(with("1.0", "transfer-encoding: identity, chunked\r\n"), 400, "te_on_http10").await;
    bed.refuses(with("1.0", "transfer-encoding: chunked\r\ncontent-length: 5\r\n"), 400, "te_and_cl").await;
    bed.refuses(with("1.1", "transfer-encoding: identity, chunked\r\n"), 501, "unknown_transfer_coding").await;
    bed.refuses(with("1.1", "transfer-encoding: identity\r\ntransfer-encoding: chunked\r\n"), 501, "unknown_transfer_coding")
        .await;
    bed.refuses(with("1.1", "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n"), 501, "unknown_transfer_coding")
        .await;
}

/// CVE-2025-4366: a response that was served without reading the request's body left it in the connection, where it was
/// taken for the next request.
#[tokio::test]
async fn cve_2025_4366_an_unread_body_never_becomes_a_request() {
    let bed = bed_with(origin().respond(200, "ok"), |edge| {
        edge.route("answered", "match: {path: /answered}\nrespond: {status: 200, body: answered}")
            .route("moved", "match: {path: /moved}\nredirect: {to: 'https://example.com/'}")
            .route("denied", "match: {path: /denied}\nupstream: app\nfilters: [{ip_access: {deny: [127.0.0.0/8]}}]")
            .route("small", "match: {path: /small}\nupstream: app\nfilters: [{body_limit: {max: 1B}}]")
    })
    .await;
    for path in ["/answered", "/moved", "/denied", "/small"] {
        for method in ["GET", "POST"] {
            for framing in [
                format!("content-length: {}\r\n\r\n{SMUGGLED}", SMUGGLED.len()),
                format!("transfer-encoding: chunked\r\n\r\n{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n", SMUGGLED.len()),
            ] {
                let mut client = bed.client().await;
                client
                    .send(format!("{method} {path} HTTP/1.1\r\nhost: a\r\n{framing}GET /next HTTP/1.1\r\nhost: a\r\n\r\n"))
                    .await;
                assert_ne!(client.read_response().await.text(), "ok", "{method} {path}");
                let _ = client.try_read_response().await;
            }
        }
    }
    let targets: Vec<_> = bed.origin.requests().iter().map(|request| request.target.clone()).collect();
    assert!(targets.iter().all(|target| target == "/next"), "{targets:?}");
}
