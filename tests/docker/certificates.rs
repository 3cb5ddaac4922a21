//! Certificates that nobody made by hand, from Pebble, as a client sees them that trusts Pebble alone.

use crate::{
    demo::Demo,
    engine::{answers, make_images_of, until},
    support::{certs::tls, client::RawClient},
};

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_gets_its_certificates_by_itself_and_keeps_them() {
    if !answers().await {
        return;
    }
    make_images_of("acme").await;
    let demo = Box::pin(Demo::start_alone(&["compose.acme.yaml"])).await;
    let pebble = demo.published("pebble", "15000").await;
    let root = async || {
        let mut client = RawClient::try_connect_tls(pebble, &tls().sni("localhost")).await.ok()?;
        let answer = client.get("localhost", "/roots/0").await;
        (answer.status == 200).then(|| answer.text())
    };
    let root = until("the root of Pebble", root, |root| root.is_some()).await.expect("PEM");
    let visit = async |demo: &Demo, name: &str| {
        let mut client = RawClient::try_connect_tls(demo.https, &tls().sni(name).root(&root)).await.ok()?;
        Some((client.get(name, "/").await.text(), client.certificate()?.to_vec()))
    };
    let mut first = Vec::new();
    for (name, says) in [("shop.acme.test", "the shop\n"), ("blog.acme.test", "the blog\n")] {
        let visited = until("a certificate", async || visit(&demo, name).await, |visited| visited.is_some()).await.expect("one");
        assert_eq!(visited.0, says);
        first.push(visited.1);
    }
    // They are in a volume: another container of the edge has them, even if the authority is gone.
    demo.compose(&["stop", "pebble"]).await;
    demo.compose(&["up", "-d", "--no-build", "--force-recreate", "--no-deps", "edge"]).await;
    let https = demo.published("edge", "8443").await;
    let again = async || {
        let mut client = RawClient::try_connect_tls(https, &tls().sni("shop.acme.test").root(&root)).await.ok()?;
        client.get("shop.acme.test", "/").await;
        client.certificate().map(|certificate| certificate.to_vec())
    };
    let again = until("the edge again", again, |again| again.is_some()).await;
    assert_eq!(again.as_deref(), Some(first[0].as_slice()));
}
