//! From nothing to a certificate, by each way to prove a name, and what stands in the way.

use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use crate::{
    child::weir,
    edge::{Edge, Setting, trusting},
    pebble::{Options, pebble},
    support::{
        client::RawClient,
        engine::{container, engine_at},
        origin::origin,
    },
};

#[tokio::test]
async fn every_host_of_the_routes_gets_a_certificate() {
    let Some(pebble) = pebble(Options { bad_nonces: 15, ..Options::default() }).await else { return };
    let storage = TempDir::new().unwrap();
    let edge = Edge::start(Setting::of(&pebble, storage.path(), &["a.test", "b.test"])).await;
    let root = pebble.root().await;
    for host in ["a.test", "b.test"] {
        edge.holds(host).await;
        assert_eq!(edge.get(host, &root).await.text(), format!("this is {host}"));
        let files = [format!("certificates/{host}.json"), format!("orders/{host}.json")].map(|file| storage.path().join(file));
        let mode = std::fs::metadata(&files[0]).unwrap().permissions().mode();
        assert_eq!((mode & 0o777, files[1].exists()), (0o600, false), "the key is for nobody else, and the order is over");
    }
    let said = edge.weir.err.text();
    assert!(!said.contains("PRIVATE KEY") && !said.contains("key_pkcs8"), "{said}");
    let metrics = edge.admin("GET", "/metrics", "").await.text();
    for line in [
        format!("weir_acme_orders_total{{authority=\"{}\",result=\"success\"}} 2", pebble.directory()),
        "weir_acme_failing_names 0".to_owned(),
        "weir_tls_certificate_not_after_timestamp_seconds{name=\"a.test\"}".to_owned(),
    ] {
        assert!(metrics.contains(&line), "{line}: {metrics}");
    }
}

#[tokio::test]
async fn a_name_is_proven_over_tls_where_nothing_is_served_in_cleartext() {
    let Some(pebble) = pebble(Options::default()).await else { return };
    let storage = TempDir::new().unwrap();
    let setting = Setting { only_tls: true, ..Setting::of(&pebble, storage.path(), &["a.test"]) };
    let edge = Edge::start(setting).await;
    edge.holds("a.test").await;
    edge.get("a.test", &pebble.root().await).await;
    // An authority that checks a name is no client whose handshake failed.
    assert!(!edge.weir.err.text().contains("TLS handshake failed"), "{}", edge.weir.err.text());
}

#[tokio::test]
async fn an_address_gets_a_certificate_and_a_key_of_the_wanted_kind() {
    let Some(pebble) = pebble(Options::default()).await else { return };
    let storage = TempDir::new().unwrap();
    for (key, oid) in [("p384", "1.3.132.0.34"), ("rsa2048", "1.2.840.113549.1.1.1")] {
        let storage = storage.path().join(key);
        let mut setting = Setting::of(&pebble, &storage, &[]).with(&format!("key: {key}"));
        setting.listener = "{names: [127.0.0.1]}".to_owned();
        // Over port 80 and over TLS, where the authority asks for an address by its name in the reverse zone.
        setting.only_tls = key == "p384";
        let edge = Edge::start(setting).await;
        edge.holds("127.0.0.1").await;
        // A client asks for no address by name.
        let certificate = edge.certificate("nobody.test").await.expect("the only one");
        let (_, leaf) = x509_parser::parse_x509_certificate(&certificate).unwrap();
        let names = leaf.subject_alternative_name().unwrap().unwrap().value.general_names.clone();
        assert_eq!(names, [x509_parser::extensions::GeneralName::IPAddress(&[127, 0, 0, 1])]);
        let algorithm = &leaf.public_key().algorithm;
        let curve = algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok()).map(|oid| oid.to_id_string());
        assert!(algorithm.algorithm.to_id_string() == oid || curve.as_deref() == Some(oid), "{key}: {algorithm:?}");
    }
}

#[tokio::test]
async fn an_account_is_bound_to_the_one_that_is_counted_on() {
    const KEY: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let Some(pebble) = pebble(Options { eab: Some(("kid-1", KEY)), ..Options::default() }).await else { return };
    let storage = TempDir::new().unwrap();
    let setting = Setting::of(&pebble, storage.path(), &["a.test"]);
    let edge = Edge::start(setting.clone().with(&format!("eab: {{kid: kid-1, hmac: '{KEY}'}}"))).await;
    edge.holds("a.test").await;
    let shown = edge.admin("GET", "/api/v1/config", "").await.text();
    assert!(!shown.contains(KEY) && !edge.weir.err.text().contains(KEY), "{shown}");
}

#[tokio::test]
async fn a_name_that_cannot_be_proven_is_said_to_be_so_and_tried_again_later() {
    let Some(pebble) = pebble(Options::default()).await else { return };
    let storage = TempDir::new().unwrap();
    let mut setting = Setting::of(&pebble, storage.path(), &["a.test"]);
    // The authority looks elsewhere: a port that is not open to the internet.
    setting.ports = crate::pebble::Ports::free();
    let mut edge = Edge::start(setting).await;
    let standing = eventually!(edge.standing("a.test").await, |standing: &serde_json::Value| standing["failures"] == 1);
    let error = standing["last_error"].as_str().unwrap().to_owned();
    assert!(error.contains("http-01") && error.contains("connection refused"), "{error}");
    assert_eq!(standing["state"], "waiting");
    let next = standing["next"].as_str().unwrap().to_owned();
    // The handshake of a client fails, and the log says why.
    assert!(edge.certificate("a.test").await.is_none());
    edge.weir.err.line_with("there is no certificate yet").await;
    let explained = edge.admin("POST", "/api/v1/explain", r#"{"url": "https://a.test/"}"#).await.text();
    assert!(explained.contains("there is no certificate for `a.test` yet") && explained.contains("http-01"), "{explained}");
    // A process that starts again goes on where the one before was: no crash is a flood of orders.
    edge.kill().await;
    edge.restart().await;
    let standing = edge.standing("a.test").await;
    assert_eq!(
        (&standing["failures"], standing["next"].as_str().map(|at| &at[..19])),
        (&1.into(), Some(&next[..19])),
        "{standing}"
    );
    // An operator who has opened the port does not wait.
    assert_eq!(edge.admin("POST", "/api/v1/certificates/a.test/renew", "").await.status, 202);
    let standing = eventually!(edge.standing("a.test").await, |standing: &serde_json::Value| standing["failures"] == 2);
    assert!(standing["last_error"].as_str().unwrap().contains("tls-alpn-01"), "another way was tried: {standing}");
    assert_eq!(edge.admin("POST", "/api/v1/certificates/b.test/renew", "").await.status, 404);
}

#[tokio::test]
async fn names_that_come_get_a_certificate_and_those_that_go_are_not_kept() {
    let Some(pebble) = pebble(Options::default()).await else { return };
    let storage = TempDir::new().unwrap();
    let mut edge = Edge::start(Setting::of(&pebble, storage.path(), &["a.test", "b.test"])).await;
    edge.holds("a.test").await;
    let first = edge.certificate("a.test").await;
    edge.reload(Setting { hosts: vec!["a.test".to_owned(), "c.test".to_owned()], ..edge.setting.clone() }).await;
    edge.holds("c.test").await;
    edge.get("c.test", &pebble.root().await).await;
    assert_eq!(edge.certificate("a.test").await, first, "it needed no other");
    assert_eq!(edge.standing("b.test").await, serde_json::Value::Null);
    let answer = RawClient::try_connect_tls(edge.address(), &trusting("b.test", &pebble.root().await)).await;
    assert!(answer.is_err(), "nobody's certificate is for it");
}

#[tokio::test]
async fn what_no_order_waits_for_is_left_to_the_routes() {
    let Some(pebble) = pebble(Options::default()).await else { return };
    let storage = TempDir::new().unwrap();
    let edge = Edge::start(Setting::of(&pebble, storage.path(), &["a.test"])).await;
    edge.holds("a.test").await;
    let address = ([127, 0, 0, 1], edge.setting.ports.http).into();
    for token in ["evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA", "name.a.test", "short", ""] {
        let answer = RawClient::connect(address).await.get("a.test", &format!("/.well-known/acme-challenge/{token}")).await;
        assert_eq!(answer.status, 308, "{token}");
    }
}

#[tokio::test]
async fn of_several_authorities_the_next_one_is_asked() {
    let Some(pebble) = pebble(Options::default()).await else { return };
    let storage = TempDir::new().unwrap();
    let mut setting = Setting::of(&pebble, storage.path(), &["a.test"]);
    let nobody = crate::support::free_port();
    setting.acme = setting.acme.replace("directory: ", &format!("directory: ['https://127.0.0.1:{nobody}/dir', "));
    setting.acme = setting.acme.replacen("', ca:", "'], ca:", 1);
    let edge = Edge::start(setting).await;
    edge.holds("a.test").await;
    let all = edge.admin("GET", "/api/v1/certificates", "").await.json();
    let shown = (&all["certificates"][0]["source"], &all["certificates"][0]["authority"]);
    assert_eq!(shown, (&"acme".into(), &pebble.directory().into()));
    // In the terminal, too.
    let address = edge.admin_url();
    let listed = weir(&["certificates", "--admin", &address, "--token", "secret"]).await;
    let text = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.status.success() && text.contains("a.test  edge") && text.contains(&pebble.directory()), "{text}");
}

#[tokio::test]
async fn who_becomes_another_user_keeps_certificates_as_that_user() {
    use std::os::unix::fs::MetadataExt;
    if !nix::unistd::geteuid().is_root() {
        return eprintln!("SKIPPED: only root can become another user");
    }
    let Some(pebble) = pebble(Options::default()).await else { return };
    // Where the user can get.
    let files = tempfile::Builder::new().permissions(std::fs::Permissions::from_mode(0o755)).tempdir().unwrap();
    let storage = files.path().join("acme");
    let ca = files.path().join("ca.pem");
    std::fs::copy(pebble.ca.file(), &ca).unwrap();
    let setting = Setting::at(&pebble.directory(), &ca, storage.to_str().unwrap(), pebble.ports, &["a.test"]);
    let edge = Edge::start(Setting { server: "{user: nobody}".to_owned(), ..setting }).await;
    edge.holds("a.test").await;
    let nobody = nix::unistd::User::from_name("nobody").unwrap().expect("a user").uid.as_raw();
    for path in [storage.clone(), storage.join("locks"), storage.join("certificates/a.test.json")] {
        assert_eq!(std::fs::metadata(&path).unwrap().uid(), nobody, "{}", path.display());
    }
}

#[tokio::test]
async fn a_container_brings_a_name_which_gets_a_certificate() {
    let Some(pebble) = pebble(Options::default()).await else { return };
    let (storage, sockets) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let engine = engine_at(&sockets.path().join("docker.sock"));
    let app = origin().respond(200, "from the container").spawn().await;
    let mut setting = Setting::of(&pebble, storage.path(), &["a.test"]);
    setting.more = format!("upstreams: {{app: {{discover: {{docker: {{host: '{}', routes: {{}}}}}}}}}}\n", engine.host());
    let edge = Edge::start(setting).await;
    edge.holds("a.test").await;
    let labels = [("weir.upstream", "app"), ("weir.port", &app.addr().port().to_string()), ("weir.route.new.host", "new.test")];
    engine.start(labels.into_iter().fold(container("app-1"), |container, (label, value)| container.label(label, value)));
    edge.holds("new.test").await;
    assert_eq!(edge.get("new.test", &pebble.root().await).await.text(), "from the container");
    engine.die("app-1");
    eventually!(edge.standing("new.test").await.is_null());
}
