//! A hundred reloads under load, and hundreds for the tasks that they leave behind.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use crate::support::{
    Gate,
    client::RawClient,
    edge::{Edge, edge},
    h2_client::{H2Client, H2Request},
    origin::{Answer, origin},
    reloads::variation,
    within,
};

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
const DOWNLOAD: &str = "GET /download HTTP/1.1\r\nhost: x\r\n\r\n";

/// Asks on one connection until told to stop, and counts the answers. Anything but a 200 on the same connection fails.
async fn keep_asking(address: SocketAddr, stop: Arc<AtomicBool>, answers: Arc<AtomicU64>) {
    let mut client = RawClient::connect(address).await;
    while !stop.load(Relaxed) {
        assert_eq!(client.get("example.com", "/").await.status, 200);
        answers.fetch_add(1, Relaxed);
    }
}

async fn keep_asking_h2(mut client: H2Client, stop: Arc<AtomicBool>, answers: Arc<AtomicU64>) {
    while !stop.load(Relaxed) {
        let first = client.start(&H2Request::get("localhost", "/")).await.expect("a stream");
        let second = client.start(&H2Request::get("localhost", "/")).await.expect("a stream");
        for exchange in [first, second] {
            assert_eq!(exchange.response().await.expect("an answer").status, 200);
            answers.fetch_add(1, Relaxed);
        }
    }
}

/// One request after the other at a fixed rate, each on a connection of its own, whatever becomes of those before.
async fn keep_coming(address: SocketAddr, stop: Arc<AtomicBool>, answers: Arc<AtomicU64>) {
    let mut tasks = tokio::task::JoinSet::new();
    let mut ticks = tokio::time::interval(Duration::from_millis(4));
    while !stop.load(Relaxed) {
        ticks.tick().await;
        let answers = answers.clone();
        tasks.spawn(async move {
            assert_eq!(RawClient::connect(address).await.get("example.com", "/").await.status, 200);
            answers.fetch_add(1, Relaxed);
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.expect("an answer");
    }
}

async fn busy_edge(gate: &Gate) -> (Edge, String, SocketAddr, Vec<crate::support::origin::Origin>) {
    let gate = gate.clone();
    let script = move |request: &crate::support::wire::RawRequest| match request.target.as_str() {
        "/ws" => Answer::switch("websocket"),
        "/download" => Answer::raw("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfirst").wait(&gate).bytes("other"),
        _ => Answer::new(200, "ok"),
    };
    let app = origin().respond_with(script).spawn().await;
    let spare = origin().respond(200, "spare").spawn().await;
    let builder = edge().tls().upstream_with("app", &[app.addr()], "slow_start: 1s").route("all", "upstream: app\ntimeout: 0s");
    let (config, spare_address) = (builder.config(), spare.addr());
    (builder.start().await, config, spare_address, vec![app, spare])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_reloads_under_load_fail_no_request_and_cut_no_stream() {
    let gate = Gate::new();
    let (edge, config, spare, _origins) = busy_edge(&gate).await;
    let (web, stop, answers) = (edge.address("web"), Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
    let mut socket = edge.client().await;
    assert_eq!(socket.exchange(UPGRADE).await.status, 101);
    let mut download = edge.client().await;
    download.send(DOWNLOAD).await;
    assert!(download.read_head().await.start.contains(" 200 "));
    assert_eq!(download.read_bytes(5).await, b"first");
    let mut load: Vec<_> = (0..4).map(|_| tokio::spawn(keep_asking(web, stop.clone(), answers.clone()))).collect();
    load.push(tokio::spawn(keep_coming(web, stop.clone(), answers.clone())));
    let h2 = H2Client::connect_tls(edge.address("edge"), &edge.trust().alpn("h2")).await;
    load.push(tokio::spawn(keep_asking_h2(h2, stop.clone(), answers.clone())));
    let mut before = 0;
    for number in 1..=100 {
        edge.reload(&variation(&config, number, spare)).await;
        // Requests come between reloads, not only around them.
        while answers.load(Relaxed) < before + 20 {
            assert!(!load.iter().any(|task| task.is_finished()), "a client has failed after reload {number}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        before = answers.load(Relaxed);
        socket.send(format!("message {number:3}")).await;
        assert_eq!(socket.read_bytes(11).await, format!("message {number:3}").as_bytes());
    }
    gate.open();
    assert_eq!(download.read_bytes(5).await, b"other");
    stop.store(true, Relaxed);
    for task in load {
        within("a client to end", task).await.expect("no request failed");
    }
    assert_eq!(edge.metric("weir_config_generation", &[]).await, Some(101.0));
    assert_eq!(edge.metric("weir_http_requests_total", &[("code", "502")]).await.unwrap_or_default(), 0.0);
    drop((socket, download));
    edge.stop().await;
}

#[tokio::test]
async fn hundreds_of_reloads_leave_no_task_behind() {
    let gate = Gate::new();
    let (edge, config, spare, _origins) = busy_edge(&gate).await;
    let settle = async |from: usize, to: usize| {
        for number in from..to {
            edge.reload(&variation(&config, number, spare)).await;
            assert_eq!(edge.get("/").await.status, 200);
        }
    };
    // Of this runtime, which is this test's own. What a process keeps is looked at in `tests/process/leaks.rs`.
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    settle(0, 100).await;
    let running = tasks();
    settle(100, 500).await;
    eventually!(tasks(), |now: &usize| *now < running + 40);
    edge.stop().await;
}
