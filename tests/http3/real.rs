//! Real clients: curl on nghttp3, aioquic, and picoquic, as `tools/test-tools` fetches them.

use tokio::process::Command;

use crate::{
    serve::h3_edge,
    support::{origin::Answer, origin::origin, within},
};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/http3/clients.py");
const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/http3/bin/python");

async fn run(client: &str) {
    if !std::path::Path::new(PYTHON).exists() {
        eprintln!("skipped: the clients of HTTP/3 are not there (tools/test-tools)");
        return;
    }
    let app = origin().respond_with(|request| Answer::new(200, &request.body)).spawn().await;
    let edge = h3_edge()
        .route("own", "match: {path: /own}\nrespond: {body: here}")
        .upstream("app", &[app.addr()])
        .route("all", "upstream: app")
        .start()
        .await;
    let port = edge.address("edge").port().to_string();
    let mut command = Command::new(PYTHON);
    command.args([SCRIPT, client, &port]).arg(edge.ca().file()).kill_on_drop(true);
    let ran = within("a client to end", command.output()).await.expect("Python");
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{client}: {said}\n{}", String::from_utf8_lossy(&ran.stderr));
    if said.contains("missing") {
        eprintln!("skipped: {said}");
    } else {
        assert!(edge.access_log_of(3).await.iter().all(|line| line["http"] == "3"));
    }
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_gets_and_posts() {
    run("curl").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aioquic_gets_and_posts_and_changes_its_address() {
    run("aioquic").await;
}
