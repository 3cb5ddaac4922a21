//! Layer 5: the compiled configuration that requests are served by.
//!
//! A [`Snapshot`] never changes. Every request pins the one that was current when it arrived.

mod compile;
mod store;

pub use compile::{check, compile};
pub use store::Store;

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use tokio::sync::watch;

use crate::{
    config::{HttpSpec, Spec},
    filter::{Chain, FilterTask},
    route::Table,
    tls::ServerTls,
    types::{Address, CidrSet, Name},
    upstream::Upstream,
};

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
}

impl Snapshot {
    /// What filters do beside requests, to be run while this snapshot is the current one. Each ends when `stopping`
    /// turns true.
    pub fn filter_tasks(&self, stopping: &watch::Receiver<bool>) -> Vec<FilterTask> {
        let chains = self.listener_filters.values().chain(self.routes.routes().iter().map(|route| &route.chain));
        // A filter of a named chain is one, however many routes use it.
        let mut seen = HashSet::new();
        let filters = chains.flat_map(|chain| chain.filters()).filter(|filter| seen.insert(Arc::as_ptr(filter).cast::<()>()));
        filters.filter_map(|filter| Arc::clone(filter).task(stopping.clone())).collect()
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
    /// Answer with a redirect to this port over https (443 is left out of the URL).
    pub redirect_to_https: Option<u16>,
    /// Peers that must send the PROXY protocol; `None` when it is not spoken here.
    pub proxy_protocol: Option<CidrSet>,
    /// Peers whose forwarding fields are believed.
    pub trusted_proxies: CidrSet,
    /// Connections at a time.
    pub max_connections: Option<usize>,
}
