//! Bounded work per connection: floods are answered by GOAWAY and counted, slow clients are timed out, and at the
//! limit of connections new ones are refused rather than old ones starved.

use std::time::{Duration, Instant};

use crate::{
    setup::{Bed, bed_of, bed_with, get, h2, h2_bed, raw_h2, rejected, sample},
    support::{
        client::RawClient,
        h2_raw::{Flood, Frame, PREFACE, RawH2, flag, get_fields, hpack, kind},
        origin::origin,
    },
};

const CALM: u32 = 11;

/// Checks that a flood was ended by the edge, counted under this reason, and harmed nobody else.
async fn ended(bed: &Bed, flood: Flood, reason: &str) {
    assert!(flood.ended, "{reason}: {flood:?}");
    // A reset may overtake the GOAWAY, see [`Flood`]; when there is one, it says why.
    assert!(flood.goaway.is_none_or(|code| code == CALM), "{reason}: {flood:?}");
    eventually!(rejected(&bed.edge, reason).await == 1);
    assert_eq!(h2(&bed.edge).await.get("example.com", "/").await.status, 200, "others are served");
}

#[tokio::test]
async fn rfc9113_10_5_the_frame_that_is_too_much_is_answered_with_enhance_your_calm() {
    // Up to the limit nothing happens; the handshake has two of the SETTINGS.
    let ping = Frame::new(kind::PING, flag::ACK, 0, [7; 8]);
    let empty = Frame::new(kind::DATA, flag::NONE, 1, []);
    for (frame, limit, reason) in [
        (ping, 1000, "h2_ping_flood"),
        (Frame::settings(&[]), 18, "h2_settings_flood"),
        (empty, 100, "h2_empty_data_flood"),
        (Frame::new(kind::WINDOW_UPDATE, flag::NONE, 0, [0, 0, 0, 1]), 10_000, "h2_window_update_flood"),
    ] {
        let bed = h2_bed().await;
        let mut raw = posting(&bed).await;
        raw.send_bytes(&frame.bytes().repeat(limit)).await.expect("taken");
        raw.send(&Frame::headers(3, true, &get_fields("http", "example.com", "/", &[]))).await.expect("taken");
        let answer = raw.until(|frame| frame.stream == 3 && frame.kind == kind::DATA || frame.kind == kind::GOAWAY).await;
        assert!(answer.is_some_and(|frame| frame.kind == kind::DATA), "{reason}: closed at the limit already");
        raw.send(&frame).await.expect("taken");
        assert_eq!(raw.goaway().await, Some(CALM), "{reason}");
        assert!(raw.until(|_| false).await.is_none(), "{reason}: the connection ends");
        eventually!(rejected(&bed.edge, reason).await == 1);
    }
}

#[tokio::test]
async fn cve_2023_44487_rapid_reset() {
    let bed = h2_bed().await;
    let mut raw = raw_h2(&bed.edge).await;
    let fields = get_fields("http", "example.com", "/", &[]);
    let flood = raw
        .flood(200_000, |index| {
            let stream = (index / 2) as u32 * 2 + 1;
            if index % 2 == 0 { Frame::headers(stream, true, &fields) } else { Frame::rst(stream, 8) }
        })
        .await;
    ended(&bed, flood, "h2_reset_flood").await;
    // Far fewer reached the origin than were opened.
    assert!(bed.origin.request_count() <= 250, "{}", bed.origin.request_count());
}

#[tokio::test]
async fn cve_2024_27316_continuation() {
    let bed = h2_bed().await;
    let mut raw = raw_h2(&bed.edge).await;
    let block = Frame::headers(1, true, &get_fields("http", "example.com", "/", &[])).payload;
    raw.send(&Frame::new(kind::HEADERS, flag::END_STREAM, 1, block)).await.expect("HEADERS");
    let more = hpack(&[("x-a", "1")]);
    let flood = raw.flood(100_000, |_| Frame::new(kind::CONTINUATION, flag::NONE, 1, &more)).await;
    ended(&bed, flood, "h2_continuation_flood").await;
    assert_eq!(bed.origin.request_count(), 1, "only that of the check");
}

#[tokio::test]
async fn cve_2024_27316_a_header_block_that_is_too_long() {
    let bed = h2_bed().await;
    let mut raw = raw_h2(&bed.edge).await;
    let more = hpack(&[("x-a", &"v".repeat(8000))]);
    let flood = raw
        .flood(10_000, |index| match index {
            0 => Frame::new(kind::HEADERS, flag::END_STREAM, 1, &more),
            _ => Frame::new(kind::CONTINUATION, flag::NONE, 1, &more),
        })
        .await;
    ended(&bed, flood, "h2_header_block_too_large").await;
}

#[tokio::test]
async fn cve_2019_9512_ping_flood() {
    let bed = h2_bed().await;
    let flood = raw_h2(&bed.edge).await.flood(500_000, |_| Frame::new(kind::PING, flag::NONE, 0, [7; 8])).await;
    ended(&bed, flood, "h2_ping_flood").await;
}

#[tokio::test]
async fn cve_2019_9515_settings_flood() {
    let bed = h2_bed().await;
    let flood = raw_h2(&bed.edge).await.flood(500_000, |_| Frame::settings(&[(3, 100)])).await;
    ended(&bed, flood, "h2_settings_flood").await;
}

#[tokio::test]
async fn cve_2019_9513_priority_flood() {
    let bed = h2_bed().await;
    let flood = raw_h2(&bed.edge).await.flood(500_000, |_| Frame::new(kind::PRIORITY, flag::NONE, 1, [0, 0, 0, 3, 1])).await;
    ended(&bed, flood, "h2_priority_flood").await;
}

/// A stream that stays open: a POST that has begun.
async fn posting(bed: &Bed) -> RawH2 {
    let mut raw = raw_h2(&bed.edge).await;
    let mut fields = get_fields("http", "example.com", "/", &[]);
    fields[0].1 = "POST";
    raw.send(&Frame::headers(1, false, &fields)).await.expect("HEADERS");
    raw
}

#[tokio::test]
async fn cve_2019_9518_empty_data_flood() {
    let bed = h2_bed().await;
    let flood = posting(&bed).await.flood(500_000, |_| Frame::new(kind::DATA, flag::NONE, 1, [])).await;
    ended(&bed, flood, "h2_empty_data_flood").await;
}

#[tokio::test]
async fn cve_2019_9511_window_update_flood() {
    let bed = h2_bed().await;
    let flood = posting(&bed).await.flood(500_000, |_| Frame::new(kind::WINDOW_UPDATE, flag::NONE, 1, [0, 0, 0, 1])).await;
    ended(&bed, flood, "h2_window_update_flood").await;
}

/// Who reads more slowly than it is sent to, and gives back each frame by itself, has less and less in each.
#[tokio::test]
async fn a_download_that_is_given_back_in_crumbs_is_not_a_flood() {
    const LENGTH: usize = 4 << 20;
    let bed = bed_of(origin().respond(200, &"x".repeat(LENGTH)), "").await;
    let mut raw = RawH2::connect(bed.address()).await;
    let small_windows = [(4, 500)];
    raw.handshake_with(&small_windows).await;
    raw.send(&Frame::headers(1, true, &get_fields("http", "example.com", "/", &[]))).await.expect("HEADERS");
    let mut received = 0;
    while received < LENGTH {
        let frame = raw.until(|frame| matches!(frame.kind, kind::DATA | kind::GOAWAY | kind::RST_STREAM)).await.expect("a frame");
        assert_eq!(frame.kind, kind::DATA, "after {received} bytes: {frame:?}");
        received += frame.payload.len();
        for stream in [0, 1] {
            let update = (frame.payload.len() as u32).to_be_bytes();
            if !frame.payload.is_empty() {
                raw.send(&Frame::new(kind::WINDOW_UPDATE, flag::NONE, stream, update)).await.expect("WINDOW_UPDATE");
            }
        }
    }
    assert_eq!(received, LENGTH);
}

#[tokio::test]
async fn cve_2025_8671_made_you_reset() {
    // The client makes the server reset its streams: a window update of nothing.
    let bed = h2_bed().await;
    let mut raw = raw_h2(&bed.edge).await;
    let fields = get_fields("http", "example.com", "/", &[]);
    let flood = raw
        .flood(200_000, |index| {
            let stream = (index / 2) as u32 * 2 + 1;
            if index % 2 == 0 {
                Frame::headers(stream, true, &fields)
            } else {
                Frame::new(kind::WINDOW_UPDATE, flag::NONE, stream, [0; 4])
            }
        })
        .await;
    assert!(flood.ended, "{flood:?}");
    assert!(bed.origin.request_count() <= 250, "{}", bed.origin.request_count());
}

#[tokio::test]
async fn unknown_frames_are_ignored_up_to_a_bound() {
    let bed = h2_bed().await;
    let mut raw = raw_h2(&bed.edge).await;
    for _ in 0..10 {
        raw.send(&Frame::new(0x2a, flag::NONE, 0, "grease")).await.expect("taken");
    }
    raw.send(&Frame::headers(1, true, &get_fields("http", "example.com", "/", &[]))).await.expect("HEADERS");
    assert!(raw.until(|frame| frame.kind == kind::DATA).await.is_some(), "RFC 9113 section 4.1: unknown frames are ignored");
    let flood = raw.flood(500_000, |_| Frame::new(0x2a, flag::NONE, 0, "grease")).await;
    ended(&bed, flood, "h2_unknown_frame_flood").await;
}

#[tokio::test]
async fn requests_that_are_none_close_the_connection_in_the_end() {
    let bed = bed_of(origin().respond(200, "ok"), "").await;
    let mut raw = raw_h2(&bed.edge).await;
    let bad = get_fields("http", "exa mple.com", "/", &[]);
    let flood = raw.flood(10_000, |index| Frame::headers(index as u32 * 2 + 1, true, &bad)).await;
    assert!(flood.ended, "{flood:?}");
    assert_eq!(bed.origin.request_count(), 0);
}

#[tokio::test]
async fn slowloris_a_head_that_comes_byte_by_byte_is_timed_out_as_a_whole() {
    let bed = bed_of(origin().respond(200, "ok"), "header_timeout: 300ms").await;
    let mut client = bed.client().await;
    let began = Instant::now();
    // A byte each 20 ms never lets a timeout of single reads expire.
    let mut closed = false;
    for byte in get("/slow").bytes().cycle() {
        if byte == b'\n' {
            continue;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        if client.try_send([byte]).await.is_err() || began.elapsed() > Duration::from_secs(2) {
            closed = true;
            break;
        }
    }
    assert!(closed);
    let (answer, _) = client.read_to_end().await;
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 408 "), "{}", String::from_utf8_lossy(&answer));
    let line = bed.edge.access_log().await.remove(0);
    assert_eq!((line["status"].as_u64(), line["end"]["reason"].as_str()), (Some(408), Some("header_timeout")), "{line}");
    assert_eq!(bed.origin.connections(), 0);
}

#[tokio::test]
async fn slowloris_the_second_head_of_a_connection_too() {
    let bed = bed_of(origin().respond(200, "ok"), "header_timeout: 200ms").await;
    let mut client = bed.client().await;
    assert_eq!(client.exchange(get("/")).await.status, 200);
    client.send("GET / HTTP/1.1\r\nhost: exa").await;
    let answer = client.read_response().await;
    assert_eq!((answer.status, answer.header("connection")), (408, Some("close")));
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn slowloris_a_connection_that_says_nothing_is_closed_without_a_word() {
    let bed = bed_of(origin().respond(200, "ok"), "header_timeout: 200ms, keepalive_timeout: 200ms").await;
    let mut silent = bed.client().await;
    assert_eq!(silent.read_to_end().await.0, b"");
    let mut idle = bed.client().await;
    assert_eq!(idle.exchange(get("/")).await.status, 200);
    assert_eq!(idle.read_to_end().await.0, b"");
    assert_eq!(bed.edge.access_log_of(1).await.len(), 1, "that is no request");
}

#[tokio::test]
async fn slow_body_a_body_that_stalls_is_a_408() {
    let bed = bed_of(origin().respond(200, "ok"), "body_idle_timeout: 200ms").await;
    for request in [
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhalf",
        "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n4\r\nha",
    ] {
        let mut client = bed.client().await;
        let answer = client.exchange(request).await;
        assert_eq!((answer.status, answer.header("connection")), (408, Some("close")), "{request}");
        assert!(client.is_closed().await);
    }
    for line in bed.edge.access_log_of(2).await {
        assert_eq!((line["status"].as_u64(), line["end"]["reason"].as_str()), (Some(408), Some("body_timeout")), "{line}");
        assert_eq!(line["end"]["who"], "client", "{line}");
    }
    eventually!(bed.origin.open_connections() == 0);
    assert_eq!(bed.origin.request_count(), 0);
}

#[tokio::test]
async fn slow_handshake_and_preface_are_timed_out() {
    // TLS that never begins, TLS after which nothing comes, a preface that stops within, SETTINGS that never come.
    let bed = bed_with(origin().respond(200, "ok"), |edge| {
        edge.tls().listener("http: {h2c: true, header_timeout: 1s, keepalive_timeout: 1s}")
    })
    .await;
    let edge = &bed.edge;
    let mut silent = RawClient::connect(edge.address("edge")).await;
    assert!(silent.is_closed().await);
    let mut after_tls = RawClient::connect_tls(edge.address("edge"), &edge.trust().alpn("h2")).await;
    assert_eq!(after_tls.alpn(), Some("h2"));
    // The server's SETTINGS may come first; then the end.
    let (_, _) = after_tls.read_to_end().await;
    for part in [&PREFACE[..1], &PREFACE[..18]] {
        let mut client = bed.client().await;
        client.send(part).await;
        let (answer, _) = client.read_to_end().await;
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&answer));
    }
    let mut client = bed.client().await;
    client.send(PREFACE).await;
    let _ = client.read_to_end().await;
    eventually!(sample(edge, "weir_listener_connections{listener=\"web\"}").await == 0);
    eventually!(sample(edge, "weir_listener_connections{listener=\"edge\"}").await == 0);
}

#[tokio::test]
async fn at_the_limit_of_a_listener_new_connections_are_refused_and_old_ones_served() {
    let bed = bed_with(origin().respond(200, "ok"), |edge| edge.listener("max_connections: 2")).await;
    is_refused_beyond_two(&bed, "listener_connection_limit").await;
}

#[tokio::test]
async fn at_the_limit_of_the_server_new_connections_are_refused_and_old_ones_served() {
    let bed = bed_with(origin().respond(200, "ok"), |edge| edge.yaml("server: {max_connections: 2}")).await;
    is_refused_beyond_two(&bed, "connection_limit").await;
}

async fn is_refused_beyond_two(bed: &Bed, reason: &str) {
    let (mut first, mut second) = (bed.client().await, bed.client().await);
    assert_eq!(first.exchange(get("/")).await.status, 200);
    assert_eq!(second.exchange(get("/")).await.status, 200);
    for round in 1..=3 {
        let mut third = bed.client().await;
        assert!(third.is_closed().await, "refused by a close");
        eventually!(rejected(&bed.edge, reason).await == round);
    }
    assert_eq!(first.exchange(get("/")).await.status, 200, "those inside are served");
    assert_eq!(second.exchange(get("/")).await.status, 200);
    drop(first);
    // A place is free again.
    eventually!({
        let mut client = bed.client().await;
        client.try_send(get("/")).await.is_ok() && client.try_read_response().await.is_ok_and(|answer| answer.is_some())
    });
    assert_eq!(second.exchange(get("/")).await.status, 200);
}

#[tokio::test]
async fn rfc9112_9_6_requests_on_an_http1_connection_are_limited() {
    let bed = bed_of(origin().respond(200, "ok"), "max_requests_per_connection: 3").await;
    let mut client = bed.client().await;
    for index in 1..=3 {
        let answer = client.exchange(get("/")).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("connection") == Some("close"), index == 3, "{index}");
    }
    assert!(client.is_closed().await);
    assert_eq!(bed.exchange(get("/")).await.status, 200);
}

#[tokio::test]
async fn pipelining_without_reading_is_bounded() {
    // Requests that are sent and never read: answers fill the socket, and then nothing more is taken in.
    // Few answers fill it, so that a slow machine gets there, too.
    let bed = bed_of(origin().respond(200, &"x".repeat(1 << 20)), "body_idle_timeout: 300ms").await;
    let mut client = bed.client().await;
    client.small_receive_buffer(16 * 1024);
    // More than the kernel's buffers of both sides hold.
    const ALL: usize = 2_000_000;
    let many = get("/").repeat(100);
    let mut sent = 0;
    while sent < ALL {
        match tokio::time::timeout(Duration::from_secs(2), client.try_send(&many)).await {
            Ok(Ok(())) => sent += 100,
            _ => break,
        }
    }
    assert!(sent < ALL, "all of it was taken");
    eventually!(sample(&bed.edge, "weir_listener_connections{listener=\"web\"}").await == 0);
}

#[tokio::test]
async fn heads_that_nobody_reads_are_given_up_like_bodies() {
    // Answers that are nothing but a head: what blocks the socket is never a body.
    let field = "x".repeat(60_000);
    let fields = ["x-a", "x-b", "x-c", "x-d"].map(|name| (name, field.as_str()));
    let bed = bed_of(origin().respond_headers(200, &fields, ""), "body_idle_timeout: 300ms").await;
    let mut client = bed.client().await;
    client.small_receive_buffer(16 * 1024);
    let many = get("/").repeat(100);
    // It is over when the edge closes the connection: until then there is always more to send, or to wait for.
    while let Ok(()) = client.try_send(&many).await {}
    eventually!(sample(&bed.edge, "weir_listener_connections{listener=\"web\"}").await == 0);
    eventually!(bed.edge.access_log_now().pop().map(|last| last["end"]["who"].clone()), |who| *who == Some("client".into()));
}

#[tokio::test]
async fn browsers_that_leave_a_page_are_not_a_flood() {
    // A hundred requests opened and cancelled at once is what a reader in a hurry does.
    let bed = h2_bed().await;
    let mut raw = raw_h2(&bed.edge).await;
    let fields = get_fields("http", "example.com", "/", &[]);
    let mut burst = Vec::new();
    for index in 0..90 {
        burst.extend(Frame::headers(index * 2 + 1, true, &fields).bytes());
    }
    for index in 0..90 {
        burst.extend(Frame::rst(index * 2 + 1, 8).bytes());
    }
    raw.send_bytes(&burst).await.expect("taken");
    raw.send(&Frame::headers(201, true, &fields)).await.expect("taken");
    assert!(raw.until(|frame| frame.stream == 201 && frame.kind == kind::DATA).await.is_some(), "the connection lives on");
}
