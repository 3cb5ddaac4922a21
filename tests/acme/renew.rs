//! Renewal: when the authority wants it, and when time is up.

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    edge::{Edge, Setting},
    front::{Front, NEW_ORDER},
    pebble::{Options, pebble},
};

#[tokio::test]
async fn a_certificate_is_renewed_when_a_third_of_its_life_is_left() {
    // Thirteen seconds after its issue.
    let Some(pebble) = pebble(Options { validity: Some(20), ..Options::default() }).await else { return };
    let storage = TempDir::new().unwrap();
    let edge = Edge::start(Setting::of(&pebble, storage.path(), &["a.test"])).await;
    edge.holds("a.test").await;
    let first = edge.certificate("a.test").await.expect("one");
    let root = pebble.root().await;
    eventually!({
        // There is one at each moment.
        edge.get("a.test", &root).await;
        edge.certificate("a.test").await != Some(first.clone())
    });
    edge.holds("a.test").await;
}

#[tokio::test]
async fn an_authority_may_want_a_certificate_to_be_renewed_now() {
    let Some(pebble) = pebble(Options::default()).await else { return };
    let front = Front::of(pebble).await;
    front.has_profile("shortlived");
    front.wants_renewal("2020-01-01T00:00:00Z", "2020-01-02T00:00:00Z");
    let edge = Edge::start(front.setting("a", &["a.test"]).with("profile: shortlived")).await;
    eventually!(front.asked(NEW_ORDER) >= 2);
    // It wants the new one to be renewed at once, too, and is not obeyed for ever.
    eventually!(front.asked("/renewal-info/") >= 2);
    edge.holds("a.test").await;
    let orders = front.orders();
    assert_eq!(orders.len(), 2, "{orders:?}");
    assert_eq!((&orders[0]["profile"], &orders[0]["replaces"]), (&"shortlived".into(), &Value::Null));
    let replaced = orders[1]["replaces"].as_str().expect("what is replaced");
    let (authority, serial) = replaced.split_once('.').expect("an identifier of RFC 9773");
    assert!(!authority.is_empty() && !serial.is_empty(), "{replaced}");
}

#[tokio::test]
async fn a_profile_that_the_authority_does_not_have_is_named() {
    let Some(pebble) = pebble(Options::default()).await else { return };
    let front = Front::of(pebble).await;
    front.has_profile("classic");
    let edge = Edge::start(front.setting("a", &["a.test"]).with("profile: shortlived")).await;
    let standing = eventually!(edge.standing("a.test").await, |standing: &Value| standing["failures"] == 1);
    let error = standing["last_error"].as_str().unwrap();
    assert!(error.contains("no profile `shortlived`; it has classic"), "{error}");
    assert_eq!(front.asked(NEW_ORDER), 0);
}
