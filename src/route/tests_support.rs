//! Small requests and small tables for the tests of this module.

use std::{collections::BTreeMap, net::Ipv4Addr};

use http::HeaderMap;

use super::{Route, RouteSpec, Table};
use crate::types::{Client, Name, Problem, Problems, RequestHead, Scheme};
use crate::{endpoint::EndpointRegistry, filter::Chains, upstream::Upstream};

/// A client on 192.0.2.1, by the listener `web`, in cleartext.
pub(super) fn client() -> Client {
    Client {
        ip: Ipv4Addr::new(192, 0, 2, 1).into(),
        port: 1,
        scheme: Scheme::Http,
        listener: "web".parse().unwrap(),
        tls: None,
        whereabouts: Default::default(),
    }
}

/// A request without fields.
pub(super) fn head<'a>(method: &'a str, host: &'a str, path: &'a str) -> RequestHead<'a> {
    static NONE: std::sync::LazyLock<HeaderMap> = std::sync::LazyLock::new(HeaderMap::new);
    RequestHead { method, host, path, query: None, fields: &*NONE }
}

/// Compiles routes written in JSON. A route named `x` answers 200 unless it says something else.
pub(super) fn compile(routes: serde_json::Value) -> (Option<Table>, Vec<Problem>) {
    let problems = Problems::default();
    let at = problems.root().key("routes");
    let name: Name = "app".parse().expect("a name");
    let upstream = serde_json::from_value(serde_json::json!({"endpoints": ["127.0.0.1:9"]})).expect("an upstream");
    let upstream =
        Upstream::compile(&name, &upstream, &EndpointRegistry::default(), &problems.root()).expect("an upstream that compiles");
    let upstreams: BTreeMap<_, _> = [(name, upstream)].into_iter().collect();
    let specs: Vec<RouteSpec> = serde_json::from_value(routes).expect("the routes of a test can be read");
    let routes: Vec<_> = specs
        .iter()
        .enumerate()
        .map(|(index, spec)| Route::compile(index, spec, &upstreams, &Chains::default(), &at.index(index)))
        .collect();
    let table = routes.into_iter().collect::<Option<Vec<_>>>().map(|routes| Table::build(routes, &at));
    (table, problems.take())
}

/// A table of `(name, match)` pairs that compile without a problem, warnings aside.
pub(super) fn table(routes: &[(&str, serde_json::Value)]) -> (Table, Vec<Problem>) {
    let routes = routes.iter().map(|(name, matches)| serde_json::json!({"name": name, "match": matches, "upstream": "app"}));
    let (table, problems) = compile(routes.collect());
    (table.unwrap_or_else(|| panic!("{problems:?}")), problems)
}
