//! Wildcards, which are proven by records in the DNS: by a service, by a program, and by a name server that takes updates.

use std::{net::SocketAddr, path::Path, process::Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{net::TcpStream, process::Command};

use crate::{
    edge::{Edge, Setting},
    pebble::{Options, Pebble, pebble},
    support::{
        free_port,
        origin::{Answer, Origin, origin},
        tools::tool,
        wire::RawRequest,
    },
};

/// A service that passes records on to Pebble's name server, in its words.
async fn service(pebble: &Pebble) -> Origin {
    let names = pebble.names();
    let passes = move |request: &RawRequest| {
        let said: Value = serde_json::from_slice(&request.body).expect("JSON");
        let (path, body) = match request.target.as_str() {
            "/records/present" => ("set-txt", json!({"host": said["fqdn"], "value": said["value"]})),
            "/records/cleanup" => ("clear-txt", json!({"host": said["fqdn"]})),
            other => panic!("{other}"),
        };
        assert_eq!(request.header("authorization"), Some("Basic dXNlcjpodW50ZXIy"));
        post(names, path, &body.to_string());
        Answer::new(200, "")
    };
    origin().respond_with(passes).spawn().await
}

/// Sends one request and waits for its answer.
fn post(address: SocketAddr, path: &str, body: &str) {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).expect("a name server");
    let head = format!("POST /{path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

fn wildcard(pebble: &Pebble, storage: &Path, dns: &str) -> Setting {
    let mut setting = Setting::of(pebble, storage, &["*.example.test"]).with(&format!("dns: {{{dns}, propagation: 0s}}"));
    setting.only_tls = true;
    setting
}

async fn serves(pebble: &Pebble, setting: Setting) -> Edge {
    let edge = Edge::start(setting).await;
    edge.holds("*.example.test").await;
    let root = pebble.root().await;
    for name in ["a.example.test", "b.example.test"] {
        edge.get(name, &root).await;
    }
    edge
}

#[tokio::test]
async fn records_are_written_by_a_service() {
    let Some(pebble) = pebble(Options::default()).await else { return };
    let (storage, service) = (TempDir::new().unwrap(), service(&pebble).await);
    let dns = format!("webhook: {{url: 'http://{}/records', user: user, password: hunter2}}", service.addr());
    let edge = serves(&pebble, wildcard(&pebble, storage.path(), &dns)).await;
    let asked: Vec<String> = service.requests().into_iter().map(|request| request.target).collect();
    assert_eq!(asked, ["/records/present", "/records/cleanup"]);
    assert!(!edge.weir.err.text().contains("hunter2"));
}

#[tokio::test]
async fn records_are_written_by_a_program() {
    let Some(pebble) = pebble(Options::default()).await else { return };
    let storage = TempDir::new().unwrap();
    let service = origin().respond(200, "").spawn().await;
    // What it was told is in a file, which is also what tells the name server.
    let said = storage.path().join("said");
    let (host, port) = (pebble.names().ip(), pebble.names().port());
    let script = storage.path().join("record.sh");
    let text = format!(
        r#"echo "$@" >> {}
case $1 in
present) path=set-txt body="{{\"host\":\"$2\",\"value\":\"$3\"}}" ;;
remove) path=clear-txt body="{{\"host\":\"$2\"}}" ;;
esac
exec 3<>/dev/tcp/{host}/{port}
printf 'POST /%s HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: %s\r\n\r\n%s' "$path" "${{#body}}" "$body" >&3
head -1 <&3 | grep -q ' 200 '
"#,
        said.display()
    );
    std::fs::write(&script, text).unwrap();
    let dns = format!("exec: {{command: [/bin/bash, '{}']}}", script.display());
    serves(&pebble, wildcard(&pebble, &storage.path().join("acme"), &dns)).await;
    let said = std::fs::read_to_string(said).unwrap();
    let lines: Vec<Vec<&str>> = said.lines().map(|line| line.split(' ').collect()).collect();
    assert_eq!((lines.len(), lines[0][0], lines[0][1]), (2, "present", "_acme-challenge.example.test."));
    assert_eq!((lines[1][0], lines[1][2]), ("remove", lines[0][2]));
    drop(service);
}

#[tokio::test]
async fn a_program_that_fails_is_quoted() {
    let Some(pebble) = pebble(Options::default()).await else { return };
    let storage = TempDir::new().unwrap();
    let dns = "exec: {command: [/bin/sh, -c, 'echo zone is locked >&2; exit 3']}";
    let edge = Edge::start(wildcard(&pebble, storage.path(), dns)).await;
    let standing = eventually!(edge.standing("*.example.test").await, |standing: &Value| standing["failures"] == 1);
    let error = standing["last_error"].as_str().unwrap();
    assert!(error.contains("`/bin/sh` failed (exit status: 3): zone is locked"), "{error}");
}

#[tokio::test]
async fn records_are_written_by_signed_updates_of_a_zone() {
    let Some(named) = tool("knotd") else { return };
    let directory = TempDir::new().unwrap();
    let port = free_port();
    const KEY: &str = "c2VjcmV0IG9mIHRoZSB1cGRhdGVzIG9mIHRoaXMgdGVzdA==";
    let config = format!(
        "server:\n  rundir: {0}\n  listen: 127.0.0.1@{port}\ndatabase:\n  storage: {0}\nkey:\n  - id: weir\n    algorithm: hmac-sha256\n    secret: {KEY}\nacl:\n  - id: updates\n    key: weir\n    action: update\nzone:\n  - domain: example.test\n    storage: {0}\n    file: zone\n    acl: updates\n",
        directory.path().display()
    );
    let zone = "$ORIGIN example.test.\n$TTL 60\n@ SOA ns hostmaster 1 60 60 60 60\n@ NS ns\nns A 127.0.0.1\n* A 127.0.0.1\n";
    std::fs::write(directory.path().join("zone"), zone).unwrap();
    let file = directory.path().join("knot.conf");
    std::fs::write(&file, config).unwrap();
    let mut knot = Command::new(named);
    knot.arg("-c").arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let _knot = knot.spawn().expect("a name server");
    eventually!(TcpStream::connect(("127.0.0.1", port)).await.is_ok());
    let Some(pebble) = crate::pebble::pebble_asking(Options::default(), Some(([127, 0, 0, 1], port).into())).await else {
        return;
    };
    let storage = TempDir::new().unwrap();
    let dns = |key: &str| format!("rfc2136: {{server: '127.0.0.1:{port}', zone: example.test, key_name: weir, key: '{key}'}}");
    serves(&pebble, wildcard(&pebble, storage.path(), &dns(KEY))).await;
    // A key that the server does not know writes nothing.
    let storage = TempDir::new().unwrap();
    let edge = Edge::start(wildcard(&pebble, storage.path(), &dns("b3RoZXI="))).await;
    let standing = eventually!(edge.standing("*.example.test").await, |standing: &Value| standing["failures"] == 1);
    let error = standing["last_error"].as_str().unwrap();
    assert!(error.contains("refuses the update"), "{error}");
}
