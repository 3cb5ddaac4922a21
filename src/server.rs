//! Assembly: a configuration becomes listeners, background services and the admin API, running.
//!
//! Nothing here is global, so two edges can run in one process, as the tests do.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    admin::{self, AdminState, Commands, Token},
    config::{AdminSpec, Spec},
    discovery::{Changes, DiscoveryObserver},
    endpoint::{Endpoint, EndpointRegistry, HealthStatus},
    health::HealthObserver,
    listener::{self, Bound, ConnectionLimit, Shared},
    observe::{EndpointState, Observer, StateSource, UpstreamState},
    proxy,
    snapshot::{self, Snapshot, Store},
    tls::{self, ServerTls},
    types::{Address, Name, Problem, Problems, Secret},
    upstream::Upstream,
};

/// Why an edge did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration has errors.
    #[error("the configuration has {} problems, the first is: {}", .0.len(), .0.first().map_or("none", |problem| &problem.message))]
    Configuration(Vec<Problem>),
    /// An address cannot be listened on, or a log not opened. The text names it.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// An edge that runs.
pub struct RunningServer {
    addresses: BTreeMap<Name, Vec<Address>>,
    admin: Option<Admin>,
    control: Arc<Control>,
    shared: Arc<Shared>,
    /// The accept loops, which end when the drain begins.
    accepting: TaskTracker,
    background: TaskTracker,
    /// Metrics hold it weakly.
    _state: Arc<dyn StateSource>,
    grace: Duration,
}

/// How the admin API is reached.
struct Admin {
    address: Address,
    token: Secret,
    is_made: bool,
}

/// The switches of a running edge.
struct Control {
    ready: Arc<AtomicBool>,
    draining: watch::Sender<bool>,
    /// Ends the background services and the admin API.
    stopping: watch::Sender<bool>,
    /// Cuts what is left when the grace period is over.
    cut: CancellationToken,
    /// Asks whoever runs the process to end it.
    exit: watch::Sender<bool>,
}

impl Control {
    fn drain(&self) {
        self.ready.store(false, Ordering::Release);
        self.draining.send_replace(true);
    }
}

impl Commands for Control {
    fn drain(&self) {
        Control::drain(self);
        self.exit.send_replace(true);
    }
}

/// Reads the state of upstreams from the running snapshot.
struct LiveState(Arc<Store>);

impl StateSource for LiveState {
    fn upstreams(&self) -> Vec<UpstreamState> {
        self.0.load().upstreams.values().map(|upstream| state(upstream)).collect()
    }
}

fn state(upstream: &Upstream) -> UpstreamState {
    let now = Instant::now();
    let endpoint = |endpoint: &Arc<Endpoint>| EndpointState {
        label: endpoint.label().clone(),
        weight: endpoint.weight(),
        priority: endpoint.priority(),
        zone: endpoint.zone().map(Arc::from),
        healthy: endpoint.may_take(now),
        situation: endpoint.situation(),
        transitions: endpoint.transitions(),
        in_flight: endpoint.in_flight(),
        stats: endpoint.stats(),
    };
    UpstreamState {
        name: upstream.name().clone(),
        strategy: upstream.spec().strategy.kind(),
        panicking: upstream.is_panicking(),
        endpoints: upstream.endpoints().iter().map(endpoint).collect(),
    }
}

/// Counts what the loops of upstreams do: health checks, discovery.
struct LoopMetrics(Arc<Observer>);

impl HealthObserver for LoopMetrics {
    fn checked(&self, endpoint: &Endpoint, passed: bool) {
        self.0.metrics().health_check(endpoint.upstream(), endpoint.label(), passed);
    }
    fn changed(&self, _: &Endpoint, _: HealthStatus, _: &str) {
        // The state is read from the endpoints when metrics are scraped.
    }
}

impl DiscoveryObserver for LoopMetrics {
    fn asked(&self, upstream: &Name, answered: bool) {
        self.0.metrics().discovery(upstream, Some(answered));
    }
    fn absent(&self, upstream: &Name) {
        self.0.metrics().discovery(upstream, None);
    }
    fn replaced(&self, upstream: &Name, changes: Changes) {
        self.0.metrics().endpoints_replaced(upstream, changes.added as u64, changes.removed as u64);
    }
}

/// An edge that has everything it needs of the system, and does not serve yet: what is left to do as root can be done.
pub struct Prepared {
    snapshot: Snapshot,
    bound: BTreeMap<Name, Vec<Bound>>,
    admin: Option<(tokio::net::TcpListener, Address, AdminSpec)>,
    observer: Arc<Observer>,
}

impl Prepared {
    /// Compiles the configuration, binds every address and opens the access log. Call it within a tokio runtime.
    pub async fn new(spec: Spec) -> Result<Self, StartError> {
        crate::tls::install_provider();
        let problems = Problems::default();
        let endpoints = EndpointRegistry::default();
        let compiled = snapshot::compile(spec, 1, &endpoints, SystemTime::now(), &problems);
        let Some(mut snapshot) = compiled else { return Err(StartError::Configuration(problems.take())) };
        let bound = bind_all(&snapshot)?;
        resolve_redirects(&mut snapshot, &bound);
        let admin = bind_admin(&snapshot.spec).await?;
        let observer = Arc::new(Observer::new(&snapshot.spec.observability.access_log)?);
        Ok(Self { snapshot, bound, admin, observer })
    }

    /// Serves.
    pub fn serve(self) -> RunningServer {
        let Self { snapshot, bound, admin, observer } = self;
        let server = snapshot.spec.server.clone();
        tell_certificates(&snapshot, &observer);
        observer.metrics().started(snapshot.generation);

        let store = Arc::new(Store::new(snapshot));
        let (draining, draining_seen) = watch::channel(false);
        let (stopping, stopping_seen) = watch::channel(false);
        let control = Arc::new(Control {
            ready: Arc::default(),
            draining,
            stopping,
            cut: CancellationToken::new(),
            exit: watch::Sender::new(false),
        });
        let threads = server.threads.0.map_or_else(available_threads, |threads| threads.get());
        let shared = Arc::new(Shared {
            edge: Arc::new(proxy::edge(store.clone(), observer.clone(), threads)),
            store: store.clone(),
            observer: observer.clone(),
            open: ConnectionLimit::default(),
            max_connections: server.max_connections.0.map_or_else(default_max_connections, |max| max.get()),
            ready: control.ready.clone(),
            draining: draining_seen,
            tasks: TaskTracker::new(),
            cut: control.cut.clone(),
        });
        let background = TaskTracker::new();
        for upstream in store.load().upstreams.values() {
            background.spawn(upstream.clone().run(stopping_seen.clone(), Arc::new(LoopMetrics(observer.clone()))));
        }
        for tls in store.load().listeners.values().filter_map(|listener| listener.tls.clone()) {
            background.spawn(keep_renewed(tls, store.clone(), observer.clone(), stopping_seen.clone()));
        }
        let state: Arc<dyn StateSource> = Arc::new(LiveState(store.clone()));
        observer.metrics().watch(&state);
        let admin = admin.map(|(listener, address, options)| {
            let token = Token::new(&options.token);
            let made = token.made().cloned();
            let admin_state = AdminState {
                metrics: observer.metrics().clone(),
                state: state.clone(),
                commands: control.clone(),
                ready: control.ready.clone(),
                token,
                address: address.clone(),
            };
            let mut stopping = stopping_seen.clone();
            let until = async move {
                let _ = stopping.wait_for(|stopping| *stopping).await;
            };
            background.spawn(admin::serve(listener, Arc::new(admin_state), until));
            Admin { address, is_made: made.is_some(), token: made.unwrap_or(options.token) }
        });
        // Every socket is bound, so nobody who comes from here on is turned away.
        control.ready.store(true, Ordering::Release);
        let accepting = TaskTracker::new();
        let mut addresses = BTreeMap::<Name, Vec<Address>>::new();
        for (name, sockets) in bound {
            let open = ConnectionLimit::default();
            for socket in sockets {
                addresses.entry(name.clone()).or_default().push(socket.address().clone());
                accepting.spawn(socket.run(name.clone(), open.clone(), shared.clone(), stopping_seen.clone()));
            }
        }
        RunningServer {
            addresses,
            admin,
            control,
            shared,
            accepting,
            background,
            _state: state,
            grace: server.shutdown_grace.get(),
        }
    }
}

impl RunningServer {
    /// Compiles the configuration, binds everything, and serves. Call it within a tokio runtime.
    pub async fn start(spec: Spec) -> Result<Self, StartError> {
        Ok(Prepared::new(spec).await?.serve())
    }

    /// Where a listener accepts, with the real port. The first address, when it has several.
    pub fn address(&self, listener: &str) -> Option<SocketAddr> {
        self.addresses.get(listener)?.first()?.tcp()
    }

    /// Everywhere that listeners accept.
    pub fn addresses(&self) -> &BTreeMap<Name, Vec<Address>> {
        &self.addresses
    }

    /// Where the admin API answers, unless it is off.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref()?.address.tcp()
    }

    /// The bearer token of the admin API: configured, or made at start.
    pub fn admin_token(&self) -> Option<&Secret> {
        self.admin.as_ref().map(|admin| &admin.token)
    }

    /// The bearer token, if it was made at start for lack of a configured one: whoever runs the edge tells it once.
    pub fn made_token(&self) -> Option<&Secret> {
        self.admin.as_ref().filter(|admin| admin.is_made).map(|admin| &admin.token)
    }

    /// The observer, for reopening its log.
    pub fn observer(&self) -> &Arc<Observer> {
        &self.shared.observer
    }

    /// How long a drain may take.
    pub fn grace(&self) -> Duration {
        self.grace
    }

    /// Stops being ready, stops accepting, and lets what is in flight finish.
    pub fn drain(&self) {
        self.control.drain();
    }

    /// Resolves when the admin API was asked to end the process.
    pub async fn exit_requested(&self) {
        let _ = self.control.exit.subscribe().wait_for(|exit| *exit).await;
    }

    /// Resolves when nothing is in flight any more. Call [`RunningServer::drain`] first.
    pub async fn drained(&self) {
        // First who may still let somebody in, then everybody who was let in.
        self.accepting.close();
        self.accepting.wait().await;
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }

    /// Drains for at most the grace period, then cuts what is left. True when nothing had to be cut.
    pub async fn stop(self) -> bool {
        let grace = self.grace;
        self.stop_within(grace).await
    }

    /// As [`RunningServer::stop`], with another grace period.
    pub async fn stop_within(self, grace: Duration) -> bool {
        self.stop_unless(grace, std::future::pending()).await
    }

    /// As [`RunningServer::stop`], and `hurry` ends the grace period early.
    pub async fn stop_unless(&self, grace: Duration, hurry: impl Future<Output = ()>) -> bool {
        self.drain();
        let began = Instant::now();
        let (clean, why) = tokio::select! {
            biased;
            () = self.drained() => (true, ""),
            () = hurry => (false, "at a second signal"),
            () = tokio::time::sleep(grace) => (false, "at the end of the grace period"),
        };
        if clean {
            log::info!("drained in {:?}", began.elapsed());
        } else {
            let left = self.shared.tasks.len();
            log::warn!("{left} connections and streams were cut {why}, after {:?}", began.elapsed());
            self.control.stopping.send_replace(true);
            self.control.cut.cancel();
            self.drained().await;
        }
        self.control.stopping.send_replace(true);
        self.background.close();
        // The background services end at once; a probe in flight is dropped.
        let _ = tokio::time::timeout(Duration::from_secs(2), self.background.wait()).await;
        self.shared.observer.flush(Duration::from_secs(2));
        clean
    }
}

fn bind_all(snapshot: &Snapshot) -> Result<BTreeMap<Name, Vec<Bound>>, StartError> {
    let mut bound = BTreeMap::<Name, Vec<Bound>>::new();
    for (name, listener) in &snapshot.listeners {
        for address in &listener.addresses {
            bound.entry(name.clone()).or_default().push(listener::bind(address)?);
        }
    }
    Ok(bound)
}

/// A redirect to a TLS listener on port 0 points at the port that it got.
fn resolve_redirects(snapshot: &mut Snapshot, bound: &BTreeMap<Name, Vec<Bound>>) {
    let tls = snapshot.listeners.values().filter(|listener| listener.tls.is_some() && listener.tcp.is_none());
    let port = tls
        .filter_map(|listener| bound.get(&listener.name))
        .flatten()
        .find_map(|bound| bound.address().tcp())
        .map(|address| address.port());
    for listener in snapshot.listeners.values_mut() {
        if listener.redirect_to_https == Some(0)
            && let Some(listener) = Arc::get_mut(listener)
        {
            listener.redirect_to_https = port;
        }
    }
}

async fn bind_admin(spec: &Spec) -> Result<Option<(tokio::net::TcpListener, Address, AdminSpec)>, StartError> {
    let Some(options) = spec.admin.on() else { return Ok(None) };
    let Address::Tcp(address) = &options.address else {
        return Err(io::Error::other("the admin address must be IP:port").into());
    };
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address} for the admin API: {error}")))?;
    let address = Address::Tcp(listener.local_addr()?);
    Ok(Some((listener, address, options.clone())))
}

/// How often certificate files are looked at.
const CERTIFICATE_WATCH: Duration = Duration::from_secs(10);

/// Serves renewed certificates of a listener until the edge stops.
async fn keep_renewed(tls: Arc<ServerTls>, store: Arc<Store>, observer: Arc<Observer>, mut stopping: watch::Receiver<bool>) {
    let renewed = |_: &ServerTls| tell_certificates(&store.load(), &observer);
    tokio::select! {
        _ = tls::watch(tls, CERTIFICATE_WATCH, renewed) => {}
        _ = stopping.wait_for(|stopping| *stopping) => {}
    }
}

/// The metrics say when each certificate expires.
fn tell_certificates(snapshot: &Snapshot, observer: &Observer) {
    let tls = snapshot.listeners.values().filter_map(|listener| listener.tls.as_ref());
    let certificates: Vec<_> = tls.flat_map(|tls| tls.certificates()).collect();
    observer.metrics().certificates(certificates.iter().map(|certificate| (certificate.name.as_str(), certificate.not_after)));
}

/// The CPUs this process may use: affinity and cgroup quota counted.
pub fn available_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |threads| threads.get())
}

/// 80 % of half the descriptor limit: each connection may need one descriptor more, to its upstream.
fn default_max_connections() -> usize {
    let (soft, _) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
    usize::try_from(soft / 2 / 10 * 8).unwrap_or(usize::MAX).clamp(64, 10_000_000)
}
