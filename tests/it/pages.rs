//! Filters that are about what browsers are shown: strictness, maintenance.

use crate::{
    filters::{filtered, h2, list},
    support::{
        client::RawClient,
        edge::edge,
        h2_client::H2Request,
        origin::{Answer, origin, refused_address},
    },
};

const UPGRADE: &str = "connection: upgrade\r\nupgrade: websocket\r\n";

#[tokio::test]
async fn security_headers_are_sent_with_hsts_over_tls_only() {
    let sent = [("server", "nginx/1.2"), ("x-powered-by", "PHP"), ("x-frame-options", "DENY")];
    let origin = origin().respond_headers(200, &sent, "hello").spawn().await;
    let edge = filtered(&origin, "security_headers").tls().start().await;
    let clear = edge.get("/").await;
    let mut over_tls = edge.tls_client().await;
    let secure = over_tls.get("localhost", "/").await;
    let over_h2 = h2(&edge).await.get("localhost", "/").await;
    for (name, value) in [
        ("x-content-type-options", Some("nosniff")),
        ("x-frame-options", Some("DENY")),
        ("referrer-policy", Some("strict-origin-when-cross-origin")),
        ("server", None),
        ("x-powered-by", None),
    ] {
        assert_eq!((clear.header(name), secure.header(name), over_h2.header(name)), (value, value, value), "{name}");
    }
    let hsts = "strict-transport-security";
    let year = Some("max-age=31536000");
    assert_eq!((clear.header(hsts), secure.header(hsts), over_h2.header(hsts)), (None, year, year));
}

#[tokio::test]
async fn security_headers_go_by_the_clients_own_scheme() {
    let origin = origin().respond(200, "hello").spawn().await;
    let edge = filtered(&origin, "security_headers").listener("trusted_proxies: [127.0.0.1]").start().await;
    for (address, want) in [("127.0.0.1", true), ("127.0.0.2", false)] {
        let mut client = RawClient::connect_from(address, edge.address("web")).await;
        let answer =
            client.exchange("GET / HTTP/1.1\r\nhost: x\r\nx-forwarded-for: 192.0.2.1\r\nx-forwarded-proto: https\r\n\r\n").await;
        assert_eq!(answer.header("strict-transport-security").is_some(), want, "{address}");
    }
}

#[tokio::test]
async fn security_headers_are_on_weirs_own_answers_and_upgrades() {
    let filters = list(
        "security_headers: {overwrite: true, content_security_policy: \"default-src 'self'\"}\nip_access: {deny: [127.0.0.9]}",
    );
    let switching = origin().answer(Answer::switch("websocket")).spawn().await;
    let edge = edge()
        .upstream("gone", &[refused_address().await])
        .upstream("ws", &[switching.addr()])
        .route("gone", &format!("upstream: gone\nfilters:\n{filters}"))
        .route("ws", &format!("match: {{path: /ws}}\nupstream: ws\nfilters:\n{filters}"))
        .tls()
        .start()
        .await;
    for (address, status) in [("127.0.0.1", 502), ("127.0.0.9", 403)] {
        let answer = RawClient::connect_from(address, edge.address("web")).await.get("x", "/").await;
        assert_eq!((answer.status, answer.header("content-security-policy")), (status, Some("default-src 'self'")));
    }
    let over_h2 = h2(&edge).await.get("localhost", "/").await;
    assert_eq!((over_h2.status.as_u16(), over_h2.header("strict-transport-security").is_some()), (502, true));
    let mut client = edge.client().await;
    let answer = client.exchange(format!("GET /ws HTTP/1.1\r\nhost: x\r\n{UPGRADE}\r\n")).await;
    assert_eq!((answer.status, answer.header("x-content-type-options")), (101, Some("nosniff")));
    client.send("ping").await;
    assert_eq!(client.read_bytes(4).await, b"ping");
}

#[tokio::test]
async fn maintenance_lasts_as_long_as_its_file() {
    let origin = origin().respond(200, "hello").spawn().await;
    let edge = filtered(&origin, "maintenance: {file: down.html, retry_after: 5m, allow: [127.0.0.9], refresh: 100ms}")
        .tls()
        .start()
        .await;
    let file = edge.file("down.html");
    assert_eq!(edge.get("/").await.text(), "hello");
    std::fs::write(&file, "<h1>Back soon</h1>").unwrap();
    let down = crate::eventually!(edge.get("/").await, |answer| answer.status == 503);
    assert_eq!((down.text().as_str(), down.header("retry-after")), ("<h1>Back soon</h1>", Some("300")));
    assert_eq!((down.header("content-type"), down.header("cache-control")), (Some("text/html; charset=utf-8"), Some("no-store")));
    let inside = RawClient::connect_from("127.0.0.9", edge.address("web")).await.get("x", "/").await;
    assert_eq!(inside.text(), "hello");

    let mut client = edge.client().await;
    let upgrade = client.exchange(format!("GET /ws HTTP/1.1\r\nhost: x\r\n{UPGRADE}\r\n")).await;
    assert_eq!(upgrade.status, 503);
    let mut h2 = h2(&edge).await;
    let over_h2 = h2.send(&H2Request::post("localhost", "/", "body")).await.expect("a response");
    assert_eq!((over_h2.status.as_u16(), over_h2.text().as_str()), (503, "<h1>Back soon</h1>"));
    client.send("HEAD / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let head = client.read_head_response().await;
    assert_eq!((head.status, head.header("content-length")), (503, Some("18")));

    std::fs::write(&file, "").unwrap();
    let standard = crate::eventually!(edge.get("/").await, |answer| !answer.text().contains("soon"));
    assert_eq!((standard.status, standard.header("retry-after")), (503, Some("300")));
    assert!(standard.text().starts_with("503 "), "{}", standard.text());
    std::fs::remove_file(&file).unwrap();
    crate::eventually!(edge.get("/").await, |answer| answer.text() == "hello");
    let log = edge.access_log_of(6).await;
    assert!(log.iter().any(|line| line["status"] == 503 && line["end"]["reason"] == "maintenance"), "{log:?}");
}
