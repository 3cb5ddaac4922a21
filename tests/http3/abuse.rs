//! What strangers may send: it costs them their stream or their connection, and nobody else anything.

use std::time::Duration;

use quinn::VarInt;

use crate::{
    client::{Client, closed, code, connect, control, frame, headers, number, one_way, post, request_frame, rest},
    serve::h3_edge,
    support::{
        Gate,
        edge::Edge,
        origin::{Answer, origin},
        within,
    },
};

async fn here() -> Edge {
    h3_edge().route("all", "respond: {body: here}").start().await
}

async fn raw(edge: &Edge) -> quinn::Connection {
    connect(edge.address("edge"), &edge.trust(), "localhost").await.expect("a connection")
}

/// Others are served.
async fn is_well(edge: &Edge) {
    let mut client = Client::connect(edge.address("edge"), &edge.trust()).await;
    assert_eq!(client.get("/").await.status, 200);
}

#[tokio::test]
async fn violations_on_the_control_stream_end_the_connection() {
    let edge = here().await;
    let settings = frame(4, b"");
    for (what, sent, code) in [
        ("another frame first", vec![[number(0), frame(7, &[0])].concat()], code::MISSING_SETTINGS),
        ("settings twice", vec![[number(0), settings.clone(), settings.clone()].concat()], code::FRAME_UNEXPECTED),
        ("content", vec![[number(0), settings.clone(), frame(0, b"x")].concat()], code::FRAME_UNEXPECTED),
        ("a head", vec![[number(0), settings.clone(), request_frame("GET", &[])].concat()], code::FRAME_UNEXPECTED),
        ("two control streams", vec![[number(0), settings.clone()].concat(), number(0)], code::STREAM_CREATION_ERROR),
        ("two encoder streams", vec![number(2), number(2)], code::STREAM_CREATION_ERROR),
        ("a frame of HTTP/2", vec![[number(0), settings.clone(), frame(6, &[0; 8])].concat()], code::FRAME_UNEXPECTED),
        (
            "a frame without end",
            vec![[number(0), settings.clone(), vec![0x21, 0xbf, 0xff, 0xff, 0xff], vec![0; 200_000]].concat()],
            code::EXCESSIVE_LOAD,
        ),
    ] {
        let quic = raw(&edge).await;
        let mut streams = vec![];
        for bytes in &sent {
            let mut stream = within("a stream", quic.open_uni()).await.expect("a stream");
            // Closed by the edge in the middle of it, at times.
            let _ = stream.write_all(bytes).await;
            streams.push(stream);
        }
        assert_eq!(closed(&quic).await, code, "{what}");
    }
    let quic = raw(&edge).await;
    control(&quic).await.finish().expect("an end");
    assert_eq!(closed(&quic).await, code::CLOSED_CRITICAL_STREAM);
    is_well(&edge).await;
    edge.stop().await;
}

#[tokio::test]
async fn violations_on_a_request_stream_reach_no_endpoint() {
    let app = origin().respond_with(|request| Answer::new(200, &request.body)).spawn().await;
    let edge = h3_edge().upstream("app", &[app.addr()]).route("all", "upstream: app").start().await;
    let post = |more: &[(&str, &str)]| request_frame("POST", more);
    for (what, sent, code) in [
        (
            "a body that is longer than was said",
            [post(&[("content-length", "3")]), frame(0, b"four")].concat(),
            code::MESSAGE_ERROR,
        ),
        (
            "a body that is shorter than was said",
            [post(&[("content-length", "5")]), frame(0, b"four")].concat(),
            code::MESSAGE_ERROR,
        ),
        ("an end within a frame", [post(&[]), frame(0, b"content")[..5].to_vec()].concat(), code::FRAME_ERROR),
        ("an end within a head", post(&[])[..10].to_vec(), code::FRAME_ERROR),
        ("a head that is too long", post(&[("x", &"x".repeat(100_000))]), code::EXCESSIVE_LOAD),
        ("a name in upper case", post(&[("X-Upper", "1")]), code::MESSAGE_ERROR),
        ("a line break in a value", post(&[("x", "1\r\nx-smuggled: 1")]), code::MESSAGE_ERROR),
        ("no method", headers(&[(":scheme", "https"), (":authority", "localhost"), (":path", "/")]), code::MESSAGE_ERROR),
        ("no authority", headers(&[(":method", "GET"), (":scheme", "https"), (":path", "/")]), code::MESSAGE_ERROR),
        ("another host", post(&[("host", "x")]), code::MESSAGE_ERROR),
    ] {
        let quic = raw(&edge).await;
        let _control = control(&quic).await;
        let (mut send, mut receive) = within("a stream", quic.open_bi()).await.expect("a stream");
        let _ = send.write_all(&sent).await;
        let _ = send.finish();
        let end = rest(&mut receive).await;
        assert_eq!(end.map_err(VarInt::into_inner), Err(code), "{what}");
        assert!(quic.close_reason().is_none(), "{what}: the connection lives on");
    }
    for (what, sent, code) in [
        ("content first", frame(0, b"x"), code::FRAME_UNEXPECTED),
        ("settings", [post(&[]), frame(4, b"")].concat(), code::FRAME_UNEXPECTED),
        ("a head behind trailers", [post(&[]), headers(&[("x", "1")]), headers(&[("x", "1")])].concat(), code::FRAME_UNEXPECTED),
        ("a header block that is none", frame(1, &[0xff; 20]), code::QPACK_DECOMPRESSION_FAILED),
    ] {
        let quic = raw(&edge).await;
        let _control = control(&quic).await;
        let (mut send, _receive) = within("a stream", quic.open_bi()).await.expect("a stream");
        send.write_all(&sent).await.expect("written");
        let _ = send.finish();
        assert_eq!(closed(&quic).await, code, "{what}");
    }
    assert!(app.requests().iter().all(|request| request.header("x-smuggled").is_none()), "{:?}", app.requests());
    let whole = app.requests().iter().filter(|request| !request.body.is_empty()).count();
    assert_eq!(whole, 0, "no body of these is one");
    edge.stop().await;
}

#[tokio::test]
async fn what_has_no_meaning_is_dropped() {
    let edge = here().await;
    let quic = raw(&edge).await;
    let _control = control(&quic).await;
    let _grease = one_way(&quic, &[number(0x21), b"anything".to_vec()].concat()).await;
    let (mut send, mut receive) = within("a stream", quic.open_bi()).await.expect("a stream");
    let sent = [frame(0x21, &[7; 50_000]), request_frame("GET", &[]), frame(0x40, b"more")].concat();
    send.write_all(&sent).await.expect("written");
    send.finish().expect("an end");
    let bytes = rest(&mut receive).await.expect("an answer");
    assert!(bytes.windows(4).any(|window| window == b"here"), "{bytes:?}");
    edge.stop().await;
}

#[tokio::test]
async fn requests_that_are_taken_back_without_end_are_a_flood() {
    let gate = Gate::new();
    let app = origin().slow(&gate, "late").spawn().await;
    let edge = h3_edge().upstream("app", &[app.addr()]).route("all", "upstream: app").start().await;
    let quic = raw(&edge).await;
    let _control = control(&quic).await;
    let flood = async {
        loop {
            let Ok((mut send, mut receive)) = quic.open_bi().await else { return };
            let _ = send.write_all(&request_frame("GET", &[])).await;
            let _ = send.reset(VarInt::try_from(code::REQUEST_CANCELLED).expect("a code"));
            let _ = receive.stop(VarInt::try_from(code::REQUEST_CANCELLED).expect("a code"));
        }
    };
    within("the end of a flood", flood).await;
    assert_eq!(closed(&quic).await, code::EXCESSIVE_LOAD);
    assert_eq!(edge.metric("weir_rejected_requests_total", &[("reason", "h3_reset_flood")]).await, Some(1.0));
    gate.open();
    edge.stop().await;
}

#[tokio::test]
async fn streams_without_use_are_a_flood() {
    let edge = here().await;
    let quic = raw(&edge).await;
    let _control = control(&quic).await;
    let flood = async {
        loop {
            let Ok(mut stream) = quic.open_uni().await else { return };
            let _ = stream.write_all(&number(0x21)).await;
            let _ = stream.finish();
        }
    };
    within("the end of a flood", flood).await;
    assert_eq!(closed(&quic).await, code::EXCESSIVE_LOAD);
    is_well(&edge).await;
    edge.stop().await;
}

#[tokio::test]
async fn no_more_requests_at_a_time_than_allowed() {
    let gate = Gate::new();
    let app = origin().slow(&gate, "late").spawn().await;
    let edge = h3_edge()
        .listener("http: {h2_max_concurrent_streams: 3}")
        .upstream("app", &[app.addr()])
        .route("all", "upstream: app")
        .start()
        .await;
    let quic = raw(&edge).await;
    let _control = control(&quic).await;
    let mut streams = vec![];
    for _ in 0..3 {
        let (mut send, receive) = within("a stream", quic.open_bi()).await.expect("a stream");
        send.write_all(&request_frame("GET", &[])).await.expect("written");
        send.finish().expect("an end");
        streams.push(receive);
    }
    let fourth = tokio::time::timeout(Duration::from_millis(300), quic.open_bi()).await;
    assert!(fourth.is_err(), "a fourth stream");
    gate.open();
    rest(&mut streams[0]).await.expect("an answer");
    within("room for another", quic.open_bi()).await.expect("a stream");
    edge.stop().await;
}

#[tokio::test]
async fn connections_are_counted_with_those_of_tcp() {
    let edge = h3_edge().listener("max_connections: 1").route("all", "respond: {body: here}").start().await;
    let mut client = Client::connect(edge.address("edge"), &edge.trust()).await;
    assert_eq!(client.get("/").await.status, 200);
    connect(edge.address("edge"), &edge.trust(), "localhost").await.expect_err("one too many");
    assert!(edge.metric("weir_rejected_requests_total", &[("reason", "listener_connection_limit")]).await >= Some(1.0));
    edge.stop().await;
}

/// Datagrams with which clients begin connections, and whom they are from does not matter.
async fn greetings(edge: &Edge, count: usize) -> Vec<Vec<u8>> {
    let sink = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let endpoint = crate::client::endpoint(&edge.trust());
    let (mut greetings, mut begun) = (vec![], vec![]);
    for _ in 0..count {
        let connecting = endpoint.connect(sink.local_addr().expect("an address"), "localhost").expect("a name");
        // A greeting with a large key share takes two datagrams: both are needed.
        let mut buffer = [0; 2048];
        let mut datagrams = vec![];
        while datagrams.len() < 2 {
            let read = within("a greeting", sink.recv(&mut buffer)).await.expect("a datagram");
            datagrams.push(buffer[..read].to_vec());
        }
        greetings.append(&mut datagrams);
        // One that is given up says so.
        begun.push(connecting);
    }
    greetings
}

#[tokio::test]
async fn many_handshakes_at_a_time_must_prove_their_address() {
    const RETRY: u8 = 0xf0;
    let edge = here().await;
    let sent = greetings(&edge, 120).await;
    let from = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    from.connect(edge.address("edge")).await.expect("connect");
    for greeting in &sent {
        from.send(greeting).await.expect("sent");
    }
    let mut buffer = [0; 2048];
    let retried = async {
        loop {
            let read = from.recv(&mut buffer).await.expect("a datagram");
            if read > 0 && buffer[0] & 0xf0 == RETRY {
                return read;
            }
        }
    };
    let length = within("a Retry packet", retried).await;
    assert!(length < 200, "it amplifies nothing: {length} bytes");
    eventually!(edge.metric("weir_listener_tls_handshakes_total", &[("result", "retry")]).await >= Some(1.0));
    // Who can prove it is served.
    is_well(&edge).await;
    edge.stop().await;
}

#[tokio::test]
async fn nothing_is_kept_of_a_body_that_nobody_reads() {
    let gate = Gate::new();
    let app = origin().ignoring_bodies().slow(&gate, "late").spawn().await;
    let edge = h3_edge().upstream("app", &[app.addr()]).route("all", "upstream: app").start().await;
    let mut client = Client::connect(edge.address("edge"), &edge.trust()).await;
    let mut stream = client.begin(post("/")).await.expect("a stream");
    let mut sent = 0_usize;
    let sending = async {
        loop {
            stream.send_data(vec![0; 16 * 1024].into()).await.expect("sent");
            sent += 16 * 1024;
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(2), sending).await;
    // The windows of the stream, and the buffers of the kernel between the edge and its endpoint.
    assert!(sent < 8 << 20, "{sent} bytes are somewhere");
    gate.open();
    edge.stop().await;
}
