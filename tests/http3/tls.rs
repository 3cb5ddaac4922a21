//! Certificates, names and clients' certificates: as over TCP.

use crate::{
    client::{Client, closed, connect, endpoint},
    serve::h3_edge,
    support::{
        certs::{ca, tls},
        within,
    },
};

#[tokio::test]
async fn a_name_picks_its_certificate_and_a_host_of_another_is_refused() {
    let (first, second) = (ca(), ca());
    let (one, other) = (first.server(&["one.test"]), second.server(&["other.test"]));
    let more = format!(
        "h3: true\ncertificates:\n  - {{cert: {:?}, key: {:?}}}\n  - {{cert: {:?}, key: {:?}}}",
        one.cert_file, one.key_file, other.cert_file, other.key_file
    );
    let builder = crate::support::edge::edge().route("all", "respond: {body: here}");
    let config =
        builder.config().replace("admin:\n", &format!("  edge:\n    address: 127.0.0.1:0\n    tls:\n{}admin:\n", indent(&more)));
    let edge = builder.start_as(&config).await;
    let address = edge.address("edge");
    for (name, ca, status) in [("one.test", &first, 200), ("other.test", &second, 421)] {
        let quic = connect(address, &tls().ca(ca), name).await.expect("the certificate of that name");
        let mut client = Client::over(quic).await;
        let request = http::Request::get("https://one.test/").body(()).unwrap();
        assert_eq!(client.send(request, &[]).await.expect("an answer").status, status, "{name}");
    }
    connect(address, &tls().ca(&first), "other.test").await.expect_err("the certificate of the other authority");
    edge.stop().await;
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("      {line}\n")).collect()
}

#[tokio::test]
async fn clients_show_their_certificates() {
    let clients = ca();
    let edge = h3_edge()
        .tls_with(&format!("client_certificates: {{ca: {:?}}}", clients.file()))
        .route("all", "respond: {body: here}")
        .start()
        .await;
    let address = edge.address("edge");
    let known = edge.trust().identity(&clients.client("someone"));
    let mut client = Client::connect(address, &known).await;
    assert_eq!(client.get("/").await.status, 200);
    assert!(edge.access_log().await[0]["client_cert"].as_str().expect("a subject").contains("someone"));
    let quic = connect(address, &edge.trust(), "localhost").await.expect("the client has its part of the handshake");
    let end = within("the end", quic.closed()).await;
    assert!(end.to_string().contains("certificate"), "{end}");
    let labels = [("result", "no_client_certificate")];
    eventually!(edge.metric("weir_listener_tls_handshakes_total", &labels).await == Some(1.0));
    edge.stop().await;
}

#[tokio::test]
async fn what_is_no_http_3_gets_no_connection() {
    let edge = h3_edge().route("all", "respond: {body: here}").start().await;
    let config = edge.trust().alpn("hq-interop").config();
    let tls = quinn::crypto::rustls::QuicClientConfig::try_from(config).expect("TLS 1.3");
    let mut endpoint = endpoint(&edge.trust());
    endpoint.set_default_client_config(quinn::ClientConfig::new(std::sync::Arc::new(tls)));
    let refused = within("a refusal", endpoint.connect(edge.address("edge"), "localhost").expect("a name")).await;
    assert!(refused.is_err());
    eventually!(edge.metric("weir_listener_tls_handshakes_total", &[("result", "no_shared_protocol")]).await == Some(1.0));
    edge.stop().await;
}

#[tokio::test]
async fn a_session_is_resumed_and_has_no_early_data() {
    let edge = h3_edge().route("all", "respond: {body: here}").start().await;
    let endpoint = endpoint(&edge.trust());
    let again = async || {
        let connecting = endpoint.connect(edge.address("edge"), "localhost").expect("a name");
        match connecting.into_0rtt() {
            Ok(_) => panic!("early data is offered"),
            Err(connecting) => within("a connection", connecting).await.expect("a connection"),
        }
    };
    for _ in 0..2 {
        let mut client = Client::over(again().await).await;
        assert_eq!(client.get("/").await.status, 200);
    }
    edge.drain();
    let connecting = endpoint.connect(edge.address("edge"), "localhost").expect("a name");
    assert!(within("a refusal", connecting).await.is_err(), "nobody new is let in during a drain");
    edge.stop().await;
}

#[tokio::test]
async fn an_idle_connection_is_let_go_with_no_error() {
    let edge = h3_edge().listener("http: {keepalive_timeout: 300ms}").route("all", "respond: {body: here}").start().await;
    let quic = connect(edge.address("edge"), &edge.trust(), "localhost").await.expect("a connection");
    let mut client = Client::over(quic.clone()).await;
    assert_eq!(client.get("/").await.status, 200);
    assert_eq!(closed(&quic).await, 0x100);
    edge.stop().await;
}
