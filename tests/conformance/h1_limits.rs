//! Rule 6: how much, how many, how long (RFC 9112 section 3, RFC 9110 section 15.5, RFC 6585 section 5).

use crate::{
    setup::{Bed, bed, bed_with},
    support::{Gate, origin::origin},
};

fn head_of(lines: &str) -> String {
    format!("GET / HTTP/1.1\r\nhost: example.com\r\n{lines}\r\n")
}

async fn small() -> Bed {
    bed_with(origin().respond(200, "ok"), |edge| edge.listener("http: {max_header_bytes: 4KiB, max_header_count: 10}")).await
}

#[tokio::test]
async fn rfc6585_5_a_header_block_over_its_limit_is_431() {
    let bed = small().await;
    let lines = |count: usize| format!("x: {}\r\n", "a".repeat(995)).repeat(count);
    assert_eq!(bed.passes(head_of(&lines(4))).await.headers.all("x").len(), 4);
    bed.refuses(head_of(&lines(5)), 431, "header_too_large").await;
    // One that never ends is refused as soon as the limit is reached.
    bed.refuses(&head_of(&lines(6))[..5000], 431, "header_too_large").await;
}

#[tokio::test]
async fn rfc6585_5_one_field_over_its_share_is_431() {
    let bed = small().await;
    assert_eq!(bed.passes(head_of(&format!("x: {}\r\n", "a".repeat(2045)))).await.header("x").unwrap().len(), 2045);
    bed.refuses(head_of(&format!("x: {}\r\n", "a".repeat(2046))), 431, "field_too_large").await;
    bed.refuses(head_of(&format!("{}: x\r\n", "a".repeat(2046))), 431, "field_too_large").await;
}

#[tokio::test]
async fn rfc6585_5_too_many_fields_are_431() {
    let bed = small().await;
    bed.passes(head_of(&"x: y\r\n".repeat(9))).await;
    bed.refuses(head_of(&"x: y\r\n".repeat(10)), 431, "too_many_headers").await;
}

/// However much the gate is told to let through, everything behind it must take as much.
#[tokio::test]
async fn rfc6585_5_the_limits_hold_as_configured_when_they_are_high() {
    let listener = "http: {max_header_bytes: 1000KiB, max_header_count: 256}";
    let bed = bed_with(origin().respond(200, "ok"), |edge| edge.listener(listener)).await;
    assert_eq!(bed.passes(head_of(&"x: y\r\n".repeat(255))).await.headers.all("x").len(), 255);
    bed.refuses(head_of(&"x: y\r\n".repeat(256)), 431, "too_many_headers").await;
    let value = "a".repeat(400_000);
    assert_eq!(bed.passes(head_of(&format!("x: {value}\r\ny: {value}\r\n"))).await.header("y").unwrap().len(), 400_000);
    assert_eq!(bed.passes(head_of(&format!("{}: x\r\n", "n".repeat(65_535)))).await.header("via"), Some("1.1 weir"));
    bed.refuses(head_of(&format!("{}: x\r\n", "n".repeat(65_536))), 431, "field_too_large").await;
    let get = |length: usize| format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "a".repeat(length - 1));
    assert_eq!(bed.passes(get(65_534)).await.target.len(), 65_534);
    bed.refuses(get(65_535), 414, "uri_too_long").await;
}

#[tokio::test]
async fn rfc9110_15_5_15_a_target_over_its_share_is_414() {
    let bed = small().await;
    let get = |length: usize| format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "a".repeat(length - 1));
    assert_eq!(bed.passes(get(1024)).await.target.len(), 1024);
    bed.refuses(get(1025), 414, "uri_too_long").await;
    bed.refuses(get(100_000), 414, "uri_too_long").await;
    // Without ever an end of the line.
    bed.refuses(&get(5000)[..2000], 414, "uri_too_long").await;
}

#[tokio::test]
async fn rfc9110_15_5_14_a_body_over_its_limit_is_413() {
    let bed = bed_with(origin().respond(200, "ok"), |edge| {
        edge.route("small", "match: {path: /small}\nupstream: app\nfilters: [{body_limit: {max: 10B}}]")
    })
    .await;
    let post = |framing: &str, body: &str| format!("POST /small HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n{body}");
    assert_eq!(bed.passes(post("content-length: 10", "0123456789")).await.body.len(), 10);
    assert_eq!(bed.passes(post("transfer-encoding: chunked", "a\r\n0123456789\r\n0\r\n\r\n")).await.body.len(), 10);
    let requests = [
        post("content-length: 11", "0123456789a"),
        post("transfer-encoding: chunked", "5\r\n01234\r\n6\r\n012345\r\n0\r\n\r\n"),
        // Refused before the body is there.
        post("content-length: 9223372036854775807", ""),
    ];
    for (index, request) in requests.into_iter().enumerate() {
        let answer = bed.exchange(request).await;
        assert_eq!(answer.status, 413);
        assert_eq!(bed.origin.request_count(), 2);
        assert_eq!(bed.log_line(2 + index).await["status"], 413);
    }
}

#[tokio::test]
async fn rfc9110_15_5_9_a_head_that_dribbles_is_408() {
    let bed = bed_with(origin().respond(200, "ok"), |edge| edge.listener("http: {header_timeout: 300ms}")).await;
    let before = bed.refusals("header_timeout").await;
    let mut client = bed.client().await;
    client.send("GET / HTTP/1.1\r\nhost: example.com\r\nx: ").await;
    let mut sent = 0;
    // Each byte is progress, and yet the whole is late.
    while client.is_open_now() && client.try_send("a").await.is_ok() && sent < 10_000 {
        sent += 1;
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        if bed.refusals("header_timeout").await.1 > before.1 {
            break;
        }
    }
    assert!(sent > 1);
    bed.refused(client, 408, "header_timeout", before).await;
    assert_eq!(bed.origin.connections(), 0);
    // The next head on a connection has the same time.
    let before = bed.refusals("header_timeout").await;
    let mut client = bed.client().await;
    assert_eq!(client.get("example.com", "/").await.status, 200);
    client.send("GET / HT").await;
    bed.refused(client, 408, "header_timeout", before).await;
}

#[tokio::test]
async fn rfc9112_9_5_a_connection_without_a_request_is_closed_without_a_word() {
    let listener = "http: {header_timeout: 200ms, keepalive_timeout: 200ms}";
    let bed = bed_with(origin().respond(200, "ok"), |edge| edge.listener(listener)).await;
    assert_eq!(bed.client().await.read_to_close().await, b"");
    let mut client = bed.client().await;
    assert_eq!(client.get("example.com", "/").await.status, 200);
    assert_eq!(client.read_to_close().await, b"");
    assert_eq!(bed.edge.access_log_of(1).await.len(), 1);
    assert_eq!(bed.rejected("header_timeout").await, 0);
}

#[tokio::test]
async fn rfc9110_15_5_9_a_body_that_stands_still_is_408() {
    let bed = bed_with(origin().respond(200, "ok"), |edge| edge.listener("http: {body_idle_timeout: 200ms}")).await;
    for request in [
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhello",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel",
    ] {
        bed.refuses_body(request, 408, "body_timeout").await;
    }
}

/// The client's patience with a slow origin is not limited by how long its own body may take.
#[tokio::test]
async fn rfc9110_15_5_9_a_slow_origin_is_not_the_client_s_fault() {
    let gate = Gate::new();
    let bed = bed_with(origin().slow(&gate, "late"), |edge| edge.listener("http: {body_idle_timeout: 100ms}")).await;
    let mut client = bed.client().await;
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello").await;
    assert_eq!(bed.origin.next_request().await.text(), "hello");
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    gate.open();
    assert_eq!(client.read_response().await.text(), "late");
}

#[tokio::test]
async fn rfc9112_9_3_a_connection_ends_after_its_share_of_requests() {
    let bed = bed_with(origin().respond(200, "ok"), |edge| edge.listener("http: {max_requests_per_connection: 3}")).await;
    let mut client = bed.client().await;
    for last in [false, false, true] {
        let answer = client.get("example.com", "/").await;
        assert_eq!((answer.status, answer.header("connection") == Some("close")), (200, last));
    }
    assert!(client.is_closed().await);
    eventually!(bed.edge.access_log_now().len() == 3);
}

#[tokio::test]
async fn rfc9112_2_2_a_stranger_s_protocol_is_told_off() {
    let bed = bed().await;
    bed.refuses(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "tls_on_cleartext").await;
    bed.refuses(b"\0\0\0\0", 400, "nul_byte").await;
    bed.refuses(b"\xff\xff", 400, "leading_garbage").await;
}
