//! From rules of which the first that matches counts to routes of which the most specific counts.
//!
//! Other proxies ask one rule after the other. Weir asks the most specific route first, in the order of
//! `docs/routing.md`. Where that would put a later rule before an earlier one, the requests that both would take get
//! a route of their own, more specific than both, with what the earlier one does.

use super::matching::{Match, PathMatch, below};
use crate::types::HostPattern;

/// So many pairs of rules are looked at: a file of some thousand rules is imported within seconds.
const PAIRS: usize = 20_000_000;

/// A rule and what it does.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule<T> {
    /// Which requests.
    pub matches: Match,
    /// What becomes of them.
    pub body: T,
    /// This was made of a rule, for some of its requests.
    pub derived: bool,
}

impl<T> Rule<T> {
    /// A rule as it was written.
    pub fn new(matches: Match, body: T) -> Self {
        Self { matches, body, derived: false }
    }
}

/// The rules as routes, in an order in which the first of equals counts.
#[derive(Debug)]
pub struct Ordered<T> {
    /// The routes.
    pub rules: Vec<Rule<T>>,
    /// Rules that can never match, since an earlier one takes all of their requests.
    pub dead: Vec<Rule<T>>,
    /// There are too many to compare them: the order may be another.
    pub too_many: bool,
}

/// Makes routes of rules.
pub fn ordered<T: Clone + PartialEq>(rules: Vec<Rule<T>>) -> Ordered<T> {
    let mut rules = lowered(rules);
    let mut dead = Vec::new();
    let mut budget = PAIRS;
    let mut too_many = rules.len().pow(2) > PAIRS;
    if !too_many {
        drop_dead(&mut rules, &mut dead);
        too_many = !mend(&mut rules, &mut budget);
        drop_dead(&mut rules, &mut dead);
        merge(&mut rules);
    }
    dead.retain(|rule| !rule.derived);
    Ordered { rules, dead, too_many }
}

/// So many rules are made for exceptions.
const EXCEPTIONS: usize = 200;

/// Rules with exceptions, in which they leave requests to those behind them, as rules without: what those behind do with the
/// exceptions is put in front. The positions of rules whose exceptions cannot be told so, which hold without them.
pub fn without_exceptions<T: Clone>(rules: Vec<(Rule<T>, Vec<Match>)>) -> (Vec<Rule<T>>, Vec<usize>) {
    let mut done: Vec<Rule<T>> = Vec::new();
    let mut failed = Vec::new();
    // From the end, so that what is behind has no exceptions any more. `done` is in reverse.
    for (index, (rule, exceptions)) in rules.into_iter().enumerate().rev() {
        let behind: Vec<Rule<T>> = done.iter().rev().cloned().collect();
        let mut front = Vec::new();
        let mut sound = true;
        for exception in exceptions.iter().filter_map(|exception| exception.meet(&rule.matches).map(|met| (exception, met))) {
            let (exception, met) = exception;
            let mut open = true;
            for other in behind.iter().filter(|_| done.len() < EXCEPTIONS) {
                let Some(matches) = met.meet(&other.matches).filter(|_| open) else { continue };
                let exact = exception.covers(&matches) && other.matches.covers(&matches);
                sound &= exact;
                if exact {
                    open = !other.matches.covers(&met);
                    front.push(Rule { matches, body: other.body.clone(), derived: true });
                }
            }
            sound &= !open || done.len() < EXCEPTIONS;
        }
        if !sound {
            failed.push(index);
        }
        done.push(rule);
        done.extend(front.into_iter().rev());
    }
    done.reverse();
    (done, failed)
}

/// Our file knows segments and expressions, and no prefixes of characters: `/api/` is `/api/*` without `/api` itself.
fn lowered<T: Clone + PartialEq>(rules: Vec<Rule<T>>) -> Vec<Rule<T>> {
    let mut out: Vec<Rule<T>> = Vec::with_capacity(rules.len());
    for (index, rule) in rules.iter().enumerate() {
        let mut rule = rule.clone();
        let PathMatch::Begins(start) = &rule.matches.path else {
            out.push(rule);
            continue;
        };
        let parent = start.strip_suffix('/').unwrap_or_default().to_owned();
        if start == "/" {
            rule.matches.path = PathMatch::Any;
        } else if parent.is_empty() || canonical(&parent).is_none() {
            rule.matches.path = PathMatch::Regex(format!("^{}", regex::escape(start)));
        } else {
            let itself = Match { path: PathMatch::Exact(parent.clone()), ..rule.matches.clone() };
            let others = rules[index + 1..].iter().filter(|other| other.matches.path.takes(&parent));
            let mut open = true;
            let mut apart: Vec<Rule<T>> = Vec::new();
            for other in others {
                if let Some(matches) = itself.meet(&other.matches).filter(|_| open) {
                    open = !other.matches.covers(&itself);
                    apart.push(Rule { matches, body: other.body.clone(), derived: true });
                }
            }
            // With nobody to take `/api`, it is not to be taken by this one; and with many, an expression says it in less.
            let open = open || apart.len() > 1;
            rule.matches.path = match open && !out.iter().any(|earlier| earlier.matches.covers(&itself)) {
                true => PathMatch::Regex(format!("^{}", regex::escape(start))),
                false => PathMatch::Below(parent),
            };
            if rule.matches.path.rank().0 == 1 {
                out.extend(apart.into_iter().filter(|apart| apart.body != rule.body));
            }
        }
        out.push(rule);
    }
    out
}

/// The path as it can be written in a `match`.
pub fn canonical(path: &str) -> Option<&str> {
    crate::route::PathPattern::parse(path).is_ok().then_some(path)
}

/// Prefixes come before expressions: one that would take what an earlier expression takes becomes an expression itself.
fn demote<T>(rules: &mut [Rule<T>], later: usize) {
    let PathMatch::Below(prefix) = &rules[later].matches.path else { return };
    let expression = below(prefix);
    let own = &rules[later].matches;
    let met = rules[..later].iter().any(|earlier| {
        let regex = matches!(earlier.matches.path, PathMatch::Regex(_));
        regex && same_host(&earlier.matches, own) && earlier.matches.meet(own).is_some()
    });
    if met {
        rules[later].matches.path = PathMatch::Regex(expression);
    }
}

fn hosts(matches: &Match) -> Vec<HostPattern> {
    if matches.hosts.is_empty() { vec![HostPattern::Any] } else { matches.hosts.clone() }
}

/// Do they stand beside each other, on one host?
fn same_host(one: &Match, other: &Match) -> bool {
    let theirs = hosts(other);
    hosts(one).iter().any(|host| theirs.contains(host))
}

fn host_rank(host: &HostPattern) -> (u8, isize) {
    match host {
        HostPattern::Exact(_) => (0, 0),
        HostPattern::Suffix(suffix) => (1, -(suffix.len() as isize)),
        HostPattern::Any => (2, 0),
    }
}

/// Adds the routes for what a later rule would take from an earlier one. False when there are too many pairs to look at.
fn mend<T: Clone + PartialEq>(rules: &mut Vec<Rule<T>>, budget: &mut usize) -> bool {
    let mut later = 1;
    while later < rules.len() {
        demote(rules, later);
        match budget.checked_sub(later) {
            Some(left) => *budget = left,
            None => return false,
        }
        let others = (0..later).filter(|earlier| rules[*earlier].body != rules[later].body);
        let Some((earlier, matches)) =
            others.map(|earlier| (earlier, missing(rules, earlier, later))).find_map(|(at, found)| Some((at, found?)))
        else {
            later += 1;
            continue;
        };
        let body = rules[earlier].body.clone();
        rules.insert(earlier, Rule { matches, body, derived: true });
        // The new one has to give way to those before it, too, and those behind to it.
        later = earlier.max(1);
    }
    true
}

/// Rules that differ in their hosts alone become one, unless one in between is tried among them.
fn merge<T: PartialEq>(rules: &mut Vec<Rule<T>>) {
    let mut later = 1;
    while later < rules.len() {
        let alike = |earlier: &Rule<T>| {
            let rule = &rules[later];
            let hosts = earlier.matches.hosts.clone();
            earlier.body == rule.body && earlier.matches == Match { hosts, ..rule.matches.clone() }
        };
        let Some(earlier) = rules[..later].iter().position(alike) else {
            later += 1;
            continue;
        };
        let own = &rules[later].matches;
        let between = rules[earlier + 1..later].iter().any(|rule| {
            let beside = rule.matches.path.rank() == own.path.rank() && rule.matches.rank() == own.rank();
            beside && same_host(&rule.matches, own) && rule.matches.meet(own).is_some()
        });
        if between {
            later += 1;
            continue;
        }
        let own = rules.remove(later);
        let mut all = hosts(&rules[earlier].matches);
        all.extend(hosts(&own.matches));
        if all.contains(&HostPattern::Any) {
            // A name beside `*` counts only where another route has a wildcard for it.
            all.retain(|host| *host != HostPattern::Any);
            all.push(HostPattern::Any);
        }
        rules[earlier].derived &= own.derived;
        rules[earlier].matches.hosts = all;
    }
}

/// The requests that the earlier rule should take and the later one would.
fn missing<T>(rules: &[Rule<T>], earlier: usize, later: usize) -> Option<Match> {
    let (first, second) = (&rules[earlier].matches, &rules[later].matches);
    let met = first.meet(second)?;
    let mut found = Vec::new();
    for ours in hosts(first) {
        for theirs in hosts(second) {
            let Some(host) = narrower(&ours, &theirs) else { continue };
            let key = |host: &HostPattern, matches: &Match| (host_rank(host), matches.path.rank(), matches.rank());
            if key(&theirs, second) >= key(&ours, first) || found.contains(&host) {
                continue;
            }
            // Another rule in front, or one of these, may see to it already.
            let matches = Match { hosts: vec![host.clone()], ..met.clone() };
            let seen_to = rules[..=earlier].iter().any(|rule| {
                let in_front = |own: &HostPattern| own.covers(&host) && key(own, &rule.matches) <= key(&theirs, second);
                rule.matches.covers(&matches) && hosts(&rule.matches).iter().any(in_front)
            });
            if !seen_to {
                found.push(host);
            }
        }
    }
    (!found.is_empty()).then_some(Match { hosts: found, ..met })
}

fn narrower(one: &HostPattern, other: &HostPattern) -> Option<HostPattern> {
    match (one.covers(other), other.covers(one)) {
        (true, _) => Some(other.clone()),
        (_, true) => Some(one.clone()),
        _ => None,
    }
}

/// Takes out what an earlier rule leaves nothing for.
fn drop_dead<T: Clone>(rules: &mut Vec<Rule<T>>, dead: &mut Vec<Rule<T>>) {
    let mut kept: Vec<Rule<T>> = Vec::with_capacity(rules.len());
    for rule in rules.drain(..) {
        match kept.iter().any(|earlier| earlier.matches.covers(&rule.matches)) {
            true => dead.push(rule),
            false => kept.push(rule),
        }
    }
    *rules = kept;
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, path::Path, time::SystemTime};

    use proptest::prelude::*;

    use super::{
        super::{
            draft::{Action, Body, Draft, Listener, Route},
            matching::Value,
        },
        *,
    };
    use crate::{
        config,
        explain::{DescribedRequest, explain},
        snapshot::{self, Registries},
        types::{OneOrMany, Problems},
    };

    const HOSTS: [&str; 4] = ["a.example", "b.a.example", "c.example", "other.test"];
    const PATHS: [&str; 10] = ["/", "/a", "/a/", "/a/b", "/a/b/c", "/ab", "/a/bc", "/c.png", "/a/c.png", "/a/b/c.png"];
    const METHODS: [&str; 2] = ["GET", "POST"];

    fn conditions() -> impl Strategy<Value = Match> {
        let hosts = proptest::sample::subsequence(vec!["a.example", "*.a.example", "*.example", "c.example"], 0..3);
        let path = prop_oneof![
            3 => Just(PathMatch::Any),
            2 => proptest::sample::select(vec!["/a", "/a/b", "/c.png"]).prop_map(|path| PathMatch::Exact(path.into())),
            2 => proptest::sample::select(vec!["/a", "/a/b"]).prop_map(|path| PathMatch::Below(path.into())),
            3 => proptest::sample::select(vec!["/a", "/a/", "/a/b", "/a/b/"]).prop_map(|path| PathMatch::Begins(path.into())),
            2 => proptest::sample::select(vec![r"\.png$", "^/a/b", "^/(a|c)"]).prop_map(|path| PathMatch::Regex(path.into())),
        ];
        let methods = proptest::sample::subsequence(METHODS.to_vec(), 0..2);
        (hosts, path, methods, any::<bool>()).prop_map(|(hosts, path, methods, header)| Match {
            hosts: hosts.into_iter().map(|host| host.parse().unwrap()).collect(),
            path,
            methods: methods.into_iter().map(str::to_owned).collect(),
            headers: if header { BTreeMap::from([("x-a".to_owned(), Value::Exact("1".into()))]) } else { BTreeMap::new() },
            ..Match::default()
        })
    }

    /// Does a request meet it?
    fn meets(matches: &Match, host: &str, path: &str, method: &str, header: bool) -> bool {
        (matches.hosts.is_empty() || matches.hosts.iter().any(|pattern| pattern.matches(host)))
            && matches.path.takes(path)
            && (matches.methods.is_empty() || matches.methods.iter().any(|own| own == method))
            && (matches.headers.is_empty() || header)
    }

    /// What each request gets of these rules by Weir: the number in the body of the route that serves it.
    fn served(rules: Vec<Rule<usize>>, requests: &[(&str, &str, &str, bool)]) -> Vec<Option<usize>> {
        let mut draft = Draft::default();
        draft.listeners.push(Listener { name: "web".into(), addresses: vec!["127.0.0.1:80".into()], ..Listener::default() });
        for (index, rule) in rules.iter().enumerate() {
            let body = Body::new(format!("r{index}x{}", rule.body), Action::status(200));
            draft.routes.push(Route { matches: rule.matches.clone(), body });
        }
        let loaded = snapshot::check(config::parse_str("test.yaml", &draft.text(), Path::new(""), &|_| None));
        assert!(loaded.is_ok(), "{:?}\n{}", loaded.errors().next(), draft.text());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        let (problems, registries) = (Problems::default(), Registries::default());
        let snapshot = snapshot::compile(loaded.spec.unwrap(), 0, &registries, SystemTime::now(), &problems).unwrap();
        let one = |(host, path, method, header): &(&str, &str, &str, bool)| {
            let mut described = DescribedRequest::get(format!("http://{host}{path}"));
            described.method = (*method).to_owned();
            if *header {
                described.headers.insert("x-a".into(), OneOrMany(vec!["1".into()]));
            }
            let told = explain(&snapshot, &described).unwrap();
            told.route.and_then(|name| name.split_once('x')?.1.parse().ok())
        };
        requests.iter().map(one).collect()
    }

    fn requests() -> Vec<(&'static str, &'static str, &'static str, bool)> {
        let mut all = Vec::new();
        for (host, path) in HOSTS.iter().flat_map(|host| PATHS.iter().map(move |path| (host, path))) {
            all.extend(METHODS.iter().flat_map(|method| [false, true].map(|header| (*host, *path, *method, header))));
        }
        all
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn the_first_rule_that_matches_serves(matches in proptest::collection::vec(conditions(), 1..7)) {
            let rules: Vec<Rule<usize>> = matches.iter().cloned().enumerate().map(|(index, matches)| Rule::new(matches, index)).collect();
            let requests = requests();
            let served = served(ordered(rules).rules, &requests);
            for (request, found) in requests.iter().zip(served) {
                let (host, path, method, header) = *request;
                let first = matches.iter().position(|matches| meets(matches, host, path, method, header));
                prop_assert_eq!(found, first, "{:?}", request);
            }
        }

        #[test]
        fn exceptions_go_to_the_rules_behind(matches in proptest::collection::vec(conditions(), 2..5), except in conditions()) {
            let mut rules: Vec<(Rule<usize>, Vec<Match>)> =
                matches.iter().cloned().enumerate().map(|(index, matches)| (Rule::new(matches, index), Vec::new())).collect();
            rules[0].1 = vec![except.clone()];
            rules.push((Rule::new(Match::default(), rules.len()), Vec::new()));
            let last = rules.len() - 1;
            let (rules, failed) = without_exceptions(rules);
            // Expressions cannot be cut by each other, and that is told.
            prop_assume!(failed.is_empty());
            let requests = requests();
            let served = served(ordered(rules).rules, &requests);
            for (request, found) in requests.iter().zip(served) {
                let (host, path, method, header) = *request;
                let meets = |matches: &Match| meets(matches, host, path, method, header);
                let first = matches.iter().enumerate().position(|(index, matches)| meets(matches) && (index > 0 || !meets(&except)));
                prop_assert_eq!(found, first.or(Some(last)), "{:?}", request);
            }
        }
    }
}
