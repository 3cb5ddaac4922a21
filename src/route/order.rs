//! Where the order of routes in the file decides.
//!
//! Of two routes for one host and path, the one with more conditions is tried first, wherever it stands. Only where
//! they are equal in that, the file decides, and only there it means something to move a route.

use std::collections::HashMap;

use super::{MatchSpec, PathPattern, Predicates, RouteSpec, predicates::Rank};
use crate::types::{HostPattern, Problems};

/// A route is compared with at most so many of those behind it that share its host and path: beyond that a pair may be
/// missed, and the comparison stays linear, in memory too.
const COMPARED: usize = 64;

/// The pairs of routes, as positions in file order, of which the first is tried first because it stands first.
pub fn decided_by_position(routes: &[RouteSpec]) -> Vec<(usize, usize)> {
    let mut groups: HashMap<(String, String, Rank), Vec<(usize, Predicates)>> = HashMap::new();
    for (index, route) in routes.iter().enumerate() {
        // What is wrong with a route is for its compilation to say.
        let Some(predicates) = Predicates::compile(&route.matches, &Problems::default().root()) else { continue };
        for host in hosts(&route.matches) {
            let key = (host, path(&route.matches), predicates.rank(0));
            groups.entry(key).or_default().push((index, predicates.clone()));
        }
    }
    let mut pairs = Vec::new();
    for group in groups.values() {
        for (position, (first, ours)) in group.iter().enumerate() {
            let later = group[position + 1..].iter().take(COMPARED);
            pairs.extend(later.filter(|(_, theirs)| ours.may_meet(theirs)).map(|(second, _)| (*first, *second)));
        }
    }
    pairs.sort_unstable();
    pairs.dedup();
    pairs
}

fn hosts(spec: &MatchSpec) -> Vec<String> {
    let any = HostPattern::Any.to_string();
    let mut hosts: Vec<String> = spec.host.iter().map(HostPattern::to_string).collect();
    if hosts.is_empty() {
        hosts.push(any);
    }
    hosts.sort_unstable();
    hosts.dedup();
    hosts
}

/// Routes with equal keys are tried in one row.
fn path(spec: &MatchSpec) -> String {
    match (&spec.path, &spec.path_regex) {
        // All expressions of a host are tried one by one.
        (_, Some(_)) => String::new(),
        (Some(path), None) => PathPattern::parse(path).map_or_else(|_| path.clone(), |path| path.to_string()),
        (None, None) => PathPattern::Any.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(routes: &str) -> Vec<(usize, usize)> {
        let routes: Vec<RouteSpec> = serde_yaml::from_str(routes).unwrap();
        decided_by_position(&routes)
    }

    #[test]
    fn position_decides_between_equals_only() {
        assert_eq!(pairs("[{name: a, match: {path: /x/*}}, {name: b, match: {path: /y/*}}]"), []);
        assert_eq!(pairs("[{name: a, match: {path: /x/*}}, {name: b, match: {path: /x/*}}]"), [(0, 1)]);
        assert_eq!(pairs("[{name: a, match: {path: /x/*}}, {name: b, match: {path: /x/*, method: GET}}]"), []);
        assert_eq!(pairs("[{name: a, match: {method: GET}}, {name: b, match: {method: POST}}]"), []);
        assert_eq!(pairs("[{name: a, match: {method: [GET, POST]}}, {name: b, match: {method: POST}}]"), [(0, 1)]);
        assert_eq!(pairs("[{name: a, match: {host: a.test}}, {name: b, match: {host: b.test}}]"), []);
        assert_eq!(pairs("[{name: a, match: {host: [a.test, b.test]}}, {name: b, match: {host: [b.test, a.test]}}]"), [(0, 1)]);
        assert_eq!(pairs("[{name: a, match: {path_regex: x}}, {name: b, match: {path_regex: y}}]"), [(0, 1)]);
        assert_eq!(pairs("[{name: a}, {name: b}, {name: c, match: {path: '/*'}}]"), [(0, 1), (0, 2), (1, 2)]);
    }
}
