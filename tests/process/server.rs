//! The keys of `server`, and the admin token, on the real binary.

use nix::sys::signal::Signal;

use crate::{
    child::{Run, lines, weir, write},
    support::{
        client::RawClient,
        edge::{EdgeBuilder, edge},
    },
};

fn answering() -> EdgeBuilder {
    edge().route("all", "respond: {body: here}")
}

#[tokio::test]
async fn threads_are_as_many_as_configured() {
    for threads in [1, 3] {
        let mut run = Run::start(answering().yaml(&format!("server: {{threads: {threads}}}"))).await;
        assert_eq!(run.get("/").await.text(), "here");
        let name = |task: std::io::Result<std::fs::DirEntry>| std::fs::read_to_string(task.ok()?.path().join("comm")).ok();
        let workers = || {
            let tasks = std::fs::read_dir(format!("/proc/{}/task", run.weir.pid())).expect("Linux");
            tasks.filter_map(name).filter(|name| name.trim() == "weir-worker").count()
        };
        // A thread that has just begun bears the name of the one that began it.
        eventually!(workers(), |workers: &usize| *workers == threads);
        run.end(Signal::SIGTERM).await;
    }
}

#[tokio::test]
async fn connections_beyond_the_limit_are_refused() {
    let mut run = Run::start(answering().yaml("server: {max_connections: 2}")).await;
    let mut kept = Vec::new();
    for _ in 0..2 {
        let mut client = run.client().await;
        assert_eq!(client.get("example.com", "/").await.status, 200);
        kept.push(client);
    }
    assert!(run.client().await.is_closed().await);
    let metrics = run.admin_get("/metrics").await.text();
    assert!(metrics.contains("weir_rejected_requests_total{reason=\"connection_limit\"} 1"), "{metrics}");
    assert_eq!(kept[0].get("example.com", "/").await.status, 200);
    kept.pop();
    let again = async || {
        let mut client = run.client().await;
        let sent = client.try_send("GET / HTTP/1.1\r\nhost: example.com\r\n\r\n").await.is_ok();
        sent && client.try_read_response().await.is_ok_and(|response| response.is_some())
    };
    eventually!(again().await);
    run.end(Signal::SIGTERM).await;
}

#[tokio::test]
async fn the_pid_file_is_there_while_it_runs() {
    let edge = answering();
    let path = edge.file("weir.pid");
    let mut run = Run::start(edge.yaml(&format!("server: {{pid_file: {path:?}}}"))).await;
    assert_eq!(lines(&path), [run.weir.pid().to_string()]);
    run.end(Signal::SIGTERM).await;
    assert!(!path.exists());
}

#[tokio::test]
async fn the_pid_file_of_a_successor_stays() {
    let edge = answering();
    let path = edge.file("weir.pid");
    let mut run = Run::start(edge.yaml(&format!("server: {{pid_file: {path:?}}}"))).await;
    std::fs::write(&path, "1\n").expect("write");
    run.end(Signal::SIGTERM).await;
    assert_eq!(lines(&path), ["1"]);
}

#[tokio::test]
async fn a_pid_file_that_cannot_be_written_stops_the_start() {
    let edge = answering().yaml("server: {pid_file: /nonexistent/weir.pid}");
    let run = weir(&["run", "-c", write(&edge).to_str().expect("UTF-8")]).await;
    let err = String::from_utf8_lossy(&run.stderr);
    assert_eq!(run.status.code(), Some(1), "{err}");
    assert!(err.contains("weir cannot start: cannot write /nonexistent/weir.pid"), "{err}");
    assert!(!err.contains("is ready"), "{err}");
}

#[tokio::test]
async fn an_unknown_user_stops_the_start() {
    let edge = answering().yaml("server: {user: nobody-of-this-name}");
    let run = weir(&["run", "-c", write(&edge).to_str().expect("UTF-8")]).await;
    let err = String::from_utf8_lossy(&run.stderr);
    assert_eq!(run.status.code(), Some(1), "{err}");
    assert!(err.contains("server.user: there is no user `nobody-of-this-name`"), "{err}");
}

#[tokio::test]
async fn root_becomes_the_configured_user() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can become another user");
        return;
    }
    let nobody = nix::unistd::User::from_name("nobody").expect("a user database").expect("nobody");
    let mut run = Run::start(answering().yaml("server: {user: nobody}")).await;
    assert_eq!(run.get("/").await.text(), "here");
    let ids = |process: String| {
        let status = std::fs::read_to_string(process).expect("Linux");
        let line = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).expect("a line").trim().to_owned();
        (line("Uid:"), line("Gid:"))
    };
    let (uid, gid) = (nobody.uid.to_string(), nobody.gid.to_string());
    let all = |id: &str| [id; 4].join("\t");
    let pid = run.weir.pid();
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).expect("Linux") {
        let task = task.expect("a thread").file_name().into_string().expect("a number");
        assert_eq!(ids(format!("/proc/{pid}/task/{task}/status")), (all(&uid), all(&gid)), "thread {task}");
    }
    run.end(Signal::SIGTERM).await;
    assert_eq!(lines(&run.file("access.log")).len(), 1, "what root opened is still written");
}

#[tokio::test]
async fn a_token_that_was_made_is_told_once() {
    let mut run = Run::start(answering()).await;
    let line = run.weir.err.line_with("admin.token is not set").await;
    let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    let token = line["message"].as_str().and_then(|message| message.rsplit(' ').next()).expect("a token").to_owned();
    assert_eq!(token.len(), 64);
    let address = run.admin_address();
    let stats = run.admin_get("/stats").await.text() + &run.admin_get("/metrics").await.text();
    assert!(!stats.contains(&token));
    let drain = |token: &str| {
        format!("POST /api/v1/drain HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\ncontent-length: 0\r\n\r\n")
    };
    assert_eq!(RawClient::connect(address).await.exchange(drain("wrong")).await.status, 401);
    assert_eq!(RawClient::connect(address).await.exchange(drain(&token)).await.status, 202);
    assert_eq!(run.weir.ended().await.code(), Some(0));
    assert_eq!(run.weir.err.text().matches(&token).count(), 1, "{}", run.weir.err.text());
    assert!(!run.weir.out.text().contains(&token));
}

#[tokio::test]
async fn a_configured_token_is_told_never() {
    let mut run = Run::start(answering().admin("token: correct-horse")).await;
    run.end(Signal::SIGTERM).await;
    assert!(!(run.weir.err.text() + &run.weir.out.text()).contains("correct-horse"));
    assert!(!run.weir.err.text().contains("admin.token"));
}
