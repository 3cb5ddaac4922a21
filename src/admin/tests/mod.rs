//! The access rules one by one, in bytes over a real socket.

mod api;

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};

use super::*;
use crate::{
    config::{self, Loaded},
    discovery::docker,
    endpoint::{Condition, EndpointStats, Situation, Transitions},
    observe::{EndpointState, UpstreamState},
    types::Secret,
};

const TOKEN: &str = "correct-horse-battery";
const LONG: Duration = Duration::from_secs(20);

struct OneUpstream;

impl StateSource for OneUpstream {
    fn upstreams(&self) -> Vec<UpstreamState> {
        let endpoint = EndpointState {
            label: "127.0.0.1:9001".into(),
            weight: 3,
            priority: 0,
            zone: None,
            healthy: false,
            situation: Situation {
                condition: Condition::Unhealthy,
                reason: "status 503".into(),
                since: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
            },
            transitions: Transitions { open: 4, half_open: 3, closed: 2 },
            in_flight: 2,
            stats: EndpointStats { requests: 8, errors: 2, average_ms: 1.5, ..EndpointStats::default() },
        };
        vec![UpstreamState {
            name: "pool".parse().unwrap(),
            strategy: "round_robin",
            panicking: false,
            endpoints: vec![endpoint],
        }]
    }
}

#[derive(Default)]
struct Counting(AtomicUsize);

fn refused<T>() -> Result<T, Refused> {
    Err(Refused::Conflict("this is a test".to_owned()))
}

#[async_trait]
impl Commands for Counting {
    fn drain(&self) {
        self.0.fetch_add(1, Relaxed);
    }
    async fn reload(&self, _: Guard) -> Result<Applied, Refused> {
        refused()
    }
    async fn apply(&self, _: String, _: Guard) -> Result<Applied, Refused> {
        refused()
    }
    async fn rollback(&self) -> Result<Applied, Refused> {
        refused()
    }
    async fn upgrade(&self) -> Result<u32, Refused> {
        refused()
    }
    async fn change(&self, _: Change) -> Result<Applied, Refused> {
        refused()
    }
    async fn revert(&self, _: Target) -> Result<Applied, Refused> {
        refused()
    }
    fn overrides(&self) -> Vec<Override> {
        Vec::new()
    }
    async fn check(&self, text: String) -> Loaded {
        config::parse_str("posted", &text, Path::new("/"), &|_| None)
    }
    fn running(&self) -> Running {
        Running {
            generation: 1,
            since: SystemTime::UNIX_EPOCH,
            origin: "weir.yaml".to_owned(),
            text: String::new(),
            last_refusal: None,
            probation: None,
            can_roll_back: false,
        }
    }
    fn container_diagnostics(&self) -> Vec<docker::Diagnostic> {
        vec![docker::Diagnostic::new("web-1", Some("weir.route.web.match.path"), "`//` is no path")]
    }
}

/// A configuration with something of everything.
const CONFIGURATION: &str = r#"
listeners: {web: {address: 127.0.0.1:8080}, edge: {address: 127.0.0.1:8443, tls: {self_signed: [localhost]}}}
routes:
  - {name: app, match: {host: app.example, path_regex: "<script>"}, upstream: pool}
  - {name: canary, match: {path: /next/*}, split: [{upstream: pool, weight: 95}, {upstream: spare, weight: 5}]}
  - {name: ping, match: {path: /ping}, respond: {body: pong}}
upstreams: {pool: {endpoints: [127.0.0.1:9001]}, spare: {endpoints: [127.0.0.1:9002]}}
"#;

fn state(commands: Arc<Counting>, ready: Arc<AtomicBool>, token: Token, address: Address) -> Arc<AdminState> {
    crate::tls::install_provider();
    let loaded = crate::config::parse_str("test.yaml", CONFIGURATION, std::path::Path::new("."), &|_| None);
    assert!(loaded.is_ok(), "{:?}", loaded.diagnostics);
    let (problems, registries) = (crate::types::Problems::default(), crate::snapshot::Registries::default());
    let snapshot = crate::snapshot::compile(loaded.spec.unwrap(), 1, &registries, SystemTime::now(), &problems).unwrap();
    let log = crate::observe::AccessLogSpec { path: "off".into(), ..Default::default() };
    let observer = Arc::new(Observer::new(&log).unwrap());
    let (store, state) = (Arc::new(Store::new(snapshot)), Arc::new(OneUpstream));
    let token = ArcSwap::from_pointee(token);
    Arc::new(AdminState::new(Sources { observer, store, state, commands, ready, token, address }))
}

struct Admin {
    address: SocketAddr,
    ready: Arc<AtomicBool>,
    drained: Arc<Counting>,
    observer: Arc<Observer>,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<()>,
    token: Token,
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
    #[track_caller]
    fn refuses(&self, status: u16, code: &str) {
        assert_eq!((self.status, self.json()["code"].as_str()), (status, Some(code)), "{}{}", self.head, self.body);
        assert!(self.head.contains("content-type: application/problem+json"), "{}", self.head);
        assert_eq!(self.json()["status"], status);
        assert!(self.json()["detail"].is_string() && self.json()["title"].is_string());
    }
}

/// Sends a request and reads until the server closes, which it does since the request asks for it.
async fn exchange(mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin, request: &str) -> Answer {
    let mut answer = String::new();
    stream.write_all(request.as_bytes()).await.unwrap();
    timeout(LONG, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    Answer { status: head[9..12].parse().unwrap(), head: head.to_lowercase(), body: body.to_owned() }
}

impl Admin {
    /// Bound to loopback, whatever address the operator is told it has.
    async fn bound(ip: &str, token: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = SocketAddr::new(ip.parse().unwrap(), listener.local_addr().unwrap().port());
        let (ready, drained) = (Arc::new(AtomicBool::new(true)), Arc::<Counting>::default());
        let token = Token::new(&Secret::from(token.to_owned()));
        let state = state(drained.clone(), ready.clone(), token.clone(), address.into());
        let observer = state.observer.clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let served = tokio::spawn(serve(listener, state, async {
            let _ = stopped.await;
        }));
        Self { address, ready, drained, observer, stop: Some(stop), served, token }
    }
    async fn open() -> Self {
        Self::bound("127.0.0.1", "").await
    }
    async fn send(&self, request: &str) -> Answer {
        let connect: SocketAddr = ([127, 0, 0, 1], self.address.port()).into();
        exchange(TcpStream::connect(connect).await.unwrap(), request).await
    }
    /// A request with the right Host; `fields` end in CRLF each.
    async fn ask(&self, line: &str, fields: &str) -> Answer {
        let port = self.address.port();
        self.send(&format!("{line} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n{fields}\r\n")).await
    }
    fn bearer(&self) -> String {
        format!("Authorization: Bearer {}\r\n", self.token.made().map_or(TOKEN, |secret| secret.expose()))
    }
    fn drains(&self) -> usize {
        self.drained.0.load(Relaxed)
    }
}

#[tokio::test]
async fn health_and_readiness() {
    let admin = Admin::open().await;
    assert_eq!(admin.ask("GET /healthz", "").await.json()["status"], "ok");
    assert_eq!(admin.ask("GET /readyz", "").await.status, 200);
    admin.ready.store(false, Relaxed);
    assert_eq!(admin.ask("GET /readyz", "").await.status, 503);
    assert_eq!(admin.ask("GET /healthz", "").await.status, 200, "alive all the same");
    assert_eq!(admin.ask("HEAD /readyz", "").await.body, "");
}

#[tokio::test]
async fn metrics_are_prometheus_text() {
    let answer = Admin::open().await.ask("GET /metrics", "").await;
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("content-type: text/plain; version=0.0.4"), "{}", answer.head);
    assert!(answer.body.contains("\nweir_build_info{version="));
}

#[tokio::test]
async fn stats_show_each_endpoint() {
    let stats = Admin::open().await.ask("GET /stats", "").await.json();
    let endpoint = &stats["upstreams"][0]["endpoints"][0];
    for (key, value) in [
        ("endpoint", Value::from("127.0.0.1:9001")),
        ("alive", false.into()),
        ("state", "unhealthy".into()),
        ("reason", "status 503".into()),
        ("since", "2027-01-15T08:00:00Z".into()),
        ("weight", 3.into()),
        ("requests", 8.into()),
        ("errors", 2.into()),
        ("error_rate", 0.25.into()),
        ("in_flight", 2.into()),
        ("average_ms", 1.5.into()),
    ] {
        assert_eq!(endpoint[key], value, "{key}");
    }
    assert!(["p50_ms", "p95_ms", "p99_ms"].iter().all(|key| endpoint[key].is_number()));
    assert_eq!((&stats["upstreams"][0]["alive"], &stats["totals"]["requests"]), (&0.into(), &0.into()));
}

#[tokio::test]
async fn reading_on_loopback_is_free_unless_a_token_is_configured() {
    assert_eq!(Admin::open().await.ask("GET /stats", "").await.status, 200);
    let admin = Admin::bound("127.0.0.1", TOKEN).await;
    for page in ["/metrics", "/stats", "/nowhere", "/healthz/", "/healthz/../stats"] {
        let answer = admin.ask(&format!("GET {page}"), "").await;
        answer.refuses(401, "unauthorized");
        assert!(answer.head.contains("www-authenticate: bearer"), "{}", answer.head);
    }
    assert_eq!(admin.ask("GET /stats", &admin.bearer()).await.status, 200);
}

#[tokio::test]
async fn reading_elsewhere_needs_the_token_always() {
    let admin = Admin::bound("0.0.0.0", "").await;
    admin.ask("GET /stats", "").await.refuses(401, "unauthorized");
    assert_eq!(admin.ask("GET /stats", &admin.bearer()).await.status, 200);
}

#[tokio::test]
async fn probes_need_neither_token_nor_name() {
    for admin in [Admin::bound("127.0.0.1", TOKEN).await, Admin::bound("0.0.0.0", "").await] {
        for host in ["Host: weir.internal\r\n", "Host: 10.0.0.1:1\r\n", "Host:\r\n"] {
            for line in ["GET /healthz", "HEAD /healthz", "GET /healthz?verbose"] {
                let answer = admin.send(&format!("{line} HTTP/1.1\r\n{host}Connection: close\r\n\r\n")).await;
                assert_eq!(answer.status, 200, "{line} {host}");
            }
            let answer = admin.send(&format!("GET /readyz HTTP/1.1\r\n{host}Connection: close\r\n\r\n")).await;
            assert!([200, 503].contains(&answer.status), "{host}");
            let answer = admin.send(&format!("POST /healthz HTTP/1.1\r\n{host}Connection: close\r\n\r\n")).await;
            answer.refuses(421, "misdirected_request");
        }
        admin.ask("POST /healthz", "").await.refuses(401, "unauthorized");
    }
}

#[tokio::test]
async fn changing_needs_the_token_always() {
    for token in ["", TOKEN] {
        let admin = Admin::bound("127.0.0.1", token).await;
        for fields in [
            "",
            "Authorization: Bearer wrong\r\n",
            "Authorization: Bearer \r\n",
            "Authorization: Basic Y29ycmVjdA==\r\n",
            "Authorization\r\n",
            "X-Token: correct-horse-battery\r\n",
        ] {
            let answer = admin.ask("POST /api/v1/drain", fields).await;
            assert!([400, 401].contains(&answer.status), "{fields} {}", answer.status);
        }
        let twice = admin.bearer() + "Authorization: Bearer wrong\r\n";
        admin.ask("POST /api/v1/drain", &twice).await.refuses(401, "unauthorized");
        assert_eq!(admin.drains(), 0);
        let answer = admin.ask("POST /api/v1/drain", &admin.bearer()).await;
        assert_eq!((answer.status, admin.drains()), (202, 1));
    }
}

#[tokio::test]
async fn reading_does_not_drain() {
    let admin = Admin::open().await;
    admin.ask("GET /api/v1/drain", &admin.bearer()).await.refuses(405, "method_not_allowed");
    assert_eq!(admin.drains(), 0);
}

#[tokio::test]
async fn a_host_that_is_not_ours_is_misdirected() {
    let admin = Admin::open().await;
    let port = admin.address.port();
    for host in [
        "Host: evil.example\r\n".to_owned(),
        format!("Host: evil.example:{port}\r\n"),
        "Host: 127.0.0.1\r\n".to_owned(),
        format!("Host: 127.0.0.1:{port}\r\nHost: evil.example:{port}\r\n"),
        "Host:\r\n".to_owned(),
        String::new(),
    ] {
        let answer = admin.send(&format!("GET /stats HTTP/1.1\r\n{host}Connection: close\r\n\r\n")).await;
        answer.refuses(421, "misdirected_request");
    }
    let absolute = format!("GET http://evil.example:{port}/stats");
    admin.ask(&absolute, "").await.refuses(421, "misdirected_request");
    for host in ["localhost", "127.0.0.1", "[::1]"] {
        let answer = admin.send(&format!("GET /stats HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n")).await;
        assert_eq!(answer.status, 200, "{host}");
    }
}

#[tokio::test]
async fn forms_change_nothing() {
    let admin = Admin::open().await;
    for kind in ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "Text/Plain;charset=utf-8"] {
        let fields = format!("{}Content-Type: {kind}\r\nContent-Length: 0\r\n", admin.bearer());
        admin.ask("POST /api/v1/drain", &fields).await.refuses(415, "unsupported_media_type");
    }
    assert_eq!(admin.drains(), 0);
    let fields = format!("{}Content-Type: application/json\r\nContent-Length: 2\r\n", admin.bearer());
    assert_eq!(admin.ask("POST /api/v1/drain", &(fields + "\r\n{}")).await.status, 202);
}

#[tokio::test]
async fn unknown_pages_are_not_found_in_json() {
    let admin = Admin::open().await;
    for page in ["/dashboard", "/dashboard/", "/dashboard/mod.rs", "/nowhere", "/api/v1/", "/metrics/", "/%2e%2e/healthz"] {
        admin.ask(&format!("GET {page}"), "").await.refuses(404, "not_found");
    }
}

#[tokio::test]
async fn no_other_origin_is_let_in_and_nothing_is_cached() {
    let admin = Admin::open().await;
    let origin = "Origin: https://evil.example\r\nAccess-Control-Request-Method: POST\r\n";
    for line in ["GET /stats", "GET /nowhere", "OPTIONS /api/v1/drain", "POST /api/v1/drain"] {
        let answer = admin.ask(line, origin).await;
        assert!(!answer.head.contains("access-control-"), "{line}: {}", answer.head);
        for field in ["cache-control: no-store", "x-content-type-options: nosniff", "x-frame-options: deny"] {
            assert!(answer.head.contains(field), "{line}: {}", answer.head);
        }
    }
}

#[tokio::test]
async fn no_answer_shows_the_token() {
    let admin = Admin::bound("127.0.0.1", TOKEN).await;
    for line in ["GET /healthz", "GET /readyz", "GET /metrics", "GET /stats", "GET /nowhere", "POST /api/v1/drain"] {
        for fields in [String::new(), admin.bearer()] {
            let answer = admin.ask(line, &fields).await;
            assert!(!answer.head.contains(TOKEN) && !answer.body.contains(TOKEN), "{line}");
        }
    }
}

#[tokio::test]
async fn a_header_block_is_bounded() {
    let admin = Admin::open().await;
    let many = "X-A: b\r\n".repeat(100);
    assert_eq!(admin.ask("GET /healthz", &many).await.status, 431);
    let large = format!("X-A: {}\r\n", "b".repeat(64 * 1024));
    let connect = TcpStream::connect(admin.address).await.unwrap();
    let (mut read, mut write) = connect.into_split();
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {}\r\n{large}\r\n", admin.address);
    // The server may reset while this is still being sent, which loses its answer: either is a refusal.
    let _ = write.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = timeout(LONG, read.read_to_end(&mut answer)).await.unwrap();
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
}

#[tokio::test(start_paused = true)]
async fn slow_headers_and_idle_connections_end() {
    let admin = Admin::open().await;
    for beginning in ["", "GET /healthz HTTP/1.1\r\nHost:"] {
        let mut stream = TcpStream::connect(admin.address).await.unwrap();
        stream.write_all(beginning.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        // On the paused clock this takes no time; without the server's deadline it would run into this one.
        let end = timeout(Duration::from_secs(60), stream.read_to_end(&mut rest)).await;
        assert!(end.is_ok(), "{beginning}");
    }
}

#[tokio::test]
async fn shutdown_closes_idle_connections_and_returns() {
    let mut admin = Admin::open().await;
    let mut idle = TcpStream::connect(admin.address).await.unwrap();
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {}\r\n\r\n", admin.address);
    idle.write_all(request.as_bytes()).await.unwrap();
    let mut first = [0; 12];
    idle.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    admin.stop.take();
    timeout(LONG, &mut admin.served).await.unwrap().unwrap();
    assert!(timeout(LONG, idle.read_to_end(&mut Vec::new())).await.unwrap().is_ok());
    assert!(TcpStream::connect(admin.address).await.is_err());
}

#[tokio::test]
async fn a_unix_socket_serves_the_same_and_reads_freely() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("admin.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let token = Token::new(&Secret::default());
    let state = state(Arc::default(), Arc::default(), token, Address::Unix(path.clone()));
    let _served = tokio::spawn(serve(listener, state, std::future::pending()));
    let request = |line: &str| format!("{line} HTTP/1.1\r\nHost: weir\r\nConnection: close\r\n\r\n");
    assert_eq!(exchange(UnixStream::connect(&path).await.unwrap(), &request("GET /readyz")).await.status, 503);
    let answer = exchange(UnixStream::connect(&path).await.unwrap(), &request("POST /api/v1/drain")).await;
    answer.refuses(401, "unauthorized");
}
