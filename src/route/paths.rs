//! The routes of one host, by path.
//!
//! Exact paths are one look-up in a hash map. Prefixes are a tree by segments: the request's path is followed
//! down as far as the tree goes, then up again from the deepest node to the first with a route that takes the
//! request. The nodes know their parent, so the way back needs no memory of its own. Neither cost depends on
//! the number of routes, and a hostile path costs no more than the deepest prefix in the file.
//!
//! Expressions are tried one by one. A `RegexSet` would look at all of them even where the first one matches,
//! and allocates the set it returns; a host has few expressions, and each has its own literal prefilter.

use std::{collections::HashMap, sync::Arc};

use super::{Miss, PathPattern, Route, predicates::Rank};
use crate::types::{Client, RequestHead};

/// Values by a text of the configuration. What strangers send is only looked up in it, so that nobody makes its keys collide.
pub(super) type Texts<V> = HashMap<Box<str>, V, foldhash::fast::RandomState>;

/// Routes of equal host and path, in the order they are tried.
type Candidates = Vec<Arc<Route>>;

#[derive(Debug)]
pub(super) struct Paths {
    exact: Texts<Candidates>,
    /// Longer paths need not be hashed.
    longest_exact: usize,
    /// The first is the root, which holds the routes for every path.
    nodes: Vec<Node>,
    regexes: Candidates,
}

#[derive(Debug, Default)]
struct Node {
    parent: usize,
    /// Bytes of the path up to here.
    length: usize,
    children: Texts<usize>,
    routes: Candidates,
}

const ROOT: usize = 0;

impl Default for Paths {
    fn default() -> Self {
        Self { exact: Texts::default(), longest_exact: 0, nodes: vec![Node::default()], regexes: Vec::new() }
    }
}

impl Paths {
    pub(super) fn insert(&mut self, route: &Arc<Route>) {
        let candidates = match &route.path {
            PathPattern::Any => &mut self.nodes[ROOT].routes,
            PathPattern::Exact(path) => {
                self.longest_exact = self.longest_exact.max(path.len());
                self.exact.entry(path.clone()).or_default()
            }
            PathPattern::Prefix(path) => {
                let node = self.node(path);
                &mut self.nodes[node].routes
            }
            PathPattern::Regex(_) => &mut self.regexes,
        };
        candidates.push(route.clone());
    }

    fn node(&mut self, path: &str) -> usize {
        let mut at = ROOT;
        for segment in segments(path) {
            at = match self.nodes[at].children.get(segment) {
                Some(child) => *child,
                None => {
                    let child = self.nodes.len();
                    let length = self.nodes[at].length + 1 + segment.len();
                    self.nodes.push(Node { parent: at, length, ..Node::default() });
                    self.nodes[at].children.insert(segment.into(), child);
                    child
                }
            };
        }
        at
    }

    /// To be called once, after the last insert.
    pub(super) fn sort(&mut self) {
        fn sort(candidates: &mut Candidates) {
            candidates.sort_by_cached_key(|route| -> Rank { route.predicates.rank(route.index) });
        }
        self.exact.values_mut().for_each(sort);
        self.nodes.iter_mut().for_each(|node| sort(&mut node.routes));
        sort(&mut self.regexes);
    }

    /// The deepest node on the way of this path.
    fn deepest(&self, path: &str) -> usize {
        let mut at = ROOT;
        for segment in segments(path) {
            match self.nodes[at].children.get(segment) {
                Some(child) => at = *child,
                None => break,
            }
        }
        at
    }

    /// The route that takes the request. `tried` is told of every route whose conditions are asked, and how it went.
    pub(super) fn find<'a>(
        &'a self,
        head: &RequestHead<'a>,
        client: &Client,
        tried: &mut impl FnMut(&'a Arc<Route>, Option<Miss<'a>>),
    ) -> Option<(&'a Arc<Route>, &'a str)> {
        let mut takes = |route: &'a Arc<Route>| {
            let miss = route.predicates.miss(head, client);
            tried(route, miss);
            miss.is_none()
        };
        let mut first = |candidates: &'a Candidates| candidates.iter().find(|route| takes(route));
        let path = head.path;
        if path.len() <= self.longest_exact
            && let Some(candidates) = self.exact.get(path)
            && let Some(route) = first(candidates)
        {
            return Some((route, path));
        }
        let mut at = self.deepest(path);
        while at != ROOT {
            let node = &self.nodes[at];
            if let Some(route) = first(&node.routes) {
                return Some((route, &path[node.length..]));
            }
            at = node.parent;
        }
        let by_regex = self.regexes.iter().find(|route| route.path.tail(path).is_some() && takes(route));
        by_regex.or_else(|| self.nodes[ROOT].routes.iter().find(|route| takes(route))).map(|route| (route, path))
    }

    /// The groups of routes with an equal path, each in the order it is tried.
    pub(super) fn groups(&self) -> impl Iterator<Item = &[Arc<Route>]> {
        self.exact.values().chain(self.nodes.iter().map(|node| &node.routes)).map(Vec::as_slice)
    }

    /// The expressions, in the order they are tried.
    pub(super) fn regexes(&self) -> &[Arc<Route>] {
        &self.regexes
    }

    /// The routes with a prefix of at least one segment that take everything starting with `literal`.
    pub(super) fn prefixes_of(&self, literal: &str) -> impl Iterator<Item = &Arc<Route>> {
        // The last segment of the literal may go on, so it is not yet a whole one.
        let whole = literal.rfind('/').map_or("", |end| &literal[..end]);
        let mut at = self.deepest(whole);
        std::iter::from_fn(move || {
            (at != ROOT).then(|| {
                let node = &self.nodes[at];
                at = node.parent;
                &node.routes
            })
        })
        .flatten()
    }
}

/// `/a/b/` has the segments `a`, `b` and the empty one; a prefix has no empty segment, so the walk ends there.
fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').skip(1)
}
