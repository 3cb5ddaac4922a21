//! Rule 12: upgrades (RFC 9110 section 7.8, RFC 6455).

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::timeout,
};

use crate::{
    setup::{Bed, bed, bed_with},
    support::{
        edge::edge,
        origin::{Answer, origin},
        within,
    },
};

fn upgrade(lines: &str) -> String {
    format!("GET /ws HTTP/1.1\r\nhost: example.com\r\n{lines}\r\n")
}

const WEBSOCKET: &str = "connection: keep-alive, Upgrade\r\nupgrade: websocket\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n";

const SWITCH: &str =
    "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: x\r\n\r\n";

async fn switching() -> Bed {
    bed_with(origin().answer(Answer::switch("websocket")), |edge| edge).await
}

#[tokio::test]
async fn rfc6455_4_a_tunnel_opens_with_the_origin_s_101() {
    let bed = switching().await;
    for lines in
        [WEBSOCKET.to_owned(), format!("{WEBSOCKET}content-length: 0\r\n"), WEBSOCKET.replace("websocket", "WebSocket, x")]
    {
        let lines = lines.replace("sec-WebSocket, x", "sec-websocket");
        let mut client = bed.client().await;
        let answer = client.exchange(upgrade(&lines)).await;
        assert_eq!((answer.status, answer.header("upgrade")), (101, Some("websocket")), "{lines}");
        assert_eq!(answer.header("connection").map(str::to_ascii_lowercase).as_deref(), Some("upgrade"));
        let received = bed.origin.next_request().await;
        assert_eq!(received.header("upgrade"), Some("websocket"));
        assert_eq!(received.header("connection").map(str::to_ascii_lowercase).as_deref(), Some("upgrade"));
        assert_eq!(received.header("via"), Some("1.1 weir"));
        for message in ["\x01\x02", "GET / HTTP/1.1\r\n\r\n", &"x".repeat(100_000)] {
            client.send(message).await;
            assert_eq!(client.read_bytes(message.len()).await, message.as_bytes());
        }
        drop(client);
        eventually!(bed.origin.open_connections() == 0);
    }
    let log = bed.edge.access_log_of(3).await;
    assert!(log.iter().all(|line| line["status"] == 101), "{log:?}");
}

#[tokio::test]
async fn rfc6455_7_a_tunnel_outlives_the_timeouts_of_bodies_and_routes() {
    let origin = origin().answer(Answer::switch("websocket")).spawn().await;
    let edge = edge()
        .upstream_with("app", &[origin.addr()], "connections: {response_timeout: 200ms}")
        .route("app", "upstream: app\ntimeout: 200ms")
        .listener("http: {body_idle_timeout: 100ms, keepalive_timeout: 100ms, header_timeout: 1s}")
        .start()
        .await;
    // The opening is bounded by them, and on a busy machine may be too late.
    let mut client;
    eventually!(
        {
            client = edge.client().await;
            client.exchange(upgrade(WEBSOCKET)).await.status
        },
        |status| *status == 101
    );
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(400)).await;
        client.send("still here").await;
        assert_eq!(client.read_bytes(10).await, b"still here");
    }
}

#[tokio::test]
async fn rfc9110_15_6_5_an_upgrade_that_is_not_answered_in_time_is_504() {
    let origin = origin().never_answer().spawn().await;
    let edge = edge()
        .upstream_with("app", &[origin.addr()], "connections: {response_timeout: 200ms}")
        .route("app", "upstream: app")
        .start()
        .await;
    assert_eq!(edge.client().await.exchange(upgrade(WEBSOCKET)).await.status, 504);
    let line = edge.access_log().await.swap_remove(0);
    assert_eq!((&line["end"]["who"], &line["end"]["type"]), (&"upstream".into(), &"http_response_timeout".into()), "{line}");
    assert_eq!(line["attempts"].as_array().unwrap().len(), 1, "{line}");
}

/// An origin that answers when it is told to, and shows what it was sent until then.
#[tokio::test]
async fn rfc9110_7_8_bytes_sent_early_wait_for_the_101() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let edge = edge().upstream("app", &[listener.local_addr().unwrap()]).route("app", "upstream: app").start().await;
    let mut client = edge.client().await;
    let early = "GET /smuggled HTTP/1.1\r\nhost: example.com\r\n\r\n";
    client.send(upgrade(WEBSOCKET) + early).await;
    let (mut origin, _) = within("a connection", listener.accept()).await.unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n") {
        assert!(within("the request", origin.read_buf(&mut seen)).await.unwrap() > 0);
    }
    assert!(!String::from_utf8_lossy(&seen).contains("smuggled"));
    client.send("more").await;
    let mut nothing = [0; 1];
    assert!(timeout(Duration::from_millis(200), origin.read(&mut nothing)).await.is_err(), "bytes before the 101");
    origin.write_all(SWITCH.as_bytes()).await.unwrap();
    assert_eq!(client.read_response().await.status, 101);
    let mut tunnelled = vec![0; early.len() + 4];
    within("the early bytes", origin.read_exact(&mut tunnelled)).await.unwrap();
    assert_eq!(tunnelled, [early.as_bytes(), b"more"].concat());
    origin.write_all(b"back").await.unwrap();
    assert_eq!(client.read_bytes(4).await, b"back");
}

#[tokio::test]
async fn rfc9110_7_8_without_a_101_the_connection_speaks_http() {
    let bed = bed_with(origin().respond_with(|request| Answer::new(200, &request.target)), |edge| edge).await;
    let mut client = bed.client().await;
    let next = "GET /next HTTP/1.1\r\nhost: example.com\r\nx-forwarded-for: 1.2.3.4\r\n\r\n";
    client.send(upgrade(WEBSOCKET) + next).await;
    assert_eq!(client.read_response().await.text(), "/ws");
    assert_eq!(client.read_response().await.text(), "/next");
    assert_eq!(bed.origin.next_request().await.target, "/ws");
    // Judged and rewritten like every request.
    let received = bed.origin.next_request().await;
    assert_eq!((received.header("via"), received.header("x-forwarded-for")), (Some("1.1 weir"), Some("127.0.0.1")));
    // What is no request is refused.
    let mut client = bed.client().await;
    client.send(upgrade(WEBSOCKET) + "\x01\x02").await;
    assert_eq!(client.read_response().await.status, 200);
    assert_eq!(client.read_response().await.status, 400);
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn rfc9110_7_8_other_protocols_and_half_requests_are_not_forwarded() {
    let bed = bed().await;
    for lines in [
        "connection: upgrade\r\nupgrade: h2c\r\n",
        "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n",
        "connection: upgrade\r\nupgrade: TLS/1.0\r\n",
        "connection: upgrade\r\nupgrade: websocket/13\r\n",
        "upgrade: websocket\r\n",
        "connection: upgrade\r\n",
    ] {
        let received = bed.passes(upgrade(lines)).await;
        assert_eq!((received.header("upgrade"), received.header("http2-settings")), (None, None), "{lines}");
        assert!(!received.header("connection").unwrap_or_default().to_ascii_lowercase().contains("upgrade"), "{lines}");
    }
    for request in [upgrade(WEBSOCKET).replace("HTTP/1.1", "HTTP/1.0"), upgrade(WEBSOCKET).replace("GET", "POST")] {
        assert_eq!(bed.passes(request).await.header("upgrade"), None);
    }
}

#[tokio::test]
async fn rfc9110_7_8_an_upgrade_has_no_body() {
    let bed = bed().await;
    bed.refuses(upgrade(&format!("{WEBSOCKET}content-length: 5\r\n")) + "hello", 400, "upgrade_with_body").await;
    bed.refuses(upgrade(&format!("{WEBSOCKET}transfer-encoding: chunked\r\n")) + "0\r\n\r\n", 400, "upgrade_with_body").await;
}

#[tokio::test]
async fn rfc9110_15_2_2_a_101_nobody_asked_for_is_502() {
    let bed = switching().await;
    let answer = bed.edge.get("/").await;
    assert_eq!((answer.status, answer.header("upgrade")), (502, None));
    let line = bed.log_line(0).await;
    assert_eq!((&line["status"], &line["end"]["type"]), (&502.into(), &"http_protocol_error".into()));
    // Nor one to another protocol than the one that was asked for.
    let bed = bed_with(origin().answer(Answer::switch("h2c")), |edge| edge).await;
    assert_eq!(bed.exchange(upgrade(WEBSOCKET)).await.status, 502);
    // Nor one from before there were upgrades.
    let old = "HTTP/1.0 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    let bed = bed_with(origin().respond_raw(old), |edge| edge).await;
    assert_eq!(bed.exchange(upgrade(WEBSOCKET)).await.status, 502);
}

#[tokio::test]
async fn rfc9110_8_6_a_101_has_no_length() {
    let switch = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\ncontent-length: 0\r\n\r\n";
    let bed = bed_with(origin().answer(Answer::raw(switch).echo()), |edge| edge).await;
    let mut client = bed.client().await;
    client.send(upgrade(WEBSOCKET)).await;
    let head = client.read_head().await;
    assert_eq!((head.start.contains(" 101 "), head.headers.get("content-length")), (true, None));
    client.send("hello").await;
    assert_eq!(client.read_bytes(5).await, b"hello");
}

#[tokio::test]
async fn rfc9110_7_8_policy_applies_to_upgrades() {
    let bed = bed_with(origin().answer(Answer::switch("websocket")), |edge| {
        edge.route("off", "match: {path: /off}\nupstream: app\nwebsocket: false")
            .route("denied", "match: {path: /denied}\nupstream: app\nfilters: [{ip_access: {deny: [127.0.0.0/8]}}]")
    })
    .await;
    for path in ["/off", "/denied"] {
        assert_eq!(bed.exchange(upgrade(WEBSOCKET).replace("/ws", path)).await.status, 403, "{path}");
    }
    assert_eq!(bed.origin.request_count(), 0);
}

#[tokio::test]
async fn rfc6455_7_1_the_origin_s_end_of_a_tunnel_reaches_the_client() {
    let bed = bed_with(origin().answer(Answer::raw(SWITCH).bytes("bye").close()), |edge| edge).await;
    let mut client = bed.client().await;
    assert_eq!(client.exchange(upgrade(WEBSOCKET)).await.status, 101);
    assert_eq!(client.read_to_close().await, b"bye");
}
