//! Layer 4 with TLS: passed on by name, terminated, spoken to endpoints. And the PROXY protocol.

use std::net::SocketAddr;

use rustls::ClientConnection;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};
use weir::proxy_protocol::{Version, write};

use crate::support::{
    certs::{Ca, Identity, Tls, ca, server_config, tls},
    edge::{Edge, edge},
    tcp::{TcpClient, TcpOrigin},
    within,
};

/// The server's side of the next connection, after its handshake.
async fn accept_tls(origin: &TcpOrigin, identity: &Identity) -> server::TlsStream<TcpStream> {
    let acceptor = TlsAcceptor::from(server_config(identity, &[], None));
    within("a handshake", acceptor.accept(origin.accept().await.stream)).await.expect("a handshake")
}

/// The client's side, verified as `tls` says.
async fn connect_tls(address: SocketAddr, tls: &Tls) -> client::TlsStream<TcpStream> {
    let stream = TcpClient::connect(address).await.stream;
    let connecting = TlsConnector::from(tls.config()).connect(tls.server_name(), stream);
    within("a handshake", connecting).await.expect("a handshake")
}

/// What a client sends that asks for this name.
fn greeting(name: &str) -> Vec<u8> {
    let tls = tls().sni(name);
    let mut client = ClientConnection::new(tls.config(), tls.server_name()).expect("a client");
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).expect("a greeting");
    bytes
}

async fn refusals(edge: &Edge, reason: &str) -> Option<f64> {
    edge.metric("weir_rejected_requests_total", &[("reason", reason)]).await
}

#[tokio::test]
async fn the_name_chooses_the_endpoint_that_terminates_tls() {
    let ca: Ca = ca();
    let (db, apps) = (TcpOrigin::bind().await, TcpOrigin::bind().await);
    let edge = edge()
        .upstream("db", &[db.addr])
        .upstream("apps", &[apps.addr])
        .tcp("tls", "sni: {db.example.com: db, '*.example.com': apps}")
        .start()
        .await;
    for (name, origin) in [("db.example.com", &db), ("x.example.com", &apps), ("y.x.example.com", &apps)] {
        let identity = ca.server(&[name]);
        let trust = tls().sni(name).ca(&ca);
        let (mut client, mut server) = tokio::join!(connect_tls(edge.address("tls"), &trust), accept_tls(origin, &identity));
        client.write_all(b"ping").await.expect("sent");
        let mut bytes = [0; 4];
        within("bytes", server.read_exact(&mut bytes)).await.expect("four bytes");
        server.write_all(b"pong").await.expect("sent");
        within("bytes", client.read_exact(&mut bytes)).await.expect("four bytes");
        assert_eq!(&bytes, b"pong", "{name}");
    }
    let log = edge.access_log_of(3).await;
    let line = log.iter().find(|line| line["upstream"] == "db").expect("a line");
    assert_eq!((&line["sni"], &line["tls"]), (&json!("db.example.com"), &json!(null)));
}

#[tokio::test]
async fn a_greeting_in_pieces_arrives_as_it_was_sent() {
    let origin = TcpOrigin::bind().await;
    let edge = edge().upstream("app", &[origin.addr]).tcp("tls", "sni: {pieces.example.com: app}").start().await;
    // The same message in three records, and those in segments of a few bytes.
    let whole = greeting("pieces.example.com");
    let message = &whole[5..];
    let parts = [&message[..3], &message[3..60], &message[60..]];
    let record = |part: &[u8]| [&[22, 3, 1][..], &(part.len() as u16).to_be_bytes(), part].concat();
    let sent: Vec<u8> = parts.iter().flat_map(|part| record(part)).collect();
    let mut client = edge.tcp("tls").await;
    for piece in sent.chunks(37) {
        client.send(piece).await;
        tokio::task::yield_now().await;
    }
    client.send("and more").await;
    let mut endpoint = origin.accept().await;
    assert!(endpoint.read(sent.len()).await == sent, "the greeting was changed");
    assert_eq!(endpoint.text(8).await, "and more");
}

#[tokio::test]
async fn who_asks_for_nothing_that_is_there_is_refused() {
    let origin = TcpOrigin::bind().await;
    let edge = edge().upstream("app", &[origin.addr]).tcp("tls", "sni: {a.example.com: app}").start().await;
    let mut client = edge.tcp("tls").await;
    client.send(greeting("b.example.com")).await;
    assert_eq!(client.rest().await, b"\x15\x03\x01\x00\x02\x02\x70", "unrecognized_name");
    let mut client = edge.tcp("tls").await;
    client.send("SSH-2.0-OpenSSH\r\n").await;
    let _ = client.stream.read(&mut [0; 1]).await;
    // Two records, the second of which is no part of a handshake.
    let mut client = edge.tcp("tls").await;
    client.send([&greeting("a.example.com")[..5], &[1, 0], &[23; 600]].concat()).await;
    let _ = client.stream.read(&mut [0; 1]).await;
    let mut client = edge.tcp("tls").await;
    client.send(&greeting("a.example.com")[..40]).await;
    client.finish().await;
    assert_eq!(client.rest().await, b"");
    let log = edge.access_log_of(4).await;
    let reasons: Vec<_> = log.iter().map(|line| line["end"]["reason"].as_str().expect("a reason")).collect();
    assert_eq!(reasons[..2], ["no_such_name", "not_tls"]);
    assert_eq!(reasons[3], "client_gone");
    assert_eq!((&log[0]["sni"], &log[0]["end"]["type"]), (&json!("b.example.com"), &json!("destination_not_found")));
    for reason in ["no_such_name", "not_tls", "client_gone"] {
        assert_eq!(refusals(&edge, reason).await, Some(1.0), "{reason}");
    }
}

#[tokio::test]
async fn the_rest_takes_those_without_a_name() {
    let origin = TcpOrigin::bind().await;
    let edge = edge().upstream("app", &[origin.addr]).tcp("tls", "sni: {'*': app}").start().await;
    let identity = ca().server(&["other.example.com"]);
    for tls in [tls(), tls().sni("other.example.com")] {
        let (mut client, mut server) = tokio::join!(connect_tls(edge.address("tls"), &tls), accept_tls(&origin, &identity));
        client.write_all(b"x").await.expect("sent");
        within("a byte", server.read_exact(&mut [0; 1])).await.expect("a byte");
    }
}

#[tokio::test]
async fn tls_ends_here_in_front_of_bytes() {
    let origin = TcpOrigin::bind().await;
    let edge =
        edge().upstream("app", &[origin.addr]).tcp_with("db", "upstream: app", "tls: {self_signed: [localhost]}").start().await;
    // A protocol that Weir has never heard of is between client and endpoint.
    let mut client = connect_tls(edge.address("db"), &tls().sni("localhost").alpn("postgresql")).await;
    let mut endpoint = origin.accept().await;
    client.write_all(b"in clear").await.expect("sent");
    assert_eq!(endpoint.text(8).await, "in clear");
    // More than fits into one record, or one read.
    let bulk = vec![b'x'; 3 << 20];
    let sending = async {
        endpoint.send(&bulk).await;
        endpoint.finish().await;
    };
    let mut back = Vec::new();
    let ((), read) = within("bulk", async { tokio::join!(sending, client.read_to_end(&mut back)) }).await;
    read.expect("an end with close_notify");
    assert!(back == bulk);
    client.write_all(b"still open").await.expect("sent");
    assert_eq!(endpoint.text(10).await, "still open");
    client.shutdown().await.expect("shut down");
    assert_eq!(endpoint.rest().await, b"");
    let line = &edge.access_log().await[0];
    assert_eq!((&line["sni"], &line["tls"]), (&json!("localhost"), &json!("TLSv1.3")));
}

#[tokio::test]
async fn endpoints_may_be_spoken_to_over_tls() {
    let ca = ca();
    let origin = TcpOrigin::bind().await;
    let identity = ca.server(&["db.internal"]);
    let keys = format!("tls: {{sni: db.internal, ca: {:?}}}", ca.file());
    let edge = edge().upstream_with("app", &[origin.addr], &keys).tcp("db", "upstream: app").start().await;
    let (mut client, mut server) = tokio::join!(edge.tcp("db"), accept_tls(&origin, &identity));
    client.send("small").await;
    let mut bytes = [0; 5];
    within("bytes", server.read_exact(&mut bytes)).await.expect("bytes");
    server.write_all(b"reply").await.expect("sent");
    assert_eq!(client.text(5).await, "reply");
    drop((client, server));
    // One with a certificate for another name is none of ours.
    let other = ca.server(&["other.internal"]);
    let mut client = edge.tcp("db").await;
    let acceptor = TlsAcceptor::from(server_config(&other, &[], None));
    assert!(within("a handshake", acceptor.accept(origin.accept().await.stream)).await.is_err());
    assert!(client.is_reset().await);
    assert_eq!(edge.access_log_of(2).await[1]["end"]["type"], "tls_certificate_error");
}

#[tokio::test]
async fn the_client_is_told_in_every_form() {
    let origin = TcpOrigin::bind().await;
    for (word, version) in [("v1", Version::V1), ("v2", Version::V2)] {
        let keys = format!("upstream: app\nsend_proxy_protocol: {word}");
        let edge = edge()
            .upstream("app", &[origin.addr])
            .tcp("plain", &keys)
            .tcp_with("behind", &keys, "proxy_protocol: {from: [127.0.0.0/8]}")
            .start()
            .await;
        let mut client = edge.tcp("plain").await;
        client.send("hello").await;
        let own = client.stream.local_addr().expect("an address");
        let mut endpoint = origin.accept().await;
        let expected = write(version, Some((own, edge.address("plain"))));
        assert_eq!(endpoint.read(expected.len()).await, expected);
        assert_eq!(endpoint.text(5).await, "hello");
        drop((client, endpoint));
        assert_eq!(edge.access_log().await[0]["bytes_in"], 5, "the header is nobody's");

        // What comes in by one form goes out by the other.
        for (source, destination) in [("192.0.2.7:4711", "198.51.100.1:25"), ("[2001:db8::7]:4711", "[2001:db8::1]:25")] {
            for incoming in [Version::V1, Version::V2] {
                let addresses = Some((source.parse().expect("an address"), destination.parse().expect("an address")));
                let mut client = edge.tcp("behind").await;
                client.send([write(incoming, addresses), b"hello".to_vec()].concat()).await;
                let mut endpoint = origin.accept().await;
                let expected = write(version, addresses);
                assert_eq!(endpoint.read(expected.len()).await, expected, "{source} by {incoming:?} to {version:?}");
                assert_eq!(endpoint.text(5).await, "hello");
            }
        }
        let log = edge.access_log_of(5).await;
        assert!(log.iter().any(|line| line["client"] == "2001:db8::7"), "{log:?}");
        // A health check of a balancer in front speaks for itself.
        let mut client = edge.tcp("behind").await;
        client.send(write(Version::V2, None)).await;
        let own = client.stream.local_addr().expect("an address");
        let expected = write(version, Some((own, edge.address("behind"))));
        assert_eq!(origin.accept().await.read(expected.len()).await, expected);
    }
}

#[tokio::test]
async fn a_header_that_is_none_is_refused() {
    let origin = TcpOrigin::bind().await;
    let edge = edge()
        .upstream("app", &[origin.addr])
        .tcp_with("behind", "upstream: app", "proxy_protocol: {from: [127.0.0.0/8]}")
        .tcp_with("others", "upstream: app", "proxy_protocol: {from: [10.0.0.0/8]}")
        .start()
        .await;
    for bad in [&b"hello, no header at all"[..], b"PROXY TCP4 1.2.3.4 5.6.7.8 99999 1\r\n", b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\0"] {
        let mut client = edge.tcp("behind").await;
        client.send(bad).await;
        let _ = within("the end", client.stream.read(&mut [0; 1])).await;
    }
    assert_eq!(refusals(&edge, "bad_proxy_header").await, Some(3.0));
    // From others it is nothing but bytes.
    let mut client = edge.tcp("others").await;
    client.send("PROXY TCP4 1.2.3.4 5.6.7.8 9 1\r\n").await;
    assert_eq!(origin.accept().await.text(32).await, "PROXY TCP4 1.2.3.4 5.6.7.8 9 1\r\n");
}
