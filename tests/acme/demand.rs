//! Names that nobody has written down, and clients ask for.

use tempfile::TempDir;

use crate::{
    edge::{Edge, Setting},
    pebble::{Options, pebble},
    support::origin::{Answer, Origin, origin},
};

/// Allows every name but those that begin with `no`.
async fn decider() -> Origin {
    origin().respond_with(|request| Answer::new(if request.target.contains("domain=no") { 403 } else { 200 }, "")).spawn().await
}

fn on_demand(decider: &Origin, limits: &str) -> String {
    format!("{{on_demand: {{ask: 'http://{}/may', wait: 20s{limits}}}}}", decider.addr())
}

#[tokio::test]
async fn a_client_waits_for_the_certificate_of_its_name() {
    let Some(pebble) = pebble(Options::default()).await else { return };
    let (storage, decider) = (TempDir::new().unwrap(), decider().await);
    let mut setting = Setting::of(&pebble, storage.path(), &[]);
    setting.listener = on_demand(&decider, "");
    let mut edge = Edge::start(setting).await;
    let root = pebble.root().await;
    // Several clients who ask together make one order, and one question each at most.
    let (one, two) = tokio::join!(edge.get("shop.customer.test", &root), edge.get("shop.customer.test", &root));
    assert_eq!((one.text(), two.text()), ("any".to_owned(), "any".to_owned()));
    let metrics = edge.admin("GET", "/metrics", "").await.text();
    assert!(metrics.contains("result=\"success\"} 1\n"), "{metrics}");
    let asked = &decider.requests()[0].target;
    assert_eq!(asked, "/may?domain=shop%2Ecustomer%2Etest&client=127%2E0%2E0%2E1&listener=edge");
    let standing = edge.standing("shop.customer.test").await;
    assert_eq!((&standing["state"], &standing["on_demand"]), (&"held".into(), &true.into()));
    // Who is refused is not asked about again for a while.
    for _ in 0..3 {
        assert!(edge.certificate("no.customer.test").await.is_none_or(|shown| !is_for(&shown, "no.customer.test")));
    }
    let refused = decider.requests().iter().filter(|request| request.target.contains("domain=no")).count();
    assert_eq!(refused, 1);
    edge.weir.err.line_with("no certificate on demand for no.customer.test, which 127.0.0.1 asked edge for: ").await;
    // What was obtained is there after a restart, as soon as it is asked for.
    edge.kill().await;
    edge.restart().await;
    edge.get("shop.customer.test", &root).await;
}

fn is_for(certificate: &[u8], name: &str) -> bool {
    let (_, leaf) = x509_parser::parse_x509_certificate(certificate).expect("a certificate");
    let names = leaf.subject_alternative_name().expect("readable").expect("names").value.general_names.clone();
    names.contains(&x509_parser::extensions::GeneralName::DNSName(name))
}

#[tokio::test]
async fn a_client_gets_so_many_names_and_no_more() {
    let Some(pebble) = pebble(Options::default()).await else { return };
    let (storage, decider) = (TempDir::new().unwrap(), decider().await);
    let mut setting = Setting::of(&pebble, storage.path(), &[]);
    setting.listener = on_demand(&decider, ", per_domain: 2");
    let edge = Edge::start(setting).await;
    let root = pebble.root().await;
    for name in ["a.customer.test", "b.customer.test", "a.other.test"] {
        edge.get(name, &root).await;
    }
    let third = edge.certificate("c.customer.test").await.expect("the first one");
    assert!(!is_for(&third, "c.customer.test"));
    edge.weir.err.line_with("too many were asked for below customer.test").await;
    assert_eq!(decider.request_count(), 3, "nobody is asked about what is over the limit");
}

#[tokio::test]
async fn a_client_waits_no_longer_than_it_is_told_to() {
    let (storage, decider) = (TempDir::new().unwrap(), decider().await);
    // An authority that says nothing.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let directory = format!("https://{}/dir", silent.local_addr().unwrap());
    let (ca, ports) = (crate::support::certs::ca(), crate::pebble::Ports::free());
    let mut setting = Setting::at(&directory, &ca.file(), storage.path().to_str().unwrap(), ports, &[]);
    setting.listener = on_demand(&decider, "").replace("wait: 20s", "wait: 1s");
    let edge = Edge::start(setting).await;
    let began = std::time::Instant::now();
    assert!(edge.certificate("shop.customer.test").await.is_none());
    let waited = began.elapsed().as_secs_f64();
    assert!((1.0..10.0).contains(&waited), "{waited} s");
    assert_eq!(edge.standing("shop.customer.test").await["state"], "ordering", "it goes on beside");
}
