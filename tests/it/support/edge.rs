//! A whole Weir in this process, on ports that the kernel chooses.
//!
//! This is the only file here that knows how Weir is started. Several edges run side by side in one test process.

use std::{
    collections::BTreeMap,
    fmt::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde_json::Value;
use tempfile::TempDir;
use weir::{
    admin::{Applied, Commands, Guard, Refused},
    config::{self, DriverChoice},
    control::Origin,
    server::{Prepared, RunningServer},
    snapshot,
};

use super::{
    PATIENCE,
    certs::{Ca, Identity, Tls, ca, tls},
    client::RawClient,
    only_pingora,
    tcp::TcpClient,
    wire::RawResponse,
    within,
};

/// An edge with a cleartext listener `web`, an admin listener and an access log in a file. Upstreams and routes are
/// described as YAML fragments, in flow style or indented by nothing: the builder indents them.
pub fn edge() -> EdgeBuilder {
    EdgeBuilder::empty()
}

/// Starts exactly this configuration. Relative paths start in a directory of its own.
pub async fn edge_from(yaml: &str) -> Edge {
    let directory = TempDir::new().expect("a directory");
    start(yaml, directory, None).await
}

/// Describes an edge.
pub struct EdgeBuilder {
    directory: TempDir,
    upstreams: String,
    routes: String,
    listener: String,
    more_listeners: String,
    tls: Option<(Ca, Identity)>,
    tls_options: String,
    admin: String,
    extra: String,
}

/// Indents a YAML fragment.
fn indented(fragment: &str, by: usize) -> String {
    fragment.lines().fold(String::new(), |text, line| text + &" ".repeat(by) + line + "\n")
}

impl EdgeBuilder {
    fn empty() -> Self {
        Self {
            directory: TempDir::new().expect("a directory"),
            upstreams: String::new(),
            routes: String::new(),
            listener: String::new(),
            more_listeners: String::new(),
            tls: None,
            tls_options: String::new(),
            admin: String::new(),
            extra: String::new(),
        }
    }

    /// An upstream with these endpoints.
    pub fn upstream(self, name: &str, endpoints: &[SocketAddr]) -> Self {
        self.upstream_with(name, endpoints, "")
    }

    /// An upstream with these endpoints and further keys, one to a line.
    pub fn upstream_with(mut self, name: &str, endpoints: &[SocketAddr], keys: &str) -> Self {
        let endpoints: Vec<String> = endpoints.iter().map(|address| format!("{:?}", address.to_string())).collect();
        let _ = writeln!(self.upstreams, "  {name}:\n    endpoints: [{}]", endpoints.join(", "));
        self.upstreams.push_str(&indented(keys, 4));
        self
    }

    /// An upstream with one endpoint, on a unix socket, and these further keys.
    pub fn upstream_at(mut self, name: &str, socket: &Path, keys: &str) -> Self {
        let _ = writeln!(self.upstreams, "  {name}:\n    endpoints: [\"unix:{}\"]", socket.display());
        self.upstreams.push_str(&indented(keys, 4));
        self
    }

    /// A route with these keys, one to a line: `upstream: app`.
    pub fn route(mut self, name: &str, keys: &str) -> Self {
        let _ = writeln!(self.routes, "  - name: {name}");
        self.routes.push_str(&indented(keys, 4));
        self
    }

    /// Further keys of the listeners, one to a line: `http: {header_timeout: 200ms}`.
    pub fn listener(mut self, keys: &str) -> Self {
        self.listener.push_str(&indented(keys, 4));
        self
    }

    /// A listener of layer 4 with these keys of `tcp`, one to a line: `upstream: app`.
    pub fn tcp(self, name: &str, keys: &str) -> Self {
        self.tcp_with(name, keys, "")
    }

    /// The same with further keys of the listener.
    pub fn tcp_with(mut self, name: &str, keys: &str, listener: &str) -> Self {
        let _ = writeln!(self.more_listeners, "  {name}:\n    address: 127.0.0.1:0\n    tcp:");
        self.more_listeners.push_str(&indented(keys, 6));
        self.more_listeners.push_str(&indented(listener, 4));
        self
    }

    /// A second listener, `edge`, with TLS for localhost, example.com and its subdomains, by an authority of its own.
    pub fn tls(self) -> Self {
        self.tls_with("")
    }

    /// The same with further keys of `tls`, one to a line.
    pub fn tls_with(mut self, keys: &str) -> Self {
        let ca = ca();
        let identity = ca.server(&["localhost", "example.com", "*.example.com"]);
        self.tls = Some((ca, identity));
        self.tls_options.push_str(&indented(keys, 6));
        self
    }

    /// Further keys of `admin`, one to a line.
    pub fn admin(mut self, keys: &str) -> Self {
        self.admin.push_str(&indented(keys, 2));
        self
    }

    /// Further top-level YAML, as it is.
    pub fn yaml(mut self, extra: &str) -> Self {
        self.extra.push_str(extra);
        self.extra.push('\n');
        self
    }

    /// The configuration that [`EdgeBuilder::start`] starts.
    pub fn config(&self) -> String {
        let log = self.file("access.log");
        let mut yaml = format!("listeners:\n  web:\n    address: 127.0.0.1:0\n{}", self.listener);
        if let Some((_, Identity { cert_file, key_file, .. })) = &self.tls {
            let _ = write!(
                yaml,
                "  edge:\n    address: 127.0.0.1:0\n    tls:\n      certificates:\n        - {{cert: {cert_file:?}, key: {key_file:?}}}\n{}{}",
                self.tls_options, self.listener
            );
        }
        yaml.push_str(&self.more_listeners);
        let _ = write!(yaml, "admin:\n  address: 127.0.0.1:0\n{}", self.admin);
        let _ = writeln!(yaml, "observability:\n  access_log: {{path: {log:?}, format: json}}");
        let _ = writeln!(yaml, "routes:{}\n{}", if self.routes.is_empty() { " []" } else { "" }, self.routes);
        let _ = writeln!(yaml, "upstreams:{}\n{}", if self.upstreams.is_empty() { " {}" } else { "" }, self.upstreams);
        yaml + &self.extra
    }

    /// A file of the edge's own directory, which goes with the builder or the edge.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// TLS that verifies the certificate for localhost of an edge that is started from this.
    pub fn trust(&self) -> Tls {
        tls().sni("localhost").ca(&self.tls.as_ref().expect("an edge built with .tls()").0)
    }

    /// Starts it.
    pub async fn start(self) -> Edge {
        let config = self.config();
        self.start_as(&config).await
    }

    /// Starts it with [`EdgeBuilder::config`] as the test has changed it.
    pub async fn start_as(self, config: &str) -> Edge {
        start(config, self.directory, self.tls.map(|(ca, _)| ca)).await
    }
}

async fn start(yaml: &str, directory: TempDir, ca: Option<Ca>) -> Edge {
    let mut loaded = snapshot::check(config::parse_str("test.yaml", yaml, directory.path(), &|_| None));
    if !loaded.is_ok() {
        panic!("{}\n{yaml}", config::render::human(loaded.document.sources(), &loaded.diagnostics, false));
    }
    if let Some(spec) = loaded.spec.as_mut().filter(|_| only_pingora()) {
        spec.server.driver = DriverChoice::Pingora;
    }
    let origin = Origin::Text { name: "test.yaml".to_owned(), directory: directory.path().to_owned() };
    let prepared = within("Weir to start", Prepared::new(loaded, origin)).await;
    let server = prepared.unwrap_or_else(|error| panic!("Weir does not start: {error}\n{yaml}")).serve().await;
    Edge { server, directory, ca }
}

/// A running Weir.
pub struct Edge {
    pub server: RunningServer,
    directory: TempDir,
    ca: Option<Ca>,
}

impl Edge {
    /// The real address of a listener.
    pub fn address(&self, listener: &str) -> SocketAddr {
        self.server.address(listener).expect("a listener of that name, on TCP")
    }
    /// The real address of the admin listener.
    pub fn admin_address(&self) -> SocketAddr {
        self.server.admin_address().expect("an admin listener")
    }
    /// The authority of the TLS listener's certificate.
    pub fn ca(&self) -> &Ca {
        self.ca.as_ref().expect("an edge built with .tls()")
    }
    /// TLS that verifies the edge's certificate for localhost.
    pub fn trust(&self) -> Tls {
        tls().sni("localhost").ca(self.ca())
    }
    /// A file of this edge's own directory, where relative paths of its configuration start.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Puts another configuration into service.
    pub async fn try_reload(&self, yaml: &str) -> Result<Applied, Refused> {
        within("a reload", self.server.control().apply(yaml.to_owned(), Guard::default())).await
    }
    /// Puts another configuration into service, which must be possible.
    pub async fn reload(&self, yaml: &str) -> Applied {
        self.try_reload(yaml).await.unwrap_or_else(|refused| panic!("the reload was refused: {refused}\n{yaml}"))
    }

    /// A new cleartext connection to `web`.
    pub async fn client(&self) -> RawClient {
        RawClient::connect(self.address("web")).await
    }
    /// A new connection to a listener of layer 4.
    pub async fn tcp(&self, listener: &str) -> TcpClient {
        TcpClient::connect(self.address(listener)).await
    }
    /// A new TLS connection to `edge`, offering HTTP/1.1.
    pub async fn tls_client(&self) -> RawClient {
        RawClient::connect_tls(self.address("edge"), &self.trust().alpn("http/1.1")).await
    }
    /// A GET for this path on a connection of its own.
    pub async fn get(&self, path: &str) -> RawResponse {
        self.client().await.get("example.com", path).await
    }
    /// A GET on the admin listener.
    pub async fn admin_get(&self, path: &str) -> RawResponse {
        let address = self.admin_address();
        RawClient::connect(address).await.get(&address.to_string(), path).await
    }
    /// A request on the admin listener with the bearer token and a JSON body.
    pub async fn admin_send(&self, method: &str, path: &str, body: &str) -> RawResponse {
        let token = self.server.admin_token().expect("an admin listener");
        let token = token.expose();
        let (address, length) = (self.admin_address(), body.len());
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        RawClient::connect(address).await.exchange(request).await
    }

    /// The sum of a metric's samples that have all of these labels; `None` when there is none.
    pub async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let text = self.admin_get("/metrics").await.text();
        let wanted: Vec<String> = labels.iter().map(|(label, value)| format!("{label}={value:?}")).collect();
        let samples = text.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let (labels, value) = rest.strip_prefix('{').map_or(("", rest), |rest| rest.rsplit_once('}').expect("labels end"));
            let has = |wanted: &String| labels.split(',').any(|label| label == wanted);
            (rest.starts_with(['{', ' ']) && wanted.iter().all(has)).then(|| value.trim().parse::<f64>().expect("a number"))
        });
        samples.reduce(|sum, value| sum + value)
    }

    /// Is this a line of the metrics?
    pub async fn has_metric(&self, line: &str) -> bool {
        self.admin_get("/metrics").await.text().lines().any(|found| found == line)
    }
    /// The endpoints of the first upstream: weights by address.
    pub async fn endpoints(&self) -> BTreeMap<String, u64> {
        let stats = self.admin_get("/stats").await.json();
        let endpoints = stats["upstreams"][0]["endpoints"].as_array().expect("endpoints").clone();
        let entry = |endpoint: &Value| {
            (endpoint["endpoint"].as_str().expect("an address").to_owned(), endpoint["weight"].as_u64().expect("a weight"))
        };
        endpoints.iter().map(entry).collect()
    }

    /// The access log as it is now; a line that is still being written is left out.
    pub fn access_log_now(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.file("access.log")).unwrap_or_default();
        let complete = text.rfind('\n').map_or("", |end| &text[..end]);
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("not JSON: {error}: {line}"));
        complete.lines().map(parse).collect()
    }
    /// The access log, once it has a line.
    pub async fn access_log(&self) -> Vec<Value> {
        self.access_log_of(1).await
    }
    /// The access log, once it has this many lines.
    pub async fn access_log_of(&self, lines: usize) -> Vec<Value> {
        crate::eventually!(self.access_log_now(), |log: &Vec<Value>| log.len() >= lines)
    }

    /// Starts draining: readiness fails, listeners close, work in flight finishes.
    pub fn drain(&self) {
        self.server.drain();
    }
    /// Stops and waits for the end.
    pub async fn stop(self) {
        // Stopping drains first, so it may take as long as the work in flight.
        let stopped = tokio::time::timeout(PATIENCE * 4, self.server.stop()).await;
        assert!(stopped.is_ok(), "Weir did not stop within {:?}", PATIENCE * 4);
    }
}
