//! The root of the file.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    num::NonZeroUsize,
    str::FromStr,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ListenerSpec, TcpSpec};
use crate::{
    acme::AcmeSpec,
    cache::CacheSpec,
    filter::{self, FilterSpec},
    geo::GeoIpSpec,
    observe::ObservabilitySpec,
    route::RouteSpec,
    string_type,
    types::{Address, ConfigPath, Name, OneOrMany, Secret, Span, Switch},
    upstream::UpstreamSpec,
};

/// A Weir configuration. Only `listeners` is required, `routes` where one of them serves HTTP, and `upstreams` to forward.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Further files whose listeners, routes, filter chains and upstreams are added: paths or globs.
    #[serde(default, skip_serializing_if = "OneOrMany::is_absent")]
    pub include: OneOrMany<String>,
    /// The process. Changing it needs a restart.
    #[serde(default)]
    pub server: ServerSpec,
    /// Logs.
    #[serde(default)]
    pub observability: ObservabilitySpec,
    /// The admin listener: health, metrics, state. `off` closes it.
    #[serde(default)]
    pub admin: Switch<AdminSpec>,
    /// How certificates are obtained, for listeners with `tls: {acme: ...}`. Needed only to change something about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acme: Option<AcmeSpec>,
    /// The store that all `cache` filters share. Needed only to change its size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheSpec>,
    /// Where clients are: a database of countries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub geoip: Option<GeoIpSpec>,
    /// Where to accept connections, by name.
    pub listeners: BTreeMap<Name, ListenerSpec>,
    /// Which requests go where. The most specific match wins. Required unless every listener has `tcp`.
    #[serde(default)]
    pub routes: Vec<RouteSpec>,
    /// Lists of filters, by name, for listeners and routes to use as `- chain: NAME`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub filter_chains: BTreeMap<Name, Vec<FilterSpec>>,
    /// Pools of endpoints, by name.
    #[serde(default)]
    pub upstreams: BTreeMap<Name, UpstreamSpec>,
}

impl Spec {
    /// Every filter that is written somewhere: at listeners, in routes, in named chains.
    pub fn filters(&self) -> impl Iterator<Item = &FilterSpec> {
        let listeners = self.listeners.values().flat_map(|listener| listener.filters.iter());
        let routes = self.routes.iter().flat_map(|route| route.filters.iter());
        listeners.chain(routes).chain(self.filter_chains.values().flatten())
    }

    /// The upstreams that routes, listeners of layer 4 or filters use.
    pub fn used_upstreams(&self) -> BTreeSet<&Name> {
        let by_routes = self.routes.iter().flat_map(|route| {
            let shares = route.split.iter().flatten().map(|share| &share.upstream);
            route.upstream.iter().chain(shares)
        });
        let by_listeners =
            self.listeners.values().flat_map(|listener| &listener.tcp).flat_map(TcpSpec::upstreams).map(|(_, name)| name);
        let of_listeners = self.listeners.values().map(|listener| &listener.filters);
        let lists = of_listeners.chain(self.routes.iter().map(|route| &route.filters)).chain(self.filter_chains.values());
        let by_filters = lists.flat_map(|filters| filter::upstreams(filters)).map(|(.., name)| name);
        by_routes.chain(by_listeners).chain(by_filters).collect()
    }
}

/// The process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServerSpec {
    /// Worker threads: `auto` (the CPUs this process may use) or a number.
    pub threads: Threads,
    /// Who carries requests: `auto` or `pingora`.
    pub driver: DriverChoice,
    /// Connections of all listeners together: `auto` (80 % of half the file-descriptor limit) or a number.
    pub max_connections: MaxConnections,
    /// How long work in flight gets when the process is asked to stop.
    pub shutdown_grace: Span,
    /// Become this user after binding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// A directory of Weir's own, for the last configuration that served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_dir: Option<ConfigPath>,
    /// Write the process id here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid_file: Option<ConfigPath>,
}

impl Default for ServerSpec {
    fn default() -> Self {
        Self {
            threads: Threads::default(),
            driver: DriverChoice::default(),
            max_connections: MaxConnections::default(),
            shutdown_grace: Span::secs(30),
            user: None,
            state_dir: None,
            pid_file: None,
        }
    }
}

/// Who carries requests between clients and endpoints. What is decided about them is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DriverChoice {
    /// Weir's own driver where the endpoint speaks HTTP/1, Pingora for everything else.
    #[default]
    Auto,
    /// Pingora, for everything.
    Pingora,
}

/// `auto` or a number of threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Threads(pub Option<NonZeroUsize>);

/// `auto` or a number of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MaxConnections(pub Option<NonZeroUsize>);

macro_rules! auto_or_number {
    ($type:ident, $name:literal, $description:literal, $max:expr) => {
        impl FromStr for $type {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                if text == "auto" {
                    return Ok(Self(None));
                }
                match text.parse::<NonZeroUsize>() {
                    Ok(number) if number.get() <= $max => Ok(Self(Some(number))),
                    _ => Err(format!("`{text}` is neither `auto` nor a number from 1 to {}", $max)),
                }
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.0 {
                    Some(number) => number.fmt(f),
                    None => f.write_str("auto"),
                }
            }
        }
        string_type!($type, $name, $description, None);
    };
}
auto_or_number!(Threads, "Threads", "`auto` or a number of threads.", 1024);
auto_or_number!(MaxConnections, "MaxConnections", "`auto` or a number of connections.", 10_000_000);

/// The admin listener.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AdminSpec {
    /// Where it listens, an IP and a port. One that is not loopback needs a token.
    pub address: Address,
    /// The bearer token for everything that changes something, and for everything when the address is not loopback.
    pub token: Secret,
    /// Serve the dashboard at `/`.
    pub dashboard: bool,
}

impl Default for AdminSpec {
    fn default() -> Self {
        Self { address: Address::Tcp(([127, 0, 0, 1], 9900).into()), token: Secret::default(), dashboard: true }
    }
}
