//! W0301: routes that can never match.
//!
//! A route is reported when, for each of its hosts, one other route is always tried first and takes every
//! request that it would take. Only single routes are compared: that two routes together leave nothing for a
//! third is not found, nor is anything that would need to compare two regular expressions.

use std::{collections::HashMap, sync::Arc};

use super::{PathPattern, Route, paths::Paths};
use crate::types::{At, Code};

/// Who shadows a route, by the index of the shadowed one.
type Shadows = HashMap<usize, Arc<Route>>;

pub(super) fn warn<'p>(routes: &[Arc<Route>], hosts: impl Iterator<Item = &'p Paths>, at: &At) {
    // By route: on how many hosts it stands, and who shadows it on how many of them.
    let mut places: HashMap<usize, usize> = HashMap::new();
    let mut shadowed: HashMap<usize, (usize, Arc<Route>)> = HashMap::new();
    for paths in hosts {
        for route in paths.groups().chain([paths.regexes()]).flatten() {
            *places.entry(route.index).or_default() += 1;
        }
        for (index, by) in shadows(paths) {
            shadowed.entry(index).or_insert((0, by)).0 += 1;
        }
    }
    for route in routes {
        if let Some((count, by)) = shadowed.get(&route.index)
            && places.get(&route.index) == Some(count)
        {
            at.index(route.index)
                .key("name")
                .problem(Code::Shadowed, format!("`{}` can never match: `{}` takes all of its requests", route.name, by.name))
                .also(at.index(by.index).key("name").path(), "this one is tried first")
                .hint("make one of them more specific, or remove one");
        }
    }
}

/// The routes of one host that get nothing there.
fn shadows(paths: &Paths) -> Shadows {
    let mut shadows = Shadows::new();
    paths.groups().for_each(|group| within(group, |_, _| true, &mut shadows));
    within(paths.regexes(), |broad, narrow| broad.path == narrow.path, &mut shadows);
    for route in paths.regexes() {
        below_a_prefix(paths, route, &mut shadows);
    }
    shadows
}

/// At most so many routes on one path are compared with each of the others: with more than this a warning may
/// be missed, and checking a file stays linear.
const COMPARED: usize = 256;

/// Marks the routes of a group that an earlier one covers.
fn within(group: &[Arc<Route>], same_path: impl Fn(&Route, &Route) -> bool, shadows: &mut Shadows) {
    for (position, narrow) in group.iter().enumerate() {
        let mut earlier = group[..position.min(COMPARED)].iter();
        if let Some(broad) = earlier.find(|broad| same_path(broad, narrow) && broad.predicates.cover(&narrow.predicates)) {
            shadows.insert(narrow.index, broad.clone());
        }
    }
}

/// Prefixes come before expressions, so an expression that only matches below a prefix gets nothing.
fn below_a_prefix(paths: &Paths, narrow: &Arc<Route>, shadows: &mut Shadows) {
    let PathPattern::Regex(regex) = &narrow.path else { return };
    let literal = literal_start(regex.as_str());
    if let Some(broad) = paths.prefixes_of(literal).find(|broad| broad.predicates.cover(&narrow.predicates)) {
        shadows.insert(narrow.index, broad.clone());
    }
}

/// The text that everything matching an anchored expression starts with, as far as it is plain to see.
fn literal_start(regex: &str) -> &str {
    let Some(rest) = regex.strip_prefix('^') else { return "" };
    if rest.contains('|') {
        return "";
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'-' | b'_' | b'~' | b'%');
    let end = rest.bytes().position(|b| !plain(b)).unwrap_or(rest.len());
    match rest.as_bytes().get(end) {
        // The last character may be missing or repeated.
        Some(b'?' | b'*' | b'+' | b'{') => &rest[..end.saturating_sub(1)],
        _ => &rest[..end],
    }
}
