//! An app whose containers the edge finds by their labels.

use std::{collections::BTreeSet, fs};

use crate::{
    demo::{Demo, SOCKET},
    engine::{answers, until},
    load::Load,
};

#[tokio::test(flavor = "multi_thread")]
async fn containers_are_followed_by_their_labels_without_a_failure() {
    if !answers().await {
        return;
    }
    if fs::metadata(SOCKET).is_err() {
        return eprintln!("SKIPPED: the engine has no socket here");
    }
    let files = &["compose.yaml", "compose.labels.yaml"];
    let demo = Box::pin(Demo::start_of(files, &["edge", "app"], |conf| conf)).await;
    demo.alive("app", 2).await;
    let load = Load::on(demo.https, &["/app/"]);
    load.goes_on_for(50).await;
    for count in [4, 1, 3] {
        demo.compose(&["up", "-d", "--no-build", "--no-recreate", "--scale", &format!("app={count}"), "edge", "app"]).await;
        let expected: BTreeSet<String> = demo.alive("app", count).await.into_iter().collect();
        serving(&demo, &expected).await;
    }
    load.ends_without_a_failure("scaled by labels").await;
}

/// Waits until each of these has served a request since, and nobody else.
async fn serving(demo: &Demo, expected: &BTreeSet<String>) {
    let who = async || {
        let mut seen = BTreeSet::new();
        for _ in 0..4 * expected.len() {
            seen.extend(demo.get("/app/").await.header("x-served-by").map(str::to_owned));
        }
        seen
    };
    until("every container serving", who, |seen| seen == expected).await;
}
