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

use super::{HttpSpec, ListenerSpec, Spec, TcpSpec, load::Facts};
use crate::{
    balance::SelectionKey,
    cache::CacheSpec,
    filter::{self, FilterSpec},
    health::HealthCheckSpec,
    route::RouteSpec,
    types::{Address, At, Code, ConfigPath, Name, Seg, YamlPath, closest, unreadable},
    upstream::{Protocol, UpstreamSpec},
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
    routes_needed(spec, facts, at);
    tracing(spec, &at.key("observability").key("tracing"));
    addresses(spec, &at.key("listeners"));
    for (name, listener) in &spec.listeners {
        if let Some(tcp) = &listener.tcp {
            layer_4(spec, listener, tcp, facts, &at.key("listeners").key(name.as_str()));
        }
    }
    http3(spec, &at.key("listeners"));
    redirects_to_tls(spec, &at.key("listeners"));
    admin(spec, facts, &at.key("admin"));
    route_names(&spec.routes, &at.key("routes"));
    filter_references(spec, facts, at);
    for (index, route) in spec.routes.iter().enumerate() {
        route_references(spec, route, facts, &at.key("routes").index(index));
    }
    countries(spec, facts, at);
    unused_cache(spec, facts, &at.key("cache"));
    kept_in_vain(spec, at);
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
        at.problem(Code::UnreadableFile, format!("cannot read `{file}`: {}", unreadable(&error)));
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
        if let Some(ocsp) = &certificate.ocsp {
            readable(ocsp, &at.key("ocsp"));
        }
    }
    if let Some(clients) = &tls.client_certificates {
        let at = at.key("client_certificates");
        readable(&clients.ca, &at.key("ca"));
        clients.crl.iter().enumerate().for_each(|(index, list)| readable(list, &at.key("crl").index(index)));
    }
    if tls.certificates.is_empty() && tls.self_signed.is_empty() && tls.acme.is_none() {
        at.problem(Code::Conflict, "TLS without a certificate")
            .at_key()
            .hint("add `certificates`, `acme: auto`, or `self_signed: [localhost]` for development");
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

fn routes_needed(spec: &Spec, facts: &Facts<'_>, at: &At) {
    let serves_http = spec.listeners.values().any(|listener| listener.tcp.is_none());
    if serves_http && !facts.has(&path(&["routes"])) {
        at.problem(Code::MissingKey, "the key `routes` is missing").hint("only listeners with `tcp` do without routes");
    }
}

/// A listener that passes bytes on has one destination, and nothing that only HTTP knows.
fn layer_4(spec: &Spec, listener: &ListenerSpec, tcp: &TcpSpec, facts: &Facts<'_>, at: &At) {
    let at_tcp = at.key("tcp");
    match (&tcp.upstream, tcp.sni.is_empty()) {
        (None, true) => {
            at_tcp
                .problem(Code::MissingKey, "connections have nowhere to go")
                .at_key()
                .hint("add `upstream: NAME`, or `sni: {HOST: NAME}` to choose by the name that a TLS client asks for");
        }
        (Some(_), false) => {
            at_tcp
                .key("sni")
                .problem(Code::Conflict, "`sni` and `upstream` exclude each other")
                .at_key()
                .also(at_tcp.key("upstream").path(), "also here")
                .hint("every other name goes to `sni: {\"*\": NAME}`");
        }
        _ => {}
    }
    if listener.tls.is_some() && !tcp.sni.is_empty() {
        let message = "`sni` is for TLS that is passed on as it is, and this listener terminates it";
        at_tcp
            .key("sni")
            .problem(Code::Conflict, message)
            .at_key()
            .also(at.key("tls").path(), "TLS ends here")
            .hint("remove `tls`, or write `upstream` instead of `sni`");
    }
    let http_only = [
        ("redirect_to_https", listener.redirect_to_https),
        ("http", listener.http != HttpSpec::default()),
        ("trusted_proxies", !listener.trusted_proxies.is_empty()),
        ("filters", !listener.filters.is_empty()),
    ];
    for (key, _) in http_only.into_iter().filter(|(_, written)| *written) {
        let message = format!("`{key}` is about HTTP, and this listener passes on bytes");
        at.key(key)
            .problem(Code::Conflict, message)
            .at_key()
            .also(at_tcp.path(), "layer 4")
            .hint(format!("remove `{key}`, or `tcp`"));
    }
    for (keys, name) in tcp.upstreams() {
        let at = keys.iter().fold(at_tcp.clone(), |at, key| at.key(key.as_str()));
        refers("upstream", "upstreams", name, spec.upstreams.keys(), facts, &at);
        if let Some(upstream) = spec.upstreams.get(name) {
            http_only_upstream(upstream, name, &at);
        }
    }
}

/// What an upstream says of requests has no meaning for connections. It may serve both, so this is a warning.
fn http_only_upstream(upstream: &UpstreamSpec, name: &Name, at: &At) {
    let key = upstream.strategy.key().filter(|key| **key != SelectionKey::ClientIp);
    let what = match (&upstream.sticky, key, upstream.connections.protocol) {
        (Some(_), _, _) => "`sticky` goes by a cookie".to_owned(),
        (None, Some(key), _) => format!("`{}` goes by `{key}` of requests", upstream.strategy.kind()),
        (None, None, Protocol::H2 | Protocol::H2c) => "HTTP/2 is spoken to its endpoints".to_owned(),
        (None, None, Protocol::H1) => return,
    };
    at.problem(Code::Ineffective, format!("in `{name}` {what}, which connections do not have"))
        .hint("give connections an upstream of their own; those without a key go by the client's address");
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

/// HTTP/3 needs UDP at an address, and a client whose address is its own.
fn http3(spec: &Spec, at: &At) {
    for (name, listener) in &spec.listeners {
        if listener.tls.as_ref().is_none_or(|tls| tls.h3.is_off()) {
            continue;
        }
        let (listener_at, at) = (at.key(name.as_str()), at.key(name.as_str()).key("tls").key("h3"));
        if listener.tcp.is_some() {
            at.problem(Code::Conflict, "HTTP/3 is HTTP, and this listener passes on bytes")
                .also(listener_at.key("tcp").path(), "layer 4")
                .hint("remove `h3`, or `tcp`");
        } else if listener.proxy_protocol.is_some() {
            at.problem(Code::Conflict, "over UDP no balancer sends the PROXY protocol, so the clients' addresses would be lost")
                .also(listener_at.key("proxy_protocol").path(), "required here")
                .hint("give HTTP/3 a listener of its own, which clients reach directly");
        } else if !listener.address.iter().any(|address| address.tcp().is_some()) {
            at.problem(Code::Conflict, "HTTP/3 comes over UDP, and a unix socket has none")
                .hint("add an IP and a port to `address`");
        }
    }
}

fn redirects_to_tls(spec: &Spec, at: &At) {
    let any_tls = spec.listeners.values().any(|listener| listener.tls.is_some() && listener.tcp.is_none());
    for (name, listener) in &spec.listeners {
        let at = at.key(name.as_str()).key("redirect_to_https");
        if listener.tcp.is_some() {
            continue;
        }
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
    if let Address::Unix(_) = admin.address {
        at.key("address")
            .problem(Code::BadAddress, "the admin listener cannot listen on a unix socket")
            .hint("write an IP and a port: `127.0.0.1:9900`");
    }
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
        let at = at.key("match").key("listener").index(index);
        refers("listener", "listeners", name, spec.listeners.keys(), facts, &at);
        if spec.listeners.get(name).is_some_and(|listener| listener.tcp.is_some()) {
            at.problem(Code::Conflict, format!("`{name}` passes on bytes, so no request comes in there"))
                .also(path(&["listeners", name, "tcp"]), "layer 4");
        }
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

/// Who asks for countries needs a database, and one that nobody asks takes memory for nothing.
fn countries(spec: &Spec, facts: &Facts<'_>, at: &At) {
    let at_routes = at.key("routes");
    let routes = spec.routes.iter().enumerate().filter(|(_, route)| !route.matches.country.is_absent());
    let matches = routes.map(|(index, _)| at_routes.index(index).key("match").key("country"));
    let lists = filter_lists(spec, at);
    let filters =
        lists.iter().flat_map(|(filters, at)| filters.iter().enumerate().map(move |(index, filter)| (filter, at, index)));
    let filters =
        filters.filter(|(filter, ..)| filter.asks_country()).map(|(filter, at, index)| at.index(index).key(filter.kind()));
    let asking: Vec<At> = matches.chain(filters).collect();
    match &spec.geoip {
        None if !facts.lost(&at.path(), "geoip") => {
            for at in asking {
                at.problem(Code::MissingKey, "countries are told by a database, and there is none")
                    .at_key()
                    .hint("add `geoip: {database: GeoLite2-Country.mmdb}` at the top of the file");
            }
        }
        Some(_) if asking.is_empty() && !facts.broken() => {
            at.key("geoip")
                .problem(Code::Unused, "nothing asks for the client's country")
                .at_key()
                .hint("use `match.country` or the filter `geo`, or remove it");
        }
        _ => {}
    }
}

/// A larger answer than the store takes is never stored.
fn kept_in_vain(spec: &Spec, at: &At) {
    let largest = spec.cache.as_ref().map_or_else(|| CacheSpec::default().largest(), CacheSpec::largest);
    for (filters, at) in filter_lists(spec, at) {
        for (index, filter) in filters.iter().enumerate() {
            if let Some(wanted) = filter.largest_kept().filter(|wanted| *wanted > largest) {
                let message = format!("no answer over {largest} is kept, which is a quarter of the memory of the cache");
                at.index(index)
                    .key(filter.kind())
                    .key("max_object")
                    .problem(Code::Ineffective, message)
                    .hint(format!("give the cache four times {wanted}, or let `max_object` be less"));
            }
        }
    }
}

fn unused_cache(spec: &Spec, facts: &Facts<'_>, at: &At) {
    if spec.cache.is_some() && !facts.broken() && !spec.filters().any(FilterSpec::caches) {
        at.problem(Code::Unused, "nothing asks for the cache").at_key().hint("use the filter `cache`, or remove it");
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

fn filter_references(spec: &Spec, facts: &Facts<'_>, at: &At) {
    for (filters, at) in filter_lists(spec, at) {
        for (index, name) in filter::references(filters) {
            refers("filter chain", "filter_chains", name, spec.filter_chains.keys(), facts, &at.index(index).key("chain"));
        }
        for (index, [kind, key], name) in filter::upstreams(filters) {
            refers("upstream", "upstreams", name, spec.upstreams.keys(), facts, &at.index(index).key(kind).key(key));
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
    let used = spec.used_upstreams();
    for name in spec.upstreams.keys().filter(|name| !used.contains(name)) {
        at.key(name.as_str()).problem(Code::Unused, format!("nothing uses the upstream `{name}`")).at_key();
    }
}
