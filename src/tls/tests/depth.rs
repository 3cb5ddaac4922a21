//! What is asked for beside certificates: revocation, stapling, policies, and the identity of clients.

use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevokedCertParams, SerialNumber};
use rustls::version::{TLS12, TLS13};

use super::*;

impl Authority {
    /// A list of certificates that are revoked, by serial number.
    fn revokes(&self, file: &str, serials: &[u64], next_update: SystemTime) -> ConfigPath {
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: (SystemTime::now() - DAY).into(),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: (SystemTime::now() - 2 * DAY).into(),
            next_update: next_update.into(),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        self.write(file, params.signed_by(&self.issuer).unwrap().pem().unwrap())
    }

    fn client(&self, file: &str, serial: u64) -> CertificateSpec {
        let mut params = Self::params(&[file]);
        params.serial_number = Some(SerialNumber::from(serial));
        self.issue_with(file, params, &KeyPair::generate().unwrap(), SystemTime::now() + 365 * DAY)
    }
}

#[tokio::test]
async fn a_client_whose_certificate_was_revoked_is_refused_and_resumes_no_session() {
    let (ca, other) = (Authority::new("ca"), Authority::new("other"));
    let mut spec = certificates([ca.issue("a", &["a.test"])]);
    let crl = ca.revokes("clients.crl", &[7], SystemTime::now() + DAY);
    spec.client_certificates = Some(ClientCertificatesSpec { crl: OneOrMany(vec![crl]), ..ClientCertificatesSpec::of(ca.ca()) });
    let tls = serve(&spec);
    let (good, bad) = (ca.client("good", 6), ca.client("bad", 7));
    let config = Arc::new(ca.trusted_as(&good));
    let met = meet(&tls, config.clone(), "a.test").await;
    assert_eq!(met.seen().certificate, None, "nobody asked for it to be passed on");
    met.settle().await;
    let refused = meet(&tls, ca.trusted_as(&bad), "a.test").await;
    assert_eq!(refused.reason(), "bad_client_certificate");
    let error = refused.server.unwrap_err().error.to_string();
    assert_eq!(error, "invalid client certificate: certificate revoked");
    // The list is replaced, and the one who was let in is in it.
    ca.revokes("clients.crl", &[6, 7], SystemTime::now() + DAY);
    tls.reload().unwrap();
    assert_eq!(meet(&tls, config, "a.test").await.reason(), "bad_client_certificate");
    // A broken list changes nothing.
    other.revokes("other.crl", &[1], SystemTime::now());
    ca.write("clients.crl", "nonsense".to_owned());
    let error = tls.reload().unwrap_err().to_string();
    assert!(error.contains("clients.crl") && error.contains("is not PEM"), "{error}");
    assert_eq!(meet(&tls, ca.trusted_as(&bad), "a.test").await.reason(), "bad_client_certificate");
}

#[test]
fn a_list_that_should_have_been_replaced_is_warned_of() {
    let ca = Authority::new("ca");
    let mut spec = certificates([ca.issue("a", &["a.test"])]);
    let crl = ca.revokes("old.crl", &[], SystemTime::now() - DAY);
    spec.client_certificates = Some(ClientCertificatesSpec { crl: OneOrMany(vec![crl]), ..ClientCertificatesSpec::of(ca.ca()) });
    let (tls, problems) = compile(&spec);
    assert!(tls.is_some());
    let found: Vec<String> = problems.iter().map(|problem| format!("{} {}", problem.path, problem.message)).collect();
    assert!(found[0].starts_with("tls.client_certificates.crl the list of `CN=ca` should have been replaced on "), "{found:?}");
}

#[tokio::test]
async fn an_endpoint_may_get_the_certificate_of_the_client() {
    let ca = Authority::new("ca");
    let mut spec = certificates([ca.issue("a", &["a.test"])]);
    spec.client_certificates = Some(ClientCertificatesSpec { forward: true, ..ClientCertificatesSpec::of(ca.ca()) });
    let tls = serve(&spec);
    let client = ca.client("me", 1);
    let met = meet(&tls, ca.trusted_as(&client), "a.test").await;
    let told = met.seen().certificate.clone().expect("Client-Cert").to_str().unwrap().to_owned();
    let pem = std::fs::read_to_string(&*client.cert).unwrap();
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    assert_eq!(told, format!(":{body}:"), "RFC 9440 section 2.1");
}

#[tokio::test]
async fn a_response_of_the_authority_is_stapled() {
    let ca = Authority::new("ca");
    let path = ca.dir.path().join("a.ocsp");
    let response = [0x30, 0x03, 0x0a, 0x01, 0x03];
    std::fs::write(&path, response).unwrap();
    let spec = certificates([CertificateSpec { ocsp: Some(path.clone().into()), ..ca.issue("a", &["a.test"]) }]);
    let tls = serve(&spec);
    assert!(tls.files().contains(&path), "it is watched");
    let seen = Arc::new(Seen(parking_lot::Mutex::default(), provider()));
    let mut config = any(&[&TLS13]);
    config.dangerous().set_certificate_verifier(seen.clone());
    assert!(meet(&tls, config, "a.test").await.client.is_ok());
    assert_eq!(*seen.0.lock(), response);
    std::fs::write(&path, "-----BEGIN OCSP RESPONSE-----").unwrap();
    assert!(tls.reload().unwrap_err().to_string().contains("no OCSP response in DER"));
}

/// Believes anyone, also who shows a certificate with extensions that no client knows, and keeps what was stapled.
#[derive(Debug)]
struct Seen(parking_lot::Mutex<Vec<u8>>, Arc<CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for Seen {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        stapled: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        *self.0.lock() = stapled.to_vec();
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        Unverified(self.1.clone()).supported_verify_schemes()
    }
}

#[tokio::test]
async fn a_policy_says_which_clients_are_served() {
    let ca = Authority::new("ca");
    let spec = |policy, min_version| ServerTlsSpec { policy, min_version, ..certificates([ca.issue("a", &["a.test"])]) };
    for (policy, min_version, served) in [
        (None, MinVersion::Tls12, true),
        (Some(TlsPolicy::Intermediate), MinVersion::Tls12, true),
        (Some(TlsPolicy::Intermediate), MinVersion::Tls13, false),
        (Some(TlsPolicy::Modern), MinVersion::Tls12, false),
    ] {
        let tls = serve(&spec(policy, min_version));
        assert_eq!(meet(&tls, any(&[&TLS12]), "a.test").await.server.is_ok(), served, "{policy:?} {min_version:?}");
        assert!(meet(&tls, any(&[&TLS13]), "a.test").await.server.is_ok());
    }
}

#[tokio::test]
async fn secrets_are_written_where_that_was_asked_for_and_warned_of() {
    use std::os::unix::fs::PermissionsExt;
    let ca = Authority::new("ca");
    let path = ca.dir.path().join("keys");
    let spec = ServerTlsSpec { key_log: Some(path.clone().into()), ..certificates([ca.issue("a", &["a.test"])]) };
    let (tls, problems) = compile(&spec);
    assert_eq!(problems[0].code, crate::types::Code::Insecure);
    assert!(!path.exists(), "a look at the configuration writes nothing");
    meet(&tls.unwrap(), any(&[&TLS13]), "a.test").await.server.unwrap();
    let written = std::fs::read_to_string(&path).unwrap();
    assert!(
        written.lines().any(|line| line.starts_with("SERVER_TRAFFIC_SECRET_0 ") && line.split(' ').count() == 3),
        "{written}"
    );
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn an_authority_that_checks_a_name_gets_the_proof_and_nothing_else() {
    struct Proves;
    #[async_trait::async_trait]
    impl Issuer for Proves {
        async fn proof(&self, name: &str) -> Option<[u8; 32]> {
            (name == "a.test").then_some([7; 32])
        }
        async fn demand(&self, _: &str, _: std::net::IpAddr, _: &Name) -> bool {
            false
        }
    }
    let issued = Issued::default();
    issued.answer_by(Arc::new(Proves));
    let problems = Problems::default();
    let spec = ServerTlsSpec { acme: Some(Default::default()), ..ServerTlsSpec::default() };
    let tls = ServerTls::compile(&spec, Offer::Http2, &issued, SystemTime::now(), &problems.root()).unwrap();
    let offering = |protocols: &[&str]| {
        let mut config = any(&[&TLS12, &TLS13]);
        config.dangerous().set_certificate_verifier(Arc::new(Seen(parking_lot::Mutex::default(), provider())));
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        config
    };
    let met = meet(&tls, offering(&["acme-tls/1"]), "a.test").await;
    assert_eq!(met.reason(), "name_checked");
    let leaf = met.leaf();
    let (_, leaf) = x509_parser::parse_x509_certificate(&leaf).unwrap();
    let proof = leaf.extensions().iter().find(|extension| extension.oid.to_id_string() == "1.3.6.1.5.5.7.1.31").unwrap();
    assert!(proof.critical);
    assert_eq!(proof.value, [&[4, 32][..], &[7; 32]].concat());
    // No order waits for that name; and a client that offers anything else is no authority.
    assert_eq!(meet(&tls, offering(&["acme-tls/1"]), "b.test").await.reason(), "no_certificate");
    assert_eq!(meet(&tls, offering(&["acme-tls/1", "h2"]), "a.test").await.reason(), "no_certificate");
}

#[test]
fn a_name_in_the_reverse_zone_is_an_address() {
    for (name, address) in [
        ("1.2.0.192.in-addr.arpa", Some("192.0.2.1")),
        ("1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa", Some("2001:db8::1")),
        ("2.0.192.in-addr.arpa", None),
        ("256.2.0.192.in-addr.arpa", None),
        ("1.0.ip6.arpa", None),
        ("example.com", None),
    ] {
        assert_eq!(reverse_address(name).map(|address| address.to_string()).as_deref(), address, "{name}");
    }
}

#[test]
fn certificates_that_people_have_are_read_or_explained() {
    let ca = Authority::new("ca");
    let good = ca.issue("a", &["a.test"]);
    // As an editor of Windows writes it.
    let text = std::fs::read_to_string(&*good.cert).unwrap();
    std::fs::write(&*good.cert, format!("\u{feff}{}", text.replace('\n', "\r\n"))).unwrap();
    serve(&certificates([good.clone()]));
    let mut params = Authority::params(&["old.test"]);
    params.subject_alt_names.clear();
    let nameless = ca.issue_with("nameless", params, &KeyPair::generate().unwrap(), SystemTime::now() + 365 * DAY);
    let (tls, problems) = compile(&certificates([nameless]));
    assert!(tls.is_some());
    assert_eq!((problems.len(), problems[0].code), (1, crate::types::Code::Ineffective));
    assert!(problems[0].message.contains("has no subjectAltName"), "{}", problems[0].message);
    // `openssl x509 -req` without extensions makes these.
    let v1 = CertificateSpec::of(ca.write("v1.pem", V1.to_owned()), ca.write("v1.key", V1_KEY.to_owned()));
    let (tls, problems) = compile(&certificates([v1]));
    assert!(tls.is_none());
    assert!(problems[0].message.contains("is of X.509 version 1"), "{}", problems[0].message);
}

/// Made by `openssl x509 -req -signkey`.
const V1: &str = "\
-----BEGIN CERTIFICATE-----
MIIBITCByQIUPptqx2/CpOJhI38UH5aNuFEtQFYwCgYIKoZIzj0EAwIwEzERMA8G
A1UEAwwIb2xkLnRlc3QwIBcNMjYxMTMwMjIwNzE5WhgPMjEyNjExMDYyMjA3MTla
MBMxETAPBgNVBAMMCG9sZC50ZXN0MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE
UBDwGrkeqXy1gtSaoeBwuVi7Q67GhHrupOfutK8LOuXOC4h2lShOhQr3o3FlIU1G
r9t59nGEi16NcSWIJ0NMMjAKBggqhkjOPQQDAgNHADBEAiAJXTsjk4QFSzkwR5bY
Sj8KEX/ZqoSicl0huvXLCUhuYAIgaL3HzpvkvHljCqUsXF7Cugm7F1uKtOucLmSO
+MFPDpA=
-----END CERTIFICATE-----
";
const V1_KEY: &str = "\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgjK21JDiDZsG3iJl2
T+Nd/17SS8tZ907uVIsD+aJmyfChRANCAARQEPAauR6pfLWC1Jqh4HC5WLtDrsaE
eu6k5+60rws65c4LiHaVKE6FCvejcWUhTUav23n2cYSLXo1xJYgnQ0wy
-----END PRIVATE KEY-----
";
