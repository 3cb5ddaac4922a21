//! TLS from clients: certificates by name, versions, ALPN, client certificates, and what is not TLS at all.

use rustls::pki_types::{CertificateDer, pem::PemObject};

use crate::support::{
    certs::{self, Ca, Identity, ca, tls},
    client::RawClient,
    edge::{Edge, edge, edge_from},
    h2_client::H2Client,
    origin::origin,
};

/// An edge with a TLS listener `edge` with these keys under `tls`, whose one route goes to `upstream`, if there is one.
async fn secure(keys: &str, action: &str) -> Edge {
    let keys: String = keys.lines().map(|line| format!("      {line}\n")).collect();
    edge_from(&format!(
        "listeners:\n  edge:\n    address: 127.0.0.1:0\n    tls:\n{keys}admin: off\n\
         observability: {{access_log: {{path: access.log}}}}\nroutes:\n  - {{name: all, {action}}}\n"
    ))
    .await
}

const RESPOND: &str = "respond: {body: hello}";

fn certificate(identity: &Identity) -> String {
    format!("- {{cert: {:?}, key: {:?}}}\n", identity.cert_file, identity.key_file)
}

fn certificates(identities: &[&Identity]) -> String {
    let list: String = identities.iter().map(|identity| format!("  {}", certificate(identity))).collect();
    format!("certificates:\n{list}")
}

fn leaf(identity: &Identity) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(identity.cert_pem.as_bytes()).expect("PEM")
}

#[tokio::test]
async fn both_versions_are_spoken_and_logged() {
    let edge = edge().route("all", RESPOND).tls().start().await;
    for (options, version) in [(edge.trust().only_1_2(), "1.2"), (edge.trust().only_1_3(), "1.3")] {
        let mut client = RawClient::connect_tls(edge.address("edge"), &options).await;
        assert_eq!(client.get("localhost", "/").await.text(), "hello");
        drop(client);
        let log = crate::eventually!(edge.access_log_now(), |log| {
            log.last().is_some_and(|line| line["tls"].as_str().is_some_and(|tls| tls.ends_with(version)))
        });
        assert_eq!(log.last().expect("a line")["sni"], "localhost");
    }
}

#[tokio::test]
async fn a_minimum_of_1_3_refuses_1_2() {
    let edge = edge().route("all", RESPOND).tls_with("min_version: \"1.3\"").start().await;
    let address = edge.address("edge");
    assert!(RawClient::try_connect_tls(address, &edge.trust().only_1_2()).await.is_err());
    assert_eq!(RawClient::connect_tls(address, &edge.trust()).await.get("localhost", "/").await.text(), "hello");
    let metrics = edge.admin_get("/metrics").await.text();
    assert!(metrics.contains("weir_listener_tls_handshakes_total{listener=\"edge\""), "{metrics}");
}

#[tokio::test]
async fn certificates_are_chosen_by_name_exact_then_wildcard_then_the_first() {
    let ca = ca();
    let default = ca.server(&["default.test"]);
    let wildcard = ca.server(&["*.example.com"]);
    let exact = ca.server(&["a.example.com"]);
    let edge = secure(&certificates(&[&default, &wildcard, &exact]), RESPOND).await;
    let presented = async |options: certs::Tls| {
        let client = RawClient::connect_tls(edge.address("edge"), &options).await;
        client.certificate().cloned().expect("a certificate")
    };
    for (name, identity) in [("a.example.com", &exact), ("b.example.com", &wildcard), ("default.test", &default)] {
        assert_eq!(presented(tls().sni(name).ca(&ca)).await, leaf(identity), "{name}");
    }
    // A wildcard is one label.
    for name in ["x.y.example.com", "example.com", "unknown.test"] {
        assert_eq!(presented(tls().sni(name)).await, leaf(&default), "{name}");
    }
    assert_eq!(presented(tls()).await, leaf(&default), "no SNI at all");
}

#[tokio::test]
async fn a_host_of_another_certificate_is_misdirected() {
    let ca = ca();
    let (one, two) = (ca.server(&["one.test"]), ca.server(&["two.test"]));
    let edge = secure(&certificates(&[&one, &two]), RESPOND).await;
    let mut client = RawClient::connect_tls(edge.address("edge"), &tls().sni("one.test").ca(&ca)).await;
    assert_eq!(client.get("one.test", "/").await.status, 200);
    assert_eq!(client.get("two.test", "/").await.status, 421);
    // A proxy in front that asks for one name whatever the Host is.
    let edge = secure(&format!("{}\nmisdirected: allow", certificates(&[&one, &two])), RESPOND).await;
    let mut proxy = RawClient::connect_tls(edge.address("edge"), &tls().sni("one.test").ca(&ca)).await;
    assert_eq!(proxy.get("two.test", "/").await.status, 200);
}

#[tokio::test]
async fn the_protocol_is_settled_by_alpn() {
    let edge = edge().route("all", RESPOND).tls().start().await;
    let address = edge.address("edge");
    let both = edge.trust().alpn("h2").alpn("http/1.1");
    assert_eq!(RawClient::connect_tls(address, &both).await.alpn(), Some("h2"));
    let old_first = edge.trust().alpn("http/1.1").alpn("h2");
    assert_eq!(RawClient::connect_tls(address, &old_first).await.alpn(), Some("h2"), "the server's order counts");
    let mut old = RawClient::connect_tls(address, &edge.trust().alpn("http/1.1")).await;
    assert_eq!(old.alpn(), Some("http/1.1"));
    assert_eq!(old.get("localhost", "/").await.status, 200);
    let mut none = RawClient::connect_tls(address, &edge.trust()).await;
    assert_eq!(none.alpn(), None);
    assert_eq!(none.get("localhost", "/").await.status, 200);
    let mut new = H2Client::connect_tls(address, &edge.trust()).await;
    assert_eq!(new.get("localhost", "/").await.text(), "hello");
    let log = edge.access_log_of(3).await;
    let spoken: Vec<_> = log.iter().map(|line| line["http"].as_str().expect("text")).collect();
    assert_eq!(spoken, ["1.1", "1.1", "2"]);
}

#[tokio::test]
async fn h2_can_be_switched_off() {
    let edge = edge().route("all", RESPOND).tls().listener("http: {h2: false}").start().await;
    let both = edge.trust().alpn("h2").alpn("http/1.1");
    let mut client = RawClient::connect_tls(edge.address("edge"), &both).await;
    assert_eq!(client.alpn(), Some("http/1.1"));
    assert_eq!(client.get("localhost", "/").await.status, 200);
}

#[tokio::test]
async fn cleartext_on_a_tls_port_is_told_so() {
    let edge = edge().route("all", RESPOND).tls().start().await;
    let mut client = RawClient::connect(edge.address("edge")).await;
    let answer = client.get("localhost", "/").await;
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("HTTPS"), "{}", answer.text());
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn a_self_signed_certificate_covers_its_names() {
    let edge = secure("self_signed: [localhost, 127.0.0.1]", RESPOND).await;
    let mut client = RawClient::connect_tls(edge.address("edge"), &tls().sni("localhost")).await;
    assert_eq!(client.get("localhost", "/").await.text(), "hello");
    assert!(RawClient::connect_tls(edge.address("edge"), &tls()).await.certificate().is_some());
}

/// An edge that wants client certificates of this authority, in front of an origin that is returned too.
async fn mutual(clients: &Ca, required: bool) -> (Edge, crate::support::origin::Origin, Ca) {
    let origin = origin().respond(200, "hello").spawn().await;
    let ca = ca();
    let server = ca.server(&["localhost"]);
    let edge = edge_from(&format!(
        "listeners:\n  edge:\n    address: 127.0.0.1:0\n    tls:\n      certificates: [{{cert: {:?}, key: {:?}}}]\n      \
         client_certificates: {{ca: {:?}, required: {required}, forward: true}}\nadmin: {{address: 127.0.0.1:0}}\n\
         observability: {{access_log: {{path: access.log}}}}\n\
         routes: [{{name: all, upstream: app}}]\nupstreams: {{app: {{endpoints: [{}]}}}}\n",
        server.cert_file,
        server.key_file,
        clients.file(),
        origin.addr()
    ))
    .await;
    (edge, origin, ca)
}

/// With TLS 1.3 a server refuses after the client's handshake is over: the first exchange fails, not the connect.
async fn is_refused(edge: &Edge, options: &certs::Tls) -> bool {
    let Ok(mut client) = RawClient::try_connect_tls(edge.address("edge"), options).await else { return true };
    let sent = client.try_send("GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    sent.is_err() || !matches!(client.try_read_response().await, Ok(Some(_)))
}

#[tokio::test]
async fn a_required_client_certificate_identifies_the_client() {
    let clients = ca();
    let (edge, origin, ca) = mutual(&clients, true).await;
    let trust = tls().sni("localhost").ca(&ca);
    for options in [trust.clone(), trust.clone().only_1_2(), trust.clone().identity(&certs::ca().client("stranger"))] {
        assert!(is_refused(&edge, &options).await);
    }
    assert_eq!(origin.request_count(), 0);
    let mut client = RawClient::connect_tls(edge.address("edge"), &trust.identity(&clients.client("alice"))).await;
    let pretended = "GET / HTTP/1.1\r\nhost: localhost\r\nX-Client-Cert-Subject: CN=root\r\nX-Client-Cert-Other: x\r\n\r\n";
    assert_eq!(client.exchange(pretended).await.text(), "hello");
    let received = origin.next_request().await;
    let subjects = received.headers.all("x-client-cert-subject");
    assert_eq!((subjects.len(), subjects[0].contains("alice")), (1, true), "{subjects:?}");
    let fingerprint = received.header("x-client-cert-fingerprint").expect("a fingerprint");
    assert_eq!(fingerprint.len(), 64, "SHA-256 in hexadecimal: {fingerprint}");
    assert_eq!(received.header("x-client-cert-other"), None);
    let certificate = received.header("client-cert").expect("RFC 9440");
    assert!(certificate.starts_with(":MII") && certificate.ends_with(':'), "{certificate}");
    let log = edge.access_log().await;
    assert!(log[0]["client_cert"].as_str().is_some_and(|subject| subject.contains("alice")), "{}", log[0]);
}

#[tokio::test]
async fn an_optional_client_certificate_is_verified_when_it_is_sent() {
    let clients = ca();
    let (edge, origin, ca) = mutual(&clients, false).await;
    let trust = tls().sni("localhost").ca(&ca);
    let mut anonymous = RawClient::connect_tls(edge.address("edge"), &trust).await;
    let pretended = "GET / HTTP/1.1\r\nhost: localhost\r\nX-Client-Cert-Subject: CN=root\r\nClient-Cert: :AAAA:\r\n\r\n";
    assert_eq!(anonymous.exchange(pretended).await.status, 200);
    let received = origin.next_request().await;
    assert_eq!((received.header("x-client-cert-subject"), received.header("client-cert")), (None, None));
    assert!(is_refused(&edge, &trust.clone().identity(&certs::ca().client("stranger"))).await);
    let mut known = RawClient::connect_tls(edge.address("edge"), &trust.identity(&clients.client("bob"))).await;
    assert_eq!(known.get("localhost", "/").await.status, 200);
    let received = origin.next_request().await;
    assert!(received.header("x-client-cert-subject").is_some_and(|subject| subject.contains("bob")));
}
