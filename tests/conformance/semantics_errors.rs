//! What Weir answers by itself (RFC 9110 section 15, RFC 9209): short, typed, and without a word about what is behind it.

use std::net::SocketAddr;

use crate::{
    setup::{bed_of, end, get, log_line, proxy_errors, send_h2},
    support::{
        edge::{Edge, edge},
        h2_client::H2Request,
        origin::{Answer, OriginBuilder, origin, refused_address},
        wire::RawResponse,
    },
};

async fn edge_to(endpoint: SocketAddr, keys: &str) -> Edge {
    edge()
        .listener("http: {h2c: true}")
        .upstream_with("app", &[endpoint], keys)
        .route("app", "match: {host: example.com}\nupstream: app")
        .start()
        .await
}

/// An error as a stranger may see it.
fn is_presentable(answer: &RawResponse, internal: SocketAddr) {
    let all = String::from_utf8_lossy(&answer.raw).into_owned();
    for secret in [internal.port().to_string(), internal.ip().to_string(), "pingora".into(), "upstream".into()] {
        assert!(!all.to_ascii_lowercase().contains(&secret), "{secret} in {all}");
    }
    assert_eq!(answer.header("cache-control"), Some("no-store"), "{all}");
    assert_eq!(answer.header("content-length"), Some(answer.body.len().to_string().as_str()), "{all}");
    assert!(answer.body.len() < 1024, "{all}");
    assert_eq!(answer.header("server"), None, "{all}");
    assert!(answer.header("date").is_some(), "{all}");
}

#[tokio::test]
async fn rfc9110_12_5_1_errors_come_in_the_form_that_was_asked_for() {
    let address = refused_address().await;
    let edge = edge_to(address, "").await;
    for (accept, form, start) in [
        ("", "text/plain; charset=utf-8", "502 Bad Gateway"),
        ("accept: */*\r\n", "text/plain; charset=utf-8", "502 Bad Gateway"),
        ("accept: application/json\r\n", "application/json", "{"),
        ("accept: application/problem+json, */*;q=0.1\r\n", "application/json", "{"),
        ("accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n", "text/html; charset=utf-8", "<!doctype"),
    ] {
        let mut client = edge.client().await;
        let answer = client.exchange(format!("GET / HTTP/1.1\r\nhost: example.com\r\n{accept}\r\n")).await;
        assert_eq!((answer.status, answer.header("content-type")), (502, Some(form)), "{accept:?}");
        assert!(answer.text().starts_with(start), "{accept:?} {}", answer.text());
        is_presentable(&answer, address);
        if form == "application/json" {
            assert_eq!(answer.json()["status"], 502);
        }
    }
    // To HEAD, the same without the body.
    let mut client = edge.client().await;
    client.send("HEAD / HTTP/1.1\r\nhost: example.com\r\n\r\n").await;
    let answer = client.read_head_response().await;
    assert_eq!(answer.status, 502);
    assert_ne!(answer.header("content-length"), Some("0"));
}

#[tokio::test]
async fn rfc9209_2_3_destination_not_found() {
    let address = refused_address().await;
    let edge = edge_to(address, "").await;
    let mut client = edge.client().await;
    let answer = client.get("nowhere.test", "/").await;
    assert_eq!(answer.status, 404);
    is_presentable(&answer, address);
    assert_eq!(end(&log_line(&edge).await), ("weir", "destination_not_found"));
    assert_eq!(proxy_errors(&edge, "destination_not_found").await, 1);
    assert_eq!(client.get("nowhere.test", "/").await.status, 404, "an ordinary answer leaves the connection open");
}

#[tokio::test]
async fn rfc9209_2_3_connection_refused() {
    let address = refused_address().await;
    let edge = edge_to(address, "").await;
    let answer = edge.get("/").await;
    assert_eq!(answer.status, 502);
    is_presentable(&answer, address);
    let line = log_line(&edge).await;
    assert_eq!(end(&line), ("upstream", "connection_refused"), "{line}");
    assert_eq!(line["attempts"][0]["outcome"], "connection_refused", "{line}");
    assert_eq!(proxy_errors(&edge, "connection_refused").await, 1);
    let answer = send_h2(&edge, &H2Request::get("example.com", "/")).await;
    assert_eq!((answer.status.as_u16(), answer.header("cache-control")), (502, Some("no-store")));
}

/// An origin that does this makes a 502 with this type.
async fn is_bad(origin: OriginBuilder, word: &str) {
    let bed = bed_of(origin, "").await;
    for round in 1..=2 {
        let answer = bed.exchange(get("/")).await;
        assert_eq!(answer.status, 502, "{word}");
        is_presentable(&answer, bed.origin.addr());
        let line = bed.edge.access_log_of(round).await.swap_remove(round - 1);
        assert_eq!(end(&line), ("upstream", word), "{line}");
        assert_eq!(proxy_errors(&bed.edge, word).await, round as u64);
    }
    let answer = send_h2(&bed.edge, &H2Request::get("example.com", "/")).await;
    assert_eq!(answer.status.as_u16(), 502, "{word}");
    assert_eq!(bed.origin.connections(), 3, "none of the broken connections was used again");
}

#[tokio::test]
async fn rfc9209_2_3_http_protocol_error_garbage() {
    is_bad(origin().answer(Answer::raw("SSH-2.0-OpenSSH_9.6\r\n").close()), "http_protocol_error").await;
    is_bad(origin().answer(Answer::raw("HTTP/1.1 200 OK\r\nbad header line\r\n\r\n").close()), "http_protocol_error").await;
}

#[tokio::test]
async fn rfc9112_6_3_http_protocol_error_framing_of_the_origin() {
    for raw in [
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ncontent-length: 5, 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ncontent-length: +5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
    ] {
        is_bad(origin().respond_raw(raw), "http_protocol_error").await;
    }
}

#[tokio::test]
async fn rfc9112_6_3_both_framings_of_an_origin_never_go_on_together() {
    let raw = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let bed = bed_of(origin().respond_raw(raw), "").await;
    assert_eq!(bed.exchange(get("/")).await.status, 502);
    assert_eq!(send_h2(&bed.edge, &H2Request::get("example.com", "/")).await.status, 502);
}

#[tokio::test]
async fn rfc9209_2_3_http_response_timeout() {
    let origin = origin().never_answer().spawn().await;
    let edge = edge_to(origin.addr(), "connections: {response_timeout: 100ms}").await;
    let answer = edge.get("/").await;
    assert_eq!(answer.status, 504);
    is_presentable(&answer, origin.addr());
    assert_eq!(end(&log_line(&edge).await), ("upstream", "http_response_timeout"));
    assert_eq!(proxy_errors(&edge, "http_response_timeout").await, 1);
    let answer = send_h2(&edge, &H2Request::get("example.com", "/")).await;
    assert_eq!(answer.status.as_u16(), 504);
    eventually!(origin.open_connections() == 0 || origin.connections() == 2);
}

#[tokio::test]
async fn rfc9209_2_3_http_response_timeout_of_the_whole_exchange() {
    let origin = origin().never_answer().spawn().await;
    let edge = edge().upstream("app", &[origin.addr()]).route("app", "upstream: app\ntimeout: 100ms").start().await;
    assert_eq!(edge.get("/").await.status, 504);
    assert_eq!(log_line(&edge).await["end"]["type"], "http_response_timeout");
}

#[tokio::test]
async fn rfc9110_15_6_4_none_available_is_503_with_retry_after() {
    let address = refused_address().await;
    // Without a panic threshold: with one, endpoints that are all out are tried rather than none.
    let check = "health_check: {tcp: {}, interval: 20ms, timeout: 200ms, unhealthy_after: 1}\npanic_threshold: 0%";
    let edge = edge_to(address, check).await;
    let answer = eventually!(edge.get("/").await, |answer: &RawResponse| answer.status == 503);
    is_presentable(&answer, address);
    let wait: u32 = answer.header("retry-after").and_then(|wait| wait.parse().ok()).expect("Retry-After in seconds");
    assert!((1..=120).contains(&wait), "{wait}");
    let line = eventually!(edge.access_log_now().pop(), |line: &Option<serde_json::Value>| {
        line.as_ref().is_some_and(|line| line["status"] == 503)
    })
    .expect("a line");
    assert_eq!(end(&line), ("weir", "destination_unavailable"), "{line}");
    assert!(proxy_errors(&edge, "destination_unavailable").await > 0);
}

#[tokio::test]
async fn rfc9110_15_an_error_of_the_origin_passes_as_it_is() {
    let bed = bed_of(origin().respond_headers(503, &[("retry-after", "7"), ("x-a", "1")], "mine"), "").await;
    let answer = bed.exchange(get("/")).await;
    assert_eq!((answer.status, answer.header("retry-after"), answer.text().as_str()), (503, Some("7"), "mine"));
    assert_eq!(log_line(&bed.edge).await["end"]["type"], serde_json::Value::Null);
}

#[tokio::test]
async fn rfc9209_2_3_tls_errors_of_an_upstream() {
    let ca = crate::support::certs::ca();
    let other = crate::support::certs::ca();
    let trusting = |ca: &crate::support::certs::Ca| format!("tls: {{sni: app.test, ca: {:?}}}", ca.file());
    let secure = origin().respond(200, "ok").tls(&ca.server(&["app.test"])).spawn().await;
    // Something that talks first, and not TLS.
    let plain = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let not_tls = plain.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = plain.accept().await {
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"220 mail.test ESMTP\r\n").await;
            let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
        }
    });
    for (address, keys, status, word) in [
        (secure.addr(), trusting(&ca), 200, ""),
        (secure.addr(), trusting(&other), 502, "tls_certificate_error"),
        (secure.addr(), format!("tls: {{sni: wrong.test, ca: {:?}}}", ca.file()), 502, "tls_certificate_error"),
        (not_tls, trusting(&ca), 502, "tls_protocol_error"),
    ] {
        let edge = edge_to(address, &keys).await;
        let answer = edge.get("/").await;
        assert_eq!(answer.status, status, "{keys}");
        assert_eq!(log_line(&edge).await["end"]["type"].as_str().unwrap_or_default(), word, "{keys}");
    }
}
