//! Files that are wrong, and files that change.

use rustls::version::TLS13;

use super::*;
use crate::types::Code;

/// The one problem of a Spec that cannot be used: code, place and message with its hint.
#[track_caller]
fn refused(spec: &ServerTlsSpec) -> (Code, String, String) {
    let (tls, mut problems) = compile(spec);
    assert!(tls.is_none());
    assert_eq!(problems.len(), 1, "{problems:?}");
    let problem = problems.remove(0);
    (problem.code, problem.path.to_string(), format!("{} ({})", problem.message, problem.hint.unwrap_or_default()))
}

#[test]
fn what_is_wrong_with_a_pair_is_named_where_it_is() {
    let ca = Authority::new("ca");
    let good = ca.issue("good", &["a.test"]);
    let other = ca.issue("other", &["b.test"]);
    let read = |path: &ConfigPath| std::fs::read_to_string(&**path).unwrap();
    let ca_pem = ca.issuer.pem();
    let garbled = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned();
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n".to_owned();
    let legacy = read(&good.key).replacen("-----\n", "-----\nProc-Type: 4,ENCRYPTED\n", 1);
    let pair = |cert: &ConfigPath, key: &ConfigPath| CertificateSpec::of(cert.clone(), key.clone());
    let cert = |text: String| pair(&ca.write("case.pem", text), &good.key);
    let key = |text: String| pair(&good.cert, &ca.write("case.key", text));
    let directory = ConfigPath::from(ca.dir.path());
    for (make, code, part, says) in [
        (
            &(|| pair(&"/nowhere/a.pem".into(), &good.key)) as &dyn Fn() -> CertificateSpec,
            Code::UnreadableFile,
            "cert",
            "/nowhere/a.pem",
        ),
        (&|| pair(&good.cert, &"/nowhere/a.key".into()), Code::UnreadableFile, "key", "/nowhere/a.key"),
        (&|| pair(&directory, &good.key), Code::UnreadableFile, "cert", "not a regular file"),
        (&|| cert("x".repeat(2 << 20)), Code::UnreadableFile, "cert", "more than 1 MiB"),
        (&|| pair(&good.key, &good.cert), Code::BadCertificate, "cert", "only `PRIVATE KEY` (are `cert` and `key` swapped?)"),
        (&|| pair(&good.cert, &other.cert), Code::BadCertificate, "key", "only `CERTIFICATE` (are `cert` and `key` swapped?)"),
        (&|| cert(String::new()), Code::BadCertificate, "cert", "is not PEM"),
        (&|| cert(garbled.clone()), Code::BadCertificate, "cert", "not an X.509 certificate"),
        (&|| key(encrypted.clone()), Code::BadCertificate, "key", "is encrypted"),
        (&|| key(legacy.clone()), Code::BadCertificate, "key", "is encrypted"),
        (&|| pair(&good.cert, &other.key), Code::BadCertificate, "key", "does not belong to the certificate"),
        (&|| cert(format!("{ca_pem}{}", read(&good.cert))), Code::BadCertificate, "key", "the leaf goes first"),
        (
            &|| cert(format!("{}{}", read(&good.cert), read(&other.cert))),
            Code::BadCertificate,
            "cert",
            "out of order: certificate 1 is signed by `CN=ca`",
        ),
    ] {
        let (found, path, message) = refused(&certificates([good.clone(), make()]));
        assert_eq!((found, path), (code, format!("tls.certificates[1].{part}")), "{message}");
        assert!(message.contains(says), "{message}");
    }
    // A whole chain is fine.
    serve(&certificates([cert(format!("{}{ca_pem}", read(&good.cert)))]));
}

#[test]
fn every_problem_is_reported_at_once() {
    let missing = || CertificateSpec::of("/nowhere/a.pem".into(), "/nowhere/a.key".into());
    let mut spec = certificates([missing(), missing()]);
    spec.self_signed = vec!["a b".into()];
    spec.client_certificates = Some(ClientCertificatesSpec::of("/nowhere/ca.pem".into()));
    let (tls, problems) = compile(&spec);
    assert!(tls.is_none());
    let places: Vec<_> = problems.iter().map(|problem| format!("{} {}", problem.code.as_str(), problem.path)).collect();
    assert_eq!(
        places,
        [
            "E0202 tls.certificates[0].cert",
            "E0202 tls.certificates[1].cert",
            "E0103 tls.self_signed[0]",
            "E0202 tls.client_certificates.ca"
        ]
    );
    assert_eq!(refused(&ServerTlsSpec::default()).0, Code::MissingKey);
}

#[test]
fn a_certificate_that_no_client_can_get_is_warned_of() {
    let ca = Authority::new("ca");
    let issue = |file: &str, names: &[&str]| ca.issue(file, names);
    let other_key = |file: &str, names: &[&str]| {
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        ca.issue_with(file, Authority::params(names), &key, SystemTime::now() + 365 * DAY)
    };
    let ab = issue("ab", &["a.test", "b.test", "*.c.test"]);
    for (later, found) in [
        (vec![issue("a", &["a.test"])], vec![1]),
        (vec![issue("ba", &["b.test", "*.c.test", "a.test"])], vec![1]),
        (vec![issue("x", &["x.test", "a.test"])], vec![]),
        (vec![issue("x", &["x.test"]), issue("xa", &["x.test", "a.test"])], vec![2]),
        // Exact names go before wildcards, and a wildcard is not an exact name.
        (vec![issue("one", &["one.c.test"])], vec![]),
        (vec![issue("deep", &["*.one.c.test"])], vec![]),
        // Clients that do not take the first one's signature get it.
        (vec![other_key("ed", &["a.test"])], vec![]),
        (vec![other_key("ed1", &["a.test"]), other_key("ed2", &["a.test"])], vec![2]),
        // Clients do not ask for addresses.
        (vec![issue("address", &["192.0.2.1"])], vec![1]),
    ] {
        let mut all = vec![ab.clone()];
        all.extend(later);
        let (tls, problems) = compile(&certificates(all));
        assert!(tls.is_some());
        let places: Vec<_> = problems.iter().map(|problem| format!("{} {}", problem.code.as_str(), problem.path)).collect();
        let expected: Vec<_> = found.iter().map(|position| format!("W0302 tls.certificates[{position}].cert")).collect();
        assert_eq!(places, expected, "{problems:?}");
    }
    let mut spec = certificates([ab]);
    spec.self_signed = vec!["b.test".into(), "a.test".into()];
    let (_, problems) = compile(&spec);
    assert_eq!((problems.len(), problems[0].path.to_string()), (1, "tls.self_signed".to_owned()), "{problems:?}");
    assert_eq!(problems[0].hint.as_deref(), Some("remove it, or `tls.certificates[0].cert`"));
}

#[test]
fn expiry_is_warned_of() {
    let ca = Authority::new("ca");
    for (until, says) in [
        (SystemTime::now() - Duration::from_secs(3600), "expired on 20"),
        (SystemTime::now() + 20 * DAY + DAY / 2, "expires in 20 days, on 20"),
    ] {
        let spec = certificates([ca.issue_with("a", Authority::params(&["a.test"]), &KeyPair::generate().unwrap(), until)]);
        let (tls, problems) = compile(&spec);
        assert!(tls.is_some());
        assert_eq!((problems.len(), problems[0].code), (1, Code::Expiry));
        assert!(problems[0].message.contains(says), "{}", problems[0].message);
        assert_eq!(problems[0].path.to_string(), "tls.certificates[0].cert");
    }
}

#[tokio::test]
async fn certificates_are_made_for_development() {
    let names = ["localhost", "*.example.test", "127.0.0.1", "::1"];
    let spec = ServerTlsSpec { self_signed: names.map(String::from).to_vec(), ..ServerTlsSpec::default() };
    let tls = serve(&spec);
    let facts = &tls.certificates()[0];
    assert_eq!((facts.names.as_slice(), &facts.source), (names.map(String::from).as_slice(), &Source::SelfSigned));
    assert!(facts.not_after > SystemTime::now() + 89 * DAY);

    // A client that is given the certificate believes it, by name and by address.
    let ca = Authority::new("unused");
    let leaf = meet(&tls, any(&[&TLS13]), "localhost").await.leaf();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(leaf).unwrap();
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let config = Arc::new(config);
    for name in ["localhost", "a.example.test", "127.0.0.1", "::1"] {
        assert!(meet(&tls, config.clone(), name).await.client.is_ok(), "{name}");
    }
    assert!(meet(&tls, ca.trusted(), "localhost").await.client.is_err());

    for name in ["", "a b", "https://a.test", "a.test:443", "[::1]", "*", "*.*.test", "*.127.0.0.1:1"] {
        let spec = ServerTlsSpec { self_signed: vec!["a.test".into(), name.into()], ..ServerTlsSpec::default() };
        let (code, path, _) = refused(&spec);
        assert_eq!((code, path.as_str()), (Code::BadValue, "tls.self_signed[1]"), "{name}");
    }
}

#[tokio::test]
async fn certificates_change_under_open_connections() {
    let ca = Authority::new("ca");
    let spec = certificates([ca.issue("a", &["old.test"])]);
    let tls = serve(&spec);
    let old = meet(&tls, any(&[&TLS13]), "a.test").await;
    assert_eq!(old.shown(), "old.test");

    ca.issue("a", &["new.test"]);
    assert_eq!(meet(&tls, any(&[&TLS13]), "a.test").await.shown(), "old.test");
    tls.reload().unwrap();
    assert_eq!(meet(&tls, any(&[&TLS13]), "a.test").await.shown(), "new.test");
    assert_eq!(tls.certificates()[0].names, ["new.test"]);
    assert!(tls.covers("new.test") && !tls.covers("old.test"));
    old.settle().await;
}

#[tokio::test]
async fn a_renewed_file_is_noticed_and_a_bad_one_changes_nothing() {
    let ca = Authority::new("ca");
    let spec = certificates([ca.issue("a", &["old.test"])]);
    let tls = serve(&spec);
    let (told, mut renewals) = tokio::sync::mpsc::unbounded_channel();
    let renewed = move |tls: &super::super::ServerTls| drop(told.send(tls.certificates()[0].names.clone()));
    let watching = tokio::spawn(super::super::watch(tls.clone(), std::time::Duration::from_millis(5), renewed));
    // The watch compares with what it saw first: wait for that, or the change could come before it.
    let touch = |file: &std::path::Path, age: u64| {
        let time = std::time::SystemTime::now() - std::time::Duration::from_secs(age);
        std::fs::File::options().write(true).open(file).unwrap().set_modified(time).unwrap();
    };
    let cert = tls.files()[0].clone();
    let mut age = 1000;
    while renewals.is_empty() {
        touch(&cert, age);
        age += 1;
        assert!(age < 2000, "no change was noticed");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(renewals.recv().await.unwrap(), ["old.test"]);

    std::fs::write(&cert, "no certificate").unwrap();
    touch(&cert, 5000);
    ca.issue("a", &["new.test"]);
    touch(&cert, 6000);
    loop {
        let names = tokio::time::timeout(std::time::Duration::from_secs(10), renewals.recv()).await.expect("a renewal").unwrap();
        if names == ["new.test"] {
            break;
        }
        assert_eq!(names, ["old.test"], "what cannot be used is not served");
    }
    watching.abort();
}

#[tokio::test]
async fn a_bad_reload_changes_nothing() {
    let ca = Authority::new("ca");
    let mut spec = certificates([ca.issue("a", &["a.test"]), ca.issue("b", &["b.test"])]);
    spec.client_certificates = Some(ClientCertificatesSpec { required: false, ..ClientCertificatesSpec::of(ca.ca()) });
    let tls = serve(&spec);
    assert_eq!(tls.files().len(), 5);
    let before = tls.certificates();

    ca.issue("a", &["new.test"]);
    std::fs::remove_file(&*spec.certificates[1].key).unwrap();
    std::fs::write(&*ca.ca(), "").unwrap();
    let ReloadError(reasons) = tls.reload().unwrap_err();
    assert_eq!(reasons.len(), 2, "{reasons:?}");
    assert!(reasons[0].contains("b.key") && reasons[1].contains("ca.pem"), "{reasons:?}");
    assert_eq!(tls.certificates(), before);
    assert_eq!(meet(&tls, any(&[&TLS13]), "a.test").await.shown(), "a.test");
}

#[tokio::test]
async fn sessions_do_not_outlive_their_authority() {
    let (ca, next) = (Authority::new("ca"), Authority::new("next"));
    let mut spec = certificates([ca.issue("a", &["a.test"])]);
    spec.client_certificates = Some(ClientCertificatesSpec::of(ca.ca()));
    let tls = serve(&spec);
    let config = Arc::new(ca.trusted_as(&ca.issue("client", &["client.test"])));
    meet(&tls, config.clone(), "a.test").await.settle().await;

    // Renewing a server certificate leaves sessions alone ...
    ca.issue("a", &["a.test"]);
    tls.reload().unwrap();
    let again = meet(&tls, config.clone(), "a.test").await.settle().await;
    assert!(resumed(&again.server.unwrap().0));

    // ... and other authorities for clients end them.
    ca.write("ca.pem", next.issuer.pem());
    tls.reload().unwrap();
    assert_eq!(meet(&tls, config, "a.test").await.reason(), "bad_client_certificate");
}
