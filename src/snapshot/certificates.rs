//! Which certificates a configuration needs, and which of them are to be obtained.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::Listener;
use crate::{
    acme::{self, Plan, Unfit},
    config::{ListenerSpec, Spec},
    route::RouteSpec,
    tls::AcmeNamesSpec,
    types::{At, Code, HostPattern, Name, bare_host},
};

/// The plan; `None` where no listener wants certificates by themselves, or when a problem was reported that is an error. Hosts without a
/// certificate are warned of, and names that no route serves.
pub(super) fn compile(spec: &Spec, listeners: &BTreeMap<Name, Arc<Listener>>, at: &At) -> Option<Arc<Plan>> {
    let wanting: Vec<(&Name, &ListenerSpec, &AcmeNamesSpec)> = spec
        .listeners
        .iter()
        .filter_map(|(name, listener)| Some((name, listener, &**listener.tls.as_ref()?.acme.as_ref()?)))
        .collect();
    if wanting.is_empty() {
        if spec.acme.is_some() {
            at.key("acme")
                .problem(Code::Unused, "no listener asks for certificates")
                .at_key()
                .hint("write `tls: {acme: auto}` at a listener, or remove it");
        }
        uncovered(spec, listeners, None, at);
        return None;
    }
    let written = spec.acme.clone().unwrap_or_default();
    let settings = written.compile(spec.server.state_dir.as_deref(), &at.key("acme"))?;
    let mut plan = Plan {
        settings: Arc::new(settings),
        names: BTreeSet::new(),
        on_demand: BTreeMap::new(),
        cleartext: spec.listeners.values().any(|listener| listener.tls.is_none() && listener.tcp.is_none()),
    };
    let mut sound = true;
    for (name, listener, wanted) in wanting {
        let at = at.key("listeners").key(name.as_str()).key("tls").key("acme");
        if let Some(on_demand) = &wanted.on_demand {
            match acme::OnDemand::compile(on_demand, &at.key("on_demand")) {
                Some(on_demand) => drop(plan.on_demand.insert(name.clone(), on_demand)),
                None => sound = false,
            }
        }
        sound &= match wanted.names.is_absent() {
            true => hosts_of_routes(spec, name, listener, listeners, &mut plan, &at),
            false => names(spec, name, wanted, &mut plan, &at),
        };
    }
    acme::without_covered(&mut plan.names);
    uncovered(spec, listeners, Some(&plan), at);
    sound.then(|| Arc::new(plan))
}

fn is_served_on(route: &RouteSpec, listener: &Name) -> bool {
    route.matches.listener.is_absent() || route.matches.listener.contains(listener)
}

/// The names that are written at the listener. False when one of them is an error.
fn names(spec: &Spec, listener: &Name, wanted: &AcmeNamesSpec, plan: &mut Plan, at: &At) -> bool {
    let mut sound = true;
    let served = |name: &str| {
        let routes = spec.routes.iter().filter(|route| is_served_on(route, listener));
        routes.into_iter().any(|route| {
            let hosts = &route.matches.host;
            let fits =
                |host: &HostPattern| host.matches(name) || name.strip_prefix('*').is_some_and(|suffix| is_below(host, suffix));
            hosts.is_absent() || hosts.iter().any(fits)
        })
    };
    for (index, text) in wanted.names.iter().enumerate() {
        let at = at.key("names").index(index);
        let fits = acme::issuable(text).ok_or(Unfit::NoName).and_then(|name| plan.settings.fits(&name).map(|()| name));
        match fits {
            Ok(name) => {
                if spec.listeners[listener].tcp.is_none() && !served(&name) {
                    at.problem(Code::Unused, format!("no route serves `{name}`"));
                }
                plan.names.insert(name);
            }
            Err(unfit) => {
                let (message, hint) = words(unfit, text);
                at.problem(Code::BadValue, message).hint(hint);
                sound = false;
            }
        }
    }
    sound
}

/// Does a pattern serve hosts below this suffix, which begins with a dot?
fn is_below(host: &HostPattern, suffix: &str) -> bool {
    match host {
        HostPattern::Any => true,
        HostPattern::Exact(host) => host.ends_with(suffix),
        HostPattern::Suffix(own) => own.ends_with(suffix) || suffix.ends_with(own.as_str()),
    }
}

/// The hosts of the routes that a listener serves, but for those that other certificates of it are for. False when there is an error.
fn hosts_of_routes(
    spec: &Spec,
    name: &Name,
    listener: &ListenerSpec,
    listeners: &BTreeMap<Name, Arc<Listener>>,
    plan: &mut Plan,
    at: &At,
) -> bool {
    if listener.tcp.is_some() {
        at.problem(Code::MissingKey, "a listener that passes bytes on has no routes to take names from")
            .hint("write `acme: {names: [www.example.com]}`");
        return false;
    }
    let tls = listeners.get(name).and_then(|listener| listener.tls.as_ref());
    let routes = spec.routes.iter().filter(|route| is_served_on(route, name));
    let mut any = false;
    for host in routes.flat_map(|route| route.matches.host.iter()).filter(|host| **host != HostPattern::Any) {
        any = true;
        let wanted = acme::issuable(&host.to_string()).filter(|wanted| plan.settings.fits(wanted).is_ok());
        // One that has a certificate of its own needs no other. What cannot be obtained is warned of where hosts are looked at.
        if let Some(wanted) = wanted.filter(|wanted| tls.is_none_or(|tls| !tls.holds(wanted))) {
            plan.names.insert(wanted);
        }
    }
    if !any && !plan.on_demand.contains_key(name) {
        at.problem(Code::Ineffective, "no route of this listener has a host, so there is no name to obtain a certificate for")
            .hint("write `match: {host: www.example.com}` in the routes, or `acme: {names: [www.example.com]}`");
    }
    true
}

/// Warns of hosts that a client cannot reach over TLS, because no certificate is for them.
fn uncovered(spec: &Spec, listeners: &BTreeMap<Name, Arc<Listener>>, plan: Option<&Plan>, at: &At) {
    for (index, route) in spec.routes.iter().enumerate() {
        let serving = || {
            let served = listeners.values().filter(|listener| listener.tcp.is_none() && is_served_on(route, &listener.name));
            served.filter_map(|listener| Some((listener, listener.tls.as_ref()?)))
        };
        if serving().next().is_none() {
            continue;
        }
        let at_hosts = at.key("routes").index(index).key("match").key("host");
        for (position, host) in route.matches.host.iter().enumerate().filter(|(_, host)| **host != HostPattern::Any) {
            let name = host.to_string();
            let bare = bare_host(&name);
            let ordered = |listener: &Listener| {
                let Some(tls) = spec.listeners.get(&listener.name).and_then(|spec| spec.tls.as_ref()) else { return false };
                let plan = plan.filter(|_| tls.acme.is_some());
                // Who develops knows that clients refuse what is self-signed.
                !tls.self_signed.is_empty()
                    || plan.is_some_and(|plan| plan.covers(bare) || plan.on_demand.contains_key(&listener.name))
            };
            if serving().any(|(listener, tls)| tls.holds(bare) || ordered(listener)) {
                continue;
            }
            let names: Vec<&str> = serving().map(|(listener, _)| listener.name.as_str()).collect();
            let (why, hint) = match plan.map(|plan| plan.settings.fits(bare)) {
                Some(Err(unfit)) => words(unfit, bare),
                _ => (format!("no certificate of listener `{}` is for `{name}`", names.join("`, `")), HINT.to_owned()),
            };
            at_hosts.index(position).problem(Code::UncoveredHost, why).hint(hint);
        }
    }
}

const HINT: &str = "clients will refuse the one that they get; add one to `certificates`, or write `acme: auto`";

fn words(unfit: Unfit, name: &str) -> (String, String) {
    match unfit {
        Unfit::NoName => (
            format!("`{name}` is neither a host name nor an IP address"),
            "as in `www.example.com` or `*.example.com`".to_owned(),
        ),
        Unfit::Wildcard => (
            format!("a certificate for `{name}` is issued only to those who write a record into its DNS"),
            "configure `acme.dns`, or name the hosts that are meant".to_owned(),
        ),
        Unfit::NotPublic => (
            format!("no public authority issues a certificate for `{name}`"),
            "use `self_signed` for development, or an authority of your own in `acme.directory`".to_owned(),
        ),
    }
}
