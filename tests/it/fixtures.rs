//! The fixtures themselves: a test is only as good as what it stands on.

use crate::support::{
    Gate,
    certs::{self, tls},
    client::RawClient,
    origin::{Answer, origin, refused_address},
};

#[tokio::test]
async fn an_origin_answers_in_turn_and_records_what_it_was_sent() {
    let origin = origin().respond(503, "no").respond_headers(200, &[("x-a", "1")], "yes").spawn().await;
    let mut client = RawClient::connect(origin.addr()).await;
    let request = "POST /a?b HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi";
    let first = client.exchange(request).await;
    assert_eq!((first.status, first.text().as_str()), (503, "no"));
    let chunked = "PUT / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2;x=y\r\nhi\r\n1\r\n!\r\n0\r\nx-t: 1\r\n\r\n";
    for _ in 0..2 {
        let answer = client.exchange(chunked).await;
        assert_eq!((answer.status, answer.header("X-A"), answer.text().as_str()), (200, Some("1"), "yes"));
    }
    let received = origin.next_request().await;
    assert_eq!(String::from_utf8_lossy(&received.raw), request);
    assert_eq!((received.method.as_str(), received.target.as_str(), received.text().as_str()), ("POST", "/a?b", "hi"));
    assert_eq!(received.headers.names(), ["Host", "Content-Length"]);
    let received = origin.next_request().await;
    assert_eq!((received.text().as_str(), received.trailers.get("x-t")), ("hi!", Some("1")));
    assert_eq!((origin.request_count(), origin.connections(), origin.open_connections()), (3, 1, 1));
    drop(client);
    eventually!(origin.open_connections() == 0);
}

#[tokio::test]
async fn an_origin_breaks_in_the_way_it_was_told() {
    let half = origin().half_header().spawn().await;
    let mut client = RawClient::connect(half.addr()).await;
    client.send("GET / HTTP/1.1\r\n\r\n").await;
    assert_eq!(client.read_to_close().await, b"HTTP/1.1 200 OK\r\ncontent-le");

    let reset = origin().reset_after(0).spawn().await;
    let mut client = RawClient::connect(reset.addr()).await;
    client.send("GET / HTTP/1.1\r\n\r\n").await;
    assert!(client.is_reset().await);

    let closing = origin().accept_then_close().then_serve().respond(200, "hi").spawn().await;
    assert!(RawClient::connect(closing.addr()).await.is_closed().await);
    assert_eq!(RawClient::connect(closing.addr()).await.get("x", "/").await.text(), "hi");

    let address = refused_address().await;
    let refused = tokio::net::TcpStream::connect(address).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn a_slow_origin_waits_for_the_test() {
    let gate = Gate::new();
    let origin = origin().slow(&gate, "late").spawn().await;
    let mut client = RawClient::connect(origin.addr()).await;
    client.send("GET / HTTP/1.1\r\n\r\n").await;
    origin.next_request().await;
    assert!(client.is_open_now());
    gate.pass_one();
    assert_eq!(client.read_response().await.text(), "late");
}

#[tokio::test]
async fn a_broken_request_is_kept_as_bytes_and_a_tunnel_echoes() {
    let origin = origin().answer(Answer::switch("websocket")).spawn().await;
    let mut client = RawClient::connect(origin.addr()).await;
    client.send("GET / HTTP/1.1\r\ncontent-length: 5\r\n\r\nab").await;
    client.half_close().await;
    eventually!(origin.broken(), |broken| broken.iter().any(|bytes| bytes.ends_with(b"\r\n\r\nab")));

    let mut client = RawClient::connect(origin.addr()).await;
    assert_eq!(client.exchange("GET /ws HTTP/1.1\r\n\r\n").await.status, 101);
    client.send("ping").await;
    assert_eq!(client.read_bytes(4).await, b"ping");
    assert_eq!(origin.tunnelled(), [b"ping"]);
}

#[tokio::test]
async fn responses_are_read_in_every_framing() {
    let interim = "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 Fine\r\ncontent-length: 1\r\n\r\n1";
    let origin = origin()
        .respond_raw(interim)
        .answer(Answer::chunked(200, &["ab", "c"], &[("x-sum", "3")]))
        .answer(Answer::raw("HTTP/1.0 200 OK\r\n\r\nto the end").close())
        .spawn()
        .await;
    let mut client = RawClient::connect(origin.addr()).await;
    let first = client.get("x", "/").await;
    assert_eq!((first.reason.as_str(), first.interim.as_slice(), first.text().as_str()), ("Fine", &[103][..], "1"));
    let second = client.get("x", "/").await;
    assert_eq!((second.text().as_str(), second.trailers.get("x-sum")), ("abc", Some("3")));
    assert_eq!(client.get("x", "/").await.text(), "to the end");
}

#[tokio::test]
async fn tls_is_verified_when_a_ca_is_given() {
    let (ca, other) = (certs::ca(), certs::ca());
    let origin = origin().respond(200, "secret").tls(&ca.server(&["app.example.com"])).spawn().await;
    let good = tls().sni("app.example.com").ca(&ca).alpn("http/1.1");
    let mut client = RawClient::connect_tls(origin.addr(), &good).await;
    assert_eq!(client.alpn(), Some("http/1.1"));
    assert_eq!(client.get("app.example.com", "/").await.text(), "secret");
    for bad in [tls().sni("app.example.com").ca(&other), tls().sni("other.example.com").ca(&ca)] {
        assert!(RawClient::try_connect_tls(origin.addr(), &bad).await.is_err());
    }
    assert!(RawClient::connect_tls(origin.addr(), &tls().only_1_2()).await.certificate().is_some());
}
