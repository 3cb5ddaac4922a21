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
    let front = Front::of(pebble).await;
    let setting = |step: usize| front.setting(&step.to_string(), &["a.test"]);
    // One that nobody disturbs says how many steps there are.
    let mut edge = Edge::start(setting(0)).await;
    edge.holds("a.test").await;
    edge.kill().await;
    let (steps, ordered) = (front.asked(""), front.position(NEW_ORDER));
    assert!(ordered > 1 && steps > ordered + 4, "{ordered} {steps}");
    for step in 1..steps {
        let before = front.asked(NEW_ORDER);
        front.stop_after(Some(step));
        let mut edge = Edge::start(setting(step)).await;
        within("the step", front.stopped()).await;
        edge.kill().await;
        front.stop_after(None);
        edge.restart().await;
        edge.holds("a.test").await;
        assert_eq!(edge.get("a.test", &front.root).await.text(), "this is a.test", "step {step}");
        // Once an order is made, it is gone on with. One whose answer was lost nobody knows of.
        let orders = if step == ordered { 2 } else { 1 };
        assert_eq!(front.asked(NEW_ORDER) - before, orders, "step {step} of {steps}, ordered at {ordered}");
        edge.kill().await;
    }
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
