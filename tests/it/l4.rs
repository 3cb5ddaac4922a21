//! Layer 4: connections that are passed on as bytes.

use std::{net::SocketAddr, time::Duration};

use serde_json::json;
use weir::lab::{TcpEcho, TcpEchoHandle, TcpEchoOptions};

use crate::support::{
    edge::{Edge, edge, edge_from},
    origin::refused_address,
    tcp::TcpOrigin,
    within,
};

async fn echo(greeting: &str) -> TcpEchoHandle {
    TcpEcho::spawn(TcpEchoOptions { greeting: greeting.into(), ..TcpEchoOptions::default() }).await.expect("an echo")
}

/// An edge with a listener `db` in front of one endpoint.
async fn in_front_of(origin: &TcpOrigin, keys: &str) -> Edge {
    edge().upstream("app", &[origin.addr]).tcp("db", &format!("upstream: app\n{keys}")).start().await
}

#[tokio::test]
async fn bytes_go_both_ways_at_once() {
    both_ways("splice: auto").await;
}

#[tokio::test]
async fn bytes_go_both_ways_at_once_copied() {
    both_ways("splice: off").await;
}

async fn both_ways(keys: &str) {
    let echo = echo("").await;
    let edge = edge().upstream("app", &[echo.addr]).tcp("db", &format!("upstream: app\n{keys}")).start().await;
    let mut client = edge.tcp("db").await;
    client.send("hello").await;
    assert_eq!(client.text(5).await, "hello");
    // More than all buffers hold, so that it only arrives when both directions move.
    let bytes: Vec<u8> = (0..20 << 20).map(|at: u32| (at % 251) as u8).collect();
    let (mut read, mut write) = client.stream.split();
    let sending = async {
        tokio::io::AsyncWriteExt::write_all(&mut write, &bytes).await?;
        tokio::io::AsyncWriteExt::shutdown(&mut write).await
    };
    let mut back = Vec::new();
    let reading = tokio::io::AsyncReadExt::read_to_end(&mut read, &mut back);
    let (sent, read) = within("the echo", async { tokio::join!(sending, reading) }).await;
    sent.expect("sent");
    read.expect("read");
    assert!(back == bytes, "{} of {} bytes came back, or others", back.len(), bytes.len());
}

#[tokio::test]
async fn the_server_may_speak_first_and_half_closing_is_passed_on() {
    let origin = TcpOrigin::bind().await;
    let edge = in_front_of(&origin, "").await;
    let mut client = edge.tcp("db").await;
    let mut endpoint = origin.accept().await;
    endpoint.send("220 ready\r\n").await;
    assert_eq!(client.text(11).await, "220 ready\r\n");
    client.send("all I have").await;
    client.finish().await;
    assert_eq!(endpoint.rest().await, b"all I have");
    // The other direction is open as long as the endpoint likes.
    endpoint.send("and all I have").await;
    assert_eq!(client.text(14).await, "and all I have");
    endpoint.send(".").await;
    endpoint.finish().await;
    assert_eq!(client.rest().await, b".");
    let log = edge.access_log().await;
    assert_eq!((&log[0]["bytes_in"], &log[0]["bytes_out"]), (&json!(10), &json!(26)));
    assert_eq!((&log[0]["end"]["who"], &log[0]["end"]["phase"]), (&json!("client"), &json!("done")));
}

#[tokio::test]
async fn the_log_has_a_line_for_each_connection() {
    let echo = echo("").await;
    let edge = edge().upstream("app", &[echo.addr]).tcp("db", "upstream: app").start().await;
    let mut client = edge.tcp("db").await;
    client.send("four").await;
    assert_eq!(client.text(4).await, "four");
    assert_eq!(edge.metric("weir_tcp_connections", &[("listener", "db")]).await, Some(1.0));
    let endpoint = echo.addr.to_string();
    let labels = [("upstream", "app"), ("endpoint", endpoint.as_str())];
    assert_eq!(edge.metric("weir_upstream_requests_in_flight", &labels).await, Some(1.0));
    client.finish().await;
    assert_eq!(client.rest().await, b"");
    let line = &edge.access_log().await[0];
    for (key, value) in [
        ("client", json!("127.0.0.1")),
        ("listener", json!("db")),
        ("upstream", json!("app")),
        ("endpoint", json!(endpoint)),
        ("bytes_in", json!(4)),
        ("bytes_out", json!(4)),
        ("status", json!(null)),
        ("http", json!(null)),
        ("method", json!(null)),
        ("tls", json!(null)),
        ("generation", json!(1)),
    ] {
        assert_eq!(line[key], value, "{key} in {line}");
    }
    assert_eq!(line["attempts"][0]["outcome"], "connected");
    assert_eq!(line["end"]["type"], json!(null));
    assert_eq!(edge.metric("weir_tcp_connections", &[("listener", "db")]).await, Some(0.0));
    for direction in ["received", "sent"] {
        assert_eq!(edge.metric("weir_tcp_bytes_total", &[("listener", "db"), ("direction", direction)]).await, Some(4.0));
    }
    let connected = [("upstream", "app"), ("endpoint", endpoint.as_str()), ("result", "ok")];
    assert_eq!(edge.metric("weir_upstream_tcp_connections_total", &connected).await, Some(1.0));
    assert_eq!(edge.metric("weir_http_requests_total", &[("listener", "db")]).await, None);
}

#[tokio::test]
async fn a_silent_connection_is_closed() {
    let origin = TcpOrigin::bind().await;
    let edge = in_front_of(&origin, "idle_timeout: 300ms").await;
    let mut client = edge.tcp("db").await;
    let mut endpoint = origin.accept().await;
    let started = std::time::Instant::now();
    assert_eq!(client.rest().await, b"");
    assert_eq!(endpoint.rest().await, b"");
    assert!(started.elapsed() >= Duration::from_millis(250), "{:?}", started.elapsed());
    let end = &edge.access_log().await[0]["end"];
    assert_eq!((&end["who"], &end["reason"]), (&json!("weir"), &json!("idle_timeout")));
}

#[tokio::test]
async fn bytes_in_one_direction_keep_it_open() {
    let origin = TcpOrigin::bind().await;
    let edge = in_front_of(&origin, "idle_timeout: 1s").await;
    let mut client = edge.tcp("db").await;
    let mut endpoint = origin.accept().await;
    let started = std::time::Instant::now();
    while started.elapsed() < Duration::from_millis(1500) {
        client.send("x").await;
        assert_eq!(endpoint.text(1).await, "x");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    endpoint.send("still here").await;
    assert_eq!(client.text(10).await, "still here");
}

#[tokio::test]
async fn another_endpoint_is_tried_when_connecting_fails() {
    let echo = echo("").await;
    let (one, two) = (refused_address().await, refused_address().await);
    let edge = edge().upstream("app", &[one, two, echo.addr]).tcp("db", "upstream: app").start().await;
    for _ in 0..3 {
        let mut client = edge.tcp("db").await;
        client.send("hi").await;
        client.finish().await;
        assert_eq!(client.rest().await, b"hi");
    }
    let log = edge.access_log_of(3).await;
    assert!(log.iter().all(|line| line["endpoint"] == json!(echo.addr.to_string())), "{log:?}");
    let outcomes: Vec<_> = log.iter().flat_map(|line| line["attempts"].as_array().unwrap()).map(|a| &a["outcome"]).collect();
    assert!(outcomes.iter().any(|outcome| **outcome == json!("connection_refused")), "{outcomes:?}");
    assert!(edge.metric("weir_retries_total", &[("upstream", "app")]).await.is_some_and(|retries| retries >= 1.0));
}

#[tokio::test]
async fn without_an_endpoint_the_client_is_reset() {
    let edge = edge().upstream("app", &[refused_address().await]).tcp("db", "upstream: app").start().await;
    assert!(edge.tcp("db").await.is_reset().await);
    let line = &edge.access_log().await[0];
    assert_eq!((&line["end"]["who"], &line["end"]["phase"]), (&json!("upstream"), &json!("connect")));
    assert_eq!(line["end"]["type"], "connection_refused");
}

#[tokio::test]
async fn an_endpoint_that_only_drops_connections_opens_its_breaker() {
    let origin = TcpOrigin::bind().await;
    let breaker = "circuit_breaker: {failure_threshold: 3, recovery_timeout: 1m, max_ejected: 100%}\npanic_threshold: 0%";
    let edge = edge().upstream_with("app", &[origin.addr], breaker).tcp("db", "upstream: app").start().await;
    for _ in 0..3 {
        let mut client = edge.tcp("db").await;
        origin.accept().await.reset();
        assert!(client.is_reset().await);
    }
    assert!(edge.tcp("db").await.is_reset().await);
    let log = edge.access_log_of(4).await;
    assert_eq!(log[3]["end"]["type"], "destination_unavailable", "{log:?}");
}

#[tokio::test]
async fn a_reset_is_passed_on_as_one() {
    let origin = TcpOrigin::bind().await;
    let edge = in_front_of(&origin, "").await;
    for from_client in [true, false] {
        let client = edge.tcp("db").await;
        let endpoint = origin.accept().await;
        let (broken, mut whole) = if from_client { (client, endpoint) } else { (endpoint, client) };
        whole.send("x").await;
        broken.reset();
        assert!(whole.is_reset().await, "from the client: {from_client}");
    }
    let log = edge.access_log_of(2).await;
    let who: Vec<_> = log.iter().map(|line| line["end"]["who"].as_str().unwrap()).collect();
    assert_eq!(who, ["client", "upstream"]);
}

#[tokio::test]
async fn least_connections_counts_connections() {
    let (one, two) = (echo("1").await, echo("2").await);
    let edge = edge()
        .upstream_with("app", &[one.addr, two.addr], "strategy: least_connections")
        .tcp("db", "upstream: app")
        .start()
        .await;
    let mut first = edge.tcp("db").await;
    let busy = first.text(1).await;
    let free = if busy == "1" { "2" } else { "1" };
    // As long as the first is open, all others that come and go find the other endpoint less loaded.
    for round in 0..4 {
        let mut client = edge.tcp("db").await;
        assert_eq!(client.text(1).await, free);
        client.finish().await;
        assert_eq!(client.rest().await, b"");
        edge.access_log_of(round + 1).await;
    }
}

#[tokio::test]
async fn connections_are_limited_by_listener_and_by_upstream() {
    let echo = echo("!").await;
    let edge = edge()
        .upstream_with("app", &[echo.addr], "limits: {max_requests: 1, max_queue: 0}")
        .tcp("one", "upstream: app")
        .tcp_with("two", "upstream: app", "max_connections: 1")
        .start()
        .await;
    let mut first = edge.tcp("two").await;
    assert_eq!(first.text(1).await, "!");
    assert_eq!(edge.tcp("two").await.rest().await, b"", "one too many for the listener");
    assert!(edge.tcp("one").await.is_reset().await, "one too many for the upstream");
    let line = &edge.access_log().await[0];
    assert_eq!((&line["end"]["type"], &line["end"]["reason"]), (&json!("connection_limit_reached"), &json!("queue_full")));
    first.finish().await;
    first.rest().await;
    edge.access_log_of(2).await;
    assert_eq!(edge.tcp("one").await.text(1).await, "!");
}

#[tokio::test]
async fn a_drain_lets_connections_finish_and_then_cuts_them() {
    let origin = TcpOrigin::bind().await;
    let edge = in_front_of(&origin, "").await;
    let mut finishes = edge.tcp("db").await;
    let mut endpoint = origin.accept().await;
    edge.drain();
    finishes.send("goes on").await;
    assert_eq!(endpoint.text(7).await, "goes on");
    let mut stopping = Box::pin(edge.server.stop_within(Duration::from_millis(300)));
    assert!(tokio::time::timeout(Duration::from_millis(50), &mut stopping).await.is_err(), "it waits");
    assert!(!within("the end of the grace period", stopping).await, "one had to be cut");
}

fn config(listener: &str, endpoint: SocketAddr) -> String {
    format!(
        "listeners: {{{listener}}}\nadmin: off\nobservability: {{access_log: {{path: 'off'}}}}\nroutes: []\n\
         upstreams: {{app: {{endpoints: ['{endpoint}']}}}}\n"
    )
}

#[tokio::test]
async fn a_reload_is_for_new_connections_and_open_ones_live_on() {
    let (one, two) = (TcpOrigin::bind().await, TcpOrigin::bind().await);
    let listener = "db: {address: '127.0.0.1:0', tcp: {upstream: app}}";
    let edge = edge_from(&config(listener, one.addr)).await;
    let mut open = edge.tcp("db").await;
    let mut first = one.accept().await;
    // The listener is as it was; the upstream of that name has another endpoint.
    edge.reload(&config(listener, two.addr)).await;
    let mut later = edge.tcp("db").await;
    let mut second = two.accept().await;
    // Then the listener is gone.
    edge.reload(&config("web: {address: '127.0.0.1:0'}", two.addr)).await;
    for (client, endpoint) in [(&mut open, &mut first), (&mut later, &mut second)] {
        client.send("still").await;
        assert_eq!(endpoint.text(5).await, "still");
        endpoint.send("here").await;
        assert_eq!(client.text(4).await, "here");
    }
    open.finish().await;
    assert_eq!(first.rest().await, b"");
}
