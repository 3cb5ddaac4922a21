//! A Docker engine's API as far as discovery asks it, with the containers that a test says there are.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Path as Segment, RawQuery, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
    serve::Listener,
};
use futures_util::stream;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream, UnixListener},
    sync::mpsc,
    task::JoinHandle,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::certs::{Ca, Identity, server_config};

/// An engine that can be switched off and on again.
pub struct FakeEngine {
    host: String,
    api: Arc<Api>,
    serving: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Api {
    containers: Mutex<BTreeMap<String, Value>>,
    followers: Mutex<Vec<mpsc::UnboundedSender<String>>>,
    streams: AtomicUsize,
    lists: AtomicUsize,
    inspections: AtomicUsize,
    stuck: Mutex<Option<String>>,
}

/// An engine at this socket.
pub fn engine_at(socket: &Path) -> FakeEngine {
    let engine = FakeEngine { host: format!("unix://{}", socket.display()), api: Arc::default(), serving: Mutex::default() };
    engine.switch_on();
    engine
}

/// An engine at a TCP port.
pub async fn tcp_engine() -> FakeEngine {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let host = format!("tcp://{}", listener.local_addr().expect("an address"));
    let engine = FakeEngine { host, api: Arc::default(), serving: Mutex::default() };
    engine.serve(listener);
    engine
}

/// An engine at a TCP port that speaks TLS, to clients with a certificate by this authority only.
pub async fn tls_engine(identity: &Identity, clients: &Ca) -> FakeEngine {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let engine = FakeEngine { host: format!("tcp://localhost:{port}"), api: Arc::default(), serving: Mutex::default() };
    engine.serve(TlsListener { listener, tls: server_config(identity, &[], Some(clients)).into() });
    engine
}

struct TlsListener {
    listener: TcpListener,
    tls: TlsAcceptor,
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;
    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, address) = Listener::accept(&mut self.listener).await;
            if let Ok(stream) = self.tls.accept(stream).await {
                return (stream, address);
            }
        }
    }
    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

impl Drop for FakeEngine {
    fn drop(&mut self) {
        self.switch_off();
    }
}

impl FakeEngine {
    /// Where it answers, as the configuration says it.
    pub fn host(&self) -> &str {
        &self.host
    }
    /// Streams of events that are open.
    pub fn followers(&self) -> usize {
        self.api.followers.lock().iter().filter(|follower| !follower.is_closed()).count()
    }
    /// Streams of events that were ever asked for.
    pub fn streams(&self) -> usize {
        self.api.streams.load(Ordering::Relaxed)
    }
    /// Lists that were asked for.
    pub fn lists(&self) -> usize {
        self.api.lists.load(Ordering::Relaxed)
    }
    /// Containers that were asked about.
    pub fn inspections(&self) -> usize {
        self.api.inspections.load(Ordering::Relaxed)
    }

    /// It answers again, at the same place.
    pub fn switch_on(&self) {
        let path = self.host.strip_prefix("unix://").expect("a socket that has a path");
        let _ = std::fs::remove_file(path);
        self.serve(UnixListener::bind(path).expect("a socket"));
    }
    /// It is gone, with all that was connected.
    pub fn switch_off(&self) {
        if let Some(serving) = self.serving.lock().take() {
            serving.abort();
        }
        self.api.followers.lock().clear();
        if let Some(path) = self.host.strip_prefix("unix://") {
            let _ = std::fs::remove_file(path);
        }
    }

    fn serve<L: Listener<Addr: std::fmt::Debug>>(&self, listener: L) {
        let app = Router::new()
            .route("/containers/json", get(list))
            .route("/containers/{id}/json", get(inspect))
            .route("/events", get(events))
            .with_state(self.api.clone());
        *self.serving.lock() = Some(tokio::spawn(async move {
            let _ = axum::serve(listener, app).await;
        }));
    }

    /// It runs from now on, and nobody is told.
    pub fn put(&self, container: FakeContainer) {
        self.api.containers.lock().insert(container.id.clone(), container.json());
    }
    /// It is there no more, and nobody is told.
    pub fn remove(&self, id: &str) {
        self.api.containers.lock().remove(id);
    }
    /// This one is never answered about; `None` to be done with that.
    pub fn stick(&self, id: Option<&str>) {
        *self.api.stuck.lock() = id.map(str::to_owned);
    }

    /// It starts.
    pub fn start(&self, container: FakeContainer) {
        let id = container.id.clone();
        self.put(container);
        self.tell(&id, "start", &[]);
    }
    /// It is another now, as the event says.
    pub fn change(&self, container: FakeContainer, action: &str) {
        let id = container.id.clone();
        self.put(container);
        self.tell(&id, action, &[]);
    }
    /// It is sent a signal.
    pub fn kill(&self, id: &str, signal: i32) {
        self.tell(id, "kill", &[("signal", &signal.to_string())]);
    }
    /// It dies.
    pub fn die(&self, id: &str) {
        self.remove(id);
        self.tell(id, "die", &[("exitCode", "0")]);
    }

    /// An event of a container: its attributes are its labels and these.
    pub fn tell(&self, id: &str, action: &str, attributes: &[(&str, &str)]) {
        let mut all = self.api.containers.lock().get(id).map_or(json!({}), |json| json["Config"]["Labels"].clone());
        attributes.iter().for_each(|(name, value)| all[*name] = json!(value));
        self.say(&json!({"Type": "container", "Action": action, "Actor": {"ID": id, "Attributes": all}, "timeNano": 1}));
    }
    /// An event of a network that a container is connected to, or was.
    pub fn tell_network(&self, id: &str, action: &str) {
        let attributes = json!({"container": id, "name": "front", "type": "bridge"});
        self.say(&json!({"Type": "network", "Action": action, "Actor": {"ID": "0123", "Attributes": attributes}}));
    }
    /// A line of the stream.
    pub fn say(&self, event: &Value) {
        self.api.followers.lock().retain(|follower| follower.send(format!("{event}\n")).is_ok());
    }
}

/// A container to be.
#[derive(Clone)]
pub struct FakeContainer {
    id: String,
    created: String,
    labels: BTreeMap<String, String>,
    networks: BTreeMap<String, String>,
    ports: Vec<u16>,
    state: Value,
    stop_signal: Option<&'static str>,
}

/// One that runs, at 127.0.0.1 in the network `bridge`.
pub fn container(id: &str) -> FakeContainer {
    FakeContainer {
        id: id.into(),
        created: "2026-01-01T00:00:00Z".into(),
        labels: BTreeMap::new(),
        networks: BTreeMap::from([("bridge".into(), "127.0.0.1".into())]),
        ports: Vec::new(),
        state: json!({"Status": "running", "Running": true, "StartedAt": "2026-01-01T00:00:01Z"}),
        stop_signal: None,
    }
}

impl FakeContainer {
    pub fn label(mut self, label: &str, value: impl ToString) -> Self {
        self.labels.insert(label.into(), value.to_string());
        self
    }
    pub fn exposes(mut self, port: u16) -> Self {
        self.ports.push(port);
        self
    }
    /// Its networks and its address in each.
    pub fn networks(mut self, networks: &[(&str, &str)]) -> Self {
        self.networks = networks.iter().map(|(name, address)| ((*name).into(), (*address).into())).collect();
        self
    }
    pub fn health(mut self, status: &str) -> Self {
        self.state["Health"] = json!({"Status": status, "FailingStreak": 0});
        self
    }
    pub fn paused(mut self, paused: bool) -> Self {
        self.state["Paused"] = json!(paused);
        self
    }
    pub fn started(mut self, at: &str) -> Self {
        self.state["StartedAt"] = json!(at);
        self
    }
    pub fn stop_signal(mut self, signal: &'static str) -> Self {
        self.stop_signal = Some(signal);
        self
    }

    fn json(&self) -> Value {
        let networks = self.networks.iter().map(|(name, address)| {
            (name.clone(), json!({"IPAddress": address, "GlobalIPv6Address": "", "NetworkID": name, "Gateway": ""}))
        });
        let ports = self.ports.iter().map(|port| (format!("{port}/tcp"), json!({})));
        json!({
            "Id": self.id,
            "Name": format!("/{}", self.id),
            "Created": self.created,
            "State": self.state,
            "Config": {
                "Labels": self.labels,
                "ExposedPorts": ports.collect::<serde_json::Map<_, _>>(),
                "StopSignal": self.stop_signal,
                "Entrypoint": "not always a list",
            },
            "NetworkSettings": {"Networks": networks.collect::<serde_json::Map<_, _>>()},
        })
    }
}

async fn list(State(api): State<Arc<Api>>, RawQuery(query): RawQuery) -> Response {
    api.lists.fetch_add(1, Ordering::Relaxed);
    // What the engine is asked: {"label":["weir.upstream"]}
    assert_eq!(query.as_deref(), Some("filters=%7B%22label%22%3A%5B%22weir.upstream%22%5D%7D"));
    let containers = api.containers.lock();
    let ours = containers.iter().filter(|(_, json)| json["Config"]["Labels"].get("weir.upstream").is_some());
    Json(ours.map(|(id, _)| json!({"Id": id, "State": "a new word"})).collect::<Vec<_>>()).into_response()
}

async fn inspect(State(api): State<Arc<Api>>, Segment(id): Segment<String>) -> Response {
    api.inspections.fetch_add(1, Ordering::Relaxed);
    if api.stuck.lock().as_ref() == Some(&id) {
        std::future::pending::<()>().await;
    }
    match api.containers.lock().get(&id) {
        Some(json) => Json(json.clone()).into_response(),
        None => (StatusCode::NOT_FOUND, Json(json!({"message": "No such container"}))).into_response(),
    }
}

async fn events(State(api): State<Arc<Api>>) -> Response {
    api.streams.fetch_add(1, Ordering::Relaxed);
    let (follower, lines) = mpsc::unbounded_channel::<String>();
    api.followers.lock().push(follower);
    let lines = stream::unfold(lines, |mut lines| async {
        let line = lines.recv().await?;
        Some((Ok::<_, std::io::Error>(Bytes::from(line)), lines))
    });
    Body::from_stream(lines).into_response()
}
