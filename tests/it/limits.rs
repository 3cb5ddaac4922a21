//! Limits and timeouts of a listener: what is over them is refused with its own status, and what is idle ends.

use crate::support::{
    Gate,
    edge::{Edge, edge},
    h2_client::{H2Client, H2Request},
    h2_raw::{RawH2, kind},
    origin::{Origin, origin},
};

/// An edge with these options under `http`, in front of an origin.
async fn limited(http: &str) -> (Edge, Origin) {
    let origin = origin().respond(200, "hello").spawn().await;
    let builder = edge().upstream("app", &[origin.addr()]).route("all", "upstream: app").tls();
    (builder.listener(&format!("http: {{{http}}}")).start().await, origin)
}

/// The status of a GET with this target and these fields, on a connection of its own.
async fn status(edge: &Edge, target: &str, fields: &str) -> u16 {
    edge.client().await.exchange(format!("GET {target} HTTP/1.1\r\nhost: x\r\n{fields}\r\n")).await.status
}

#[tokio::test]
async fn a_header_block_has_its_time() {
    let (edge, origin) = limited("header_timeout: 200ms").await;
    let mut client = edge.client().await;
    client.send("GET / HTTP/1.1\r\nhost: x\r\nx-slow").await;
    assert_eq!(client.read_response().await.status, 408);
    assert!(client.is_closed().await);
    assert_eq!(origin.request_count(), 0);
    assert_eq!(edge.metric("weir_http_requests_total", &[("code", "408")]).await, Some(1.0));
    // Who says nothing at all is sent away without a word.
    assert!(edge.client().await.is_closed().await);
    // The handshake is under the same deadline.
    let mut silent = crate::support::client::RawClient::connect(edge.address("edge")).await;
    assert!(silent.is_closed().await);
}

#[tokio::test]
async fn an_idle_connection_is_kept_for_the_keepalive_timeout() {
    let (edge, _origin) = limited("keepalive_timeout: 1s").await;
    let mut client = edge.client().await;
    for _ in 0..2 {
        assert_eq!(client.get("x", "/").await.status, 200);
    }
    assert!(client.is_closed().await);
    let mut h2 = H2Client::connect_tls(edge.address("edge"), &edge.trust()).await;
    assert_eq!(h2.get("localhost", "/").await.text(), "hello");
    h2.ended().await;
}

#[tokio::test]
async fn a_body_that_stalls_is_a_408() {
    let (edge, origin) = limited("body_idle_timeout: 200ms").await;
    let mut client = edge.client().await;
    client.send("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhalf").await;
    assert_eq!(client.read_response().await.status, 408);
    assert!(client.is_closed().await);
    assert_eq!(origin.request_count(), 0, "no whole request arrived");
    let log = edge.access_log().await;
    assert_eq!((&log[0]["end"]["who"], &log[0]["status"]), (&"client".into(), &408.into()), "{}", log[0]);
}

#[tokio::test]
async fn a_connection_serves_so_many_requests() {
    let (edge, _origin) = limited("max_requests_per_connection: 3").await;
    let mut client = edge.client().await;
    for turn in 1..=3 {
        let answer = client.get("x", "/").await;
        assert_eq!((answer.status, answer.header("connection") == Some("close")), (200, turn == 3), "{turn}");
    }
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn header_fields_and_targets_have_their_sizes() {
    let (edge, origin) = limited("max_header_bytes: 4KiB, max_header_count: 20").await;
    let field = |length: usize| format!("x-a: {}\r\n", "a".repeat(length));
    let path = |length: usize| format!("/{}", "a".repeat(length - 1));
    for (target, fields, code, what) in [
        (path(1000), field(2000), 200, "all within"),
        (path(1), field(2100), 431, "one field over half of it"),
        (path(1), format!("{0}{0}{0}", field(1500)), 431, "all together over it"),
        (path(1), "x-a: 1\r\n".repeat(19), 200, "twenty fields with the host"),
        (path(1), "x-a: 1\r\n".repeat(20), 431, "one more"),
        (path(1100), String::new(), 414, "a target over a quarter of it"),
    ] {
        assert_eq!(status(&edge, &target, &fields).await, code, "{what}");
    }
    assert_eq!(origin.request_count(), 2);
    let mut h2 = H2Client::connect_tls(edge.address("edge"), &edge.trust()).await;
    assert_eq!(h2.get("localhost", &path(1100)).await.status, 414);
    let many = (0..25).fold(H2Request::get("localhost", "/"), |request, n| request.header(&format!("x-{n}"), "1"));
    assert_eq!(h2.send(&many).await.expect("a response").status, 431);
    assert_eq!(h2.get("localhost", "/").await.status, 200, "the connection goes on");
}

#[tokio::test]
async fn http2_streams_are_as_many_as_it_says() {
    let gate = Gate::new();
    let origin = origin().slow(&gate, "late").spawn().await;
    let edge = edge()
        .upstream("app", &[origin.addr()])
        .route("all", "upstream: app")
        .listener("http: {h2c: true, h2_max_concurrent_streams: 3}")
        .start()
        .await;
    let mut raw = RawH2::connect(edge.address("web")).await;
    let settings = raw.handshake().await;
    assert_eq!(settings.kind, kind::SETTINGS);
    let limit = settings.payload.chunks(6).find(|entry| entry[..2] == [0, 3]).expect("MAX_CONCURRENT_STREAMS");
    assert_eq!(limit[2..], [0, 0, 0, 3]);
    // A client that keeps to it gets its fourth answer when one of three is through.
    let mut h2 = H2Client::connect(edge.address("web")).await;
    let mut under_way = Vec::new();
    for _ in 0..3 {
        under_way.push(h2.start(&H2Request::get("x", "/")).await.expect("a stream"));
    }
    gate.open();
    for exchange in under_way {
        assert_eq!(exchange.response().await.expect("a response").text(), "late");
    }
    assert_eq!(h2.get("x", "/").await.text(), "late");
}

#[tokio::test]
async fn the_whole_process_takes_so_many_connections() {
    let edge = edge().route("all", "respond: {body: hello}").yaml("server: {max_connections: 1}").start().await;
    let mut one = edge.client().await;
    assert_eq!(one.get("x", "/").await.status, 200);
    assert!(edge.client().await.is_closed().await);
    assert_eq!(one.get("x", "/").await.status, 200);
    assert_eq!(edge.metric("weir_rejected_requests_total", &[("reason", "connection_limit")]).await, Some(1.0));
}
