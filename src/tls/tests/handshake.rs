//! What clients of all kinds get.

use rustls::{
    NamedGroup, ProtocolVersion,
    version::{TLS12, TLS13},
};
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
};

use super::*;

#[tokio::test]
async fn a_name_picks_its_certificate() {
    let ca = Authority::new("ca");
    let tls = serve(&certificates([
        ca.issue("default", &["default.test"]),
        ca.issue("wild", &["*.example.test"]),
        ca.issue("exact", &["api.example.test", "other.test"]),
    ]));
    for (asked, shown) in [
        ("api.example.test", "api.example.test"),
        ("OTHER.test", "api.example.test"),
        ("www.example.test", "*.example.test"),
        ("a.b.example.test", "default.test"),
        ("example.test", "default.test"),
        ("unknown.test", "default.test"),
        // Addresses are not sent as names.
        ("127.0.0.1", "default.test"),
    ] {
        let met = meet(&tls, any(&[&TLS13]), asked).await;
        assert_eq!(met.shown(), shown, "{asked}");
        let name = (asked != "127.0.0.1").then(|| asked.to_ascii_lowercase());
        assert_eq!(met.seen().sni.as_deref(), name.as_deref());
        assert_eq!(tls.certificates()[tls.scope(name.as_deref()).unwrap()].name, shown, "{asked}");
    }
    // And what a client checks for itself.
    assert!(meet(&tls, ca.trusted(), "www.example.test").await.client.is_ok());
    let met = meet(&tls, ca.trusted(), "unknown.test").await;
    assert!(met.client.is_err());
    assert_eq!(met.reason(), "alert:bad_certificate");
    assert!(tls.covers("www.example.test") && tls.covers("other.test") && !tls.covers("example.test"));
}

#[tokio::test]
async fn certificates_of_two_kinds_share_a_name() {
    let ca = Authority::new("ca");
    let ed25519 = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let year = SystemTime::now() + 365 * DAY;
    let tls = serve(&certificates([
        ca.issue_with("ed25519", Authority::params(&["a.test"]), &ed25519, year),
        ca.issue("p256", &["a.test"]),
    ]));
    let first = tls.certificates()[0].fingerprint.clone();
    assert_eq!(facts::fingerprint(&meet(&tls, any(&[&TLS13]), "a.test").await.leaf()), first);

    let mut old = Arc::unwrap_or_clone(provider());
    let algorithms = &mut old.signature_verification_algorithms;
    let mapping = algorithms.mapping.iter().filter(|(scheme, _)| *scheme != rustls::SignatureScheme::ED25519).copied();
    algorithms.mapping = Vec::leak(mapping.collect());
    let leaf = meet(&tls, any_with(old, &[&TLS13]), "a.test").await.leaf();
    assert_eq!(facts::fingerprint(&leaf), tls.certificates()[1].fingerprint);
}

#[tokio::test]
async fn both_versions_and_a_floor() {
    let ca = Authority::new("ca");
    let mut spec = certificates([ca.issue("a", &["a.test"])]);
    let tls = serve(&spec);
    assert_eq!(meet(&tls, any(&[&TLS12]), "a.test").await.seen().version, "TLSv1.2");
    assert_eq!(meet(&tls, any(&[&TLS13]), "a.test").await.seen().version, "TLSv1.3");

    spec.min_version = MinVersion::Tls13;
    let tls = serve(&spec);
    assert_eq!(meet(&tls, any(&[&TLS12]), "a.test").await.reason(), "no_shared_version");
    let met = meet(&tls, any(&[&TLS12, &TLS13]), "a.test").await;
    assert_eq!(met.client.unwrap().get_ref().1.protocol_version(), Some(ProtocolVersion::TLSv1_3));
}

#[tokio::test]
async fn protocols_are_agreed_on_or_refused() {
    let ca = Authority::new("ca");
    let spec = certificates([ca.issue("a", &["a.test"])]);
    let both = serve(&spec);
    let problems = Problems::default();
    let h1_only = ServerTls::compile(&spec, Offer::Http1, &Issued::default(), SystemTime::now(), &problems.root()).unwrap();
    let offering = |protocols: &[&str]| {
        let mut config = any(&[&TLS12, &TLS13]);
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        config
    };
    for (tls, offered, h2) in [
        // Ours is the order that counts.
        (&both, &["http/1.1", "h2"][..], true),
        (&both, &["h2"], true),
        (&both, &["http/1.1"], false),
        (&both, &["spdy/3", "http/1.1"], false),
        (&both, &[], false),
        (&h1_only, &["h2", "http/1.1"], false),
    ] {
        let met = meet(tls, offering(offered), "a.test").await;
        assert_eq!(speaks_h2(&met.server.unwrap().0), h2, "{offered:?}");
    }
    assert_eq!(meet(&both, offering(&["spdy/3"]), "a.test").await.reason(), "no_shared_protocol");
    let met = meet(&h1_only, offering(&["h2"]), "a.test").await;
    assert_eq!(met.reason(), "no_shared_protocol");
    assert!(met.client.unwrap_err().to_string().contains("NoApplicationProtocol"));
}

#[tokio::test]
async fn key_exchange_is_hybrid_when_the_client_can() {
    let ca = Authority::new("ca");
    let tls = serve(&certificates([ca.issue("a", &["a.test"])]));
    let group = |met: &Met| met.server.as_ref().unwrap().0.get_ref().1.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group(&meet(&tls, any(&[&TLS13]), "a.test").await), NamedGroup::X25519MLKEM768);

    let mut classic = Arc::unwrap_or_clone(provider());
    classic.kx_groups.retain(|group| group.name() != NamedGroup::X25519MLKEM768);
    assert_eq!(group(&meet(&tls, any_with(classic, &[&TLS13]), "a.test").await), NamedGroup::X25519);
}

#[tokio::test]
async fn sessions_resume() {
    let ca = Authority::new("ca");
    let spec = certificates([ca.issue("a", &["a.test"])]);
    let (tls, other) = (serve(&spec), serve(&spec));
    for version in [&TLS12, &TLS13] {
        let config = Arc::new(any(&[version]));
        let first = meet(&tls, config.clone(), "a.test").await.settle().await;
        assert!(!resumed(&first.server.unwrap().0));
        let again = meet(&tls, config.clone(), "a.test").await.settle().await;
        assert!(resumed(&again.server.unwrap().0), "{version:?}");
        // A listener does not take up the sessions of another one.
        assert!(!resumed(&meet(&other, config, "a.test").await.server.unwrap().0));
    }
}

#[tokio::test]
async fn clients_prove_who_they_are() {
    let (ca, stranger) = (Authority::new("ca"), Authority::new("stranger"));
    let mut spec = certificates([ca.issue("a", &["a.test"])]);
    spec.client_certificates = Some(ClientCertificatesSpec::of(ca.ca()));
    let (good, bad) = (ca.issue("client", &["client.test"]), stranger.issue("client", &["client.test"]));
    let mut impostor = ca.trusted();
    let stolen = certificate::Certificate::load(&bad.cert, &bad.key, &provider()).unwrap();
    impostor.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(stolen.key));
    let impostor = Arc::new(impostor);

    let tls = serve(&spec);
    let config = Arc::new(ca.trusted_as(&good));
    for again in [false, true] {
        let met = meet(&tls, config.clone(), "a.test").await.settle().await;
        // The identity is the session's: resuming one brings it along, and does not prolong it.
        let connection = met.server.as_ref().unwrap().0.get_ref().1;
        assert!(accept::still_valid(connection, SystemTime::now() + 364 * DAY).is_ok());
        assert_eq!(accept::still_valid(connection, SystemTime::now() + 366 * DAY).is_err(), again);
        assert_eq!(resumed(&met.server.as_ref().unwrap().0), again);
        assert_eq!(met.seen().subject.as_deref(), Some("CN=client.test,O=Example\\, Inc."));
        let der = pem::certificates(&good.cert).unwrap().remove(0);
        assert_eq!(met.seen().fingerprint.as_deref(), Some(facts::fingerprint(&der).as_str()));
    }
    assert_eq!(meet(&tls, ca.trusted(), "a.test").await.reason(), "no_client_certificate");
    assert_eq!(meet(&tls, impostor.clone(), "a.test").await.reason(), "bad_client_certificate");

    spec.client_certificates.as_mut().unwrap().required = false;
    let tls = serve(&spec);
    assert_eq!(meet(&tls, ca.trusted(), "a.test").await.seen().subject, None);
    assert!(meet(&tls, ca.trusted_as(&good), "a.test").await.seen().subject.is_some());
    assert_eq!(meet(&tls, impostor, "a.test").await.reason(), "bad_client_certificate");
}

#[tokio::test]
async fn what_is_not_tls_is_told_apart() {
    let ca = Authority::new("ca");
    let tls = serve(&certificates([ca.issue("a", &["a.test"])]));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    for (bytes, reason, cleartext) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], "not_tls", true),
        (b"\x80\x2e\x01\x00\x02", "not_tls", false),
        (b"", "eof", false),
        (b"\x16\x03\x01", "eof", false),
        (b"\x16HTTP/1.1 is not a record of a handshake", "protocol", false),
    ] {
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        client.write_all(bytes).await.unwrap();
        client.shutdown().await.unwrap();
        let refusal = tls.accept(listener.accept().await.unwrap().0, PATIENCE, arrival()).await.unwrap_err();
        assert_eq!(refusal.error.reason(), reason, "{bytes:?}: {}", refusal.error);
        assert_eq!(refusal.cleartext.is_some(), cleartext, "{bytes:?}");
        assert_eq!(refusal.heard, Heard { anything: !bytes.is_empty(), sni: None });
        if let Some(mut stream) = refusal.cleartext {
            // The rest of the request is still there, and nothing was written.
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.unwrap();
            assert_eq!(rest, bytes[1..]);
            drop(stream);
            assert_eq!(client.read(&mut [0; 16]).await.unwrap(), 0);
        }
    }
}

#[tokio::test]
async fn a_handshake_has_a_deadline() {
    let tls = serve(&certificates([Authority::new("ca").issue("a", &["a.test"])]));
    for bytes in [&b""[..], b"\x16\x03\x01"] {
        let (mut client, server) = duplex(1024);
        client.write_all(bytes).await.unwrap();
        let refusal = tls.accept(server, Duration::from_millis(20), arrival()).await.unwrap_err();
        assert_eq!((refusal.error.reason(), refusal.heard.anything), ("timeout", !bytes.is_empty()));
    }
}

#[tokio::test]
async fn a_client_believes_whom_it_is_told() {
    let (ca, stranger) = (Authority::new("ca"), Authority::new("stranger"));
    let tls = serve(&certificates([ca.issue("a", &["a.test"])]));
    assert!(meet(&tls, ca.trusted(), "a.test").await.client.is_ok());
    let met = meet(&tls, stranger.trusted(), "a.test").await;
    assert!(met.client.is_err());
    assert_eq!(met.reason(), "alert:unknown_ca");
    let refusal = met.server.unwrap_err();
    assert_eq!(refusal.heard, Heard { anything: true, sni: Some("a.test".into()) });
    assert_eq!(refusal.error.to_string(), "the client does not trust the issuer of our certificate (alert UnknownCA)");
    assert!(meet(&tls, client_config(Trust::Anyone, None).unwrap(), "b.test").await.client.is_ok());
    let error = client_config(Trust::File(&ca.dir.path().join("none.pem")), None).unwrap_err();
    assert!(error.to_string().contains("none.pem"), "{error}");
}
