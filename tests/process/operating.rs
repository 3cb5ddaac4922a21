//! Operating the real binary while it runs: `weir reload` and its relatives, files that are watched, the last good
//! configuration, and another process that takes over.

use std::process::Output;

use nix::sys::signal::Signal;

use crate::{
    child::{Run, Weir, weir},
    support::{
        Gate,
        client::RawClient,
        edge::{EdgeBuilder, edge},
        origin::{Answer, origin},
        within,
    },
};

const TOKEN: &str = "for-this-test-only";

fn saying(word: &str) -> EdgeBuilder {
    edge().route("all", &format!("respond: {{status: 200, body: {word}}}")).admin(&format!("token: {TOKEN}"))
}

fn say(run: &Run, word: &str) {
    let path = run.file("weir.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    let at = text.find("body: ").unwrap() + "body: ".len();
    let end = at + text[at..].find('}').unwrap();
    std::fs::write(&path, format!("{}{word}{}", &text[..at], &text[end..])).unwrap();
}

async fn order(run: &Run, arguments: &[&str]) -> Output {
    let admin = run.admin_address().to_string();
    let mut all = arguments.to_vec();
    all.extend(["--admin", &admin, "--token", TOKEN]);
    weir(&all).await
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn reload_and_rollback_say_how_it_went() {
    let mut run = Run::start(saying("one")).await;
    say(&run, "two");
    let done = order(&run, &["reload"]).await;
    assert_eq!((done.status.code(), text(&done.stdout).trim()), (Some(0), "generation 2 is running"), "{}", text(&done.stderr));
    assert_eq!(run.get("/").await.text(), "two");
    let broken = std::fs::read_to_string(run.file("weir.yaml")).unwrap().replace("respond", "rspond");
    std::fs::write(run.file("weir.yaml"), broken).unwrap();
    let done = order(&run, &["reload"]).await;
    assert_eq!(done.status.code(), Some(1));
    let said = text(&done.stderr);
    assert!(said.contains("E0102") && said.contains("weir.yaml:"), "{said}");
    assert_eq!(run.get("/").await.text(), "two");
    let done = order(&run, &["rollback"]).await;
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    assert_eq!(run.get("/").await.text(), "one");
    say(&run, "three");
    std::fs::write(run.file("weir.yaml"), std::fs::read_to_string(run.file("weir.yaml")).unwrap().replace("rspond", "respond"))
        .unwrap();
    let done = order(&run, &["reload", "--probation", "1s"]).await;
    assert!(text(&done.stdout).contains("has passed its probation"), "{}{}", text(&done.stdout), text(&done.stderr));
    let nobody = weir(&["reload", "--admin", &run.admin_address().to_string(), "--token", "wrong"]).await;
    assert_eq!(nobody.status.code(), Some(1));
    let done = order(&run, &["drain"]).await;
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    assert_eq!(run.weir.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_watched_file_is_taken_when_it_changes() {
    let mut run = Run::start_with(saying("one"), &["--watch"]).await;
    say(&run, "two");
    run.weir.err.line_with("generation 2: ").await;
    assert_eq!(run.get("/").await.text(), "two");
    // Touched, and the same.
    let path = run.file("weir.yaml");
    std::fs::write(&path, std::fs::read(&path).unwrap()).unwrap();
    // Replaced, as editors do.
    let fresh = run.file("fresh.yaml");
    std::fs::write(&fresh, std::fs::read_to_string(&path).unwrap().replace("body: two", "body: three")).unwrap();
    std::fs::rename(&fresh, &path).unwrap();
    run.weir.err.line_with("generation 3: ").await;
    assert_eq!(run.get("/").await.text(), "three");
    run.end(Signal::SIGTERM).await;
}

#[tokio::test]
async fn what_served_last_starts_when_the_file_is_broken() {
    let state = tempfile::tempdir().unwrap();
    let state_dir = state.path().join("weir");
    let described = saying("\"${WORD:-one}\"").yaml(&format!("server: {{state_dir: {state_dir:?}}}"));
    let mut run = Run::start(described).await;
    let first = std::fs::read_to_string(run.file("weir.yaml")).unwrap();
    std::fs::write(run.file("weir.yaml"), first.replace("one", "two")).unwrap();
    assert_eq!(order(&run, &["reload"]).await.status.code(), Some(0));
    assert_eq!(order(&run, &["rollback"]).await.status.code(), Some(0));
    std::fs::write(run.file("weir.yaml"), "listeners: [").unwrap();
    assert_eq!(order(&run, &["reload"]).await.status.code(), Some(1));
    run.end(Signal::SIGTERM).await;
    let kept = state_dir.join("last-good.json");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&kept).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    assert!(std::fs::read_to_string(&kept).unwrap().contains("${WORD:-one}"), "as it was written");

    let file = run.file("weir.yaml");
    let refused = weir(&["run", "--config", file.to_str().unwrap()]).await;
    assert_eq!(refused.status.code(), Some(1));
    let mut again = Run::started(
        Weir::spawn(&["run", "--config", file.to_str().unwrap(), "--last-good", state_dir.to_str().unwrap()]),
        run.edge,
    )
    .await;
    assert_eq!(again.get("/").await.text(), "one");
    again.end(Signal::SIGTERM).await;
}

#[tokio::test]
async fn another_process_takes_over_without_a_refused_connection() {
    let gate = Gate::new();
    let origin = origin().slow(&gate, "whole").answer(Answer::switch("websocket")).spawn().await;
    let described = saying("one").upstream("app", &[origin.addr()]).route("app", "match: {path: /app/*}\nupstream: app");
    let mut run = Run::start(described).await;
    let address = run.address("web");
    let mut slow = run.client().await;
    slow.send("GET /app/slow HTTP/1.1\r\nhost: x\r\n\r\n").await;
    origin.next_request().await;
    let mut socket = run.client().await;
    let upgrade = "GET /app/ws HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    assert_eq!(socket.exchange(upgrade).await.status, 101);
    let mut held = run.client().await;
    assert_eq!(held.get("example.com", "/").await.text(), "one");
    let asking = tokio::spawn(async move {
        let mut asked = 0_u32;
        loop {
            // A connection of its own each time, and none may be refused, reset or left without an answer.
            let answer = RawClient::connect(address).await.get("example.com", "/").await;
            assert_eq!(answer.status, 200);
            asked += 1;
            if answer.text() == "two" {
                return asked;
            }
        }
    });
    say(&run, "two");
    run.weir.signal(Signal::SIGUSR2);
    run.weir.err.line_with("serves; this one drains").await;
    assert!(within("the successor to answer", asking).await.unwrap() > 0);
    // What was in flight ends in its own time.
    socket.send("still here").await;
    assert_eq!(socket.read_bytes(10).await, b"still here");
    gate.open();
    assert_eq!(slow.read_response().await.text(), "whole");
    drop(socket);
    assert_eq!(run.weir.ended().await.code(), Some(0), "the first process has drained");
    assert_eq!(run.get("/").await.text(), "two");
    let done = order(&run, &["drain"]).await;
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    eventually!(std::net::TcpStream::connect(address).is_err());
}

#[tokio::test]
async fn a_successor_that_does_not_start_changes_nothing() {
    let mut run = Run::start(saying("one")).await;
    std::fs::write(run.file("weir.yaml"), "listeners: [").unwrap();
    let done = order(&run, &["upgrade"]).await;
    assert_eq!(done.status.code(), Some(1));
    assert!(text(&done.stderr).contains("does not take over"), "{}", text(&done.stderr));
    assert_eq!(run.get("/").await.text(), "one");
    run.end(Signal::SIGTERM).await;
}

#[tokio::test]
async fn a_process_that_is_told_to_end_does_not_wait_for_its_successor() {
    let mut run = Run::start(saying("one")).await;
    // Nobody ever writes into it, so the successor reads for ever.
    let (file, pipe) = (run.file("weir.yaml"), run.file("pipe"));
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
    std::fs::rename(&pipe, &file).unwrap();
    run.weir.signal(Signal::SIGUSR2);
    run.weir.err.line_with("upgrade: starting").await;
    run.end(Signal::SIGTERM).await;
}

/// Binds a port, and becomes the program that the further arguments name, as systemd does for a socket unit.
const ACTIVATE: &str = "import os, socket, sys
listener = socket.create_server(('127.0.0.1', int(sys.argv[1])))
os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])";

#[tokio::test]
async fn a_socket_of_systemd_is_taken() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let described = saying("one");
    let yaml = described.config().replace("address: 127.0.0.1:0\n", &format!("address: 127.0.0.1:{port}\n"));
    // The admin listener keeps a port of its own.
    let yaml = yaml.replace(&format!("admin:\n  address: 127.0.0.1:{port}"), "admin:\n  address: 127.0.0.1:0");
    let path = described.file("weir.yaml");
    std::fs::write(&path, yaml).unwrap();
    let mut command = tokio::process::Command::new("python3");
    command.args(["-c", ACTIVATE, &port.to_string(), env!("CARGO_BIN_EXE_weir"), "run", "--config", path.to_str().unwrap()]);
    // Were it bound anew, the port would be in use: the descriptor that was passed listens on it.
    let mut run = Run::started(Weir::of(&mut command), described).await;
    assert_eq!(run.get("/").await.text(), "one");
    run.end(Signal::SIGTERM).await;
}

#[tokio::test]
async fn systemd_is_told_what_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let socket = tokio::net::UnixDatagram::bind(&path).unwrap();
    let told = async || {
        let mut message = [0; 1024];
        let length = within("a word to systemd", socket.recv(&mut message)).await.unwrap();
        text(&message[..length])
    };
    let described = saying("one");
    let config = crate::child::write(&described);
    let mut command = crate::child::command();
    command.args(["run", "--config", config.to_str().unwrap()]).env("NOTIFY_SOCKET", &path);
    let mut run = Run::started(Weir::of(&mut command), described).await;
    assert_eq!(told().await.trim(), "READY=1");
    run.weir.signal(Signal::SIGHUP);
    let reloading = told().await;
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    assert_eq!(told().await.trim(), "READY=1");
    run.end(Signal::SIGTERM).await;
    assert_eq!(told().await.trim(), "STOPPING=1");
}
