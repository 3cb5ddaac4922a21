//! Routes that containers bring along, in labels `weir.route.NAME.KEY`.
//!
//! A route leads to the upstream that its container belongs to, and only where the file allows that upstream's
//! containers to bring routes. Replicas carry the same labels and are one route. Where two containers say
//! different things under one name, the one that stays counts before one that leaves, and the older one before the
//! newer one, so that nobody takes a route away from those who have it.

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};

use super::{HeaderMatch, RouteSpec};
use crate::{
    discovery::docker::{Container, Diagnostic, LabelRoutesSpec, Phase, ROUTE, UPSTREAM, shown},
    types::{HostPattern, Name, OneOrMany, nearest},
};

/// Routes from labels at a time: far more than anyone serves from one engine, and no way to fill memory.
const MAX_ROUTES: usize = 10_000;

/// What may stand after `weir.route.NAME.`; the last two are followed by a name of their own.
const KEYS: [&str; 10] =
    ["host", "path", "path_regex", "method", "client_ip", "listener", "timeout", "websocket", "header.NAME", "query.NAME"];

/// A route, and the container that brought it.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelRoute {
    /// The route.
    pub spec: RouteSpec,
    /// The name of the container: of the first one, if there are replicas.
    pub container: Arc<str>,
}

/// The upstreams that look for containers on one engine, and which routes those may bring: none without a Spec.
pub type Allowed = BTreeMap<Name, Option<LabelRoutesSpec>>;

/// The routes of all containers in the order of their names, and what is wrong with others. Each container comes
/// with the upstreams that look for containers on its engine.
pub fn from_labels<'c>(
    containers: impl IntoIterator<Item = (&'c Allowed, &'c Arc<Container>)>,
) -> (Vec<LabelRoute>, Vec<Diagnostic>) {
    let mut containers: Vec<_> = containers.into_iter().collect();
    containers.sort_by_key(|(_, container)| (container.phase == Phase::Leaving, &container.created, &container.id));
    let (mut routes, mut diagnostics) = (BTreeMap::<Name, LabelRoute>::new(), Vec::new());
    for (allowed, container) in containers {
        let Some(upstream) = upstream(allowed, container, &mut diagnostics) else { continue };
        for (name, keys) in named(container, &mut diagnostics) {
            let route = match &allowed[&upstream] {
                None => Err(vec![(None, forbidden(&upstream))]),
                Some(allowed) => route(&name, upstream.clone(), &keys, allowed),
            };
            match route {
                Ok(spec) => {
                    add(&mut routes, LabelRoute { spec, container: container.name.as_str().into() }, container, &mut diagnostics)
                }
                Err(faults) => diagnostics.extend(faults.into_iter().map(|(key, message)| about(container, &name, key, message))),
            }
        }
    }
    (routes.into_values().collect(), diagnostics)
}

fn add(routes: &mut BTreeMap<Name, LabelRoute>, route: LabelRoute, container: &Container, diagnostics: &mut Vec<Diagnostic>) {
    let name = route.spec.name.clone();
    let full = routes.len() >= MAX_ROUTES;
    match routes.get(&name) {
        None if full => {
            diagnostics.push(about(container, &name, None, format!("there are {MAX_ROUTES} routes from labels already")))
        }
        None => {
            routes.insert(name, route);
        }
        Some(first) if first.spec == route.spec => {}
        // Its successor says something else, which is what successors are for.
        Some(_) if container.phase == Phase::Leaving => {}
        Some(first) => {
            let message = format!("the container {} has another route of this name, which counts", first.container);
            diagnostics.push(about(container, &name, None, message));
        }
    }
}

fn forbidden(upstream: &Name) -> String {
    format!("containers may not bring routes to `{upstream}`: the file allows it with `routes: {{}}` in its `discover.docker`")
}

fn about(container: &Container, route: &str, key: Option<&str>, message: String) -> Diagnostic {
    let label = match key {
        Some(key) => format!("{ROUTE}{route}.{key}"),
        None => format!("{ROUTE}{route}"),
    };
    Diagnostic::new(&container.name, Some(&label), message)
}

/// The upstream that a container names, if it is there.
fn upstream(allowed: &Allowed, container: &Container, diagnostics: &mut Vec<Diagnostic>) -> Option<Name> {
    let named = container.labels.get(UPSTREAM)?;
    if let Some((name, _)) = allowed.get_key_value(named.as_str()) {
        return Some(name.clone());
    }
    let hint = nearest(named, allowed.keys().map(Name::as_str)).unwrap_or_default();
    let message = format!("no upstream `{}` looks for containers here; {hint}", shown(named));
    diagnostics.push(Diagnostic::new(&container.name, Some(UPSTREAM), message));
    None
}

/// The labels of each route by its name.
fn named<'c>(container: &'c Container, diagnostics: &mut Vec<Diagnostic>) -> BTreeMap<Name, Vec<(&'c str, &'c str)>> {
    let mut routes = BTreeMap::<Name, Vec<(&str, &str)>>::new();
    for (label, value) in &container.labels {
        let Some(rest) = label.strip_prefix(ROUTE) else { continue };
        let parsed = rest.split_once('.').ok_or_else(|| format!("it ends where a key is missing: {ROUTE}NAME.host"));
        match parsed.and_then(|(name, key)| Ok((name.parse::<Name>()?, key))) {
            Ok((name, key)) => routes.entry(name).or_default().push((key, value.trim())),
            Err(message) => diagnostics.push(Diagnostic::new(&container.name, Some(label), message)),
        }
    }
    routes
}

type Faults<'c> = Vec<(Option<&'c str>, String)>;

/// One route. One that has a label that cannot be read is not made: what is left of it would take other requests.
fn route<'c>(
    name: &Name,
    upstream: Name,
    keys: &[(&'c str, &'c str)],
    allowed: &LabelRoutesSpec,
) -> Result<RouteSpec, Faults<'c>> {
    let mut spec = RouteSpec::forwarding(name.clone(), upstream);
    let mut faults: Faults<'c> = Vec::new();
    for (key, value) in keys {
        if let Err(message) = set(&mut spec, key, value) {
            faults.push((Some(key), message));
        }
    }
    if faults.is_empty() && spec.matches == Default::default() {
        faults
            .push((None, "it would take every request: say which with `host` or `path`, or `path: /*` if that is meant".into()));
    }
    let hosts = &spec.matches.host;
    if !allowed.hosts.is_absent() {
        let permitted = |host: &HostPattern| allowed.hosts.iter().any(|allowed| allowed.covers(host));
        let only = || allowed.hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        if hosts.is_empty() {
            faults.push((None, format!("a `host` is missing: routes from labels are for {} only", only())));
        } else if let Some(host) = hosts.iter().find(|host| !permitted(host)) {
            faults.push((Some("host"), format!("`{host}` is not allowed: routes from labels are for {} only", only())));
        }
    }
    if faults.is_empty() { Ok(spec) } else { Err(faults) }
}

fn set(spec: &mut RouteSpec, key: &str, value: &str) -> Result<(), String> {
    let matches = &mut spec.matches;
    match key {
        "host" => matches.host = list(value)?,
        "path" => matches.path = Some(value.to_owned()),
        "path_regex" => matches.path_regex = Some(one(value)?),
        "method" => matches.method = list(value)?,
        "client_ip" => matches.client_ip = list(value)?,
        "listener" => matches.listener = list(value)?,
        "timeout" => spec.timeout = one(value)?,
        "websocket" => spec.websocket = value.parse().map_err(|_| format!("`{}` is neither `true` nor `false`", shown(value)))?,
        _ => {
            let (fields, name) = match key.split_once('.') {
                Some(("header", name)) => (&mut matches.headers, name),
                Some(("query", name)) => (&mut matches.query, name),
                _ => return Err(format!("there is no such key; {}", nearest(key, KEYS).unwrap_or_default())),
            };
            fields.insert(name.to_owned(), HeaderMatch::Exact(value.to_owned()));
        }
    }
    Ok(())
}

fn one<T: FromStr<Err: fmt::Display>>(value: &str) -> Result<T, String> {
    value.parse().map_err(|error: T::Err| shown(&error.to_string()))
}

/// Separated by commas, as lists are in labels.
fn list<T: FromStr<Err: fmt::Display>>(value: &str) -> Result<OneOrMany<T>, String> {
    let items = value.split(',').map(str::trim).filter(|item| !item.is_empty());
    let items = items.map(one).collect::<Result<Vec<T>, _>>()?;
    if items.is_empty() { Err("it is empty".into()) } else { Ok(OneOrMany(items)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::docker::tests::{answer, read};

    fn container(id: &str, labels: &[(&str, &str)]) -> Arc<Container> {
        Arc::new(read(answer(id, labels, &[])))
    }

    fn allowed(hosts: &[&str]) -> Allowed {
        let hosts = OneOrMany(hosts.iter().map(|host| host.parse().unwrap()).collect());
        [("app", Some(LabelRoutesSpec { hosts })), ("shop", Some(LabelRoutesSpec::default())), ("closed", None)]
            .map(|(name, routes)| (name.parse().unwrap(), routes))
            .into()
    }

    fn build(hosts: &[&str], containers: &[Arc<Container>]) -> (Vec<LabelRoute>, Vec<String>) {
        let allowed = allowed(hosts);
        let (routes, diagnostics) = from_labels(containers.iter().map(|container| (&allowed, container)));
        (routes, diagnostics.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn labels_become_a_route_to_the_upstream_of_their_container() {
        let labels = [
            ("weir.upstream", "shop"),
            ("weir.route.shop.host", "shop.example.com, *.shop.example.com"),
            ("weir.route.shop.path", "/v1/*"),
            ("weir.route.shop.method", "GET,POST"),
            ("weir.route.shop.header.x-channel", "beta"),
            ("weir.route.shop.query.debug", "1"),
            ("weir.route.shop.client_ip", "10.0.0.0/8"),
            ("weir.route.shop.listener", "web"),
            ("weir.route.shop.timeout", "5s"),
            ("weir.route.shop.websocket", "false"),
        ];
        let (routes, diagnostics) = build(&[], &[container("shop-1", &labels), container("shop-2", &labels)]);
        assert_eq!(diagnostics, [""; 0]);
        let written: RouteSpec = serde_yaml::from_str(
            "{name: shop, upstream: shop, timeout: 5s, websocket: false, match: {host: [shop.example.com, '*.shop.example.com'],
             path: /v1/*, method: [GET, POST], headers: {x-channel: beta}, query: {debug: '1'}, client_ip: 10.0.0.0/8, listener: web}}",
        )
        .unwrap();
        assert_eq!(routes, [LabelRoute { spec: written, container: "shop-1".into() }], "replicas are one route");
    }

    #[test]
    fn what_cannot_be_read_is_named_and_leaves_the_others_alone() {
        for (label, value, words) in [
            ("weir.route.bad.host", "a b", "container x: label weir.route.bad.host: "),
            ("weir.route.bad.host", " , ", "it is empty"),
            ("weir.route.bad.timeout", "soon", "weir.route.bad.timeout"),
            ("weir.route.bad.websocket", "yes", "neither `true` nor `false`"),
            ("weir.route.bad.hots", "a", "did you mean `host`?"),
            ("weir.route.bad", "a", "a key is missing"),
            ("weir.route.-bad.host", "a", "is not a name"),
            ("weir.route.bad.timeout", "5s", "it would take every request"),
        ] {
            let labels = [("weir.upstream", "shop"), ("weir.route.good.path", "/good"), (label, value)];
            let (routes, diagnostics) = build(&[], &[container("x", &labels)]);
            assert_eq!(routes.len(), 1, "{label}");
            assert!(matches!(&diagnostics[..], [one] if one.contains(words)), "{label}: {diagnostics:?}");
        }
    }

    #[test]
    fn routes_need_leave_and_keep_to_the_hosts_they_are_allowed() {
        let of = |upstream: &str, host: &str| {
            let labels = [("weir.upstream", upstream), ("weir.route.r.path", "/"), ("weir.route.r.host", host)];
            let (routes, diagnostics) = build(&["*.apps.example.com"], &[container("x", &labels)]);
            assert_eq!(routes.len() + diagnostics.len(), 1);
            diagnostics.into_iter().next().unwrap_or_default()
        };
        assert_eq!(of("app", "a.apps.example.com"), "");
        assert_eq!(of("app", "*.a.apps.example.com"), "");
        assert_eq!(of("shop", "anything.example.com"), "");
        assert!(of("app", "bank.example.com").contains("`bank.example.com` is not allowed: routes from labels are for *.apps"));
        assert!(of("app", "*").contains("is not allowed"));
        assert!(of("closed", "a").contains("`routes: {}`"));
        assert!(
            of("shpo", "a").contains("label weir.upstream: no upstream `shpo` looks for containers here; did you mean `shop`?")
        );
        let hostless = container("x", &[("weir.upstream", "app"), ("weir.route.r.path", "/")]);
        assert!(build(&["a"], &[hostless]).1[0].contains("a `host` is missing"));
    }

    #[test]
    fn of_two_that_differ_the_one_that_stays_counts_then_the_older_one() {
        let at = |id: &str, created: &str, phase: Phase, path: &str| {
            let mut one = Container::clone(&container(id, &[("weir.upstream", "app"), ("weir.route.r.path", path)]));
            (one.created, one.phase) = (created.into(), phase);
            Arc::new(one)
        };
        let new = at("new", "2026-02", Phase::Ready, "/new");
        let (routes, diagnostics) = build(&[], &[new.clone(), at("old", "2026-01", Phase::Ready, "/old")]);
        assert_eq!((&*routes[0].container, routes[0].spec.matches.path.as_deref()), ("old", Some("/old")));
        assert_eq!(
            diagnostics,
            ["container new: label weir.route.r: the container old has another route of this name, which counts"]
        );
        let (routes, diagnostics) = build(&[], &[at("old", "2026-01", Phase::Leaving, "/old"), new]);
        assert_eq!((&*routes[0].container, diagnostics.len()), ("new", 0));
        let (routes, _) = build(&[], &[at("old", "2026-01", Phase::Leaving, "/old")]);
        assert_eq!(routes.len(), 1, "until it has gone");
    }
}
