//! What an operator sees after known traffic: metrics, the access log, the pages of the admin listener.

use crate::support::{
    Gate, PATIENCE,
    certs::tls,
    client::RawClient,
    edge::{Edge, edge},
    h2_client::{H2Client, H2Request},
    origin::{origin, refused_address},
};

async fn status(edge: &Edge, page: &str) -> u16 {
    edge.admin_get(page).await.status
}

#[tokio::test]
async fn requests_are_counted_by_listener_route_method_and_code() {
    let origin = origin().respond(200, "hello").respond(503, "no").respond(200, "hello").spawn().await;
    let edge = edge()
        .upstream("app", &[origin.addr()])
        .route("all", "match: {path: /app/*}\nupstream: app")
        .route("ping", "match: {path: /ping}\nrespond: {body: pong}")
        .tls()
        .start()
        .await;
    let mut client = edge.client().await;
    for (request, status) in
        [("GET /app/1", 200), ("GET /app/2", 503), ("PURGE /app/3", 200), ("GET /ping", 200), ("GET /none", 404)]
    {
        assert_eq!(client.exchange(format!("{request} HTTP/1.1\r\nhost: x\r\n\r\n")).await.status, status);
    }
    let posted = client.exchange("POST /app/4 HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n0123456789").await;
    assert_eq!(posted.status, 200);
    let mut h2 = H2Client::connect_tls(edge.address("edge"), &edge.trust()).await;
    h2.get("localhost", "/app/5").await;
    edge.access_log_of(7).await;
    let requests = "weir_http_requests_total";
    for (labels, count) in [
        (&[("listener", "web"), ("route", "all"), ("method", "GET"), ("code", "200")][..], Some(1.0)),
        (&[("route", "all"), ("code", "503")], Some(1.0)),
        (&[("route", "all"), ("method", "_other")], Some(1.0)),
        (&[("route", "all"), ("method", "POST")], Some(1.0)),
        (&[("route", "ping")], Some(1.0)),
        (&[("route", "_none"), ("code", "404")], Some(1.0)),
        (&[("listener", "edge"), ("route", "all")], Some(1.0)),
        (&[("listener", "web")], Some(6.0)),
    ] {
        assert_eq!(edge.metric(requests, labels).await, count, "{labels:?}");
    }
    for (name, labels, value) in [
        ("weir_http_request_bytes_total", &[("listener", "web"), ("route", "all")][..], 10.0),
        ("weir_http_response_bytes_total", &[("listener", "web"), ("route", "all")], 17.0),
        ("weir_http_request_duration_seconds_count", &[("route", "all")], 5.0),
        ("weir_upstream_requests_total", &[("upstream", "app"), ("code", "200")], 4.0),
        ("weir_upstream_requests_total", &[("upstream", "app"), ("code", "503")], 1.0),
        ("weir_upstream_connect_duration_seconds_count", &[("upstream", "app")], 1.0),
        ("weir_upstream_first_byte_duration_seconds_count", &[("upstream", "app")], 5.0),
        ("weir_proxy_errors_total", &[("type", "destination_not_found")], 1.0),
        ("weir_listener_connections", &[("listener", "web")], 1.0),
        ("weir_listener_connections", &[("listener", "edge")], 1.0),
        ("weir_listener_tls_handshakes_total", &[("listener", "edge"), ("version", "TLSv1.3"), ("result", "ok")], 1.0),
        ("weir_config_generation", &[], 1.0),
        ("weir_config_last_reload_success", &[], 1.0),
        ("weir_build_info", &[], 1.0),
        ("weir_access_log_dropped_total", &[], 0.0),
    ] {
        assert_eq!(edge.metric(name, labels).await, Some(value), "{name} {labels:?}");
    }
    assert_eq!(edge.metric("weir_rejected_requests_total", &[]).await, None);
    assert!(edge.metric("weir_tls_certificate_not_after_timestamp_seconds", &[]).await.is_some_and(|end| end > 1.7e9));
    drop((client, h2));
    crate::eventually!(edge.metric("weir_listener_connections", &[]).await == Some(0.0));
}

#[tokio::test]
async fn what_is_in_flight_shows_while_it_is() {
    let gate = Gate::new();
    let origin = origin().slow(&gate, "late").spawn().await;
    let edge = edge().upstream("app", &[origin.addr()]).route("all", "upstream: app").start().await;
    let mut client = edge.client().await;
    client.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    origin.next_request().await;
    let metrics = ["weir_http_requests_in_flight", "weir_upstream_requests_in_flight"];
    for name in metrics {
        assert_eq!(edge.metric(name, &[]).await, Some(1.0), "{name}");
    }
    let stats = edge.admin_get("/stats").await.json();
    assert_eq!((&stats["in_flight"]["requests"], &stats["upstreams"][0]["endpoints"][0]["in_flight"]), (&1.into(), &1.into()));
    gate.open();
    client.read_response().await;
    for name in metrics {
        crate::eventually!(edge.metric(name, &[]).await == Some(0.0));
    }
}

#[tokio::test]
async fn refusals_and_errors_are_counted_by_their_words_and_other_answers_are_none() {
    let edge = edge()
        .upstream("gone", &[refused_address().await])
        .route("gone", "match: {path: /gone}\nupstream: gone")
        .route("cors", "match: {path: /cors}\nrespond: {}\nfilters: [{cors: {origins: 'https://app.test'}}]")
        .route("moved", "match: {path: /moved}\nredirect: {to: /there}")
        .start()
        .await;
    assert_eq!(edge.get("/gone").await.status, 502);
    let refused = edge.client().await.exchange("GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n").await;
    assert_eq!(refused.status, 400);
    let preflight = "OPTIONS /cors HTTP/1.1\r\nhost: x\r\norigin: https://app.test\r\naccess-control-request-method: GET\r\n\r\n";
    assert_eq!(edge.client().await.exchange(preflight).await.status, 204);
    assert_eq!(edge.get("/moved").await.status, 308);
    edge.access_log_of(4).await;
    assert_eq!(edge.metric("weir_rejected_requests_total", &[]).await, Some(1.0), "one refusal");
    assert_eq!(edge.metric("weir_rejected_requests_total", &[("reason", "duplicate_host")]).await, Some(1.0));
    assert_eq!(edge.metric("weir_proxy_errors_total", &[]).await, Some(2.0), "two errors");
    for word in ["connection_refused", "http_request_error"] {
        assert_eq!(edge.metric("weir_proxy_errors_total", &[("type", word)]).await, Some(1.0), "{word}");
    }
}

#[tokio::test]
async fn a_line_of_json_says_it_all() {
    let origin = origin().respond(201, "hello").spawn().await;
    let edge =
        edge().upstream("app", &[refused_address().await, origin.addr()]).route("all", "upstream: app").tls().start().await;
    let mut client = edge.tls_client().await;
    let request = "POST /a/./b?secret=1 HTTP/1.1\r\nhost: LOCALHOST\r\nuser-agent: a\"b\r\nreferer: https://r/\r\ncontent-length: 3\r\n\r\nabc";
    client.exchange(request).await;
    let mut h2 = H2Client::connect_tls(edge.address("edge"), &edge.trust()).await;
    h2.send(&H2Request::post("localhost", "/h2", "abcd")).await.expect("a response");
    let log = edge.access_log_of(2).await;
    let line = &log[0];
    for (key, value) in [
        ("client", "127.0.0.1"),
        ("listener", "edge"),
        ("sni", "localhost"),
        ("tls", "TLSv1.3"),
        ("http", "1.1"),
        ("method", "POST"),
        ("host", "localhost"),
        ("path", "/a/b"),
        ("route", "all"),
        ("upstream", "app"),
        ("endpoint", &origin.addr().to_string()),
        ("user_agent", "a\"b"),
        ("referer", "https://r/"),
    ] {
        assert_eq!(line[key], value, "{key}");
    }
    for (key, value) in [("status", 201), ("bytes_in", 3), ("bytes_out", 5), ("generation", 1)] {
        assert_eq!(line[key], value, "{key}");
    }
    assert!(humantime::parse_rfc3339(line["ts"].as_str().expect("text")).is_ok());
    assert_eq!(line["end"], serde_json::json!({"who": "upstream", "phase": "done", "type": null, "reason": null}));
    assert_eq!(line["client_cert"], serde_json::Value::Null);
    let (total, first) = (line["ms"]["total"].as_f64(), line["ms"]["first_byte"].as_f64());
    assert!(total >= first && first > Some(0.0), "{line}");
    let tries = line["attempts"].as_array().expect("attempts");
    assert_eq!(tries.last().map(|last| &last["outcome"]), Some(&201.into()));
    assert!(!line.to_string().contains("secret"), "the query stays out");
    assert_eq!((&log[1]["http"], &log[1]["bytes_in"], &log[1]["path"]), (&"2".into(), &4.into(), &"/h2".into()));
}

/// An edge whose access log is configured like this, in a file `other.log` of its own.
async fn logging(options: &str) -> Edge {
    access_log(&format!("{{{options}}}")).await
}

async fn access_log(value: &str) -> Edge {
    let builder = edge().route("all", "respond: {body: hello}");
    let config = builder.config();
    let start = config.find("access_log: {").expect("an access log");
    let end = start + config[start..].find('}').expect("its end") + 1;
    builder.start_as(&config.replace(&config[start..end], &format!("access_log: {value}"))).await
}

#[tokio::test]
async fn the_combined_format_is_that_of_apache() {
    let edge = logging("path: other.log, format: combined").await;
    let mut client = edge.client().await;
    client.exchange("GET /a?b HTTP/1.1\r\nhost: x\r\nuser-agent: a\"b\r\nreferer: https://r/\r\n\r\n").await;
    let line = crate::eventually!(std::fs::read_to_string(edge.file("other.log")).unwrap_or_default(), |log: &String| log
        .ends_with('\n'));
    assert!(line.starts_with("127.0.0.1 - - ["), "{line}");
    assert!(line.ends_with("] \"GET /a HTTP/1.1\" 200 5 \"https://r/\" \"a\\x22b\"\n"), "{line}");
}

#[tokio::test]
async fn a_log_that_is_off_writes_nothing() {
    let edge = logging("path: off").await;
    assert_eq!(edge.get("/").await.status, 200);
    assert!(!edge.file("off").exists() && !edge.file("access.log").exists());
    edge.stop().await;
    let edge = access_log("off").await;
    assert_eq!(edge.get("/").await.status, 200);
    assert!(!edge.file("off").exists() && !edge.file("access.log").exists());
    edge.stop().await;
}

#[tokio::test]
async fn a_sample_of_nothing_still_has_the_errors() {
    let edge = logging("path: access.log, sample: 0%").await;
    assert_eq!(edge.get("/").await.status, 200);
    assert_eq!(edge.client().await.exchange("GET /\0 HTTP/1.1\r\nhost: x\r\n\r\n").await.status, 400);
    assert_eq!(edge.get("/").await.status, 200);
    assert!(edge.server.observer().flush(PATIENCE), "every line is in the file");
    let log = edge.access_log_now();
    assert_eq!((log.len(), &log[0]["status"]), (1, &400.into()), "{log:?}");
}

#[tokio::test]
async fn health_readiness_and_stats_answer_on_the_admin_listener() {
    let origin = origin().respond(200, "hello").respond(500, "no").spawn().await;
    let edge = edge()
        .upstream_with("app", &[origin.addr()], "strategy: least_connections")
        .route("all", "upstream: app")
        .admin("token: long-enough-to-be-a-token")
        .start()
        .await;
    // Free for everybody, also with a token configured and under any name.
    let mut probe = RawClient::connect(edge.admin_address()).await;
    assert_eq!(probe.get("weir.internal", "/healthz").await.status, 200);
    assert_eq!(probe.get("weir.internal", "/readyz").await.status, 200);
    assert_eq!((status(&edge, "/stats").await, status(&edge, "/metrics").await), (401, 401));
    edge.get("/").await;
    edge.get("/").await;
    edge.access_log_of(2).await;
    let answer = edge.admin_send("GET", "/stats", "").await;
    let stats = answer.json();
    let app = &stats["upstreams"][0];
    assert_eq!((&app["name"], &app["strategy"], &app["alive"]), (&"app".into(), &"least_connections".into(), &1.into()));
    let endpoint = &app["endpoints"][0];
    assert_eq!(endpoint["endpoint"], origin.addr().to_string());
    for (key, value) in [("requests", 2), ("errors", 1), ("in_flight", 0), ("weight", 1)] {
        assert_eq!(endpoint[key], value, "{key}");
    }
    assert_eq!((&endpoint["error_rate"], &endpoint["alive"], &endpoint["state"]), (&0.5.into(), &true.into(), &"healthy".into()));
    assert!(endpoint["p99_ms"].as_f64() >= endpoint["p50_ms"].as_f64());
    assert_eq!((&stats["totals"]["requests"], &stats["totals"]["server_errors"]), (&2.into(), &1.into()));
}

#[tokio::test]
async fn readiness_ends_when_the_drain_begins_and_health_goes_on() {
    let gate = Gate::new();
    let origin = origin().slow(&gate, "late").spawn().await;
    let edge = edge().upstream("app", &[origin.addr()]).route("all", "upstream: app").start().await;
    let mut client = edge.client().await;
    client.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    origin.next_request().await;
    assert_eq!(status(&edge, "/readyz").await, 200);
    assert_eq!(edge.admin_send("POST", "/api/v1/drain", "").await.status, 202);
    assert_eq!((status(&edge, "/readyz").await, status(&edge, "/healthz").await), (503, 200));
    gate.open();
    assert_eq!(client.read_response().await.text(), "late");
    assert!(client.is_closed().await);
    edge.stop().await;
}

#[tokio::test]
async fn failed_handshakes_are_counted() {
    let edge = edge().route("all", "respond: {}").tls_with("min_version: \"1.3\"").start().await;
    assert!(RawClient::try_connect_tls(edge.address("edge"), &tls().only_1_2()).await.is_err());
    RawClient::connect(edge.address("edge")).await.get("x", "/").await;
    let handshakes = "weir_listener_tls_handshakes_total";
    crate::eventually!(edge.metric(handshakes, &[("listener", "edge")]).await, |count| *count == Some(2.0));
    assert_eq!(edge.metric(handshakes, &[("result", "ok")]).await, None);
}
