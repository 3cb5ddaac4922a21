//! Health checks and peers against a server that speaks TLS.

use std::{path::Path, sync::Arc};

use pingora_core::connectors::http::custom::Connector;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::{EndpointConnector, connect_by_us, tests::upstream};

type Ca = CertifiedIssuer<'static, KeyPair>;

fn ca() -> Ca {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate for this name and its key.
fn issue(ca: &Ca, name: &str) -> (rcgen::Certificate, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let cert = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, ca).unwrap();
    (cert, key)
}

/// A TLS server with a certificate for `name` that answers 200, to clients of `clients` only if given.
async fn serve(ca: &Ca, name: &str, clients: Option<&Ca>) -> std::net::SocketAddr {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            roots.add(ca.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
    };
    let (cert, key) = issue(ca, name);
    let config = builder.with_single_cert(vec![cert.der().clone()], key.serialize_der().try_into().unwrap()).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // Ends with the runtime of the test.
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") && stream.read_buf(&mut request).await.unwrap_or(0) > 0 {}
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
            let _ = stream.shutdown().await;
        }
    });
    address
}

fn write(directory: &Path, name: &str, pem: &str) -> String {
    let path = directory.join(name);
    std::fs::write(&path, pem).unwrap();
    path.display().to_string()
}

async fn check(address: std::net::SocketAddr, tls: &str) -> Result<(), String> {
    let yaml = format!("{{endpoints: ['{address}'], health_check: {{http: {{}}, timeout: 10s}}, tls: {tls}}}");
    let upstream = upstream(&yaml);
    upstream.checker.as_ref().unwrap().probe(&upstream.endpoints()[0]).await
}

#[tokio::test]
async fn checks_trust_whom_requests_trust() {
    let directory = tempfile::tempdir().unwrap();
    let (ours, other) = (ca(), ca());
    let (our_ca, other_ca) = (write(directory.path(), "ca.pem", &ours.pem()), write(directory.path(), "other.pem", &other.pem()));
    let named = serve(&ours, "api.internal", None).await;
    assert_eq!(check(named, &format!("{{sni: api.internal, ca: {our_ca}}}")).await, Ok(()));
    let wrong_ca = check(named, &format!("{{sni: api.internal, ca: {other_ca}}}")).await.unwrap_err();
    assert!(wrong_ca.starts_with("TLS handshake failed: invalid certificate: "), "{wrong_ca}");
    let wrong_name = check(named, &format!("{{sni: web.internal, ca: {our_ca}}}")).await.unwrap_err();
    assert!(wrong_name.contains("not valid for name"), "{wrong_name}");
    assert!(check(named, &format!("{{ca: {our_ca}}}")).await.is_err(), "the certificate does not name the address");
    assert_eq!(check(named, "{verify: false}").await, Ok(()));

    let by_address = serve(&ours, "127.0.0.1", None).await;
    assert_eq!(check(by_address, &format!("{{ca: {our_ca}}}")).await, Ok(()));
}

#[tokio::test]
async fn checks_present_the_client_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let ours = ca();
    let our_ca = write(directory.path(), "ca.pem", &ours.pem());
    let (cert, key) = issue(&ours, "edge");
    let cert = write(directory.path(), "edge.pem", &cert.pem());
    let key = write(directory.path(), "edge.key", &key.serialize_pem());
    let address = serve(&ours, "api.internal", Some(&ours)).await;
    let with = format!("{{sni: api.internal, ca: {our_ca}, client_cert: {cert}, client_key: {key}}}");
    assert_eq!(check(address, &with).await, Ok(()));
    assert!(check(address, &format!("{{sni: api.internal, ca: {our_ca}}}")).await.is_err());
}

/// What a request meets.
async fn connect(address: std::net::SocketAddr, tls: &str) -> pingora_core::Result<()> {
    let upstream = upstream(&format!("{{endpoints: ['{address}'], tls: {tls}}}"));
    let mut peer = upstream.peer(&upstream.endpoints()[0], None);
    connect_by_us(&mut peer);
    EndpointConnector::new().get_http_session(&*peer).await.map(drop)
}

#[tokio::test]
async fn peers_connect_as_configured() {
    let directory = tempfile::tempdir().unwrap();
    let (ours, other) = (ca(), ca());
    let (our_ca, other_ca) = (write(directory.path(), "ca.pem", &ours.pem()), write(directory.path(), "other.pem", &other.pem()));
    let (cert, key) = issue(&ours, "edge");
    let cert = write(directory.path(), "edge.pem", &cert.pem());
    let key = write(directory.path(), "edge.key", &key.serialize_pem());
    let named = serve(&ours, "api.internal", Some(&ours)).await;
    let client = format!("client_cert: {cert}, client_key: {key}");
    connect(named, &format!("{{sni: api.internal, ca: {our_ca}, {client}}}")).await.unwrap();
    assert!(connect(named, &format!("{{sni: api.internal, ca: {other_ca}, {client}}}")).await.is_err());
    assert!(connect(named, &format!("{{sni: web.internal, ca: {our_ca}, {client}}}")).await.is_err());
    let by_address = serve(&ours, "127.0.0.1", None).await;
    connect(by_address, &format!("{{ca: {our_ca}}}")).await.unwrap();
    connect(by_address, &format!("{{sni: any.name, ca: {other_ca}, verify: false}}")).await.unwrap();
}
