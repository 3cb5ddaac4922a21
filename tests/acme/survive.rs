//! A process that is killed at any point of an order leaves nothing behind that the next one cannot go on with.

use std::time::Duration;

use tempfile::TempDir;

use crate::{
    edge::{Edge, Setting},
    front::{Front, NEW_ORDER},
    pebble::{Options, pebble},
    support::within,
};

#[tokio::test]
async fn a_process_may_be_killed_at_each_step_of_an_order() {
    let Some(pebble) = pebble(Options::default()).await else { return };
    let (ports, ca, root) = (pebble.ports, pebble.ca.pem().to_owned(), pebble.root().await);
    let front = Front::of(pebble).await;
    let files = TempDir::new().unwrap();
    let ca_file = files.path().join("ca.pem");
    std::fs::write(&ca_file, ca).unwrap();
    let setting = |step: usize| {
        let storage = files.path().join(step.to_string());
        Setting::at(&front.directory(), &ca_file, storage.to_str().unwrap(), ports, &["a.test"])
    };
    // One that nobody disturbs says how many steps there are.
    let mut edge = Edge::start(setting(0)).await;
    edge.holds("a.test").await;
    edge.kill().await;
    let steps = front.asked("");
    assert!(steps >= 8, "{steps}");
    let mut orders = 0;
    for step in 1..steps {
        let before = front.asked(NEW_ORDER);
        front.stop_after(Some(step));
        let mut edge = Edge::start(setting(step)).await;
        within("the step", front.stopped()).await;
        edge.kill().await;
        front.stop_after(None);
        edge.restart().await;
        // It waits for the lock of the one that is dead, no longer than that.
        edge.holds("a.test").await;
        assert_eq!(edge.get("a.test", &root).await.text(), "this is a.test", "step {step}");
        let these = front.asked(NEW_ORDER) - before;
        assert!(these <= 2, "{these} orders at step {step}");
        orders += these;
        edge.kill().await;
    }
    // Most go on with the order of the one before.
    assert!(orders < 2 * (steps - 1), "{orders} orders in {steps} steps");
}

#[tokio::test]
async fn the_certificate_before_is_served_from_the_first_moment() {
    let Some(mut pebble) = pebble(Options::default()).await else { return };
    let storage = TempDir::new().unwrap();
    let mut edge = Edge::start(Setting::of(&pebble, storage.path(), &["a.test"])).await;
    edge.holds("a.test").await;
    let first = edge.certificate("a.test").await.expect("one");
    pebble.stop().await;
    for _ in 0..3 {
        edge.kill().await;
        edge.restart().await;
        assert_eq!(edge.certificate("a.test").await, Some(first.clone()), "without any authority");
    }
    tokio::time::timeout(Duration::from_secs(1), edge.weir.ended()).await.expect_err("it runs");
}
