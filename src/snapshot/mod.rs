//! Layer 5: the compiled configuration that requests are served by.
//!
//! A [`Snapshot`] never changes. Every request pins the one that was current when it arrived.

mod certificates;
mod compile;
pub mod diff;
mod store;
mod tcp;

pub use compile::{check, compile, compile_after};
pub use diff::{Diff, diff};
pub use store::Store;
pub use tcp::{Destination, Names, Tcp};

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, OnceLock},
};

use http::HeaderValue;
use tokio::sync::watch;

use crate::{
    acme::{Acme, Plan},
    cache::{Cache, CacheSettings},
    config::{HttpSpec, ServerSpec, Spec},
    endpoint::EndpointRegistry,
    filter::{Chain, Filter, FilterTask, Kept},
    geo::GeoIp,
    observe::ObservabilitySpec,
    route::Table,
    tls::ServerTls,
    types::{Address, CidrSet, Name, OneOrMany, Problems, Switch, Whereabouts},
    upstream::{Calls, Upstream},
};

/// What outlives snapshots, for the next one to be compiled with. Clones share everything.
#[derive(Debug, Clone, Default)]
pub struct Registries {
    /// What is known of endpoints.
    pub endpoints: EndpointRegistry,
    /// What filters count.
    pub kept: Kept,
    /// For what filters ask of upstreams.
    pub calls: Calls,
    /// Certificates that are obtained by themselves.
    pub acme: Acme,
    cache: Arc<OnceLock<&'static Cache>>,
}

impl Registries {
    /// The cache, as large as a snapshot wants it; `None` where it wants none. It is made when it is first wanted, and emptied
    /// when it is not wanted any more.
    pub fn cache(&self, settings: Option<&CacheSettings>) -> Option<&'static Cache> {
        match (settings, self.cache.get()) {
            (None, None) => None,
            (None, Some(cache)) => {
                cache.close();
                None
            }
            (Some(settings), _) => {
                let cache = *self.cache.get_or_init(|| Cache::leak(settings));
                cache.configure(settings);
                Some(cache)
            }
        }
    }
}

/// Everything a request needs, with all names resolved and all text parsed.
#[derive(Debug)]
pub struct Snapshot {
    /// Counts configurations from 1.
    pub generation: u64,
    /// What it was compiled from.
    pub spec: Spec,
    /// Where to accept connections.
    pub listeners: BTreeMap<Name, Arc<Listener>>,
    /// The filters of the listeners that have any.
    pub listener_filters: BTreeMap<Name, Chain>,
    /// Which requests go where.
    pub routes: Table,
    /// Pools of endpoints.
    pub upstreams: BTreeMap<Name, Arc<Upstream>>,
    /// Where clients are, if that was asked for.
    pub geoip: Option<Arc<GeoIp>>,
    /// Which certificates are to be obtained, if any.
    pub certificates: Option<Arc<Plan>>,
    /// What answers authorities that ask for a proof.
    pub acme: Acme,
    /// How large the cache may be, if any filter asks for it.
    pub cache_settings: Option<CacheSettings>,
    /// The cache itself, in a snapshot that serves.
    pub cache: Option<&'static Cache>,
}

impl Snapshot {
    /// What runs before anything does: generation 0.
    pub fn nothing() -> Self {
        let spec = Spec {
            include: OneOrMany::default(),
            server: ServerSpec::default(),
            observability: ObservabilitySpec::default(),
            admin: Switch::Off,
            acme: None,
            listeners: BTreeMap::new(),
            cache: None,
            geoip: None,
            filter_chains: BTreeMap::new(),
            routes: Vec::new(),
            upstreams: BTreeMap::new(),
        };
        let routes = Table::build(Vec::new(), &Problems::default().root());
        Self {
            generation: 0,
            spec,
            listeners: BTreeMap::new(),
            listener_filters: BTreeMap::new(),
            routes,
            upstreams: BTreeMap::new(),
            geoip: None,
            certificates: None,
            acme: Acme::default(),
            cache_settings: None,
            cache: None,
        }
    }

    /// For finding out where one client is.
    pub fn whereabouts(&self) -> Whereabouts {
        Whereabouts::new(self.geoip.clone().map(|geoip| geoip as _))
    }

    /// What filters do beside requests, to be run while this snapshot is the current one. Each ends when `stopping`
    /// turns true.
    pub fn filter_tasks(&self, stopping: &watch::Receiver<bool>) -> Vec<FilterTask> {
        self.filters().filter_map(|filter| Arc::clone(filter).task(stopping.clone())).collect()
    }

    /// Every filter.
    pub fn filters(&self) -> impl Iterator<Item = &Arc<dyn Filter>> {
        let chains = self.listener_filters.values().chain(self.routes.routes().iter().map(|route| &route.chain));
        // A filter of a named chain is one, however many routes use it.
        let mut seen = HashSet::new();
        chains.flat_map(|chain| chain.filters()).filter(move |filter| seen.insert(Arc::as_ptr(filter).cast::<()>()))
    }
}

/// One listener.
#[derive(Debug)]
pub struct Listener {
    /// Its name.
    pub name: Name,
    /// Where it accepts; more than one address for a list.
    pub addresses: Vec<Address>,
    /// TLS, unless cleartext.
    pub tls: Option<Arc<ServerTls>>,
    /// Limits and timeouts.
    pub http: HttpSpec,
    /// Bytes are passed on, and no HTTP is served.
    pub tcp: Option<Tcp>,
    /// Answer with a redirect to this port over https (443 is left out of the URL).
    pub redirect_to_https: Option<u16>,
    /// Peers that must send the PROXY protocol; `None` when it is not spoken here.
    pub proxy_protocol: Option<CidrSet>,
    /// Peers whose forwarding fields are believed.
    pub trusted_proxies: CidrSet,
    /// Connections at a time.
    pub max_connections: Option<usize>,
    /// Tells clients where HTTP/3 is spoken (RFC 7838).
    pub alt_svc: Option<HeaderValue>,
}

impl Listener {
    /// Is HTTP/3 spoken, on UDP at the addresses of this listener?
    pub fn speaks_h3(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.h3().is_some())
    }

    /// Clients reach HTTP/3 at this port, unless the configuration says another.
    pub fn advertise(&mut self, port: u16) {
        let offered = self.tls.as_ref().and_then(|tls| tls.h3()).filter(|h3| h3.advertise);
        self.alt_svc = offered.and_then(|h3| {
            let (port, seconds) = (h3.port.map_or(port, |port| port.get()), h3.max_age.get().as_secs());
            HeaderValue::try_from(format!("h3=\":{port}\"; ma={seconds}")).ok()
        });
    }
}
