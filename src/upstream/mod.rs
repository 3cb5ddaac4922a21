//! Layer 3: a named pool of endpoints with everything needed to send a request to one of them.
//!
//! An [`Upstream`] is made by compiling its Spec and does nothing by itself: [`Upstream::run`] is its
//! background loop, for `control` to start and stop. What it learns it keeps in the endpoints, which
//! outlive it.

mod attempts;
mod call;
#[cfg(test)]
mod call_tests;
mod compile;
#[cfg(test)]
mod compile_tests;
mod connector;
mod discover;
mod fault;
#[cfg(test)]
mod groups_tests;
mod h2_exchange;
mod h2_pool;
mod hold;
mod io;
mod paced;
mod peer;
mod spec;
mod sticky;
mod strict;
#[cfg(test)]
mod tests;
mod tls;
mod tls_fault;
#[cfg(test)]
mod tls_tests;

use std::{
    fmt,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use pingora_core::{server::ShutdownWatch, upstreams::peer::HttpPeer};
use pingora_load_balancing::{Backends, LoadBalancer, selection::BackendIter};

pub use attempts::{Attempts, Granted, Next, Replay, Stop};
pub use call::Calls;
pub use connector::{EndpointConnector, connect_by_us};
pub use fault::{Again, Fault, Verdict};
pub use h2_exchange::NOT_PROCESSED;
pub use hold::Hold;
pub use peer::{for_tunnel, hold_answer, open_anew, wait_for_answer};
pub use spec::{ConnectionsSpec, LocalitySpec, Protocol, UpstreamSpec, UpstreamTlsSpec};
pub use sticky::Pinned;
pub use tls_fault::{find, tell_tls_fault, tls_alert, tls_fault, unconnected};

use crate::{
    balance::{Clock, Current, Key, Selection, SelectionConfig},
    discovery::{DiscoveryObserver, Fixed},
    endpoint::{Endpoint, EndpointSettings, HealthStatus, InFlight, Pool},
    health::{self, Checker, HealthObserver},
    resilience::{Entry, LimitsSpec, Places, RetryBudget},
    types::{Client, Name, RequestHead},
    wire::ClientTls,
};

/// How often endpoints are told the time, so that latencies are those of the recent past.
const TICK: Duration = Duration::from_secs(5);

/// A pool of endpoints.
pub struct Upstream {
    name: Name,
    spec: UpstreamSpec,
    endpoints: Fixed,
    /// What the file says; the live weights are the endpoints' own.
    weights: Box<[(Arc<Endpoint>, u32)]>,
    balancer: LoadBalancer<Selection>,
    current: Current,
    pool: Arc<Pool>,
    settings: EndpointSettings,
    published: AtomicBool,
    checker: Option<Arc<Checker>>,
    discover: Vec<discover::Discover>,
    peer: peer::Template,
    budget: Arc<RetryBudget>,
    places: Arc<Places>,
    sessions: Option<sticky::Sessions>,
    tls: Option<Arc<tls::UpstreamTls>>,
}

/// What an upstream is made of, compiled.
struct Parts {
    /// Those that the file lists by their addresses, and their weights.
    endpoints: Vec<(Arc<Endpoint>, u32)>,
    pool: Arc<Pool>,
    settings: EndpointSettings,
    checker: Option<Checker>,
    discover: Vec<discover::Discover>,
    peer: peer::Template,
    budget: Arc<RetryBudget>,
    places: Arc<Places>,
    sessions: Option<sticky::Sessions>,
    tls: Option<Arc<tls::UpstreamTls>>,
}

/// Who wants to know what the background loop does: metrics.
pub trait UpstreamObserver: HealthObserver + DiscoveryObserver {}
impl<T: HealthObserver + DiscoveryObserver> UpstreamObserver for T {}

impl Upstream {
    fn new(name: Name, spec: UpstreamSpec, parts: Parts) -> Self {
        let Parts { endpoints, pool, settings, checker, discover, peer, budget, places, sessions, tls } = parts;
        let weights = endpoints.into_boxed_slice();
        let endpoints = Fixed::new(discover::join(&weights, &discover));
        let backends = Backends::new(Box::new(endpoints.clone()));
        let zone = spec.locality.as_ref().map(|locality| locality.zone.clone());
        let current = Current::default();
        let selection = SelectionConfig { strategy: spec.strategy.clone(), zone, current: current.clone() };
        let balancer = LoadBalancer::from_backends_with_config(backends, Some(selection));
        let (published, checker) = (AtomicBool::new(false), checker.map(Arc::new));
        let upstream = Self {
            name,
            spec,
            endpoints,
            weights,
            balancer,
            current,
            pool,
            settings,
            published,
            checker,
            discover,
            peer,
            budget,
            places,
            sessions,
            tls,
        };
        upstream.update();
        upstream
    }

    /// Its name.
    pub fn name(&self) -> &Name {
        &self.name
    }
    /// What it was compiled from.
    pub fn spec(&self) -> &UpstreamSpec {
        &self.spec
    }
    /// Does it read files when it is compiled, so that the same Spec may come to mean something else?
    pub fn reads_files(&self) -> bool {
        self.spec.tls.as_ref().is_some_and(|tls| tls.ca.is_some() || tls.client_cert.is_some() || tls.client_key.is_some())
    }
    /// Its endpoints now, whatever their state.
    pub fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        self.endpoints.endpoints().to_vec()
    }

    /// A request arrived that is to be served by this upstream.
    pub fn arrived(&self, now: Instant) {
        self.budget.request(now);
    }
    /// Asks for a place among the requests in flight, where those are limited.
    pub fn enter(&self) -> Option<(Entry, &LimitsSpec)> {
        let limits = self.spec.limits.as_ref()?;
        Some((self.places.enter(limits), limits))
    }
    /// Takes one retry out of the budget; false when nothing is left.
    pub fn withdraw_retry(&self, now: Instant) -> bool {
        self.budget.withdraw(&self.spec.retry_budget, now)
    }

    /// Replaces its endpoints while running.
    pub fn replace_endpoints(&self, endpoints: Vec<Arc<Endpoint>>) {
        self.endpoints.replace(endpoints);
        self.update();
        if self.published.load(Relaxed) {
            self.join_pool();
        }
    }

    /// These endpoints are counted from now on, and live by this configuration.
    fn join_pool(&self) {
        self.pool.publish(&self.endpoints.endpoints(), self.settings, self.spec.panic_threshold);
    }

    fn update(&self) {
        if let Some(sessions) = &self.sessions {
            sessions.replace(&self.endpoints.endpoints());
        }
        // Discovery is a read of memory and cannot fail, so this is done when it returns.
        let updated = self.balancer.update().now_or_never();
        debug_assert!(matches!(updated, Some(Ok(()))));
    }

    /// What this upstream's strategy goes by in a request; nothing for most.
    pub fn key<'a>(&self, head: &RequestHead<'a>, client: &Client) -> Key<'a> {
        self.spec.strategy.key().map_or(Key::None, |key| key.of(head, client))
    }

    /// The same for a connection of which nothing is known but who opened it.
    pub fn key_of_connection(&self, client: IpAddr) -> Key<'static> {
        self.spec.strategy.key().map_or(Key::None, |_| Key::address(client))
    }

    /// How TLS is spoken on a connection that carries bytes (layer 4), if it is.
    pub fn byte_tls(&self) -> Option<&ClientTls> {
        self.tls.as_ref().map(|tls| &tls.bytes)
    }

    /// How TLS is spoken on a connection that carries HTTP/1.1, which alone is offered, if it is. The number is of these settings:
    /// connections that differ in it are never shared. It is the same after a reload that leaves them as they are.
    pub fn request_tls(&self) -> Option<(&ClientTls, u64)> {
        self.tls.as_ref().map(|tls| (&tls.http1, tls.digest))
    }

    /// The endpoint that should take a request now: available, and none of `tried`. `key` comes from
    /// [`Upstream::key`]. To send it there, [`Upstream::take`].
    pub fn select(&self, key: &[u8], tried: &[Arc<Endpoint>]) -> Option<Arc<Endpoint>> {
        // Whether it is available the strategy has looked at a moment ago. (Pingora's own idea of health
        // stays at its initial value: the endpoint knows, across reloads.)
        self.current.choose(key, tried.len() + 1, |endpoint| !tried.iter().any(|tried| Arc::ptr_eq(tried, endpoint)))
    }

    /// What [`Upstream::select`] would choose now for a request that has tried nothing, without choosing it: the turn of
    /// whoever has the next one stays theirs. With whether that is certain, or was drawn by lot.
    pub fn look(&self, key: &[u8]) -> Option<(Arc<Endpoint>, bool)> {
        let certain = !self.spec.strategy.draws() && (!key.is_empty() || !self.current.has_groups());
        let chosen = self.current.look(key)?.next()?.ext.get().cloned()?;
        Some((chosen, certain))
    }

    /// Chooses like [`Upstream::select`] and counts the request in, as a probe where the endpoint's circuit is
    /// not closed.
    pub fn take(&self, key: &[u8], tried: &[Arc<Endpoint>]) -> Option<InFlight> {
        /// Another request may have taken the last place of a probe since the choice. Losing that race so often
        /// in a row means that nobody else is left to choose.
        const RACES: usize = 4;
        for _ in 0..RACES {
            if let Some(guard) = self.select(key, tried)?.enter() {
                return Some(guard);
            }
        }
        None
    }

    /// The same for a request that these have failed. When nobody else is left it goes to the endpoint that was left alone for the
    /// longest time: the circuit is open, but the endpoint may well be back, and an error would be certain.
    pub fn take_another(&self, key: &[u8], failed: &[Arc<Endpoint>]) -> Option<InFlight> {
        self.take(key, failed).or_else(|| self.waiting(failed).iter().find_map(|(_, endpoint)| endpoint.enter_early()))
    }

    /// Those that are none of `failed` and wait for the time out of their circuit, the one that returns first ahead. None for a request
    /// that has tried nothing: it learns as soon as can be that nobody is left.
    fn waiting(&self, failed: &[Arc<Endpoint>]) -> Vec<(Instant, Arc<Endpoint>)> {
        if failed.is_empty() {
            return Vec::new();
        }
        let others = self.endpoints.endpoints();
        let others = others.iter().filter(|endpoint| !failed.iter().any(|failed| Arc::ptr_eq(failed, endpoint)));
        let mut waiting: Vec<_> = others.filter_map(|endpoint| Some((endpoint.returns_at()?, endpoint.clone()))).collect();
        waiting.sort_unstable_by_key(|(returns, _)| *returns);
        waiting
    }

    /// Would [`Upstream::take_another`] find one?
    pub fn has_another(&self, tried: &[Arc<Endpoint>]) -> bool {
        let (clock, panicking) = (Clock::default(), self.pool.is_panicking());
        let others = self.endpoints.endpoints();
        let mut others = others.iter().filter(|endpoint| !tried.iter().any(|tried| Arc::ptr_eq(tried, endpoint)));
        others.any(|endpoint| endpoint.is_available(panicking, || clock.now())) || !self.waiting(tried).is_empty()
    }

    /// Are so few endpoints available that all are used?
    pub fn is_panicking(&self) -> bool {
        self.pool.is_panicking()
    }

    /// Where and how to connect. `left` is what this try may take, if that is limited.
    pub fn peer(&self, endpoint: &Endpoint, left: Option<Duration>) -> Box<HttpPeer> {
        self.peer.peer(endpoint, left)
    }

    /// Makes this configuration the one that counts for the endpoints, which may have been served under
    /// another until now: their weights, and no verdict of checks that are not made any more.
    pub fn publish(&self) {
        for (endpoint, weight) in &self.weights {
            endpoint.set_weight(*weight);
            // Discovery may have said so, for the configuration before; listed ones stay.
            endpoint.set_draining(false);
            if let Some(decay) = self.spec.strategy.decay() {
                endpoint.set_decay(decay);
            }
        }
        self.forget_verdicts();
        self.published.store(true, Relaxed);
        self.join_pool();
    }

    /// Without checks nobody would ever take back a verdict from before.
    fn forget_verdicts(&self) {
        if self.checker.is_none() {
            for endpoint in self.endpoints.endpoints().iter() {
                endpoint.set_streak(0);
                endpoint.set_health(HealthStatus::Unknown, "not checked");
            }
        }
    }

    /// Publishes itself, then finds endpoints, checks them and lets them forget what is not recent any more,
    /// until shutdown. To be run once per configuration, also without health checks.
    pub async fn run(self: Arc<Self>, mut shutdown: ShutdownWatch, observer: Arc<dyn UpstreamObserver>) {
        self.publish();
        let checks = async {
            match &self.checker {
                Some(checker) => health::run(checker.clone(), self.endpoints.watch(), observer.clone()).await,
                None => std::future::pending().await,
            }
        };
        let ticks = async {
            let mut interval = tokio::time::interval(TICK);
            loop {
                let now = interval.tick().await.into_std();
                self.endpoints.endpoints().iter().for_each(|endpoint| endpoint.tick(now));
                // Again, since a check of the configuration before this one may have ended after its loop.
                self.forget_verdicts();
            }
        };
        let discovery = self.discover(&*observer);
        let stopped = async {
            // When the sender is gone nobody can ask for a shutdown any more: that is not a request for one.
            if shutdown.wait_for(|stop| *stop).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = stopped => {}
            () = checks => {}
            () = discovery => {}
            () = ticks => {}
        }
        // What is still discovered for this configuration concerns nobody any more.
        self.published.store(false, Relaxed);
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("name", &self.name).field("endpoints", &self.endpoints()).finish_non_exhaustive()
    }
}
