//! Layer 5: the compiled configuration that requests are served by.
//!
//! A [`Snapshot`] never changes. Every request pins the one that was current when it arrived.

mod compile;
mod store;
mod tcp;

pub use compile::{check, compile};
pub use store::Store;
pub use tcp::{Destination, Names, Tcp};

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    config::{HttpSpec, Spec},
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
    /// Which requests go where.
    pub routes: Table,
    /// Pools of endpoints.
    pub upstreams: BTreeMap<Name, Arc<Upstream>>,
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
}
