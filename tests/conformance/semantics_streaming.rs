//! Streams of all kinds through a whole edge: WebSocket (RFC 6455), gRPC, server-sent events, large bodies.

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use h2::server;
use http::{HeaderMap, Response};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

use crate::{
    setup::{bed_of, get, h2},
    support::{
        Gate,
        edge::{Edge, edge},
        h2_client::H2Request,
        origin::{Answer, origin},
        within,
    },
};

/// An origin that echoes WebSocket messages, and its address.
async fn websocket_origin() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
                while let Some(Ok(message)) = socket.next().await {
                    if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// Sends a text and reads its echo.
async fn echoes<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(socket: &mut WebSocketStream<S>, text: &str) {
    within("the message to be taken", socket.send(Message::text(text))).await.expect("sent");
    let echo = within("its echo", socket.next()).await.expect("a message").expect("a message");
    assert_eq!(echo, Message::text(text));
}

async fn websocket_edge(keys: &str) -> Edge {
    let origin = websocket_origin().await;
    edge().tls().listener(keys).upstream("app", &[origin]).route("app", "upstream: app").start().await
}

#[tokio::test]
async fn rfc6455_websocket_in_cleartext() {
    let edge = websocket_edge("").await;
    let stream = TcpStream::connect(edge.address("web")).await.expect("connect");
    let (mut socket, response) = within("the upgrade", client_async("ws://example.com/chat", stream)).await.expect("upgrade");
    assert_eq!(response.status().as_u16(), 101);
    for size in [1, 125, 126, 70_000] {
        echoes(&mut socket, &"x".repeat(size)).await;
    }
    within("the close", socket.close(None)).await.expect("closed");
    while let Some(Ok(_)) = within("the end", socket.next()).await {}
    let line = edge.access_log().await.remove(0);
    assert_eq!((line["status"].as_u64(), line["end"]["type"].as_str()), (Some(101), None), "{line}");
    assert!(line["bytes_out"].as_u64().is_some_and(|bytes| bytes > 70_000), "{line}");
}

#[tokio::test]
async fn rfc6455_websocket_over_tls() {
    let edge = websocket_edge("").await;
    let tls = edge.trust().alpn("http/1.1");
    let stream = TcpStream::connect(edge.address("edge")).await.expect("connect");
    let stream = TlsConnector::from(tls.config()).connect(tls.server_name(), stream).await.expect("TLS");
    let (mut socket, _) = within("the upgrade", client_async("wss://localhost/chat", stream)).await.expect("upgrade");
    echoes(&mut socket, "over TLS").await;
    echoes(&mut socket, &"y".repeat(100_000)).await;
}

#[tokio::test]
async fn rfc6455_an_idle_websocket_outlives_the_timeouts_of_requests() {
    let edge = websocket_edge("http: {body_idle_timeout: 100ms, keepalive_timeout: 100ms, header_timeout: 500ms}").await;
    let stream = TcpStream::connect(edge.address("web")).await.expect("connect");
    let (mut socket, _) = within("the upgrade", client_async("ws://example.com/", stream)).await.expect("upgrade");
    echoes(&mut socket, "before").await;
    // Time itself is what is tested: six times the timeout without a byte.
    let nothing = tokio::time::timeout(std::time::Duration::from_millis(600), socket.next()).await;
    assert!(nothing.is_err(), "{nothing:?}");
    echoes(&mut socket, "after").await;
}

#[tokio::test]
async fn rfc6455_a_client_that_goes_away_ends_the_tunnel() {
    let origin = origin().answer(Answer::switch("websocket")).spawn().await;
    let edge = edge().upstream("app", &[origin.addr()]).route("app", "upstream: app").start().await;
    let upgrade = "GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                   sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    for resets in [false, true] {
        let mut client = edge.client().await;
        assert_eq!(client.exchange(upgrade).await.status, 101);
        client.send("ping").await;
        assert_eq!(client.read_bytes(4).await, b"ping");
        if resets {
            client.reset()
        } else {
            drop(client)
        }
        eventually!(origin.open_connections() == 0);
    }
    assert_eq!(edge.access_log_of(2).await.len(), 2);
}

/// An h2c origin that answers at once and sends back each piece of the request as it comes, then trailers.
async fn echoing_h2_origin() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let Ok(mut connection) = server::handshake(stream).await else { return };
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    tokio::spawn(async move {
                        let head = Response::builder().header("content-type", "application/grpc").body(()).expect("a head");
                        let Ok(mut out) = respond.send_response(head, false) else { return };
                        let mut body = request.into_body();
                        while let Some(Ok(piece)) = body.data().await {
                            let _ = body.flow_control().release_capacity(piece.len());
                            if out.send_data(piece, false).is_err() {
                                return;
                            }
                        }
                        let mut trailers = HeaderMap::new();
                        trailers.insert("grpc-status", "0".parse().expect("a value"));
                        let _ = out.send_trailers(trailers);
                    });
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn grpc_streams_in_both_directions_with_trailers() {
    let origin = echoing_h2_origin().await;
    let edge = edge()
        .listener("http: {h2c: true}")
        .upstream_with("app", &[origin], "connections: {protocol: h2c}")
        .route("app", "upstream: app")
        .start()
        .await;
    let mut client = h2(&edge).await;
    let call = H2Request { method: http::Method::POST, ..H2Request::get("example.com", "/pkg.Service/Chat") }
        .header("te", "trailers")
        .header("content-type", "application/grpc");
    let (mut sending, response) = client.open(&call).await.expect("a stream").split();
    sending.send_data("first".into(), false).expect("an open stream");
    // Says something, hears it, says more: neither side is complete before the other.
    let mut body = within("the head, before the request is complete", response).await.expect("a head").into_body();
    let heard = |piece: Option<Result<Bytes, h2::Error>>| piece.expect("a piece").expect("a piece");
    assert_eq!(heard(within("the first echo", body.data()).await), "first");
    for message in ["second", "third"] {
        sending.send_data(message.into(), false).expect("an open stream");
        assert_eq!(heard(within("an echo", body.data()).await), message);
    }
    sending.send_data(Bytes::new(), true).expect("an open stream");
    assert!(within("the end", body.data()).await.is_none());
    let trailers = within("trailers", body.trailers()).await.expect("trailers").expect("trailers");
    assert_eq!(trailers.get("grpc-status").map(|status| status.as_bytes()), Some(&b"0"[..]));
    let line = edge.access_log().await.remove(0);
    assert_eq!((line["status"].as_u64(), line["bytes_in"].as_u64(), line["bytes_out"].as_u64()), (Some(200), Some(16), Some(16)));
}

#[tokio::test]
async fn server_sent_events_are_not_held_back() {
    // In each framing that origins use for them.
    for (head, event) in [
        ("transfer-encoding: chunked", "9\r\ndata: 1\n\n\r\n"),
        ("x-until: close", "data: 1\n\n"),
        ("content-length: 100", "data: 1\n\n"),
    ] {
        let gate = Gate::new();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n{head}\r\n\r\n");
        let answer = Answer::raw(&head).wait(&gate).bytes(event).wait(&gate).close();
        let bed = bed_of(origin().answer(answer), "").await;
        let mut http1 = bed.client().await;
        http1.send(get("/")).await;
        assert!(http1.read_head().await.start.contains("200"), "the head comes before any event");
        let mut http2 = h2(&bed.edge).await;
        let response = http2.start(&H2Request::get("example.com", "/")).await.expect("a stream").head().await.expect("a head");
        gate.pass_one();
        gate.pass_one();
        let mut seen = Vec::new();
        while !seen.ends_with(b"\n\n") && !seen.ends_with(b"\n\n\r\n") {
            let piece = http1.read_some().await;
            assert!(!piece.is_empty(), "{head}");
            seen.extend(piece);
        }
        let mut body = response.into_body();
        assert_eq!(within("the event", body.data()).await.expect("a piece").expect("a piece"), "data: 1\n\n");
    }
}

const PIECE: usize = 64 * 1024;
const PIECES: usize = 1600;

/// An origin that reads an upload to its end and says how long it was, or sends a download of as much.
async fn large_origin() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.windows(4).any(|window| window == b"\r\n\r\n") {
                    if stream.read_buf(&mut head).await? == 0 {
                        return Ok(());
                    }
                }
                let end = head.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(0) + 4;
                if head.starts_with(b"POST") {
                    let mut left = PIECE * PIECES - (head.len() - end);
                    let mut piece = vec![0; PIECE];
                    while left > 0 {
                        let read = stream.read(&mut piece).await?;
                        if read == 0 {
                            return Ok(());
                        }
                        left -= read;
                    }
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\nall").await?;
                } else {
                    let length = PIECE * PIECES;
                    stream.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n").as_bytes()).await?;
                    for _ in 0..PIECES {
                        stream.write_all(&[b'x'; PIECE]).await?;
                    }
                }
                std::io::Result::Ok(())
            });
        }
    });
    address
}

#[tokio::test]
async fn large_bodies_stream_both_ways_on_http1() {
    let origin = large_origin().await;
    let edge = edge().upstream("app", &[origin]).route("app", "upstream: app").start().await;
    let mut client = edge.client().await;
    client.send(format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", PIECE * PIECES)).await;
    for _ in 0..PIECES {
        client.send([b'u'; PIECE]).await;
    }
    assert_eq!(client.read_response().await.text(), "all");
    let mut client = edge.client().await;
    client.send(get("/")).await;
    client.read_head().await;
    let mut left = PIECE * PIECES;
    while left > 0 {
        let piece = client.read_some().await;
        assert!(!piece.is_empty(), "{left} bytes are missing");
        left -= piece.len();
    }
    let log = edge.access_log_of(2).await;
    assert_eq!(
        (log[0]["bytes_in"].as_u64(), log[1]["bytes_out"].as_u64()),
        (Some((PIECE * PIECES) as u64), Some((PIECE * PIECES) as u64))
    );
}

#[tokio::test]
async fn large_bodies_stream_both_ways_on_http2() {
    let origin = large_origin().await;
    let edge = edge().listener("http: {h2c: true}").upstream("app", &[origin]).route("app", "upstream: app").start().await;
    let mut client = h2(&edge).await;
    let upload = H2Request { method: http::Method::POST, ..H2Request::get("example.com", "/") };
    let upload = upload.header("content-length", &(PIECE * PIECES).to_string());
    let (mut sending, response) = client.open(&upload).await.expect("a stream").split();
    for index in 0..PIECES {
        sending.reserve_capacity(PIECE);
        while sending.capacity() < PIECE {
            within("the window", std::future::poll_fn(|cx| sending.poll_capacity(cx))).await.expect("open").expect("open");
        }
        sending.send_data(Bytes::from_static(&[b'u'; PIECE]), index + 1 == PIECES).expect("an open stream");
    }
    assert_eq!(within("the answer", response).await.expect("an answer").status(), 200);
    let response = client.start(&H2Request::get("example.com", "/")).await.expect("a stream").head().await.expect("a head");
    let mut body = response.into_body();
    let mut left = PIECE * PIECES;
    while let Some(piece) = within("a piece", body.data()).await {
        let piece = piece.expect("a piece");
        body.flow_control().release_capacity(piece.len()).expect("capacity");
        left -= piece.len();
    }
    assert_eq!(left, 0);
}
