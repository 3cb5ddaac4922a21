//! Assembly: a configuration becomes listeners, background services and the admin API, running.
//!
//! Nothing here is global, so two edges can run in one process, as the tests do.

mod life;
mod signals;

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    os::fd::OwnedFd,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    config::{Document, Loaded, Spec},
    control::{self, AdminListener, Control, Inherited, Live, LiveState, Origin, Ready, Switches},
    exchange::Doors,
    lane::Pool,
    listener::{ConnectionLimit, Shared},
    observe::{Observer, StateSource},
    proxy,
    snapshot::{self, Registries, Snapshot, Store},
    types::{Address, Name, Problem, Problems, Secret},
};
pub use life::run;
pub use signals::{Signal, Signals};

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

/// What waits for the disk of the cache when nothing is in flight any more is waited for, at most so long.
const DISK_PATIENCE: Duration = Duration::from_secs(3);

/// An edge that runs.
pub struct RunningServer {
    control: Arc<Control>,
    /// Metrics hold it weakly.
    _state: Arc<dyn StateSource>,
    grace: Duration,
}

/// An edge that has everything it needs of the system, and does not serve yet: what is left to do as root can be done.
pub struct Prepared {
    loaded: Loaded,
    origin: Origin,
    registries: Registries,
    ready: Ready,
    observer: Arc<Observer>,
    /// Where the process before this one waits to hear that this one serves.
    predecessor: Option<OwnedFd>,
}

impl Prepared {
    /// Compiles the configuration, binds every address and opens the access log. Call it within a tokio runtime.
    pub async fn new(loaded: Loaded, origin: Origin) -> Result<Self, StartError> {
        Self::inheriting(loaded, origin, Inherited::default()).await
    }

    /// The same with sockets that another process has bound: those that the configuration has no use for are closed.
    pub async fn inheriting(loaded: Loaded, origin: Origin, mut inherited: Inherited) -> Result<Self, StartError> {
        crate::tls::install_provider();
        let Some(spec) = loaded.spec.clone() else { return Err(StartError::Configuration(Vec::new())) };
        let problems = Problems::default();
        let registries = Registries::default();
        let compiled = snapshot::compile(spec, 1, &registries, SystemTime::now(), &problems);
        let Some(mut snapshot) = compiled else { return Err(StartError::Configuration(problems.take())) };
        inherited.tell_unused(&snapshot);
        let sockets = inherited.sockets().bind(&snapshot)?;
        sockets.resolve_ports(&mut snapshot);
        let admin = AdminListener::prepare(None, &snapshot.spec, &mut inherited).await?;
        let observer = Arc::new(Observer::new(&snapshot.spec.observability.access_log)?);
        registries.endpoints.witnessed_by(observer.timeline().clone());
        let tracing = observer.open_tracing(snapshot.spec.observability.tracing.on())?;
        let storage = control::open_storage(&snapshot).await?;
        let ready = Ready { snapshot, sockets, admin, access_log: None, tracing, storage };
        Ok(Self { loaded, origin, registries, ready, observer, predecessor: inherited.take_ready() })
    }

    /// The directory that it writes to while it serves, for whoever becomes another user meanwhile.
    pub fn directory(&self) -> Option<std::path::PathBuf> {
        self.ready.snapshot.certificates.as_ref()?.settings.directory().map(std::path::Path::to_owned)
    }

    /// Serves.
    pub async fn serve(self) -> RunningServer {
        let Self { loaded, origin, registries, ready, observer, predecessor } = self;
        let server = ready.snapshot.spec.server.clone();
        let store = Arc::new(Store::new(Snapshot::nothing()));
        let (draining, draining_seen) = watch::channel(false);
        let (stopping, stopping_seen) = watch::channel(false);
        let switches = Switches {
            ready: Arc::default(),
            draining,
            stopping,
            cut: CancellationToken::new(),
            exit: watch::Sender::new(false),
        };
        let threads = server.threads.0.map_or_else(available_threads, |threads| threads.get());
        let pool = Pool::new(threads);
        tokio::spawn(pool.run());
        let shared = Arc::new(Shared {
            edge: proxy::edge(threads),
            driver: server.driver,
            pool: pool.clone(),
            store: store.clone(),
            observer: observer.clone(),
            open: ConnectionLimit::default(),
            max_connections: server.max_connections.0.map_or_else(default_max_connections, |max| max.get()),
            doors: Doors::default(),
            draining: draining_seen,
            tasks: TaskTracker::new(),
            cut: switches.cut.clone(),
        });
        let state: Arc<dyn StateSource> = Arc::new(LiveState(store));
        observer.metrics().watch(&state);
        let live = Live::new(shared, registries, stopping_seen);
        let control = Control::new(origin, live, state.clone(), switches);
        control.start(&loaded, ready).await;
        Inherited::tell_ready(predecessor);
        RunningServer { control, _state: state, grace: server.shutdown_grace.get() }
    }
}

impl RunningServer {
    /// Compiles the configuration, binds everything, and serves. Call it within a tokio runtime.
    pub async fn start(spec: Spec) -> Result<Self, StartError> {
        let loaded = Loaded { spec: Some(spec), document: Document::default(), diagnostics: Vec::new() };
        let origin = Origin::Text { name: "the configuration at start".to_owned(), directory: ".".into() };
        Ok(Prepared::new(loaded, origin).await?.serve().await)
    }

    /// Changes it while it runs.
    pub fn control(&self) -> &Arc<Control> {
        &self.control
    }

    /// Where a listener accepts, with the real port. The first address, when it has several.
    pub fn address(&self, listener: &str) -> Option<SocketAddr> {
        self.addresses().get(listener)?.first()?.tcp()
    }

    /// Everywhere that listeners accept.
    pub fn addresses(&self) -> Arc<BTreeMap<Name, Vec<Address>>> {
        self.control.addresses()
    }

    /// Where the admin API answers, unless it is off.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.control.admin_address()?.tcp()
    }

    /// The bearer token of the admin API: configured, or made at start.
    pub fn admin_token(&self) -> Option<Secret> {
        self.control.admin_token().map(|(token, _)| token)
    }

    /// The bearer token, if it was made at start for lack of a configured one: whoever runs the edge tells it once.
    pub fn made_token(&self) -> Option<Secret> {
        self.control.admin_token().filter(|(_, made)| *made).map(|(token, _)| token)
    }

    /// The observer, for reopening its log.
    pub fn observer(&self) -> &Arc<Observer> {
        &self.control.shared().observer
    }

    /// How long a drain may take.
    pub fn grace(&self) -> Duration {
        self.grace
    }

    /// Stops being ready, stops accepting, and lets what is in flight finish.
    pub fn drain(&self) {
        self.control.begin_drain();
    }

    /// Resolves when the admin API was asked to end the process.
    pub async fn exit_requested(&self) {
        let _ = self.control.switches().exit.subscribe().wait_for(|exit| *exit).await;
    }

    /// Resolves when nothing is in flight any more. Call [`RunningServer::drain`] first.
    pub async fn drained(&self) {
        self.control.drained().await;
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
            let left = self.control.shared().tasks.len();
            log::warn!("{left} connections and streams were cut {why}, after {:?}", began.elapsed());
            self.control.switches().stopping.send_replace(true);
            self.control.switches().cut.cancel();
            self.drained().await;
        }
        if clean && let Some(cache) = self.control.shared().store.load().cache {
            let left = grace.saturating_sub(began.elapsed()).min(DISK_PATIENCE);
            let _ = tokio::task::spawn_blocking(move || cache.flush(left)).await;
        }
        // The background services end at once; a probe in flight is dropped.
        let _ = tokio::time::timeout(Duration::from_secs(2), self.control.end()).await;
        self.observer().flush(Duration::from_secs(2));
        clean
    }
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
