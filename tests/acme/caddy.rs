//! Another authority than the one that Weir is tried with every day: the one in Caddy.

use std::process::Stdio;

use tempfile::TempDir;
use tokio::{net::TcpStream, process::Command};

use crate::{
    edge::{Edge, Setting},
    pebble::Ports,
    support::{certs, free_port, tools::tool},
};

#[tokio::test]
async fn caddy_issues_certificates() {
    let Some(caddy) = tool("caddy") else { return };
    // It checks names at the ports of the standard, and at no others.
    if std::net::TcpListener::bind(("127.0.0.1", 80)).is_err() {
        eprintln!("SKIPPED: port 80 is taken, or not for this user");
        return;
    }
    let (files, port) = (TempDir::new().unwrap(), free_port());
    let ca = certs::ca();
    let identity = ca.server(&["127.0.0.1"]);
    let config = format!(
        "{{\n\tadmin off\n\tauto_https off\n\tskip_install_trust\n\tstorage file_system {}\n}}\nhttps://127.0.0.1:{port} {{\n\ttls {} {}\n\tacme_server {{\n\t\tchallenges http-01\n\t}}\n}}\n",
        files.path().display(),
        identity.cert_file.display(),
        identity.key_file.display()
    );
    let file = files.path().join("Caddyfile");
    std::fs::write(&file, config).unwrap();
    let mut caddy = Command::new(caddy);
    caddy.args(["run", "--adapter", "caddyfile", "--config"]).arg(&file).env("HOME", files.path());
    let _caddy =
        caddy.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn().expect("caddy");
    eventually!(TcpStream::connect(("127.0.0.1", port)).await.is_ok());
    let storage = TempDir::new().unwrap();
    let directory = format!("https://127.0.0.1:{port}/acme/local/directory");
    let ports = Ports { http: 80, ..Ports::free() };
    let setting = Setting::at(&directory, &ca.file(), storage.path().to_str().unwrap(), ports, &["localhost"]);
    let edge = Edge::start(setting).await;
    edge.holds("localhost").await;
    let root = std::fs::read_to_string(files.path().join("pki/authorities/local/root.crt")).unwrap();
    assert_eq!(edge.get("localhost", &root).await.text(), "this is localhost");
}
