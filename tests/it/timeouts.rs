//! Silence is limited, and not the whole: what moves is never cut.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::interval,
};

use crate::support::{
    Gate,
    edge::{Edge, edge},
    h2_client::{H2Client, H2Request},
    h2_origin::{H2Answer, h2_origin},
    origin::{Answer, origin},
};

const STEP: Duration = Duration::from_millis(100);
/// Three steps.
const IDLE: &str = "body_idle_timeout: 300ms";
const GET: &str = "GET / HTTP/1.1\r\nhost: example.com\r\n\r\n";

async fn to(endpoint: SocketAddr, http: &str, connections: &str) -> Edge {
    let http = format!("http: {{h2c: true, {http}}}");
    let upstream = edge().listener(&http).upstream_with("app", &[endpoint], &format!("connections: {connections}"));
    upstream.route("app", "upstream: app").start().await
}

/// Answers with a body of twelve bytes, one for each step.
async fn trickling() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n").await;
                let mut clock = interval(STEP);
                for _ in 0..12 {
                    clock.tick().await;
                    let _ = stream.write_all(b"x").await;
                }
                let _ = stream.read(&mut [0; 1]).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn a_download_that_moves_outlives_every_limit_of_silence() {
    let edge = to(trickling().await, IDLE, "{response_timeout: 300ms}").await;
    let http2 = async {
        let mut client = H2Client::connect(edge.address("web")).await;
        client.get("example.com", "/").await.text()
    };
    let (http1, http2) = tokio::join!(edge.get("/"), http2);
    assert_eq!((http1.text(), http2), ("x".repeat(12), "x".repeat(12)));
    for line in edge.access_log_of(2).await {
        assert!(line["ms"]["total"].as_f64().unwrap() > 1000.0 && line["end"]["type"].is_null(), "{line}");
    }
}

#[tokio::test]
async fn an_upload_that_moves_outlives_every_limit_of_silence() {
    let http1 = origin().respond_with(|request| Answer::new(200, request.text())).spawn().await;
    let http2 = h2_origin().respond_with(|request| H2Answer::new(200, request.body.clone())).spawn().await;
    for (address, protocol) in [(http1.addr(), "h1"), (http2.addr(), "h2c")] {
        let edge = to(address, IDLE, &format!("{{response_timeout: 300ms, protocol: {protocol}}}")).await;
        let (mut client, mut client_h2) = (edge.client().await, H2Client::connect(edge.address("web")).await);
        client.send("PUT / HTTP/1.1\r\nhost: example.com\r\ncontent-length: 12\r\n\r\n").await;
        let request = H2Request { method: http::Method::PUT, ..H2Request::get("example.com", "/") };
        let mut exchange = client_h2.open(&request).await.unwrap();
        let mut clock = interval(STEP);
        for piece in 0..12 {
            clock.tick().await;
            client.send("x").await;
            exchange.send("x", piece == 11);
        }
        assert_eq!(client.read_response().await.text(), "x".repeat(12), "{protocol}");
        assert_eq!(exchange.response().await.unwrap().text(), "x".repeat(12), "{protocol}");
    }
}

#[tokio::test]
async fn a_response_that_falls_silent_is_cut_and_the_endpoint_named() {
    let half = Answer::raw("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello").hold();
    let origin = origin().answer(half).spawn().await;
    let edge = to(origin.addr(), IDLE, "{response_timeout: 1h}").await;
    let mut client = edge.client().await;
    client.send(GET).await;
    assert!(client.try_read_response().await.is_err(), "it is no whole response");
    let mut client = H2Client::connect(edge.address("web")).await;
    assert!(client.send(&H2Request::get("example.com", "/")).await.is_err(), "nor over HTTP/2");
    for line in edge.access_log_of(2).await {
        assert_eq!(
            line["end"],
            json!({"who": "upstream", "phase": "response", "type": "connection_read_timeout", "reason": null})
        );
        assert_eq!((&line["status"], &line["attempts"][0]["stage"]), (&json!(200), &json!("receiving")), "{line}");
    }
}

#[tokio::test]
async fn the_response_header_is_waited_for_from_the_end_of_the_request() {
    let silent = origin().never_answer().spawn().await;
    let edge = to(silent.addr(), "body_idle_timeout: 10s", "{response_timeout: 400ms}").await;
    let (mut client, mut client_h2) = (edge.client().await, H2Client::connect(edge.address("web")).await);
    client.send("PUT / HTTP/1.1\r\nhost: example.com\r\ncontent-length: 8\r\n\r\n").await;
    let request = H2Request { method: http::Method::PUT, ..H2Request::get("example.com", "/") };
    let mut exchange = client_h2.open(&request).await.unwrap();
    let mut clock = interval(STEP);
    for piece in 0..8 {
        clock.tick().await;
        client.send("x").await;
        exchange.send("x", piece == 7);
    }
    let whole = Instant::now();
    assert_eq!(client.read_response().await.status, 504);
    assert_eq!(exchange.response().await.unwrap().status, 504);
    let took = whole.elapsed();
    assert!(took >= Duration::from_millis(390) && took < Duration::from_secs(5), "{took:?}");
    for line in edge.access_log_of(2).await {
        assert_eq!(line["end"], json!({"who": "upstream", "phase": "request", "type": "http_response_timeout", "reason": null}));
        let attempt = &line["attempts"][0];
        assert_eq!((&attempt["outcome"], &attempt["stage"]), (&json!("http_response_timeout"), &json!("waiting")), "{line}");
    }
}

#[tokio::test]
async fn a_long_poll_is_no_silence_of_a_body() {
    let gate = Gate::new();
    let origin = origin().slow(&gate, "late").spawn().await;
    let edge = to(origin.addr(), IDLE, "{response_timeout: 20s}").await;
    let (mut client, mut client_h2) = (edge.client().await, H2Client::connect(edge.address("web")).await);
    client.send(GET).await;
    let exchange = client_h2.start(&H2Request::get("example.com", "/")).await.unwrap();
    tokio::time::sleep(9 * STEP).await;
    gate.open();
    assert_eq!(client.read_response().await.text(), "late");
    assert_eq!(exchange.response().await.unwrap().text(), "late");
}

#[tokio::test]
async fn a_pause_between_events_is_limited_by_the_idle_timeout_alone() {
    let gate = Gate::new();
    let events = Answer::raw("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n").wait(&gate);
    let origin = origin().answer(events.bytes("6\r\nsecond\r\n0\r\n\r\n")).spawn().await;
    let edge = to(origin.addr(), "body_idle_timeout: 10s", "{response_timeout: 200ms}").await;
    let (mut client, mut client_h2) = (edge.client().await, H2Client::connect(edge.address("web")).await);
    client.send(GET).await;
    let exchange = client_h2.start(&H2Request::get("example.com", "/")).await.unwrap();
    tokio::time::sleep(6 * STEP).await;
    gate.open();
    assert_eq!(client.read_response().await.text(), "firstsecond");
    assert_eq!(exchange.response().await.unwrap().text(), "firstsecond");
}

#[tokio::test]
async fn a_client_may_be_silent_while_its_endpoint_is_not() {
    let edge = to(trickling().await, IDLE, "{}").await;
    let mut client = H2Client::connect(edge.address("web")).await;
    let request = H2Request { method: http::Method::POST, ..H2Request::get("example.com", "/") };
    let mut exchange = client.open(&request).await.unwrap();
    exchange.send("all that it has to say", false);
    let (mut sending, response) = exchange.split();
    let mut body = response.await.unwrap().into_body();
    let (all, _) = crate::support::h2_client::collect(&mut body).await.unwrap();
    assert_eq!(all, "x".repeat(12));
    let _ = sending.send_data("".into(), true);
}

#[tokio::test]
async fn an_endpoint_that_takes_nothing_of_an_upload_is_given_up_and_named() {
    let http1 = origin().accept_then_hold().spawn().await;
    let http2 = listening_in_vain().await;
    for (address, protocol) in [(http1.addr(), "h1"), (http2, "h2c")] {
        let edge = to(address, "body_idle_timeout: 600ms", &format!("{{response_timeout: 300ms, protocol: {protocol}}}")).await;
        let mut client = edge.client().await;
        client.send("PUT / HTTP/1.1\r\nhost: example.com\r\ncontent-length: 100000000\r\n\r\n").await;
        // More than all buffers on the way hold. What it cannot send it does not wait for.
        let mut sending = Box::pin(async { while client.try_send(vec![b'x'; 100_000]).await.is_ok() {} });
        let log = tokio::select! {
            () = &mut sending => edge.access_log().await,
            log = edge.access_log() => log,
        };
        let line = &log[0];
        let end = json!({"who": "upstream", "phase": "request", "type": "connection_write_timeout", "reason": null});
        assert_eq!((&line["end"], &line["status"]), (&end, &json!(504)), "{protocol}: {line}");
        assert_eq!(line["attempts"][0]["stage"], "sending", "{protocol}: {line}");
    }
}

/// Speaks HTTP/2 so far that a request can be sent, and takes nothing of its body: the window is never opened.
async fn listening_in_vain() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                let mut held = Vec::new();
                while let Some(Ok(request)) = connection.accept().await {
                    held.push(request);
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn a_client_that_reads_slowly_and_steadily_gets_everything() {
    let body = "x".repeat(16 << 20);
    let origin = origin().respond(200, &body).spawn().await;
    let edge = to(origin.addr(), IDLE, "{}").await;
    let mut client = edge.client().await;
    client.small_receive_buffer(64 * 1024);
    client.send(GET).await;
    client.read_head().await;
    let (mut clock, mut left) = (interval(Duration::from_millis(10)), body.len());
    let began = Instant::now();
    while left > 0 {
        clock.tick().await;
        // In pieces of which each takes less than the limit, and all together many times as long.
        left -= client.read_bytes(left.min(128 << 10)).await.len();
    }
    assert!(began.elapsed() > Duration::from_secs(1), "{:?}", began.elapsed());
    assert!(edge.access_log().await[0]["end"]["type"].is_null());
}

#[tokio::test]
async fn by_default_silence_is_limited_and_not_the_whole() {
    use weir::{config::HttpSpec, route::RouteSpec, upstream::ConnectionsSpec};
    let route = RouteSpec::forwarding("all".parse().unwrap(), "app".parse().unwrap());
    assert_eq!(route.timeout.limit(), None);
    assert_eq!(ConnectionsSpec::default().response_timeout.limit(), Some(Duration::from_secs(30)));
    assert_eq!(HttpSpec::default().body_idle_timeout.limit(), Some(Duration::from_secs(30)));
    let route: RouteSpec = serde_yaml::from_str("{name: all, upstream: app}").unwrap();
    assert_eq!(route.timeout.limit(), None);
    let route: RouteSpec = serde_yaml::from_str("{name: all, upstream: app, timeout: 30s}").unwrap();
    assert_eq!(route.timeout.limit(), Some(Duration::from_secs(30)), "a file that says so means it");
}
