//! The gate on HTTP/2 requests (RFC 9113 section 8): each refusal is typed, counted, logged, and leaves other streams alone.

use crate::{
    setup::{Bed, bed_of, frames_for, h2, h2_bed, log_line, raw_h2, rejected, send_h2},
    support::{
        client::RawClient,
        edge::edge,
        h2_client::{H2Client, H2Request},
        h2_raw::{Frame, get_fields, kind},
        origin::origin,
    },
};

/// Sends a request of these fields, and expects this refusal, and that the origin knows nothing of it.
async fn refuses(fields: &[(&str, &str)], status: u64, reason: &str) {
    let bed = h2_bed().await;
    let frames = frames_for(&bed.edge, fields).await;
    assert!(frames.iter().any(|frame| frame.kind == kind::HEADERS), "{fields:?} got {frames:?}");
    assert!(frames.iter().all(|frame| frame.kind != kind::GOAWAY), "{fields:?} got {frames:?}");
    let line = log_line(&bed.edge).await;
    assert_eq!((line["status"].as_u64(), line["end"]["reason"].as_str()), (Some(status), Some(reason)), "{fields:?} {line}");
    assert_eq!((line["http"].as_str(), line["end"]["who"].as_str()), (Some("2"), Some("client")), "{line}");
    assert_eq!(rejected(&bed.edge, reason).await, 1, "{fields:?}");
    assert_eq!(bed.origin.request_count(), 0, "{fields:?}");
}

/// Sends a request of these fields, which HTTP/2 itself rules out: a stream error.
async fn resets(bed: &Bed, fields: &[(&str, &str)]) {
    let frames = frames_for(&bed.edge, fields).await;
    let last = frames.last().expect("an answer");
    // A message of 400 would do as well (section 8.1.1), but nobody has to answer what is no request.
    let ended = matches!(last.kind, kind::RST_STREAM | kind::GOAWAY | kind::HEADERS | kind::DATA);
    assert!(ended, "{fields:?} got {frames:?}");
    let status = frames.iter().find(|frame| frame.kind == kind::HEADERS).and_then(|frame| frame.payload.first());
    // The first byte of the block is `:status` from the static table: 0x8c is 400, 0x88 would be 200.
    assert!(status.is_none_or(|first| *first != 0x88), "{fields:?} got {frames:?}");
    assert_eq!(bed.origin.request_count(), 0, "{fields:?}");
}

#[tokio::test]
async fn rfc9113_8_3_1_authority_is_there_once_and_agrees_with_host() {
    refuses(&[(":method", "GET"), (":scheme", "http"), (":path", "/")], 400, "missing_host").await;
    refuses(&get_fields("http", "example.com", "/", &[("host", "other.example.com")]), 400, "host_mismatch").await;
    let two = [("host", "example.com"), ("host", "example.com")];
    refuses(&get_fields("http", "example.com", "/", &two), 400, "duplicate_host").await;
    refuses(&[(":method", "GET"), (":scheme", "http"), (":path", "/"), ("host", "a b")], 400, "bad_host").await;
}

#[tokio::test]
async fn rfc9113_8_3_1_host_alone_or_in_agreement_is_fine() {
    let bed = h2_bed().await;
    for fields in [
        vec![(":method", "GET"), (":scheme", "http"), (":path", "/"), ("host", "example.com")],
        get_fields("http", "example.com", "/", &[("host", "example.com")]),
    ] {
        let frames = frames_for(&bed.edge, &fields).await;
        assert!(frames.iter().any(|frame| frame.kind == kind::DATA && frame.payload == b"ok"), "{fields:?} {frames:?}");
        assert_eq!(bed.origin.next_request().await.headers.all("host").len(), 1);
    }
}

#[tokio::test]
async fn rfc9113_8_2_2_fields_of_http1_connections_are_refused() {
    for field in [
        ("connection", "close"),
        ("keep-alive", "1"),
        ("proxy-connection", "keep-alive"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
        ("te", "gzip"),
    ] {
        let bed = h2_bed().await;
        resets(&bed, &get_fields("http", "example.com", "/", &[field])).await;
    }
    // `TE: trailers` is the one that is allowed.
    let bed = h2_bed().await;
    let request = H2Request::get("example.com", "/").header("te", "trailers");
    assert_eq!(send_h2(&bed.edge, &request).await.status, 200);
}

#[tokio::test]
async fn rfc9113_8_3_pseudo_fields_are_there_once_ahead_and_known() {
    let bed = h2_bed().await;
    for fields in [
        get_fields("http", "example.com", "/", &[(":authority", "other.example.com")]),
        get_fields("http", "example.com", "/", &[(":path", "/two")]),
        get_fields("http", "example.com", "/", &[(":protocol", "websocket")]),
        get_fields("http", "example.com", "/", &[("x-a", "1"), (":method", "POST")]),
        get_fields("http", "example.com", "/", &[(":status", "200")]),
        get_fields("http", "example.com", "", &[]),
        vec![(":method", "GET"), (":authority", "example.com"), (":path", "/")],
        vec![(":method", "GET"), (":scheme", "http"), (":authority", "example.com")],
        vec![(":scheme", "http"), (":authority", "example.com"), (":path", "/")],
        get_fields("http", "example.com", "/", &[("X-Upper", "1")]),
        get_fields("http", "example.com", "/", &[("x-a", "1\r\nx-b: 2")]),
        get_fields("http", "example.com", "/", &[("x-a", "1\u{0}2")]),
        get_fields("http", "example.com", "/", &[("x a", "1")]),
        get_fields("http", "exa mple.com", "/", &[]),
        get_fields("http", "user@example.com", "/", &[]),
        get_fields("http", "example.com", "/a b", &[]),
        get_fields("http", "example.com", "/a\r\nx", &[]),
        get_fields("http", "example.com", "relative", &[]),
    ] {
        resets(&bed, &fields).await;
    }
    assert_eq!(bed.origin.request_count(), 0);
}

#[tokio::test]
async fn rfc9110_7_1_a_path_has_one_meaning() {
    for (path, reason) in [
        ("/..", "path_above_root"),
        ("/a/../../b", "path_above_root"),
        ("/%2e%2e/b", "path_above_root"),
        ("/a%00", "nul_in_target"),
        ("/a%zz", "bad_escape"),
        ("/a\\b", "backslash"),
        ("/a%5c..%5cb", "ambiguous_path"),
        ("/\u{e9}", "bad_target"),
        ("/?\u{e9}", "bad_target"),
    ] {
        refuses(&get_fields("http", "example.com", path, &[]), 400, reason).await;
    }
}

/// Over HTTP/2 the library refuses what the `http` crate cannot hold, before the gate could write it in another way.
#[tokio::test]
async fn rfc9110_7_7_a_target_is_forwarded_byte_for_byte() {
    let bed = h2_bed().await;
    let mut client = raw_h2(&bed.edge).await;
    let mut stream = 1;
    for byte in (0x21..0x7f_u8).map(char::from) {
        for target in [format!("/a{byte}b"), format!("/a?b{byte}c")] {
            if target.contains('#') || target.contains("a\\") || target.contains("a%b") {
                continue;
            }
            let fields = get_fields("http", "example.com", &target, &[]);
            client.send(&Frame::headers(stream, true, &fields)).await.expect("HEADERS");
            let answer =
                client.until(|frame| frame.stream == stream && frame.kind != kind::WINDOW_UPDATE).await.expect("an answer");
            stream += 2;
            let (path, query) = target.split_once('?').unwrap_or((&target, ""));
            if path.contains(['<', '>', '`']) || query.contains(['"', '<', '>']) {
                assert_eq!(answer.kind, kind::RST_STREAM, "{target}");
                continue;
            }
            assert_eq!((answer.kind, answer.payload.first()), (kind::HEADERS, Some(&0x88)), "{target}");
            assert_eq!(bed.origin.next_request().await.target, target);
        }
    }
}

#[tokio::test]
async fn rfc9110_7_1_a_path_is_matched_in_its_canonical_form() {
    let origin = origin().respond(200, "ok").spawn().await;
    let edge = edge()
        .listener("http: {h2c: true}")
        .upstream("app", &[origin.addr()])
        .route("closed", "match: {path: /admin/*}\nrespond: {status: 403}")
        .route("app", "upstream: app")
        .start()
        .await;
    let mut client = h2(&edge).await;
    for path in ["/admin/x", "/a/../admin/x", "/%61dmin/x", "//admin/x", "/a/%2e%2e/admin/x"] {
        assert_eq!(client.get("example.com", path).await.status, 403, "{path}");
    }
    assert_eq!(origin.request_count(), 0);
}

#[tokio::test]
async fn rfc9110_9_3_connect_and_trace_are_not_served() {
    let bed = h2_bed().await;
    let mut trace = H2Request::get("example.com", "/");
    trace.method = http::Method::TRACE;
    let answer = send_h2(&bed.edge, &trace).await;
    assert_eq!((answer.status.as_u16(), answer.header("allow").is_some()), (405, true));
    let frames = frames_for(&bed.edge, &[(":method", "CONNECT"), (":authority", "example.com:443")]).await;
    assert!(frames.iter().any(|frame| matches!(frame.kind, kind::HEADERS | kind::RST_STREAM)), "{frames:?}");
    let log = bed.edge.access_log().await;
    assert!(log.iter().all(|line| line["status"] == 405 && line["end"]["reason"] == "method_not_allowed"), "{log:?}");
    assert_eq!(bed.origin.request_count(), 0);
}

#[tokio::test]
async fn rfc9113_10_5_1_header_lists_are_bounded() {
    let bed = bed_of(origin().respond(200, "ok"), "max_header_bytes: 4KiB, max_header_count: 20").await;
    // One field above its half, all together above the limit, too many, and a target above its quarter.
    let long = "v".repeat(3000);
    let many: Vec<(String, String)> = (0..30).map(|index| (format!("x-{index}"), "1".to_owned())).collect();
    let path = format!("/{}", "p".repeat(1500));
    let mut list = H2Request::get("example.com", "/");
    for (name, value) in &many {
        list = list.header(name, value);
    }
    let mut client = h2(&bed.edge).await;
    for (request, status) in [
        (H2Request::get("example.com", "/").header("x-long", &long), 431),
        (list, 431),
        (H2Request::get("example.com", &path), 414),
    ] {
        let answer = client.send(&request).await.expect("an answer");
        assert_eq!(answer.status.as_u16(), status, "{request:?}");
    }
    // Far beyond it, the codec answers by itself; whatever it does, nothing is forwarded.
    let fields: Vec<(&str, String)> = (0..4).map(|_| ("x-long", "v".repeat(1500))).collect();
    let more: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let frames = frames_for(&bed.edge, &get_fields("http", "example.com", "/", &more)).await;
    assert!(frames.last().is_some_and(|frame| frame.kind != kind::SETTINGS), "{frames:?}");
    assert_eq!(bed.origin.request_count(), 0);
    assert_eq!(client.get("example.com", "/").await.status, 200);
}

#[tokio::test]
async fn rfc9113_8_1_1_content_length_must_be_what_comes() {
    // More and less than was declared: malformed, and the origin must not take it for a whole request.
    for (body, declared) in [("abcdef", "3"), ("abc", "6")] {
        let bed = h2_bed().await;
        let mut raw = raw_h2(&bed.edge).await;
        let mut fields = get_fields("http", "example.com", "/", &[("content-length", declared)]);
        fields[0].1 = "POST";
        raw.send(&Frame::headers(1, false, &fields)).await.expect("HEADERS");
        raw.send(&Frame::new(kind::DATA, 1, 1, body)).await.expect("DATA");
        let last = raw.until(|frame| frame.stream == 1 && frame.kind != kind::WINDOW_UPDATE).await.expect("an answer");
        assert!(last.kind == kind::RST_STREAM || last.kind == kind::HEADERS, "{last:?}");
        assert_eq!(bed.origin.request_count(), 0, "{declared}");
    }
    for fields in [
        vec![("content-length", "3"), ("content-length", "4")],
        vec![("content-length", "x")],
        vec![("content-length", "-1")],
        vec![("content-length", "+3")],
    ] {
        let bed = h2_bed().await;
        resets(&bed, &get_fields("http", "example.com", "/", &fields)).await;
    }
}

#[tokio::test]
async fn rfc9110_15_5_20_host_outside_the_certificate_is_421() {
    let origin = origin().respond(200, "ok").spawn().await;
    let edge = edge()
        .tls_with("self_signed: [other.test]")
        .upstream("app", &[origin.addr()])
        .route("app", "upstream: app")
        .start()
        .await;
    let mut client = H2Client::connect_tls(edge.address("edge"), &edge.trust()).await;
    assert_eq!(client.get("localhost", "/").await.status, 200);
    assert_eq!(client.get("www.example.com", "/").await.status, 200, "the same certificate is good for it");
    assert_eq!(client.get("other.test", "/").await.status, 421);
    let line = edge.access_log_of(3).await.remove(2);
    assert_eq!((line["status"].as_u64(), line["end"]["reason"].as_str()), (Some(421), Some("misdirected")), "{line}");
    assert_eq!(client.get("localhost", "/").await.status, 200, "the connection lives on");
    assert_eq!(origin.request_count(), 3);
}

#[tokio::test]
async fn rfc9113_3_4_the_preface_where_http2_is_not_spoken_is_refused() {
    let bed = crate::setup::bed().await;
    let mut client = RawClient::connect(bed.address()).await;
    let answer = client.exchange(crate::support::h2_raw::PREFACE).await;
    assert_eq!(answer.status, 505);
}
