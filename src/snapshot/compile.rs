//! From what the user typed to what requests are served by: pure but for reading files that it names (certificates, keys, pages, databases), and every
//! problem is reported, not the first.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use super::{Listener, Registries, Snapshot, Tcp};
use crate::{
    cache::{CacheSettings, CacheSpec},
    config::{ListenerSpec, Loaded, Spec},
    filter::{Chain, Chains, FilterSpec},
    route::{Route, Table},
    tls::{Issued, Offer, ServerTls},
    types::{At, Code, Name, Problems},
    upstream::Upstream,
};

/// Compiles a configuration. `None` when a problem that is an error was reported.
///
/// Endpoints come from their registry, and so does what filters count, so what is known of those that stay is kept.
pub fn compile(spec: Spec, generation: u64, registries: &Registries, now: SystemTime, problems: &Problems) -> Option<Snapshot> {
    compile_after(spec, generation, registries, now, None, problems)
}

/// The same, and upstreams and TLS settings that are as they were in `running` are taken over from it: their background
/// loops, positions, certificates and session tickets go on.
pub fn compile_after(
    spec: Spec,
    generation: u64,
    registries: &Registries,
    now: SystemTime,
    running: Option<&Snapshot>,
    problems: &Problems,
) -> Option<Snapshot> {
    let at = problems.root();
    let upstreams: BTreeMap<Name, Arc<Upstream>> = spec
        .upstreams
        .iter()
        .filter_map(|(name, upstream)| {
            let compiled = Upstream::compile(name, upstream, &registries.endpoints, &at.key("upstreams").key(&**name))?;
            let known = running.and_then(|running| running.upstreams.get(name));
            let unchanged = known.filter(|known| known.spec() == upstream && !known.reads_files());
            Some((name.clone(), unchanged.cloned().unwrap_or(compiled)))
        })
        .collect();
    let tls_port = https_port(&spec);
    let listeners: BTreeMap<Name, Arc<Listener>> = spec
        .listeners
        .iter()
        .filter_map(|(name, listener)| {
            let at = at.key("listeners").key(&**name);
            let mut compiled = Listener::compile(name, listener, &upstreams, tls_port, registries.acme.issued(), now, &at)?;
            let known = running.and_then(|running| running.listeners.get(name)?.tls.as_ref());
            if let (Some(tls), Some(known)) = (&compiled.tls, known)
                && known.is_like(tls)
            {
                compiled.tls = Some(known.clone());
            }
            Some((name.clone(), Arc::new(compiled)))
        })
        .collect();
    let certificates = super::certificates::compile(&spec, &listeners, &at);
    let chains =
        Chains::compile(&spec.filter_chains, &registries.kept, registries.calls.services(&upstreams), &at.key("filter_chains"));
    let listener_filters = listener_filters(&spec, &chains, &at.key("listeners"));
    let routes = spec
        .routes
        .iter()
        .enumerate()
        .filter_map(|(index, route)| Route::compile(index, route, &upstreams, &chains, &at.key("routes").index(index)))
        .collect();
    let geoip = spec.geoip.as_ref().and_then(|geoip| geoip.compile(&at.key("geoip")));
    let cache_settings = cache_settings(&spec, &at.key("cache"));
    let routes = Table::build(routes, &at.key("routes"));
    if problems.any_error() {
        return None;
    }
    Some(Snapshot {
        generation,
        spec,
        listeners,
        listener_filters,
        routes,
        upstreams,
        geoip,
        certificates,
        acme: registries.acme.clone(),
        cache_settings,
        cache: None,
    })
}

/// Everything that a start finds out about a configuration: what its text, its Spec and its compilation say.
pub fn check(loaded: Loaded) -> Loaded {
    let mut loaded = loaded.check();
    if let Some(spec) = &loaded.spec {
        let problems = Problems::default();
        compile(spec.clone(), 0, &Registries::default(), SystemTime::now(), &problems);
        loaded.add(problems.take());
    }
    loaded
}

/// How large the cache is; `None` without a filter that asks for it, or where a problem was reported.
fn cache_settings(spec: &Spec, at: &At) -> Option<CacheSettings> {
    let compiled = spec.cache.as_ref().map_or_else(|| CacheSpec::default().compile(at), |cache| cache.compile(at));
    compiled.filter(|_| spec.filters().any(FilterSpec::caches))
}

fn listener_filters(spec: &Spec, chains: &Chains, at: &At) -> BTreeMap<Name, Chain> {
    let build = |(name, listener): (&Name, &ListenerSpec)| {
        let at = at.key(name.as_str()).key("filters");
        Some((name.clone(), chains.build(&format!("listener {name}"), &listener.filters, &at)?))
    };
    spec.listeners.iter().filter_map(build).filter(|(_, chain)| !chain.is_empty()).collect()
}

/// The port that redirects to https point at: that of the first TLS listener.
fn https_port(spec: &Spec) -> Option<u16> {
    let tls = spec.listeners.values().filter(|listener| listener.tls.is_some() && listener.tcp.is_none());
    tls.flat_map(|listener| listener.address.iter()).find_map(|address| address.tcp()).map(|address| address.port())
}

impl Listener {
    fn compile(
        name: &Name,
        spec: &ListenerSpec,
        upstreams: &BTreeMap<Name, Arc<Upstream>>,
        tls_port: Option<u16>,
        issued: &Issued,
        now: SystemTime,
        at: &At,
    ) -> Option<Self> {
        let http = at.key("http");
        for (key, span) in [("header_timeout", spec.http.header_timeout), ("keepalive_timeout", spec.http.keepalive_timeout)] {
            if span.get().is_zero() {
                http.key(key)
                    .problem(Code::BadValue, "no connection would live long enough to send a request")
                    .hint("give it some seconds");
            }
        }
        let tls = match &spec.tls {
            None => None,
            // Which protocol is inside of TLS is between the client and the endpoint: none is agreed on their behalf.
            Some(tls) if spec.tcp.is_some() => Some(ServerTls::compile(tls, Offer::Nothing, issued, now, &at.key("tls"))?),
            Some(tls) => Some(ServerTls::compile(tls, Offer::http(spec.http.h2), issued, now, &at.key("tls"))?),
        };
        let tcp = match &spec.tcp {
            None => None,
            Some(tcp) => Some(Tcp::compile(tcp, upstreams)?),
        };
        let mut listener = Self {
            name: name.clone(),
            addresses: spec.address.to_vec(),
            tls,
            http: spec.http.clone(),
            tcp,
            redirect_to_https: spec.redirect_to_https.then_some(tls_port).flatten(),
            proxy_protocol: spec.proxy_protocol.as_ref().map(|proxy| proxy.from.iter().copied().collect()),
            trusted_proxies: spec.trusted_proxies.iter().copied().collect(),
            max_connections: spec.max_connections.map(|max| max.get()),
            alt_svc: None,
        };
        if let Some(address) = listener.addresses.iter().find_map(|address| address.tcp()) {
            listener.advertise(address.port());
        }
        Some(listener)
    }
}
