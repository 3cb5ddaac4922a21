//! What is measured, what it is called, and where it is in the output.

use super::{
    client::Target,
    load::Exchange,
    origin::{LARGE, MIDDLE, Protocol, SMALL},
    programs::{Kind, Program, Setup},
};

/// Something that is measured.
pub struct Workload {
    /// By which it is asked for.
    pub name: &'static str,
    /// Its rows.
    pub title: &'static str,
    pub way: Way,
}

/// How it is measured.
pub enum Way {
    /// Requests in a closed loop.
    Requests(Scene),
    /// The same, as something grows.
    Scaling(Scene),
    /// Idle connections.
    Memory {
        tls: bool,
    },
    /// Requests in an open loop.
    Latency(Half),
    Syscalls,
    Workers,
}

/// Half of which rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    /// Of what one of the programs reaches, the same for all.
    OfOne,
    /// Of what each reaches itself.
    OfItsOwn,
}

/// Load in a closed loop, and what it meets.
pub struct Scene {
    pub exchange: Exchange,
    pub tls: bool,
    /// Without a number, as the options say.
    pub connections: Option<usize>,
    pub setup: Setup,
    /// Only programs that serve files and have a cache.
    only_complete: bool,
    /// Only programs that speak HTTP/3.
    only_http3: bool,
}

impl Scene {
    const fn of(exchange: Exchange) -> Self {
        Self { exchange, tls: false, connections: None, setup: Setup::USUAL, only_complete: false, only_http3: false }
    }

    /// By weight of the exchange: so many are enough to keep a processor busy.
    const fn on(mut self, connections: usize) -> Self {
        self.connections = Some(connections);
        self
    }

    const fn over_tls(mut self) -> Self {
        self.tls = true;
        self
    }

    const fn with(mut self, setup: Setup) -> Self {
        self.setup = setup;
        self
    }

    const fn over_http3(mut self) -> Self {
        (self.tls, self.only_http3) = (true, true);
        self
    }

    const fn only_complete(mut self) -> Self {
        self.only_complete = true;
        self
    }

    pub fn target(&self, program: &Program) -> Target {
        if self.tls { program.tls } else { program.cleartext }
    }
}

const GET: Exchange = Exchange::Get("/small", SMALL);
const USUAL: Setup = Setup::USUAL;
/// Connections over HTTP/2, and for bodies of 10 MiB.
const FEW: usize = 8;

const fn requests(name: &'static str, title: &'static str, scene: Scene) -> Workload {
    Workload { name, title, way: Way::Requests(scene) }
}

const fn scaling(name: &'static str, title: &'static str, scene: Scene) -> Workload {
    Workload { name, title, way: Way::Scaling(scene) }
}

const fn other(name: &'static str, title: &'static str, way: Way) -> Workload {
    Workload { name, title, way }
}

/// In the order of the rows.
pub static ALL: &[Workload] = &[
    requests("small", "100 bytes, keep-alive", Scene::of(GET)),
    requests("logged", "the same with an access log", Scene::of(GET).with(Setup { access_log: true, ..USUAL })),
    requests("tls", "100 bytes, keep-alive, TLS", Scene::of(GET).over_tls()),
    requests("close", "100 bytes, new connection", Scene::of(Exchange::GetAndClose("/small", SMALL))),
    requests("fields", "50 header fields each way", Scene::of(Exchange::Fields)),
    requests("large", "100 KiB", Scene::of(Exchange::Get("/large", LARGE))),
    requests("download", "10 MiB down", Scene::of(Exchange::Get("/huge", super::origin::HUGE)).on(FEW)),
    requests("upload", "10 MiB up", Scene::of(Exchange::Upload).on(FEW)),
    requests("file", "file of 1 KiB", Scene::of(Exchange::Get("/files/small", MIDDLE)).only_complete()),
    requests("hit", "fresh cache hit of 1 KiB", Scene::of(Exchange::Get("/kept", MIDDLE)).only_complete()),
    requests("websocket", "WebSocket echo of 64 bytes", Scene::of(Exchange::Echo)),
    requests("h2", "HTTP/2 over TLS, 100 bytes", Scene::of(Exchange::Http2("/small", SMALL)).over_tls().on(FEW)),
    requests("h2-large", "HTTP/2 over TLS, 100 KiB", Scene::of(Exchange::Http2("/large", LARGE)).over_tls().on(FEW)),
    requests(
        "grpc",
        "gRPC unary over TLS, 100 bytes each way",
        Scene::of(Exchange::Grpc).over_tls().on(FEW).with(Setup { protocol: Protocol::Grpc, ..USUAL }),
    ),
    requests("h3", "HTTP/3, 100 bytes, 64 connections", Scene::of(Exchange::Http3("/small", SMALL)).over_http3().on(64)),
    requests("h3-one", "HTTP/3, 100 bytes, one connection", Scene::of(Exchange::Http3("/small", SMALL)).over_http3().on(1)),
    requests("h3-large", "HTTP/3, 100 KiB", Scene::of(Exchange::Http3("/large", LARGE)).over_http3().on(FEW)),
    requests("h3-download", "HTTP/3, 10 MiB down", Scene::of(Exchange::Http3("/huge", super::origin::HUGE)).over_http3().on(1)),
    requests("handshake", "TLS 1.3 handshake, full", Scene::of(Exchange::GetAndClose("/small", SMALL)).over_tls()),
    requests("resumed", "TLS 1.3 handshake, resumed", Scene::of(Exchange::GetAndResume("/small", SMALL)).over_tls()),
    scaling("connections-64", "64 connections", Scene::of(GET).on(64)),
    scaling("connections-1000", "1,000 connections", Scene::of(GET).on(1000)),
    scaling("endpoints-3", "3 endpoints", Scene::of(GET).with(Setup { endpoints: 3, ..USUAL })),
    scaling("endpoints-10000", "10,000 endpoints", Scene::of(GET).with(Setup { endpoints: 10_000, ..USUAL })),
    scaling(
        "routes-10",
        "10 routes",
        Scene::of(Exchange::Get("/service4/small", SMALL)).with(Setup { routes: Some(10), ..USUAL }),
    ),
    scaling(
        "routes-10000",
        "10,000 routes",
        Scene::of(Exchange::Get("/service5000/small", SMALL)).with(Setup { routes: Some(10_000), ..USUAL }),
    ),
    other("idle", "plain", Way::Memory { tls: false }),
    other("idle-tls", "TLS", Way::Memory { tls: true }),
    other("latency", "at the same rate", Way::Latency(Half::OfOne)),
    other("latency-own", "at half of its own rate", Way::Latency(Half::OfItsOwn)),
    other("syscalls", "system calls per request", Way::Syscalls),
    other("workers", "two workers", Way::Workers),
];

impl Workload {
    /// Without a name, all are.
    pub fn is_asked_for(&self, names: &[String]) -> bool {
        names.is_empty() || names.iter().any(|name| self.name.contains(name.as_str()))
    }

    pub fn has(&self, kind: Kind) -> bool {
        match &self.way {
            Way::Requests(scene) if scene.only_http3 => {
                matches!(kind, Kind::Weir | Kind::WeirPingora | Kind::Envoy | Kind::Caddy)
            }
            Way::Requests(scene) | Way::Scaling(scene) => match kind {
                Kind::Weir | Kind::WeirPingora | Kind::Nginx => true,
                Kind::Haproxy | Kind::Envoy => !scene.only_complete,
                Kind::Caddy | Kind::Origin => false,
            },
            Way::Latency(Half::OfOne) => kind != Kind::Caddy,
            Way::Workers => kind == Kind::Weir,
            Way::Memory { .. } | Way::Latency(Half::OfItsOwn) | Way::Syscalls => !matches!(kind, Kind::Caddy | Kind::Origin),
        }
    }
}

/// What is measured of a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quantity {
    /// In seconds for each answer.
    Cpu,
    /// Answers per second, in rounds in which the program was the bottleneck.
    Rate,
    /// The same in the other rounds: it could do more.
    AtLeast,
    /// Latency in seconds, not exceeded by so many of 1000 requests.
    Latency(u32),
    /// In bytes, with so many idle connections.
    Memory(usize),
    /// In bytes for each of them.
    PerConnection,
    Syscalls,
    /// Of so many workers, with the load on the same processors.
    UnpinnedCpu(usize),
    UnpinnedRate(usize),
    /// How much faster two workers are than one.
    Speedup,
}
