//! The fixtures themselves: a test is only as good as what it stands on.

use h2::Reason;

use crate::support::{
    Gate,
    certs::{self, tls},
    client::RawClient,
    h2_client::{Ended, H2Client, H2Request, collect},
    h2_origin::{H2Answer, h2_origin},
    h2_raw::{Frame, RawH2, flag, get_fields, kind},
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

#[tokio::test]
async fn http2_carries_bodies_and_trailers_both_ways() {
    let ca = certs::ca();
    let script = |received: &crate::support::h2_origin::H2Received| H2Answer::grpc(received.body.clone(), 7);
    let clear = h2_origin().respond_with(script).spawn().await;
    let secure = h2_origin().respond_with(script).tls(&ca.server(&["localhost"])).spawn().await;
    let trusting = tls().sni("localhost").ca(&ca);
    let clients =
        [(H2Client::connect(clear.addr()).await, &clear), (H2Client::connect_tls(secure.addr(), &trusting).await, &secure)];
    for (mut client, origin) in clients {
        let large = vec![b'x'; 300_000];
        let request =
            H2Request::post("localhost", "/pkg.Service/Call", large.clone()).header("te", "trailers").trailers(&[("x-t", "1")]);
        let response = client.send(&request).await.expect("a response");
        assert_eq!((response.status.as_u16(), response.body == large, response.trailer("grpc-status")), (200, true, Some("7")));
        let received = origin.next_request().await;
        assert_eq!(
            (received.header("te"), received.trailer("x-t"), received.head.uri.path()),
            (Some("trailers"), Some("1"), "/pkg.Service/Call")
        );
        assert_eq!(client.get("localhost", "/").await.trailer("grpc-status"), Some("7"));
        assert_eq!(origin.connections(), 1);
    }
}

#[tokio::test]
async fn http2_resets_are_seen_on_both_sides() {
    let (gate, seen) = (Gate::new(), Gate::new());
    let (waiting, half) = (gate.clone(), seen.clone());
    let origin = h2_origin()
        .respond_with(move |received| match received.head.uri.path() {
            "/refuse" => H2Answer::new(200, "").reset(Reason::REFUSED_STREAM),
            "/half" => H2Answer::new(200, "half").reset_after_body(Reason::INTERNAL_ERROR, &half),
            _ => H2Answer::new(200, "late").wait(&waiting),
        })
        .spawn()
        .await;
    let mut client = H2Client::connect(origin.addr()).await;
    let refused = client.send(&H2Request::get("x", "/refuse")).await.expect_err("a reset");
    assert_eq!(refused.reason(), Some(Reason::REFUSED_STREAM));
    let half = client.start(&H2Request::get("x", "/half")).await.expect("a stream").head().await.expect("a head");
    let mut body = half.into_body();
    assert_eq!(body.data().await.expect("a piece").expect("a piece"), "half");
    seen.open();
    assert_eq!(collect(&mut body).await.expect_err("a reset").reason(), Some(Reason::INTERNAL_ERROR));
    let cancelled = client.start(&H2Request::get("x", "/wait")).await.expect("a stream");
    for _ in 0..3 {
        origin.next_request().await;
    }
    cancelled.reset(Reason::CANCEL);
    eventually!(origin.cancelled() == 1);
    let waiting = client.start(&H2Request::get("x", "/wait")).await.expect("a stream");
    gate.open();
    assert_eq!(waiting.response().await.expect("a response").text(), "late");
}

#[tokio::test]
async fn raw_frames_are_sent_as_written_and_answered_with_goaway() {
    let origin = h2_origin().respond(200, "hi").spawn().await;
    let mut raw = RawH2::connect(origin.addr()).await;
    assert_eq!(raw.handshake().await.kind, kind::SETTINGS);
    let long = "v".repeat(300);
    raw.send(&Frame::headers(1, true, &get_fields("http", "x", "/a", &[("x-long", &long)]))).await.expect("taken");
    let data = raw.until(|frame| frame.kind == kind::DATA).await.expect("DATA");
    assert_eq!((data.stream, data.payload.as_slice(), data.flags & flag::END_STREAM), (1, &b"hi"[..], 1));
    assert_eq!(origin.next_request().await.header("x-long"), Some(long.as_str()));
    raw.send(&Frame::new(kind::DATA, flag::NONE, 0, "DATA on stream 0")).await.expect("taken");
    assert_eq!(raw.goaway().await, Some(u32::from(Reason::PROTOCOL_ERROR)));

    let mut raw = RawH2::connect(origin.addr()).await;
    raw.handshake().await;
    let flood = raw.flood(1_000_000, |index| Frame::new(kind::DATA, flag::NONE, if index < 10 { 1 } else { 0 }, "x")).await;
    assert!(flood.ended && flood.sent < 1_000_000, "{flood:?}");
}

#[tokio::test]
async fn the_end_of_an_http2_connection_is_told() {
    let origin = origin()
        .respond_raw(
            [&[0, 0, 0, 4, 0, 0, 0, 0, 0][..], &Frame::new(kind::GOAWAY, 0, 0, [0, 0, 0, 0, 0, 0, 0, 11]).bytes()].concat(),
        )
        .spawn()
        .await;
    // To an origin of bytes, the preface is a request with the method PRI, and its answer is SETTINGS and GOAWAY.
    let mut client = H2Client::connect(origin.addr()).await;
    assert_eq!(client.ended().await, Ended::GoAway(Reason::ENHANCE_YOUR_CALM));
}
