//! What a Spec alone tells: names that lead nowhere, keys that exclude or need each other, addresses used twice,
//! files that are not there.
//!
//! Pure but for looking whether files can be read. What concerns one upstream, route or certificate alone is for
//! the room that builds it: here is what takes several, and what must be said even when nothing can be built. Nothing is reported that only follows from an
//! error already reported: a name counts as declared when the text declares it, readable or not.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{ListenerSpec, Spec, load::Facts};
use crate::{
    filter::{self, FilterSpec},
    health::HealthCheckSpec,
    route::RouteSpec,
    types::{Address, At, Code, ConfigPath, Name, Seg, YamlPath, closest},
    upstream::UpstreamSpec,
};

/// Reports everything that can be told from the Spec.
pub(super) fn check(spec: &Spec, facts: &Facts<'_>, at: &At) {
    for (name, listener) in &spec.listeners {
        listener_files(listener, &at.key("listeners").key(name.as_str()));
        head_limits(listener, &at.key("listeners").key(name.as_str()).key("http"));
    }
    if spec.listeners.is_empty() && !facts.broken() {
        at.key("listeners").problem(Code::MissingKey, "no listener is declared, so nothing would be served");
    }
    tracing(spec, &at.key("observability").key("tracing"));
    addresses(spec, &at.key("listeners"));
    redirects_to_tls(spec, &at.key("listeners"));
    admin(spec, facts, &at.key("admin"));
    route_names(&spec.routes, &at.key("routes"));
    chain_references(spec, facts, at);
    for (index, route) in spec.routes.iter().enumerate() {
        route_references(spec, route, facts, &at.key("routes").index(index));
    }
    for (name, upstream) in &spec.upstreams {
        one_upstream(upstream, &at.key("upstreams").key(name.as_str()));
    }
    if !facts.broken() {
        unused_upstreams(spec, &at.key("upstreams"));
        unused_chains(spec, &at.key("filter_chains"));
    }
}

fn path(segs: &[&str]) -> YamlPath {
    YamlPath(segs.iter().map(|seg| Seg::Key((*seg).into())).collect())
}

fn readable(file: &ConfigPath, at: &At) {
    if let Err(error) = std::fs::File::open(&**file).and_then(|file| file.metadata()).and_then(|meta| match meta.is_dir() {
        true => Err(std::io::Error::from(std::io::ErrorKind::IsADirectory)),
        false => Ok(()),
    }) {
        let reason = match error.kind() {
            std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
            std::io::ErrorKind::IsADirectory => "it is a directory".to_owned(),
            _ => error.to_string(),
        };
        at.problem(Code::UnreadableFile, format!("cannot read `{file}`: {reason}"));
    }
}

fn listener_files(listener: &ListenerSpec, at: &At) {
    if listener.address.is_empty() {
        at.key("address").problem(Code::BadValue, "a listener needs an address");
    }
    let Some(tls) = &listener.tls else { return };
    let at = at.key("tls");
    for (index, certificate) in tls.certificates.iter().enumerate() {
        let at = at.key("certificates").index(index);
        readable(&certificate.cert, &at.key("cert"));
        readable(&certificate.key, &at.key("key"));
    }
    if let Some(clients) = &tls.client_certificates {
        readable(&clients.ca, &at.key("client_certificates").key("ca"));
    }
    if tls.certificates.is_empty() && tls.self_signed.is_empty() {
        at.problem(Code::Conflict, "TLS without a certificate")
            .at_key()
            .hint("add `certificates`, or `self_signed: [localhost]` for development");
    }
}

/// An authority for a collector that shows no certificate would only look as if it protected something.
fn tracing(spec: &Spec, at: &At) {
    let Some(tracing) = spec.observability.tracing.on() else { return };
    let Some(ca) = &tracing.ca else { return };
    readable(ca, &at.key("ca"));
    if !tracing.otlp.is_tls() {
        at.key("ca")
            .problem(Code::Conflict, "a collector without TLS has no certificate")
            .at_key()
            .hint("write `https://` in `otlp`");
    }
}

/// What the parser behind the gate takes at most: a listener that lets more through would have it answered with an
/// unexplained 400.
fn head_limits(listener: &ListenerSpec, at: &At) {
    const MAX_FIELDS: u32 = 256;
    const MAX_BYTES: u64 = 1024 * 1024 - 1;
    if listener.http.max_header_count.get() > MAX_FIELDS {
        at.key("max_header_count").problem(Code::BadValue, format!("at most {MAX_FIELDS} header fields can be read"));
    }
    if listener.http.max_header_bytes.get() > MAX_BYTES {
        at.key("max_header_bytes").problem(Code::BadValue, "header blocks of 1 MiB and more cannot be read");
    }
}

/// Two listeners on one address. Port 0 is a new port each time.
fn addresses(spec: &Spec, at: &At) {
    let mut seen: BTreeMap<&Address, YamlPath> = BTreeMap::new();
    for (name, listener) in &spec.listeners {
        let at = at.key(name.as_str()).key("address");
        for (index, address) in listener.address.iter().enumerate() {
            let at = at.index(index);
            if address.tcp().is_some_and(|address| address.port() == 0) {
                continue;
            }
            match seen.get(address) {
                Some(first) => {
                    at.problem(Code::BadAddress, format!("`{address}` is used twice")).also(first.clone(), "also here");
                }
                None => {
                    seen.insert(address, at.path());
                }
            }
        }
    }
    if let Some(admin) = spec.admin.on()
        && let Some(first) = seen.get(&admin.address)
        && admin.address.tcp().is_none_or(|address| address.port() != 0)
    {
        let message = format!("`{}` is the address of the admin listener too", admin.address);
        let mut at = at.clone();
        for seg in first.0.iter().skip(1) {
            at = match seg {
                Seg::Key(key) => at.key(key),
                Seg::Index(index) => at.index(*index),
            };
        }
        at.problem(Code::BadAddress, message)
            .also(path(&["admin", "address"]), "the admin listener")
            .hint("the admin listener is on `127.0.0.1:9900` unless `admin.address` says otherwise");
    }
}

fn redirects_to_tls(spec: &Spec, at: &At) {
    let any_tls = spec.listeners.values().any(|listener| listener.tls.is_some());
    for (name, listener) in &spec.listeners {
        let at = at.key(name.as_str()).key("redirect_to_https");
        if listener.redirect_to_https && listener.tls.is_some() {
            at.problem(Code::Conflict, format!("`{name}` terminates TLS itself, so there is nothing to redirect"))
                .hint("set `redirect_to_https` on the cleartext listener");
        } else if listener.redirect_to_https && !any_tls {
            at.problem(Code::Conflict, "there is no TLS listener to redirect to").hint("add a listener with `tls`");
        }
    }
}

fn admin(spec: &Spec, facts: &Facts<'_>, at: &At) {
    let Some(admin) = spec.admin.on() else { return };
    if !admin.address.is_local() && admin.token.is_empty() && !facts.lost(&at.path(), "token") {
        let reachable = match admin.address.tcp().map(|address| address.ip()) {
            Some(ip) if ip.is_unspecified() => "on every interface".to_owned(),
            Some(IpAddr::V4(_) | IpAddr::V6(_)) | None => "from other machines".to_owned(),
        };
        at.key("address")
            .problem(Code::BadAddress, format!("the admin listener would be reachable {reachable} without a token"))
            .hint("set `admin.token: ${WEIR_ADMIN_TOKEN}`, or listen on `127.0.0.1:9900`");
    }
}

fn route_names(routes: &[RouteSpec], at: &At) {
    let mut seen: BTreeMap<&Name, YamlPath> = BTreeMap::new();
    for (index, route) in routes.iter().enumerate() {
        let at = at.index(index).key("name");
        match seen.get(&route.name) {
            Some(first) => {
                at.problem(Code::Duplicate, format!("the route `{}` is there twice", route.name))
                    .also(first.clone(), "first here")
                    .hint("the name of a route is its name in logs and metrics: each needs its own");
            }
            None => {
                seen.insert(&route.name, at.path());
            }
        }
    }
}

fn route_references(spec: &Spec, route: &RouteSpec, facts: &Facts<'_>, at: &At) {
    for (name, at) in route.upstreams(at) {
        refers("upstream", "upstreams", name, spec.upstreams.keys(), facts, &at);
    }
    if let Some(file) = route.fallback.as_ref().and_then(|fallback| fallback.body_file.as_ref()) {
        readable(file, &at.key("fallback").key("body_file"));
    }
    for (index, name) in route.matches.listener.iter().enumerate() {
        refers("listener", "listeners", name, spec.listeners.keys(), facts, &at.key("match").key("listener").index(index));
    }
}

/// A reference to something that must be declared. Names both ends.
fn refers<'s>(what: &str, section: &str, name: &Name, declared: impl Iterator<Item = &'s Name>, facts: &Facts<'_>, at: &At) {
    if facts.declares(section, name) {
        return;
    }
    let known: Vec<&str> = declared.map(Name::as_str).collect();
    let added = at.problem(Code::UndefinedReference, format!("there is no {what} `{name}`"));
    let added = match known.is_empty() {
        true => added.hint(format!("declare it under `{section}`")),
        false => added.nearest(name, known.iter().copied()),
    };
    // The other end: the one that was meant, else where it would be declared.
    if let Some(meant) = closest(name, known) {
        added.also(path(&[section, meant]), "declared here");
    } else if facts.has(&path(&[section])) {
        added.also(path(&[section]), format!("{section} are declared here"));
    }
}

fn one_upstream(upstream: &UpstreamSpec, at: &At) {
    if let Some(check) = &upstream.health_check {
        health_check(check, &at.key("health_check"));
    }
    if let Some(tls) = &upstream.tls {
        let at = at.key("tls");
        for (key, file) in [("ca", &tls.ca), ("client_cert", &tls.client_cert), ("client_key", &tls.client_key)] {
            if let Some(file) = file {
                readable(file, &at.key(key));
            }
        }
    }
}

fn health_check(check: &HealthCheckSpec, at: &At) {
    if check.timeout > check.interval && !check.interval.get().is_zero() {
        let message = format!("the timeout ({}) is longer than the interval ({})", check.timeout, check.interval);
        at.key("timeout").problem(Code::Ineffective, message).hint("a check would start before the last one has ended");
    }
}

/// Every list of filters, with its place below the root.
fn filter_lists<'s>(spec: &'s Spec, at: &At) -> Vec<(&'s [FilterSpec], At)> {
    let of_listeners =
        spec.listeners.iter().map(|(name, listener)| (&*listener.filters, at.key("listeners").key(name.as_str()).key("filters")));
    let of_routes =
        spec.routes.iter().enumerate().map(|(index, route)| (&*route.filters, at.key("routes").index(index).key("filters")));
    let of_chains = spec.filter_chains.iter().map(|(name, filters)| (&**filters, at.key("filter_chains").key(name.as_str())));
    of_listeners.chain(of_routes).chain(of_chains).collect()
}

fn chain_references(spec: &Spec, facts: &Facts<'_>, at: &At) {
    for (filters, at) in filter_lists(spec, at) {
        for (index, name) in filter::references(filters) {
            refers("filter chain", "filter_chains", name, spec.filter_chains.keys(), facts, &at.index(index).key("chain"));
        }
    }
}

fn unused_chains(spec: &Spec, at: &At) {
    let lists = filter_lists(spec, at);
    let used: BTreeSet<&Name> = lists.iter().flat_map(|(filters, _)| filter::references(filters)).map(|(_, name)| name).collect();
    for name in spec.filter_chains.keys().filter(|name| !used.contains(name)) {
        at.key(name.as_str()).problem(Code::Unused, format!("nothing uses the filter chain `{name}`")).at_key();
    }
}

fn unused_upstreams(spec: &Spec, at: &At) {
    let used: BTreeSet<&Name> = spec.routes.iter().flat_map(|route| route.upstreams(at)).map(|(name, _)| name).collect();
    for name in spec.upstreams.keys().filter(|name| !used.contains(name)) {
        at.key(name.as_str()).problem(Code::Unused, format!("no route uses the upstream `{name}`")).at_key();
    }
}
