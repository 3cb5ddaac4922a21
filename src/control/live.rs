//! The moving parts of a running edge: accept loops, background loops, and what replaces them.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Weak},
    time::{Duration, SystemTime},
};

use tokio::{sync::watch, task::JoinHandle};
use tokio_util::task::TaskTracker;

use super::{
    Inherited,
    admin_listener::{AdminListener, AdminSocket},
    certificates::Watches,
    observers::LoopMetrics,
    sockets::{self, Key, Sockets},
};
use crate::{
    acme,
    admin::{AdminState, Token},
    config::Spec,
    endpoint::EndpointRegistry,
    exchange::Door,
    listener::{Bound, ConnectionLimit, Shared, Slot},
    observe::{AccessLog, Tracing, process_log},
    snapshot::{self, Listener, Registries, Snapshot},
    types::{Address, Name, Problem, Problems},
    upstream::Upstream,
};

/// A background loop gets this long to end before its successor starts; it only has to notice.
const LOOP_END: Duration = Duration::from_secs(2);

/// What runs, for `Control` to change.
pub(crate) struct Live {
    shared: Arc<Shared>,
    registries: Registries,
    /// Owned by their accept loops, so that each is closed when its loop ends.
    sockets: BTreeMap<Key, Weak<Bound>>,
    slots: BTreeMap<Key, Arc<Slot>>,
    listeners: BTreeMap<Name, Entrance>,
    upstreams: BTreeMap<Name, UpstreamLoop>,
    certificates: Watches,
    /// Ends the tasks of the filters that are in service.
    filters: watch::Sender<bool>,
    admin: Option<AdminListener>,
    /// The accept loops, which end when the drain begins.
    pub(super) accepting: TaskTracker,
    pub(super) background: TaskTracker,
    stopping: watch::Receiver<bool>,
}

/// What connections of a listener share.
struct Entrance {
    listener: Arc<Listener>,
    door: Arc<Door>,
    open: ConnectionLimit,
}

struct UpstreamLoop {
    upstream: Arc<Upstream>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// A configuration with everything it needs of the system, so that publishing it cannot fail.
pub(crate) struct Ready {
    pub(crate) snapshot: Snapshot,
    pub(crate) sockets: Sockets,
    pub(crate) admin: Option<AdminSocket>,
    pub(crate) access_log: Option<AccessLog>,
    pub(crate) tracing: Option<Arc<Tracing>>,
    pub(crate) storage: acme::Opened,
}

/// What is made from the token and address of a new admin listener.
pub(super) type AdminPages<'a> = &'a (dyn Fn(Token, Address) -> AdminState + Send + Sync);

impl Live {
    pub(crate) fn new(shared: Arc<Shared>, registries: Registries, stopping: watch::Receiver<bool>) -> Self {
        Self {
            shared,
            registries,
            sockets: BTreeMap::new(),
            slots: BTreeMap::new(),
            listeners: BTreeMap::new(),
            upstreams: BTreeMap::new(),
            certificates: Watches::default(),
            filters: watch::Sender::new(false),
            admin: None,
            accepting: TaskTracker::new(),
            background: TaskTracker::new(),
            stopping,
        }
    }

    /// Compiles a configuration. What stays as it was is taken over from the one that runs.
    pub(super) fn compile(&self, spec: Spec, generation: u64) -> Result<Snapshot, Vec<Problem>> {
        let (problems, running) = (Problems::default(), self.shared.store.load());
        let compiled = snapshot::compile_after(spec, generation, &self.registries, SystemTime::now(), Some(&running), &problems);
        compiled.ok_or_else(|| problems.take())
    }

    /// Binds and opens what the configuration needs. On an error everything is as it was.
    pub(super) async fn prepare(&self, mut snapshot: Snapshot) -> io::Result<Ready> {
        let sockets = self.bound().bind(&snapshot)?;
        sockets.resolve_ports(&mut snapshot);
        let admin = AdminListener::prepare(self.admin.as_ref(), &snapshot.spec, &mut Inherited::default()).await?;
        let storage = open_storage(&snapshot).await?;
        let access_log = self.shared.observer.open_access_log(&snapshot.spec.observability.access_log)?;
        // The last thing that can fail, so that nothing needs to be taken back.
        let tracing = self.shared.observer.open_tracing(snapshot.spec.observability.tracing.on())?;
        Ok(Ready { snapshot, sockets, admin, access_log, tracing, storage })
    }

    /// Puts a configuration into service.
    pub(crate) async fn publish(&mut self, ready: Ready, pages: AdminPages<'_>) {
        let Ready { mut snapshot, sockets, admin, access_log, tracing, storage } = ready;
        self.keep_unchanged(&mut snapshot);
        if let Some(access_log) = access_log {
            let observer = self.shared.observer.clone();
            // It waits for the last lines of the one before.
            let _ = tokio::task::spawn_blocking(move || observer.replace_access_log(access_log)).await;
        }
        self.shared.observer.replace_tracing(tracing);
        process_log::update(&snapshot.spec.observability.log);
        snapshot.cache = self.registries.cache(snapshot.cache_settings.as_ref());
        self.shared.store.publish(snapshot);
        let snapshot = self.shared.store.load();
        self.follow_upstreams(&snapshot).await;
        self.follow_certificates(&snapshot, storage).await;
        self.follow_listeners(&snapshot, sockets);
        self.follow_filters(&snapshot);
        self.certificates.follow(&snapshot, &self.background, &self.shared.store, &self.shared.observer);
        self.admin = AdminListener::apply(self.admin.take(), &snapshot.spec, admin, &self.background, pages);
        let known_route = |name: &str| snapshot.spec.routes.iter().any(|route| &*route.name == name);
        self.shared.observer.metrics().retain(|name| snapshot.listeners.contains_key(name), known_route);
    }

    /// A listener that is as it was stays the same one, so that its connections go on.
    fn keep_unchanged(&self, snapshot: &mut Snapshot) {
        let running = self.shared.store.load();
        let unchanged: Vec<(Name, Arc<Listener>)> = snapshot
            .listeners
            .iter()
            .filter_map(|(name, new)| {
                let old = running.listeners.get(name)?;
                let same_tls = match (&old.tls, &new.tls) {
                    (Some(old), Some(new)) => Arc::ptr_eq(old, new),
                    (None, None) => true,
                    _ => false,
                };
                // A listener of layer 4 holds its upstreams, which may be others by the same names.
                let same_upstreams = match (&old.tcp, &new.tcp) {
                    (Some(old), Some(new)) => old.leads_like(new),
                    (None, None) => true,
                    _ => false,
                };
                let same = same_tls
                    && same_upstreams
                    && old.redirect_to_https == new.redirect_to_https
                    && running.spec.listeners.get(name) == snapshot.spec.listeners.get(name);
                same.then(|| (name.clone(), old.clone()))
            })
            .collect();
        snapshot.listeners.extend(unchanged);
    }

    /// Background loops of upstreams that are new or changed start; those of others go on or end.
    async fn follow_upstreams(&mut self, snapshot: &Snapshot) {
        let mut before = std::mem::take(&mut self.upstreams);
        for (name, upstream) in &snapshot.upstreams {
            let known = before.remove(name);
            let running = match known {
                Some(running) if Arc::ptr_eq(&running.upstream, upstream) => running,
                known => {
                    if let Some(known) = known {
                        known.end().await;
                    }
                    self.start_upstream(upstream)
                }
            };
            self.upstreams.insert(name.clone(), running);
        }
        for (_, gone) in before {
            gone.end().await;
        }
    }

    fn start_upstream(&self, upstream: &Arc<Upstream>) -> UpstreamLoop {
        let (stop, mut stopped) = watch::channel(false);
        let (upstream, mut stopping) = (upstream.clone(), self.stopping.clone());
        let (running, observer) = (upstream.clone(), Arc::new(LoopMetrics(self.shared.observer.clone())));
        // From here on, not from when the task first runs: weights and counts belong to requests that come now.
        upstream.publish();
        stopped.mark_unchanged();
        let task = self.background.spawn(async move {
            tokio::select! {
                () = running.run(stopped, observer) => {}
                _ = stopping.wait_for(|stopping| *stopping) => {}
            }
        });
        UpstreamLoop { upstream, stop, task }
    }

    /// Certificates that are stored are served before anybody is let in.
    async fn follow_certificates(&self, snapshot: &Snapshot, storage: acme::Opened) {
        snapshot.acme.follow(snapshot.certificates.clone(), storage).await;
        snapshot.listeners.values().filter_map(|listener| listener.tls.as_ref()).for_each(|tls| tls.refresh());
    }

    /// Accept loops of new sockets start; those of sockets that are not wanted any more end when their backlog is empty.
    /// Connections of a listener that is gone or was changed finish what is in flight and end.
    fn follow_listeners(&mut self, snapshot: &Snapshot, sockets: Sockets) {
        let mut before = std::mem::take(&mut self.listeners);
        for (name, listener) in &snapshot.listeners {
            let entrance = match before.remove(name) {
                Some(known) if Arc::ptr_eq(&known.listener, listener) => known,
                known => {
                    let open = known.as_ref().map(|known| known.open.clone()).unwrap_or_default();
                    // New connections come in by the new door before the old one closes.
                    let door = self.shared.doors.open();
                    if let Some(known) = known {
                        before.insert(name.clone(), known);
                    }
                    Entrance { listener: listener.clone(), door, open }
                }
            };
            self.listeners.insert(name.clone(), entrance);
        }
        let mut slots = std::mem::take(&mut self.slots);
        for (key, name, _) in sockets::wanted(snapshot) {
            let (Some(Entrance { listener, door, open }), Some(socket)) = (self.listeners.get(name), sockets.0.get(&key)) else {
                continue;
            };
            let (listener, door, open) = (listener.clone(), door.clone(), open.clone());
            let slot = match slots.remove(&key) {
                Some(slot) => {
                    slot.set(listener, door, open);
                    slot
                }
                None => {
                    let slot = Arc::new(Slot::new(listener, door, open));
                    self.accepting.spawn(socket.clone().run(slot.clone(), self.shared.clone(), self.stopping.clone()));
                    slot
                }
            };
            self.slots.insert(key, slot);
        }
        slots.values().for_each(|gone| gone.retire());
        before.values().for_each(|gone| gone.door.close());
        // One for HTTP/3 is there as long as it has connections, and serves again when it is wanted again.
        self.sockets.retain(|key, socket| key.is_datagrams() && socket.strong_count() > 0);
        self.sockets.extend(sockets.0.iter().map(|(key, socket)| (key.clone(), Arc::downgrade(socket))));
    }

    /// What the filters of this configuration do beside requests, and those of the one before no more.
    fn follow_filters(&mut self, snapshot: &Snapshot) {
        let (stop, stopped) = watch::channel(false);
        for task in snapshot.filter_tasks(&stopped) {
            let mut stopping = self.stopping.clone();
            self.background.spawn(async move {
                tokio::select! {
                    () = task => {}
                    _ = stopping.wait_for(|stopping| *stopping) => {}
                }
            });
        }
        std::mem::replace(&mut self.filters, stop).send_replace(true);
    }

    /// Closes the admin listener; what it is answering may take a moment longer.
    pub(super) fn close_admin(&mut self) {
        self.admin = None;
    }
    pub(crate) fn admin(&self) -> Option<&AdminListener> {
        self.admin.as_ref()
    }
    /// Where listeners accept, with real ports.
    pub(super) fn addresses(&self) -> BTreeMap<Name, Vec<Address>> {
        self.bound().addresses(&self.shared.store.load())
    }
    /// The sockets that accept.
    pub(super) fn bound(&self) -> Sockets {
        let open = |(key, socket): (&Key, &Weak<Bound>)| Some((key.clone(), socket.upgrade()?));
        Sockets(self.sockets.iter().filter_map(open).collect())
    }
    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
    pub(super) fn registry(&self) -> &EndpointRegistry {
        &self.registries.endpoints
    }

    /// Ends what serves no requests: the admin listener and certificate watches. Upstream loops and accept loops follow
    /// the process's own switch.
    pub(super) fn stop(&mut self) {
        self.close_admin();
        self.certificates.stop();
    }
}

/// Opens the storage of certificates, where one is needed.
pub(crate) async fn open_storage(snapshot: &Snapshot) -> io::Result<acme::Opened> {
    let opened = snapshot.acme.open(snapshot.certificates.as_deref()).await;
    opened.map_err(|error| io::Error::other(format!("certificates cannot be kept: {error}")))
}

impl UpstreamLoop {
    async fn end(self) {
        self.stop.send_replace(true);
        let abort = self.task.abort_handle();
        if tokio::time::timeout(LOOP_END, self.task).await.is_err() {
            abort.abort();
        }
    }
}
