//! `weir health`, as a container's health check asks it.

use std::process::Output;

use nix::sys::signal::Signal;

use crate::{
    child::{Run, command, weir, write},
    support::{Gate, edge::edge, origin::origin, within},
};

#[track_caller]
fn says(output: &Output, code: i32, words: &str) {
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains(words), "{said}");
}

#[tokio::test]
async fn it_tells_ready_from_draining_from_gone() {
    let gate = Gate::new();
    let origin = origin().slow(&gate, "in the end").spawn().await;
    let mut run = Run::start(edge().upstream("app", &[origin.addr()]).route("all", "upstream: app")).await;
    let address = run.admin_address().to_string();
    let health = async |path: &str| weir(&["health", "--address", &address, "--path", path]).await;
    says(&health("/readyz").await, 0, "200");
    says(&health("/nonsense").await, 1, "404");

    let mut client = run.client().await;
    client.send("GET /slow HTTP/1.1\r\nhost: example.com\r\n\r\n").await;
    origin.next_request().await;
    run.weir.signal(Signal::SIGTERM);
    run.weir.err.line_with("draining").await;
    says(&health("/readyz").await, 1, "503");
    says(&health("/healthz").await, 0, "200");
    gate.open();
    assert_eq!(client.read_response().await.status, 200);
    assert_eq!(run.weir.ended().await.code(), Some(0));
    says(&health("/readyz").await, 1, "refused");
}

#[tokio::test]
async fn the_configuration_says_where_to_ask() {
    let run = Run::start(edge().route("all", "respond: {status: 200}")).await;
    // The same with the real port.
    let text = std::fs::read_to_string(run.file("weir.yaml")).expect("the file");
    let (before, after) = text.split_once("admin:\n  address: 127.0.0.1:0").expect("the admin section");
    let text = format!("{before}admin:\n  address: {}{after}", run.admin_address());
    let file = run.file("asked.yaml");
    let asked = async || {
        let health = command().args(["health"]).env("WEIR_CONFIG", &file).output();
        within("weir to end", health).await.expect("weir runs")
    };
    std::fs::write(&file, &text).expect("write");
    says(&asked().await, 0, "ready");
    // Broken since the start, where it does not matter for this question.
    std::fs::write(&file, format!("{text}\nupstreems: {{}}\n")).expect("write");
    says(&asked().await, 0, "ready");
}

#[tokio::test]
async fn with_nobody_to_ask_it_says_so() {
    let edge = edge().route("all", "respond: {status: 200}");
    let file = write(&edge);
    let text = edge.config();
    let (before, after) = text.split_once("admin:\n").expect("an admin section");
    let rest: String = after.lines().skip_while(|line| line.starts_with(' ')).flat_map(|line| [line, "\n"]).collect();
    std::fs::write(&file, format!("{before}admin: off\n{rest}")).expect("write");
    says(&weir(&["health", "-c", file.to_str().expect("UTF-8")]).await, 1, "admin: off");
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    let silent = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("bind");
    let address = silent.local_addr().expect("an address").to_string();
    let health = weir(&["health", "--address", &address, "--timeout", "100ms"]).await;
    says(&health, 1, "no answer within 100ms");
    assert_eq!(weir(&["health", "--path", "readyz"]).await.status.code(), Some(64));
}
