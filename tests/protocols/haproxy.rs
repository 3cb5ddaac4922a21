//! HAProxy in front: its health checks are HTTP/1.0 without a Host, unless it is told otherwise.

use std::{fs, path::Path};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    process::Command,
};

use crate::{
    programs,
    support::{edge::edge, within},
};

/// The column of HAProxy's statistics that says how the last check of each backend's server ended: `L7OK`, `L7STS`, and `* ` in
/// front while one is under way.
async fn checks(socket: &Path) -> Vec<(String, String)> {
    let Ok(mut stream) = UnixStream::connect(socket).await else { return Vec::new() };
    stream.write_all(b"show stat\n").await.expect("a command");
    let mut page = String::new();
    within("statistics", stream.read_to_string(&mut page)).await.expect("statistics");
    let mut lines = page.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let columns = lines.next().expect("a header");
    let column = columns.iter().position(|name| *name == "check_status").expect("a column of checks");
    let servers = lines.filter(|cells| cells.get(1) == Some(&"weir"));
    servers.map(|cells| (cells[0].to_owned(), cells[column].to_owned())).collect()
}

#[tokio::test]
async fn its_health_checks_find_weir_up() {
    let Some(program) = programs::installed("haproxy", &[Path::new("/usr/sbin")]) else { return };
    let edge = edge()
        .route("named", "match: {host: www.example.com}\nrespond: {body: named}")
        .route("shut", "match: {path: /shut}\nrespond: {status: 503}")
        .route("all", "respond: {body: ok}")
        .start()
        .await;
    let directory = TempDir::new().expect("a directory");
    let socket = directory.path().join("haproxy.sock");
    let backends = [
        ("plain", "option httpchk", "L7OK"),
        ("get", "option httpchk GET /", "L7OK"),
        ("host", "option httpchk\n  http-check send meth GET uri / ver HTTP/1.1 hdr Host www.example.com", "L7OK"),
        ("shut", "option httpchk GET /shut", "L7STS"),
    ];
    let mut config = format!(
        "global\n  stats socket {}\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 5s\n  timeout server 5s\n",
        socket.display()
    );
    for (name, check, _) in backends {
        let address = edge.address("web");
        config += &format!("backend {name}\n  {check}\n  server weir {address} check inter 100ms fall 1 rise 1\n");
    }
    let file = directory.path().join("haproxy.cfg");
    fs::write(&file, config).expect("a configuration");
    let _haproxy = programs::start(Command::new(program).arg("-db").arg("-f").arg(&file));
    let wanted: Vec<_> = backends.iter().map(|(name, _, status)| ((*name).to_owned(), (*status).to_owned())).collect();
    eventually!(checks(&socket).await, |found: &Vec<(String, String)>| {
        found.iter().map(|(name, status)| (name.clone(), status.trim_start_matches("* ").to_owned())).eq(wanted.clone())
    });
    let log = edge.access_log().await;
    let check =
        log.iter().find(|line| line["http"] == "1.0" && line["method"] == "OPTIONS").expect("a check as HAProxy sends it");
    assert_eq!((&check["status"], &check["host"], &check["route"]), (&200.into(), &serde_json::Value::Null, &"all".into()));
}
