//! All routes, by host.
//!
//! A request's host is looked up as it is, then with its labels taken off one by one among the wildcards
//! (longest first), then come the routes for every host. A host whose routes all refuse the request is passed
//! over for the next less specific one.

use std::sync::Arc;

use super::{
    Miss, Route,
    paths::{Paths, Texts},
    shadow, single,
};
use crate::types::{At, Client, HostPattern, RequestHead};

/// All routes, arranged for look-up.
#[derive(Debug, Default)]
pub struct Table {
    routes: Vec<Arc<Route>>,
    exact: Texts<Paths>,
    /// Wildcards by their suffix, which starts with a dot.
    suffixes: Texts<Paths>,
    /// Longer suffixes need not be hashed.
    longest_suffix: usize,
    any: Paths,
}

/// The route that serves a request.
#[derive(Debug, Clone, Copy)]
pub struct Match<'a> {
    /// The route.
    pub route: &'a Arc<Route>,
    /// What follows the prefix, empty or from a `/` on; the whole path where the route has no prefix.
    pub tail: &'a str,
}

impl Table {
    /// Arranges the routes, given in file order, and warns of those that can never match. `at` is the place of `routes`.
    pub fn build(routes: Vec<Arc<Route>>, at: &At) -> Self {
        let mut table = Self { routes, ..Self::default() };
        for route in &table.routes {
            if route.hosts.is_empty() {
                table.any.insert(route);
            }
            let mut seen: Vec<&HostPattern> = Vec::new();
            for host in &route.hosts {
                if seen.contains(&host) {
                    continue;
                }
                seen.push(host);
                match host {
                    HostPattern::Exact(host) => table.exact.entry(host.as_str().into()).or_default().insert(route),
                    HostPattern::Suffix(suffix) => {
                        table.longest_suffix = table.longest_suffix.max(suffix.len());
                        table.suffixes.entry(suffix.as_str().into()).or_default().insert(route);
                    }
                    HostPattern::Any => table.any.insert(route),
                }
            }
        }
        table.hosts_mut().for_each(Paths::sort);
        shadow::warn(&table.routes, table.hosts(), at);
        single::warn(&table.routes, at);
        table
    }

    fn hosts(&self) -> impl Iterator<Item = &Paths> {
        self.exact.values().chain(self.suffixes.values()).chain([&self.any])
    }

    fn hosts_mut(&mut self) -> impl Iterator<Item = &mut Paths> {
        self.exact.values_mut().chain(self.suffixes.values_mut()).chain([&mut self.any])
    }

    /// The route that serves the request.
    pub fn find<'a>(&'a self, head: &RequestHead<'a>, client: &Client) -> Option<Match<'a>> {
        self.find_and_tell(head, client, |_, _| {})
    }

    /// As [`Table::find`], and `tried` is told of every route whose conditions were asked, in that order, and which of
    /// them the request does not meet. The last one told of is the one that serves the request, if any does.
    pub fn find_and_tell<'a>(
        &'a self,
        head: &RequestHead<'a>,
        client: &Client,
        mut tried: impl FnMut(&'a Arc<Route>, Option<Miss<'a>>),
    ) -> Option<Match<'a>> {
        let exact = self.exact.get(head.host);
        let wildcards = head
            .host
            .bytes()
            .enumerate()
            .skip(1)
            .filter(|(_, byte)| *byte == b'.')
            .map(|(dot, _)| &head.host[dot..])
            .filter(|suffix| suffix.len() <= self.longest_suffix)
            .filter_map(|suffix| self.suffixes.get(suffix));
        exact
            .into_iter()
            .chain(wildcards)
            .chain([&self.any])
            .find_map(|paths| paths.find(head, client, &mut tried))
            .map(|(route, tail)| Match { route, tail })
    }

    /// All routes in file order.
    pub fn routes(&self) -> &[Arc<Route>] {
        &self.routes
    }
}

/// The first condition of the route that the request does not meet; `None` when it meets all of them.
pub fn why_not<'r>(route: &'r Route, head: &RequestHead<'_>, client: &Client) -> Option<Miss<'r>> {
    if !route.hosts.is_empty() && !route.hosts.iter().any(|host| host.matches(head.host)) {
        return Some(Miss::Host);
    }
    if route.path.tail(head.path).is_none() {
        return Some(Miss::Path(&route.path));
    }
    route.predicates.miss(head, client)
}
