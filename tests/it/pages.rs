//! Filters that are about what browsers are shown: strictness, maintenance, errors; and faults on purpose.

use crate::{
    filters::{filtered, h2, list},
    support::{
        client::RawClient,
        edge::{EdgeBuilder, edge},
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

/// An edge whose listener has these pages: `5xx` as HTML and JSON, `404` as HTML.
fn with_pages(builder: EdgeBuilder, more: &str) -> EdgeBuilder {
    for (name, content) in [
        ("5xx.html", "<h1>{status} {reason}</h1><style>b{color:red}</style>{request_id}"),
        ("5xx.json", r#"{"status": {status}, "id": "{request_id}"}"#),
        ("404.html", "nothing here"),
    ] {
        std::fs::write(builder.file(name), content).unwrap();
    }
    builder.listener(&format!(
        "filters:\n  - request_id: {{trust: true}}\n  - error_pages: {{pages: [{{status: 5xx, html: 5xx.html, json: 5xx.json}}, {{status: [404], html: 404.html}}]{more}}}"
    ))
}

#[tokio::test]
async fn a_page_for_a_range_that_is_not_there_says_what_there_is() {
    let builder = edge().route("all", "filters: [{error_pages: {pages: [{status: 4xx, html: page.html}]}}, {static_files: {root: public}}]\nrespond: {status: 404}");
    std::fs::create_dir(builder.file("public")).unwrap();
    std::fs::write(builder.file("public/a.txt"), "0123456789").unwrap();
    std::fs::write(builder.file("page.html"), "no").unwrap();
    let edge = builder.start().await;
    let answer = edge.client().await.exchange("GET /a.txt HTTP/1.1\r\nhost: x\r\nrange: bytes=50-\r\n\r\n").await;
    assert_eq!((answer.status, answer.text().as_str(), answer.header("content-range")), (416, "no", Some("bytes */10")));
}

#[tokio::test]
async fn the_page_that_is_nearest_to_the_error_stays() {
    let origin = origin().respond(503, "theirs").spawn().await;
    let pages = |name: &str| format!("error_pages: {{intercept: true, pages: [{{status: 5xx, html: {name}.html}}]}}");
    let builder = edge()
        .listener(&format!("filters: [{{{}}}]", pages("listener")))
        .upstream("gone", &[refused_address().await])
        .upstream("app", &[origin.addr()])
        .route("gone", &format!("match: {{path: /gone}}\nupstream: gone\nfilters: [{{{}}}]", pages("route")))
        .route(
            "app",
            &format!("match: {{path: /app}}\nupstream: app\nfilters: [{{{}}}, {{{}}}]", pages("first"), pages("second")),
        )
        .route("other", "upstream: app");
    for name in ["listener", "route", "first", "second"] {
        std::fs::write(builder.file(&format!("{name}.html")), name).unwrap();
    }
    let edge = builder.start().await;
    for (path, page) in [("/gone", "route"), ("/app", "second"), ("/", "listener")] {
        assert_eq!(edge.get(path).await.text(), page, "{path}");
    }
}

#[tokio::test]
async fn error_pages_stand_for_the_standard_texts_and_nothing_else() {
    let origin = origin().respond(503, "theirs").spawn().await;
    let builder = edge()
        .upstream("gone", &[refused_address().await])
        .upstream("app", &[origin.addr()])
        .route("gone", "match: {path: /gone}\nupstream: gone")
        .route("chosen", "match: {path: /chosen}\nrespond: {status: 503, body: chosen}")
        .route("plain", "match: {path: /plain}\nrespond: {status: 503}")
        .route("fallback", "match: {path: /fallback}\nupstream: gone\nfallback: {body: ours}")
        .route("app", "match: {path: /app}\nupstream: app");
    let edge = with_pages(builder.tls(), "").start().await;
    let mut client = edge.client().await;
    for (path, accept, status, kind, body) in [
        ("/gone", "text/html", 502, "text/html; charset=utf-8", "<h1>502 Bad Gateway</h1><style>b{color:red}</style>id-1"),
        ("/gone", "application/json", 502, "application/json", r#"{"status": 502, "id": "id-1"}"#),
        ("/plain", "*/*", 503, "text/html; charset=utf-8", "<h1>503 Service Unavailable</h1><style>b{color:red}</style>id-1"),
        ("/chosen", "*/*", 503, "text/plain; charset=utf-8", "chosen"),
        ("/fallback", "*/*", 503, "text/html; charset=utf-8", "ours"),
        ("/app", "*/*", 503, "", "theirs"),
        ("/nowhere", "text/html", 404, "text/html; charset=utf-8", "nothing here"),
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\naccept: {accept}\r\nx-request-id: id-1\r\n\r\n");
        let answer = RawClient::connect(edge.address("web")).await.exchange(request).await;
        assert_eq!(
            (answer.status, answer.header("content-type").unwrap_or_default(), answer.text().as_str()),
            (status, kind, body),
            "{path}"
        );
    }
    let json = client.exchange("GET /nowhere HTTP/1.1\r\nhost: x\r\naccept: application/json\r\n\r\n").await;
    assert!(json.text().contains("\"error\":\"Not Found\""), "no page in that form: {}", json.text());
    let escaped = client.exchange("GET /gone HTTP/1.1\r\nhost: x\r\nx-request-id: <b>\"&\r\n\r\n").await;
    assert!(escaped.text().ends_with("&#60;b&#62;&#34;&#38;"), "{}", escaped.text());
    let over_h2 = h2(&edge).await.get("localhost", "/nowhere").await;
    assert_eq!((over_h2.status.as_u16(), over_h2.text().as_str()), (404, "nothing here"));
    let mut client = edge.client().await;
    client.send("HEAD /nowhere HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(client.read_head_response().await.status, 404);
    let upgrade = client.exchange(format!("GET /plain HTTP/1.1\r\nhost: x\r\n{UPGRADE}\r\n")).await;
    assert!(upgrade.text().starts_with("<h1>503 "), "{}", upgrade.text());
}

#[tokio::test]
async fn error_pages_replace_what_endpoints_say_when_told() {
    let long = "x".repeat(300_000);
    let origin = origin()
        .respond_with(move |request| match request.target.as_str() {
            "/long" => {
                Answer::with_headers(500, &[("content-type", "text/x"), ("etag", "\"1\""), ("content-encoding", "br")], &long)
            }
            "/chunked" => Answer::chunked(502, &["a", "b"], &[]),
            "/empty" => Answer::new(503, ""),
            "/other" => Answer::new(403, "kept"),
            _ => Answer::new(200, "fine"),
        })
        .spawn()
        .await;
    let builder = edge().upstream("app", &[origin.addr()]).route("app", "upstream: app\nretry: {attempts: 1}");
    let edge = with_pages(builder.tls(), ", intercept: true").start().await;
    let mut client = edge.client().await;
    let mut h2 = h2(&edge).await;
    for (path, body) in [("/long", "<h1>500"), ("/chunked", "<h1>502"), ("/empty", ""), ("/other", "kept"), ("/", "fine")] {
        let answer = client.get("x", path).await;
        let over_h2 = h2.get("localhost", path).await;
        for text in [answer.text(), over_h2.text()] {
            assert!(text.starts_with(body) && (text.is_empty() == body.is_empty()) && !text.contains("xxx"), "{path}: {text}");
        }
        if path == "/long" {
            assert_eq!((answer.header("etag"), answer.header("content-encoding")), (None, None));
            assert_eq!(over_h2.header("content-type"), Some("text/html; charset=utf-8"));
        }
    }
}

#[tokio::test]
async fn fault_delays_and_aborts_those_who_ask_for_it() {
    let origin = origin().respond(200, "hello").spawn().await;
    let slow = "fault: {header: x-slow, delay: {time: 300ms}}\nfault: {header: x-fail, abort: {status: 418}}";
    let edge = filtered(&origin, slow).tls().start().await;
    let mut client = edge.client().await;
    assert_eq!(client.get("x", "/").await.status, 200);
    let began = std::time::Instant::now();
    let waited = client.exchange("GET / HTTP/1.1\r\nhost: x\r\nx-slow: 1\r\n\r\n").await;
    assert!(waited.status == 200 && began.elapsed() >= std::time::Duration::from_millis(300), "{:?}", began.elapsed());
    for upgrade in ["", UPGRADE] {
        let failed = client.exchange(format!("GET / HTTP/1.1\r\nhost: x\r\nx-fail: 1\r\n{upgrade}\r\n")).await;
        assert_eq!(failed.status, 418);
    }
    let request = H2Request::get("localhost", "/").header("x-fail", "1");
    assert_eq!(h2(&edge).await.send(&request).await.expect("a response").status, 418);
    assert_eq!(origin.request_count(), 2);
    let log = edge.access_log_of(5).await;
    assert_eq!(log.iter().filter(|line| line["end"]["reason"] == "fault_abort").count(), 3);
}
