//! The Compose demo as a project of its own.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::PathBuf,
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    process::Command,
    sync::{Mutex, MutexGuard},
};

use crate::{
    engine::{docker, image, output, try_docker, until},
    support::{certs::tls, client::RawClient, wire::RawResponse},
};

const DIRECTORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docker");
/// Where the engine is asked by the edge that follows labels.
pub const SOCKET: &str = "/var/run/docker.sock";
/// One at a time: two would take each other's processors, and with them the milliseconds in which a Redis has to answer.
static TURN: Mutex<()> = Mutex::const_new(());
/// What is published, each on a port that the engine chooses.
const PORTS: [&str; 8] = [
    "WEIR_HTTP_PORT",
    "WEIR_HTTPS_PORT",
    "WEIR_HTTPS_PORT_2",
    "WEIR_TCP_PORT",
    "WEIR_ADMIN_PORT",
    "PROMETHEUS_PORT",
    "GRAFANA_PORT",
    "PEBBLE_PORT",
];
/// Lines of the edge's log that are shown when a test fails.
const LOGGED: usize = 60;
/// The demo's token, which everybody may know.
const TOKEN: &str = include_str!("../../docker/admin_token");

/// The demo, running. It goes with this.
pub struct Demo {
    project: String,
    files: &'static [&'static str],
    conf: TempDir,
    compose: &'static [&'static str],
    image: String,
    _turn: MutexGuard<'static, ()>,
    pub https: SocketAddr,
    pub http: SocketAddr,
    admin: SocketAddr,
}

/// `docker compose`, or the older `docker-compose`.
async fn compose_command() -> &'static [&'static str] {
    match try_docker(&["compose", "version"]).await {
        Ok(_) => &["docker", "compose"],
        Err(_) => &["docker-compose"],
    }
}

impl Demo {
    /// Starts all of compose.yaml and waits until every service has its endpoints.
    pub async fn start() -> Self {
        let demo = Self::start_of(&["compose.yaml"], &[], |conf| conf).await;
        for (upstream, endpoints) in [("shop", 2), ("shop-next", 1), ("users", 1), ("payments", 1), ("echo", 2)] {
            demo.alive(upstream, endpoints).await;
        }
        demo
    }

    /// Starts these services of these files, or all of them, with the edge's configuration as the test changes it.
    pub async fn start_of(files: &'static [&'static str], services: &[&str], change: impl Fn(String) -> String) -> Self {
        let mut demo = Self::up(files, services, change).await;
        demo.find_ports().await;
        demo
    }

    /// The same, where the admin listener is not published.
    pub async fn start_alone(files: &'static [&'static str]) -> Self {
        let mut demo = Self::up(files, &[], |conf| conf).await;
        (demo.http, demo.https) = (demo.published("edge", "8080").await, demo.published("edge", "8443").await);
        demo
    }

    async fn up(files: &'static [&'static str], services: &[&str], change: impl Fn(String) -> String) -> Self {
        let turn = TURN.lock().await;
        let conf = TempDir::new().expect("a directory");
        let text = fs::read_to_string(format!("{DIRECTORY}/conf/weir.yaml")).expect("the configuration");
        fs::write(conf.path().join("weir.yaml"), change(text)).expect("a copy");
        // The edge's user must be able to read it.
        fs::set_permissions(conf.path(), PermissionsExt::from_mode(0o755)).expect("permissions");
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let project = format!("weirtest{}", std::process::id());
        let (compose, image) = (compose_command().await, image().await.to_owned());
        let demo = Self { project, files, conf, compose, image, _turn: turn, https: nowhere, http: nowhere, admin: nowhere };
        demo.compose(&[&["up", "-d", "--no-build"], services].concat()).await;
        demo
    }

    fn command(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = std::process::Command::new(self.compose[0]);
        command.args(&self.compose[1..]).args(["--project-name", &self.project]);
        for file in self.files {
            command.args(["--file", &format!("{DIRECTORY}/{file}")]);
        }
        command.args(arguments).env("WEIR_IMAGE", &self.image).env("WEIR_DEMO_CONF", self.conf.path());
        if let Ok(socket) = fs::metadata(SOCKET) {
            command.env("DOCKER_GID", socket.gid().to_string());
        }
        for port in PORTS {
            command.env(port, "0");
        }
        command
    }

    /// `docker compose ARGUMENTS`, which must succeed.
    pub async fn compose(&self, arguments: &[&str]) -> String {
        let command = Command::from(self.command(arguments));
        output(command, Duration::from_secs(180)).await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Where a port of a service is published.
    pub async fn published(&self, service: &str, port: &str) -> SocketAddr {
        let address: SocketAddr = self.compose(&["port", service, port]).await.parse().expect("an address");
        SocketAddr::from(([127, 0, 0, 1], address.port()))
    }

    async fn find_ports(&mut self) {
        self.http = self.published("edge", "8080").await;
        self.https = self.published("edge", "8443").await;
        self.admin = self.published("edge", "9900").await;
        let admin = self.compose(&["port", "edge", "9900"]).await;
        assert!(admin.starts_with("127.0.0.1:"), "the admin listener is published to others: {admin}");
    }

    /// The containers of a service.
    pub async fn containers(&self, service: &str) -> Vec<String> {
        self.compose(&["ps", "-q", service]).await.lines().map(str::to_owned).collect()
    }

    /// The network that all of them are in.
    pub fn network(&self) -> String {
        format!("{}_inside", self.project)
    }

    /// A GET over HTTPS on a connection of its own.
    pub async fn get(&self, path: &str) -> RawResponse {
        let tls = tls().sni("localhost").alpn("http/1.1");
        RawClient::connect_tls(self.https, &tls).await.get("localhost", path).await
    }

    /// A GET on the admin listener, which answers to its own port and not to the published one; `None` while the edge starts.
    async fn admin_get(&self, path: &str) -> Option<RawResponse> {
        let token = TOKEN.trim();
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost:9900\r\nauthorization: Bearer {token}\r\n\r\n");
        let mut client = RawClient::connect(self.admin).await;
        client.try_send(request).await.ok()?;
        client.try_read_response().await.ok().flatten()
    }

    /// What the edge knows of itself.
    pub async fn stats(&self) -> Value {
        self.admin_get("/stats").await.map_or(Value::Null, |response| response.json())
    }

    /// The value of a metric without labels.
    pub async fn metric(&self, name: &str) -> Option<String> {
        let text = self.admin_get("/metrics").await?.text();
        text.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(' ')?.to_owned()))
    }

    /// The endpoints of an upstream that are alive, by address.
    pub async fn endpoints(&self, upstream: &str) -> Vec<String> {
        let stats = self.stats().await;
        let upstreams = stats["upstreams"].as_array().cloned().unwrap_or_default();
        let endpoints = upstreams.iter().find(|found| found["name"] == upstream).map(|found| found["endpoints"].clone());
        let endpoints = endpoints.and_then(|endpoints| endpoints.as_array().cloned()).unwrap_or_default();
        let address = |endpoint: &Value| endpoint["endpoint"].as_str().unwrap_or_default().to_owned();
        endpoints.iter().filter(|endpoint| endpoint["alive"] == true).map(address).collect()
    }

    /// Waits until an upstream has so many endpoints that are alive.
    pub async fn alive(&self, upstream: &str, count: usize) -> Vec<String> {
        let what = format!("{count} endpoints of {upstream}");
        until(&what, async || self.endpoints(upstream).await, |found| found.len() == count).await
    }

    /// Waits until an endpoint takes no requests.
    pub async fn gone(&self, upstream: &str, address: &str) {
        let what = format!("{address} leaving {upstream}");
        until(&what, async || self.endpoints(upstream).await, |found| !found.iter().any(|alive| alive == address)).await;
    }

    /// The address of a container that serves HTTP, as the edge names its endpoint.
    pub async fn address_of(&self, container: &str) -> String {
        let template = format!("{{{{(index .NetworkSettings.Networks {:?}).IPAddress}}}}:8080", self.network());
        docker(&["inspect", "--format", &template, container]).await
    }

    /// Where the edge's configuration is.
    pub fn configuration(&self) -> PathBuf {
        self.conf.path().join("weir.yaml")
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Ok(logs) = self.command(&["logs", "--no-color", "edge"]).output()
        {
            let text = String::from_utf8_lossy(&logs.stdout);
            // Under load there are thousands of lines of nothing.
            let ordinary = |line: &&str| line.contains(r#""status":200"#);
            let telling: Vec<_> = text.lines().filter(|line| !ordinary(line)).collect();
            eprintln!("{}", telling[telling.len().saturating_sub(LOGGED)..].join("\n"));
        }
        let _ = self.command(&["down", "--volumes", "--remove-orphans", "--timeout", "1"]).output();
    }
}
