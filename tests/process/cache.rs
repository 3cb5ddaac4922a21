//! How a process that caches ends.

use std::{path::Path, time::Duration};

use nix::{
    sys::{signal::Signal, stat::Mode},
    unistd::mkfifo,
};

use crate::{
    child::Run,
    support::{
        Gate,
        edge::{EdgeBuilder, edge},
        origin::{Origin, origin},
        within,
    },
};

const FRESH: &[(&str, &str)] = &[("cache-control", "max-age=600")];

/// An edge that caches what one origin says, with these further keys.
fn caching(origin: &Origin, grace: &str, keys: &str) -> EdgeBuilder {
    let edge = edge().upstream("app", &[origin.addr()]).route("all", "upstream: app\nfilters: [{cache: {}}]");
    edge.yaml(&format!("server: {{shutdown_grace: {grace}}}")).yaml(keys)
}

/// A disk in this directory, below which the cache finds a file that it must wait for.
fn slow_disk(directory: &Path) -> (String, std::path::PathBuf) {
    let below = directory.join("00");
    std::fs::create_dir(&below).unwrap();
    let pipe = below.join(format!("{}.response", "0".repeat(32)));
    mkfifo(&pipe, Mode::S_IRWXU).unwrap();
    (format!("cache: {{memory: 8MiB, disk: {{path: {directory:?}, max: 64MiB}}}}"), pipe)
}

/// Fetches so many pages.
async fn fetch(run: &Run, pages: usize) {
    let mut client = run.client().await;
    for number in 0..pages {
        let response = client.get("example.com", &format!("/{number}")).await;
        assert_eq!(response.header("cache-status"), Some("weir; fwd=uri-miss; stored"));
    }
}

#[tokio::test]
async fn what_waits_for_the_disk_is_written_before_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let (keys, pipe) = slow_disk(directory.path());
    let origin = origin().respond_headers(200, FRESH, "kept").spawn().await;
    let mut run = Run::start(caching(&origin, "60s", &keys)).await;
    fetch(&run, 10).await;
    run.weir.signal(Signal::SIGTERM);
    run.weir.err.line_with("drained in").await;
    // Opening waits for the reader, who then finds that it is nothing.
    let opened = tokio::task::spawn_blocking(move || std::fs::OpenOptions::new().write(true).open(pipe));
    within("the disk to be read", opened).await.unwrap().unwrap();
    assert_eq!(run.weir.ended().await.code(), Some(0), "{}", run.weir.err.text());

    let mut run = Run::start(caching(&origin, "60s", &keys)).await;
    let entries = async || run.admin_get("/api/v1/cache").await.json()["disk"]["entries"].clone();
    eventually!(entries().await, |count: &serde_json::Value| *count == 10);
    run.end(Signal::SIGTERM).await;
}

#[tokio::test]
async fn a_disk_that_hangs_does_not_outlast_the_grace_period() {
    let directory = tempfile::tempdir().unwrap();
    let (keys, _pipe) = slow_disk(directory.path());
    let origin = origin().respond_headers(200, FRESH, "kept").spawn().await;
    let mut run = Run::start(caching(&origin, "300ms", &keys)).await;
    fetch(&run, 1).await;
    let took = run.end(Signal::SIGTERM).await;
    assert!(took >= Duration::from_millis(250) && took < Duration::from_secs(3), "{took:?}");
    run.weir.err.line_with("the disk was too slow").await;
}

#[tokio::test]
async fn fetches_that_are_cut_panic_nowhere() {
    let gate = Gate::new();
    let origin = origin().slow(&gate, "never").spawn().await;
    let mut run = Run::start(caching(&origin, "100ms", "")).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = run.client().await;
        client.send("GET / HTTP/1.1\r\nhost: example.com\r\n\r\n").await;
        clients.push(client);
    }
    origin.next_request().await;
    run.end(Signal::SIGTERM).await;
    run.weir.err.line_with("were cut at the end of the grace period").await;
    assert!(!run.weir.err.text().contains("panicked"), "{}", run.weir.err.text());
}
