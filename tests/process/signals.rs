//! What signals do.

use std::{process::Stdio, time::Duration};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{
    child::{Run, command, lines, write},
    support::{
        Gate,
        client::RawClient,
        edge::{EdgeBuilder, edge},
        h2_client::{Ended, H2Client, H2Request},
        h2_raw::RawH2,
        origin::{Origin, origin},
        within,
    },
};

/// An edge in front of one origin, with this grace period.
fn in_front_of(origin: &Origin, grace: &str) -> EdgeBuilder {
    let edge = edge().upstream("app", &[origin.addr()]).route("all", "upstream: app");
    edge.yaml(&format!("server: {{shutdown_grace: {grace}}}"))
}

#[tokio::test]
async fn sigterm_drains_and_exits_as_soon_as_idle() {
    let gate = Gate::new();
    let origin = origin().slow(&gate, "in the end").spawn().await;
    let mut run = Run::start(in_front_of(&origin, "60s").listener("http: {h2c: true}")).await;
    assert_eq!(run.admin_get("/readyz").await.status, 200);
    let mut idle = run.client().await;
    let mut client = run.client().await;
    client.send("GET /slow HTTP/1.1\r\nhost: example.com\r\n\r\n").await;
    origin.next_request().await;
    let mut h2 = H2Client::connect(run.address("web")).await;
    let exchange = h2.start(&H2Request::get("example.com", "/h2")).await.expect("a stream");
    origin.next_request().await;
    let mut frames = RawH2::connect(run.address("web")).await;
    frames.handshake().await;

    run.weir.signal(Signal::SIGTERM);
    run.weir.err.line_with("draining").await;
    assert_eq!(frames.goaway().await, Some(0), "NO_ERROR");
    drop(frames);
    assert_eq!(run.admin_get("/readyz").await.status, 503);
    assert_eq!(run.admin_get("/healthz").await.status, 200);
    assert!(idle.is_closed().await);
    let refused = async || tokio::net::TcpStream::connect(run.address("web")).await.is_err();
    eventually!(refused().await);
    assert!(run.weir.runs());

    let began = std::time::Instant::now();
    gate.open();
    let response = client.read_response().await;
    assert_eq!((response.status, response.text().as_str()), (200, "in the end"));
    assert_eq!(response.header("connection").map(str::to_lowercase).as_deref(), Some("close"));
    assert_eq!(exchange.response().await.expect("the response").text(), "in the end");
    assert!(matches!(h2.ended().await, Ended::Closed | Ended::GoAway(h2::Reason::NO_ERROR)));
    let status = run.weir.ended().await;
    assert_eq!(status.code(), Some(0), "{}", run.weir.err.text());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    run.weir.err.line_with("drained in").await;
    assert_eq!(lines(&run.file("access.log")).len(), 2, "every request has its line");
}

#[tokio::test]
async fn what_is_stuck_is_cut_after_the_grace_period() {
    let origin = origin().never_answer().spawn().await;
    let mut run = Run::start(in_front_of(&origin, "300ms")).await;
    let mut client = run.client().await;
    client.send("GET / HTTP/1.1\r\nhost: example.com\r\n\r\n").await;
    origin.next_request().await;
    let took = run.end(Signal::SIGTERM).await;
    assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(5), "{took:?}");
    assert!(client.is_closed().await);
    let line = run.weir.err.line_with("were cut at the end of the grace period").await;
    assert_eq!(serde_json::from_str::<Value>(&line).expect("JSON")["level"], "warn");
}

#[tokio::test]
async fn a_second_interrupt_cuts_at_once() {
    let origin = origin().never_answer().spawn().await;
    let mut run = Run::start(in_front_of(&origin, "60s")).await;
    let mut client = run.client().await;
    client.send("GET / HTTP/1.1\r\nhost: example.com\r\n\r\n").await;
    origin.next_request().await;
    run.weir.signal(Signal::SIGINT);
    run.weir.err.line_with("draining").await;
    assert!(run.weir.runs());
    let took = run.end(Signal::SIGINT).await;
    assert!(took < Duration::from_secs(5), "{took:?}");
    run.weir.err.line_with("were cut at a second signal").await;
}

#[tokio::test]
async fn interrupted_when_idle_it_ends_at_once() {
    let origin = origin().spawn().await;
    let mut run = Run::start(in_front_of(&origin, "60s")).await;
    let mut keeps_alive = run.client().await;
    assert_eq!(keeps_alive.get("example.com", "/").await.status, 200);
    let took = run.end(Signal::SIGINT).await;
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[tokio::test]
async fn after_a_drain_through_the_api_the_first_signal_does_not_cut() {
    let gate = Gate::new();
    let origin = origin().slow(&gate, "whole").spawn().await;
    let mut run = Run::start(in_front_of(&origin, "60s").admin("token: s3cret")).await;
    let mut client = run.client().await;
    client.send("GET / HTTP/1.1\r\nhost: example.com\r\n\r\n").await;
    origin.next_request().await;
    let address = run.admin_address();
    let drain =
        format!("POST /api/v1/drain HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer s3cret\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(RawClient::connect(address).await.exchange(drain).await.status, 202);
    run.weir.err.line_with("draining: ").await;
    run.weir.signal(Signal::SIGTERM);
    // Signals of different kinds come in no particular order, so the log's answer to this one says little of the other;
    // but a cut would have ended the client's connection, and this gives it the time to.
    run.weir.signal(Signal::SIGHUP);
    run.weir.err.line_with("SIGHUP").await;
    assert!(client.is_open_now());
    gate.open();
    assert_eq!(client.read_response().await.text(), "whole");
    assert_eq!(run.weir.ended().await.code(), Some(0));
}

#[tokio::test]
async fn sighup_never_kills() {
    let origin = origin().spawn().await;
    let mut run = Run::start(in_front_of(&origin, "60s")).await;
    for _ in 0..3 {
        run.weir.signal(Signal::SIGHUP);
    }
    run.weir.err.line_with("SIGHUP").await;
    assert_eq!(run.get("/").await.status, 200);
    assert!(run.weir.runs());
    run.end(Signal::SIGTERM).await;
}

#[tokio::test]
async fn sighup_takes_the_file_again_and_a_bad_one_changes_nothing() {
    let edge = edge().route("all", "respond: {status: 200, body: one}");
    let mut run = Run::start(edge).await;
    let path = run.file("weir.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(run.get("/").await.text(), "one");
    std::fs::write(&path, text.replace("one", "two")).unwrap();
    run.weir.signal(Signal::SIGHUP);
    run.weir.err.line_with("generation 2: ").await;
    assert_eq!(run.get("/").await.text(), "two");
    std::fs::write(&path, text.replace("respond", "rspond")).unwrap();
    run.weir.signal(Signal::SIGHUP);
    let refused = run.weir.err.line_with("generation 2 stays").await;
    assert!(refused.contains("E0102") && refused.contains("weir.yaml:"), "{refused}");
    assert_eq!(run.get("/").await.text(), "two");
    run.end(Signal::SIGTERM).await;
}

#[tokio::test]
async fn sigusr1_reopens_the_access_log_and_nothing_is_lost() {
    let origin = origin().spawn().await;
    let mut run = Run::start(in_front_of(&origin, "60s")).await;
    let (current, rotated) = (run.file("access.log"), run.file("access.log.1"));
    let mut client = run.client().await;
    for number in 0..20 {
        assert_eq!(client.get("example.com", &format!("/{number}")).await.status, 200);
        if number == 9 {
            std::fs::rename(&current, &rotated).expect("the log exists from the start");
            run.weir.signal(Signal::SIGUSR1);
        }
    }
    run.weir.err.line_with("reopened").await;
    assert_eq!(client.get("example.com", "/20").await.status, 200);
    run.end(Signal::SIGTERM).await;
    let (before, after) = (lines(&rotated), lines(&current));
    // What waited to be written when the file was moved away is in the new one.
    assert!(!before.is_empty() && !after.is_empty(), "{} and {}", before.len(), after.len());
    let path = |line: &String| serde_json::from_str::<Value>(line).expect("JSON")["path"].as_str().expect("a path").to_owned();
    let paths: Vec<_> = before.iter().chain(&after).map(path).collect();
    assert_eq!(paths, (0..=20).map(|number| format!("/{number}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_access_log_is_reopened_while_draining_too() {
    let gate = Gate::new();
    let origin = origin().slow(&gate, "").spawn().await;
    let mut run = Run::start(in_front_of(&origin, "60s")).await;
    let mut client = run.client().await;
    client.send("GET /last HTTP/1.1\r\nhost: example.com\r\n\r\n").await;
    origin.next_request().await;
    run.weir.signal(Signal::SIGTERM);
    run.weir.err.line_with("draining").await;
    std::fs::rename(run.file("access.log"), run.file("access.log.1")).expect("rename");
    run.weir.signal(Signal::SIGUSR1);
    run.weir.err.line_with("reopened").await;
    gate.open();
    client.read_response().await;
    run.weir.ended().await;
    assert_eq!(lines(&run.file("access.log")).len(), 1);
}

#[tokio::test]
async fn a_closed_standard_output_does_not_kill() {
    let origin = origin().spawn().await;
    let edge = in_front_of(&origin, "60s");
    let path = write(&edge);
    let config = edge.config().replace(&format!("{:?}", edge.file("access.log")), "stdout");
    assert!(config.contains("path: stdout"), "{config}");
    std::fs::write(&path, config).expect("write");
    let mut child = command().arg("run").arg("-c").arg(&path).stdout(Stdio::piped()).spawn().expect("weir starts");
    drop(child.stdout.take());
    let mut err = tokio::io::BufReader::new(child.stderr.take().expect("piped"));
    let mut ready = String::new();
    let reading = async {
        use tokio::io::AsyncBufReadExt;
        while !ready.contains(" is ready: ") {
            ready.clear();
            assert!(err.read_line(&mut ready).await.expect("a line") > 0, "weir ended");
        }
    };
    within("weir to be ready", reading).await;
    let ready: Value = serde_json::from_str(&ready).expect("JSON");
    let address = ready["listeners"]["web"][0].as_str().and_then(|address| address.parse().ok()).expect("an address");
    let mut client = RawClient::connect(address).await;
    for _ in 0..3 {
        assert_eq!(client.get("example.com", "/").await.status, 200);
    }
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id().expect("runs") as i32), Signal::SIGPIPE).expect("kill");
    assert_eq!(client.get("example.com", "/").await.status, 200);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id().expect("runs") as i32), Signal::SIGTERM).expect("kill");
    assert_eq!(within("the end", child.wait()).await.expect("a child").code(), Some(0));
}

/// Clients that are connected, and have asked, are answered even if nobody has accepted their connections yet.
#[tokio::test]
async fn who_waits_in_the_backlog_when_the_drain_begins_is_served() {
    let mut run = Run::start(edge().route("all", "respond: {body: here}")).await;
    run.weir.signal(Signal::SIGSTOP);
    let mut waiting = Vec::new();
    for _ in 0..200 {
        let mut client = run.client().await;
        client.send("GET / HTTP/1.1\r\nhost: example.com\r\n\r\n").await;
        waiting.push(client);
    }
    run.weir.signal(Signal::SIGTERM);
    run.weir.signal(Signal::SIGCONT);
    for mut client in waiting {
        assert_eq!(client.read_response().await.text(), "here");
    }
    assert_eq!(run.weir.ended().await.code(), Some(0));
}
