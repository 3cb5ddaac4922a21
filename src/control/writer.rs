//! The single writer: one change after the other, each all or nothing.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    Live, labels, last_good,
    live::Ready,
    overrides::Overrides,
    probation::{self, History},
};
use crate::{
    admin::{AdminState, Applied, Commands, Guard, Override, Probation, Refused, Running, Sources, Token},
    config::{self, Bundle, Diagnostic, Loaded, Spec},
    discovery::docker::Engines,
    listener::Shared,
    observe::StateSource,
    route::RouteSpec,
    snapshot::{self, Snapshot},
    types::{Address, Name, Problem, Secret, Seg},
};

/// Where the configuration comes from.
#[derive(Debug, Clone)]
pub enum Origin {
    /// A file, read again at each reload.
    File(PathBuf),
    /// A text that came with the program. Posted ones have their relative paths in this directory.
    Text {
        /// What it is called.
        name: String,
        /// Where relative paths start.
        directory: PathBuf,
    },
}

impl Origin {
    pub(super) fn name(&self) -> String {
        match self {
            Origin::File(path) => path.display().to_string(),
            Origin::Text { name, .. } => name.clone(),
        }
    }
    fn directory(&self) -> &Path {
        match self {
            Origin::File(path) => path.parent().unwrap_or(Path::new("")),
            Origin::Text { directory, .. } => directory,
        }
    }
}

/// The switches of a running edge.
pub(crate) struct Switches {
    pub(crate) ready: Arc<AtomicBool>,
    pub(crate) draining: watch::Sender<bool>,
    /// Ends the background services.
    pub(crate) stopping: watch::Sender<bool>,
    /// Cuts what is left when the grace period is over.
    pub(crate) cut: CancellationToken,
    /// Asks whoever runs the process to end it.
    pub(crate) exit: watch::Sender<bool>,
}

/// Routes that something found while running adds to the file's: labels of containers.
#[derive(Debug, Clone, Default)]
pub struct Overlay {
    /// The routes.
    pub routes: Vec<RouteSpec>,
}

/// Changes a running edge. Whoever asks may go away: what was begun is finished.
pub struct Control {
    pub(super) me: Weak<Control>,
    pub(super) origin: Origin,
    shared: Arc<Shared>,
    state: Arc<dyn StateSource>,
    pub(super) switches: Switches,
    pub(super) writer: tokio::sync::Mutex<Writer>,
    pub(super) status: Mutex<Status>,
    successor: Mutex<Option<u32>>,
    pub(super) history: History,
    /// The configuration as its author wrote it, for those who add to it.
    base: watch::Sender<Arc<Spec>>,
    engines: Arc<Engines>,
}

/// What others see of the writer's state without waiting for it.
pub(super) struct Status {
    pub(super) running: Running,
    addresses: Arc<BTreeMap<Name, Vec<Address>>>,
    admin: Option<AdminStatus>,
    pub(super) overrides: Vec<Override>,
}

#[derive(Clone)]
struct AdminStatus {
    address: Address,
    token: Secret,
    token_is_made: bool,
}

/// A configuration as its author wrote it, without what changed at runtime.
#[derive(Clone)]
pub(super) struct Base {
    pub(super) spec: Spec,
    origin: String,
    text: String,
    bundle: Bundle,
}

pub(super) struct Writer {
    pub(super) live: Live,
    pub(super) generation: u64,
    pub(super) base: Base,
    /// What a rollback goes back to.
    pub(super) before: Option<Base>,
    pub(super) overrides: Overrides,
    overlays: BTreeMap<String, Overlay>,
}

impl Control {
    /// The control of an edge that does not run yet; [`Control::start`] starts it.
    pub(crate) fn new(origin: Origin, live: Live, state: Arc<dyn StateSource>, switches: Switches) -> Arc<Self> {
        let (shared, engines) = (live.shared().clone(), live.registry().common());
        let base = Base { spec: Snapshot::nothing().spec, origin: String::new(), text: String::new(), bundle: Bundle::default() };
        let running = Running {
            generation: 0,
            since: SystemTime::now(),
            origin: String::new(),
            text: String::new(),
            last_refusal: None,
            probation: None,
            can_roll_back: false,
        };
        let status = Status { running, addresses: Arc::default(), admin: None, overrides: Vec::new() };
        let writer =
            Writer { live, generation: 0, base, before: None, overrides: Overrides::default(), overlays: BTreeMap::new() };
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            origin,
            shared,
            state,
            switches,
            writer: tokio::sync::Mutex::new(writer),
            status: Mutex::new(status),
            successor: Mutex::default(),
            history: History::default(),
            base: watch::Sender::new(Arc::new(Snapshot::nothing().spec)),
            engines,
        })
    }

    /// Puts the first configuration into service, which `ready` was prepared for.
    pub(crate) async fn start(&self, loaded: &Loaded, ready: Ready) {
        let mut writer = self.writer.lock().await;
        writer.base = Base::new(loaded, self.origin.name());
        writer.generation = ready.snapshot.generation;
        self.shared.observer.metrics().started(writer.generation);
        let (acme, observer) = (ready.snapshot.acme.clone(), self.shared.observer.clone());
        self.publish(&mut writer, ready).await;
        self.keep_last_good(&writer.base).await;
        // Every socket accepts, so nobody who comes from here on is turned away.
        self.switches.ready.store(true, Ordering::Release);
        let mut stopping = self.switches.stopping.subscribe();
        writer.live.background.spawn(async move {
            tokio::select! {
                () = acme.run(observer) => {}
                _ = stopping.wait_for(|stopping| *stopping) => {}
            }
        });
        let stopping = self.switches.stopping.subscribe();
        writer.live.background.spawn(labels::follow(self.me.clone(), self.engines.clone(), self.base.subscribe(), stopping));
        if let Some(me) = self.me.upgrade() {
            let mut stopping = self.switches.stopping.subscribe();
            writer.live.background.spawn(async move {
                loop {
                    tokio::select! {
                        () = tokio::time::sleep(probation::EVERY) => me.history.add(me.shared.observer.metrics().pulse()),
                        _ = stopping.wait_for(|stopping| *stopping) => return,
                    }
                }
            });
        }
    }

    /// Where listeners accept, with real ports.
    pub fn addresses(&self) -> Arc<BTreeMap<Name, Vec<Address>>> {
        self.status.lock().addresses.clone()
    }
    /// Where the admin API answers, unless it is off.
    pub fn admin_address(&self) -> Option<Address> {
        Some(self.status.lock().admin.as_ref()?.address.clone())
    }
    /// The bearer token of the admin API, and whether it was made at start for lack of a configured one.
    pub fn admin_token(&self) -> Option<(Secret, bool)> {
        self.status.lock().admin.as_ref().map(|admin| (admin.token.clone(), admin.token_is_made))
    }
    pub(super) fn engines(&self) -> &Engines {
        &self.engines
    }
    pub(super) fn writer(&self) -> &tokio::sync::Mutex<Writer> {
        &self.writer
    }
    /// Another process serves: the successor, in whose favour this one drains and ends.
    pub(super) fn succeeded(&self, process: u32) {
        *self.successor.lock() = Some(process);
        self.switches.exit.send_replace(true);
    }
    /// The process that took over, if one has.
    pub fn successor(&self) -> Option<u32> {
        *self.successor.lock()
    }
    pub(crate) fn switches(&self) -> &Switches {
        &self.switches
    }
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Stops being ready and accepting, and lets what is in flight finish.
    pub fn begin_drain(&self) {
        self.switches.ready.store(false, Ordering::Release);
        self.shared.doors.close();
        if !self.switches.draining.send_replace(true) {
            self.tell_drain();
        }
    }

    /// Resolves when nothing is in flight any more, after [`Control::begin_drain`].
    pub(crate) async fn drained(&self) {
        let accepting = self.writer.lock().await.live.accepting.clone();
        // First who may still let somebody in, then everybody who was let in.
        accepting.close();
        accepting.wait().await;
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }

    /// Ends the background services.
    pub(crate) async fn end(&self) {
        self.switches.stopping.send_replace(true);
        let mut writer = self.writer.lock().await;
        writer.live.stop();
        let background = writer.live.background.clone();
        drop(writer);
        background.close();
        background.wait().await;
    }

    /// Runs something with the writer to itself, to its end even if nobody waits for that any more.
    pub(super) async fn exclusively<T, F>(&self, what: impl FnOnce(Arc<Control>) -> F) -> Result<T, Refused>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Refused>> + Send + 'static,
    {
        let Some(me) = self.me.upgrade() else { return Err(Refused::Failed("the process ends".into())) };
        let done = tokio::spawn(what(me)).await;
        done.unwrap_or_else(|error| Err(Refused::Failed(format!("a fault of ours: {error}"))))
    }

    /// Reads the file of the configuration, or what is given, and checks it: off the threads that serve.
    pub(super) async fn read(&self, text: Option<String>) -> Result<Loaded, Refused> {
        let origin = self.origin.clone();
        let read = move || match (text, origin) {
            (Some(text), origin) => Ok(config::parse_str("posted", &text, origin.directory(), &variable)),
            (None, Origin::File(path)) => Ok(config::load(&path, &variable)),
            (None, Origin::Text { name, .. }) => Err(Refused::Conflict(format!("{name} is no file that could be read again"))),
        };
        let checked = move || read().map(snapshot::check);
        tokio::task::spawn_blocking(checked).await.unwrap_or_else(|error| Err(Refused::Failed(error.to_string())))
    }

    /// Makes this the configuration.
    pub(super) async fn take(&self, loaded: Loaded, origin: String, guard: Guard) -> Result<Applied, Refused> {
        let mut writer = self.writer.lock().await;
        let before = self.history.window(&self.shared.observer.metrics().pulse());
        let taken = match guard.if_generation.filter(|wanted| *wanted != writer.generation) {
            Some(_) => Err(Refused::Conflict(format!("generation {} is running", writer.generation))),
            None if !loaded.is_ok() => Err(Refused::Invalid(Box::new(loaded))),
            None => {
                let warnings = loaded.warnings().cloned().collect();
                let applied = self.replace(&mut writer, Base::new(&loaded, origin)).await;
                applied.map(|applied| Applied { warnings, ..applied })
            }
        };
        if let (Ok(_), Some(Probation::Running { generation, .. })) = (&taken, self.running().probation) {
            self.end_probation(Probation::Ended { generation, reason: "another configuration was loaded".to_owned() });
        }
        if let Ok(applied) = &taken {
            match guard.probation {
                Some(span) => self.begin_probation(applied.generation, before, span),
                None => self.keep_last_good(&writer.base).await,
            }
        }
        self.tell(&taken);
        taken
    }

    /// Puts another base configuration into service, with what was changed at runtime.
    pub(super) async fn replace(&self, writer: &mut Writer, base: Base) -> Result<Applied, Refused> {
        let (overrides, mut notes) = writer.overrides.still_meant(&base.spec);
        if base.spec.server != writer.base.spec.server {
            notes.push("`server` was changed, which takes effect at the next start or binary upgrade".to_owned());
        }
        let before = writer.base.clone();
        self.put(writer, base, overrides).await?;
        self.read_certificates_again().await;
        // While a configuration is on probation, the one to go back to is the one before it.
        if !self.is_on_probation() {
            writer.before = Some(before);
        }
        self.status.lock().running.can_roll_back = writer.before.is_some();
        Ok(Applied { generation: writer.generation, notes, warnings: Vec::new() })
    }

    /// Compiles, prepares and publishes: the only way from one configuration to another. Answers what is wrong with routes
    /// of overlays, which are left out then.
    pub(super) async fn put(&self, writer: &mut Writer, base: Base, overrides: Overrides) -> Result<Vec<Problem>, Refused> {
        if *self.switches.draining.borrow() {
            return Err(Refused::Conflict("the process is draining".to_owned()));
        }
        let generation = writer.generation + 1;
        let (snapshot, left_out) = writer.compile(&base.spec, &overrides, generation)?;
        let failed = |error: std::io::Error| Refused::Failed(error.to_string());
        let ready = writer.live.prepare(snapshot).await.map_err(failed)?;
        overrides.order(&writer.overrides, writer.live.registry());
        (writer.base, writer.overrides, writer.generation) = (base, overrides, generation);
        self.publish(writer, ready).await;
        Ok(left_out)
    }

    async fn publish(&self, writer: &mut Writer, ready: Ready) {
        let pages = |token: Token, address: Address| {
            AdminState::new(Sources {
                observer: self.shared.observer.clone(),
                store: self.shared.store.clone(),
                state: self.state.clone(),
                commands: self.me.upgrade().expect("whoever publishes holds it"),
                ready: self.switches.ready.clone(),
                token: arc_swap::ArcSwap::from_pointee(token),
                address,
            })
        };
        writer.live.publish(ready, &pages).await;
        let mut status = self.status.lock();
        status.addresses = Arc::new(writer.live.addresses());
        status.admin = writer.live.admin().map(|admin| AdminStatus {
            address: admin.address().clone(),
            token: admin.token(),
            token_is_made: admin.is_token_made(),
        });
        status.overrides = writer.overrides.all().to_vec();
        let Base { origin, text, .. } = writer.base.clone();
        let now = Running { generation: writer.generation, since: SystemTime::now(), origin, text, ..status.running.clone() };
        status.running = now;
        drop(status);
        self.base.send_if_modified(|known| {
            let changed = **known != writer.base.spec;
            if changed {
                *known = Arc::new(writer.base.spec.clone());
            }
            changed
        });
    }

    /// TLS settings that stay are served by files that may have changed. They were read a moment ago, when the new
    /// configuration was checked.
    async fn read_certificates_again(&self) {
        let snapshot = self.shared.store.load();
        let read = move || {
            for tls in snapshot.listeners.values().filter_map(|listener| listener.tls.as_ref()) {
                if let Err(error) = tls.reload() {
                    log::warn!("certificates stay as they were: {error}");
                }
            }
        };
        let _ = tokio::task::spawn_blocking(read).await;
    }

    /// Logs and counts how a reload ended.
    pub(super) fn tell(&self, taken: &Result<Applied, Refused>) {
        let mut status = self.status.lock();
        self.tell_taken(taken, &status.running.origin);
        match taken {
            Ok(applied) => {
                self.shared.observer.metrics().reloaded(applied.generation);
                log::info!("generation {}: the configuration was taken from {}", applied.generation, status.running.origin);
                applied.warnings.iter().for_each(Diagnostic::log);
                applied.notes.iter().for_each(|note| log::warn!("{note}"));
                status.running.last_refusal = None;
            }
            Err(refused) => {
                self.shared.observer.metrics().reload_failed();
                log::error!("generation {} stays: {refused}", status.running.generation);
                if let Refused::Invalid(loaded) = refused {
                    loaded.errors().skip(1).for_each(Diagnostic::log);
                }
                status.running.last_refusal = Some(refused.to_string());
            }
        }
    }

    /// Replaces what one source adds to the configuration. What of it cannot be used is left out and returned.
    pub async fn overlay(&self, source: String, overlay: Overlay) -> Result<Vec<Problem>, Refused> {
        self.exclusively(|me| async move {
            let mut writer = me.writer.lock().await;
            let before = writer.overlays.insert(source.clone(), overlay);
            let (base, overrides) = (writer.base.clone(), writer.overrides.clone());
            let put = me.put(&mut writer, base, overrides).await;
            if put.is_err() {
                match before {
                    Some(before) => writer.overlays.insert(source, before),
                    None => writer.overlays.remove(&source),
                };
            }
            put
        })
        .await
    }

    /// Keeps a configuration on disk, where the file says so. Posted ones too: they are what served last.
    pub(super) async fn keep_last_good(&self, base: &Base) {
        let Some(directory) = base.spec.server.state_dir.clone() else { return };
        let bundle = base.bundle.clone();
        let kept = tokio::task::spawn_blocking(move || last_good::keep(&directory, &bundle).map_err(|error| (directory, error)));
        if let Ok(Err((directory, error))) = kept.await {
            log::warn!("the configuration cannot be kept in {directory}: {error}");
        }
    }
}

impl Base {
    fn new(loaded: &Loaded, origin: String) -> Self {
        let spec = loaded.spec.clone().unwrap_or_else(|| Snapshot::nothing().spec);
        Self { spec, origin, text: config::effective(loaded), bundle: Bundle::of(loaded) }
    }
}

impl Writer {
    /// A configuration with everything that is laid over it. Routes of overlays that cannot be used are left out, and what
    /// is wrong with them is returned beside.
    fn compile(&self, base: &Spec, overrides: &Overrides, generation: u64) -> Result<(Snapshot, Vec<Problem>), Refused> {
        let mut spec = base.clone();
        overrides.lay_over(&mut spec);
        let own = spec.routes.len();
        for route in self.overlays.values().flat_map(|overlay| &overlay.routes) {
            if !spec.routes.iter().any(|known| known.name == route.name) {
                spec.routes.push(route.clone());
            }
        }
        let mut left_out = Vec::new();
        loop {
            let problems = match self.live.compile(spec.clone(), generation) {
                Ok(snapshot) => return Ok((snapshot, left_out)),
                Err(problems) => problems,
            };
            let overlaid = |problem: &Problem| match problem.path.0.as_slice() {
                [Seg::Key(routes), Seg::Index(index), ..] if routes == "routes" && *index >= own => Some(*index),
                _ => None,
            };
            let mut bad: Vec<usize> = problems.iter().filter_map(overlaid).collect();
            bad.sort_unstable();
            bad.dedup();
            if bad.is_empty() {
                let words: Vec<_> = problems.iter().map(|problem| format!("{}: {}", problem.path, problem.message)).collect();
                return Err(Refused::Conflict(words.join("; ")));
            }
            for index in bad.into_iter().rev() {
                spec.routes.remove(index);
            }
            left_out.extend(problems);
        }
    }
}

/// What variables in a configuration stand for.
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
