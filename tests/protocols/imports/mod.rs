//! The same requests to another program and to Weir with its configuration imported: the same endpoint gets the same path, or the
//! client gets the same answer.

mod haproxy;
mod nginx;

use std::{collections::BTreeMap, net::SocketAddr, path::Path};

use tempfile::TempDir;
use weir::import::{Kind, import};

use crate::support::{
    client::RawClient,
    edge::{Edge, edge_from},
    free_port,
    origin::{Answer, Origin, origin},
    wire::{RawRequest, RawResponse},
};

/// Backends of the fixtures, by the last digit of their port: 9001 to 9009.
struct Backends(BTreeMap<u16, Origin>);

impl Backends {
    async fn spawn() -> Self {
        let mut all = BTreeMap::new();
        for port in 9001..=9009 {
            let echo = move |request: &RawRequest| Answer::with_headers(200, &[("x-backend", &port.to_string())], seen(request));
            all.insert(port, origin().respond_with(echo).spawn().await);
        }
        Self(all)
    }

    /// The text with the real addresses in it.
    fn put_into(&self, text: &str) -> String {
        self.0
            .iter()
            .fold(text.to_owned(), |text, (port, origin)| text.replace(&format!("127.0.0.1:{port}"), &origin.addr().to_string()))
    }
}

/// What an endpoint tells of a request.
fn seen(request: &RawRequest) -> String {
    let field = |name: &str| request.header(name).unwrap_or("-").to_owned();
    format!("{} {} trace={} authorization={}", request.method, request.target, field("x-trace"), field("authorization"))
}

/// A configuration in two programs.
struct Pair {
    edge: Edge,
    /// Where the original listens, by the port in the file.
    ports: BTreeMap<u16, u16>,
    _backends: Backends,
    directory: TempDir,
}

/// One request and what may be asked of it beside host and path.
#[derive(Clone, Copy)]
struct Ask<'a> {
    listener: &'a str,
    port: u16,
    method: &'a str,
    host: &'a str,
    path: &'a str,
    fields: &'a str,
}

impl Ask<'_> {
    fn of<'a>(host: &'a str, path: &'a str) -> Ask<'a> {
        Ask { listener: "http-8081", port: 8081, method: "GET", host, path, fields: "" }
    }

    async fn send(&self, address: SocketAddr) -> RawResponse {
        let Ask { method, host, path, fields, .. } = self;
        let request = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n{fields}connection: close\r\n\r\n");
        RawClient::connect(address).await.exchange(request).await
    }
}

/// What a client can tell: who answered what, with which status, and where it is sent.
fn told(ask: &Ask<'_>, response: &RawResponse, own: SocketAddr) -> (u16, String, String, String) {
    let backend = response.header("x-backend").unwrap_or("none").to_owned();
    // The answers of the programs themselves are worded differently.
    let body = if backend == "none" && response.status >= 300 { String::new() } else { response.text() };
    // A path is the same as a URL with the own host, as which nginx writes it.
    let location = response.header("location").unwrap_or_default();
    let host = ask.host.to_lowercase();
    let own = [format!("http://{host}:{}", own.port()), format!("http://{host}")];
    let location = own.iter().find_map(|own| location.strip_prefix(own.as_str())).unwrap_or(location);
    (response.status, backend, body, location.to_owned())
}

impl Pair {
    /// Sends all requests to both and compares the answers.
    async fn same(&self, asks: &[Ask<'_>]) {
        let mut differences = Vec::new();
        for ask in asks {
            let original = SocketAddr::from(([127, 0, 0, 1], self.ports[&ask.port]));
            let own = self.edge.address(ask.listener);
            let theirs = told(ask, &ask.send(original).await, original);
            let ours = told(ask, &ask.send(own).await, own);
            if theirs != ours {
                differences.push(format!(
                    "{} {}{} {:?}\n    theirs: {theirs:?}\n    ours:   {ours:?}",
                    ask.method, ask.host, ask.path, ask.fields
                ));
            }
        }
        assert!(
            differences.is_empty(),
            "{} of {} requests differ:\n  {}",
            differences.len(),
            asks.len(),
            differences.join("\n  ")
        );
    }
}

/// The files that a configuration serves, in a directory in the place of `/srv`.
fn files(directory: &Path) {
    for (name, text) in [
        ("www/index.html", "index"),
        ("www/about.html", "about"),
        ("www/404.html", "not here"),
        ("www/docs/index.html", "docs"),
        ("www/app.js", "script"),
        ("files/robots.txt", "robots"),
        ("files/a.bin", "bytes"),
        ("files/plain/text.txt", "plain"),
        ("nothing/.keep", ""),
    ] {
        let path = directory.join(name);
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("directories");
        std::fs::write(path, text).expect("a file");
    }
}

/// Starts Weir with a fixture imported, and writes the original for the other program with real ports.
async fn pair(kind: Kind, fixture: &str, ports: &[u16]) -> (Pair, std::path::PathBuf) {
    let source = Path::new("tests/conf/import").join(fixture);
    let directory = TempDir::new().expect("a directory");
    files(directory.path());
    let backends = Backends::spawn().await;
    let ours = |text: &str| backends.put_into(text).replace("/srv/", &format!("{}/", directory.path().display()));
    // What is included lies beside it.
    let root = source.parent().expect("a directory");
    let ports: BTreeMap<u16, u16> = ports.iter().map(|port| (*port, free_port())).collect();
    for file in glob::glob(&format!("{}/**/*", root.display())).expect("a pattern").flatten().filter(|file| file.is_file()) {
        let to = directory.path().join(file.strip_prefix(root).expect("below"));
        std::fs::create_dir_all(to.parent().expect("a directory")).expect("directories");
        std::fs::write(to, ours(&std::fs::read_to_string(&file).expect("a fixture"))).expect("a file");
    }
    let path = directory.path().join(source.file_name().expect("a name"));
    let imported = import(kind, &path).expect("an import");
    let mut text = imported.config();
    let quoted = |port: &u16| format!("127.0.0.1:{port}");
    for port in ports.keys() {
        assert!(text.contains(&quoted(port)), "{text}");
        text = text.replace(&quoted(port), "127.0.0.1:0");
    }
    let edge = edge_from(&format!("{text}\nadmin: {{address: 127.0.0.1:0}}\n")).await;
    let real = |text: String| ports.iter().fold(text, |text, (port, real)| text.replace(&quoted(port), &quoted(real)));
    for file in glob::glob(&format!("{}/**/*.c*f*", directory.path().display())).expect("a pattern").flatten() {
        std::fs::write(&file, real(std::fs::read_to_string(&file).expect("a file"))).expect("a file");
    }
    (Pair { edge, ports, _backends: backends, directory }, path)
}

/// Waits until somebody listens there.
async fn listening(port: u16) {
    eventually!(tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok(), |found: &bool| *found);
}
