//! What a rule of another proxy asks of a request, in the terms of a `match`, and what two of them have in common.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
};

use ipnet::IpNet;
use regex::Regex;

use crate::types::HostPattern;

thread_local! {
    /// Rules are compared with each other many times, and compiling an expression takes a thousand times as long as asking it.
    static COMPILED: RefCell<HashMap<String, Option<Regex>>> = RefCell::default();
}

/// More expressions than this are not kept.
const KEPT: usize = 1000;

/// Is the expression found in the text? One that is not understood never is.
fn found(expression: &str, text: &str) -> bool {
    COMPILED.with_borrow_mut(|compiled| {
        if compiled.len() > KEPT {
            compiled.clear();
        }
        let known = compiled.entry(expression.to_owned()).or_insert_with(|| Regex::new(expression).ok());
        known.as_ref().is_some_and(|regex| regex.is_match(text))
    })
}

/// Which paths.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum PathMatch {
    /// Every path.
    #[default]
    Any,
    /// This one.
    Exact(String),
    /// This one (without a slash at its end) and all below it, on segment boundaries.
    Below(String),
    /// Those that begin with these characters. Our file has no such condition: [`super::order`] makes one of the others of it.
    Begins(String),
    /// Those in which this is found.
    Regex(String),
}

impl PathMatch {
    /// Does it take this path? An expression that is not understood takes none.
    pub fn takes(&self, path: &str) -> bool {
        match self {
            PathMatch::Any => true,
            PathMatch::Exact(exact) => exact == path,
            PathMatch::Below(prefix) => is_below(path, prefix),
            PathMatch::Begins(start) => path.starts_with(start),
            PathMatch::Regex(regex) => found(regex, path),
        }
    }

    /// Is every path of the other one known to be one of these?
    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (PathMatch::Any, _) => true,
            (_, PathMatch::Exact(path)) => self.takes(path),
            (PathMatch::Below(prefix), PathMatch::Below(path)) => is_below(path, prefix),
            (PathMatch::Begins(start), PathMatch::Begins(path) | PathMatch::Below(path)) => path.starts_with(start),
            (PathMatch::Below(prefix), PathMatch::Begins(start)) => {
                start.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'))
            }
            (PathMatch::Regex(ours), PathMatch::Regex(theirs)) => ours == theirs,
            // The same as an expression.
            (PathMatch::Regex(expression), PathMatch::Below(path)) => ancestors(path).any(|prefix| *expression == below(prefix)),
            _ => false,
        }
    }

    /// A condition that takes what both take, and nothing that this one does not; `None` when there is no such path.
    fn meet(&self, other: &Self) -> Option<Self> {
        use PathMatch::{Any, Begins, Below, Exact, Regex};
        match (self, other) {
            (Any, other) => Some(other.clone()),
            (ours, Any) => Some(ours.clone()),
            (ours, Exact(path)) => ours.takes(path).then(|| other.clone()),
            (Exact(path), theirs) => theirs.takes(path).then(|| self.clone()),
            (Regex(expression), Below(prefix) | Begins(prefix)) | (Below(prefix) | Begins(prefix), Regex(expression)) => {
                may_meet(expression, prefix).then(|| self.clone())
            }
            (Begins(_) | Below(_), Begins(_) | Below(_)) if self.covers(other) => Some(other.clone()),
            (Begins(_) | Below(_), Begins(_) | Below(_)) => other.covers(self).then(|| self.clone()),
            (Regex(_), Regex(_)) => Some(self.clone()),
        }
    }

    /// The order in which paths are tried: less is first.
    pub(super) fn rank(&self) -> (u8, isize) {
        match self {
            PathMatch::Exact(_) => (0, 0),
            PathMatch::Below(prefix) => (1, -(prefix.len() as isize)),
            PathMatch::Begins(_) | PathMatch::Regex(_) => (2, 0),
            PathMatch::Any => (3, 0),
        }
    }
}

/// A prefix as an expression.
pub(super) fn below(prefix: &str) -> String {
    format!("^{}(/|$)", regex::escape(prefix))
}

/// A path and those that it is below of, but for the root.
fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    let ends = path.match_indices('/').map(|(at, _)| at).filter(|at| *at > 0);
    ends.chain([path.len()]).map(|end| &path[..end])
}

fn is_below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// May a path below this prefix match the expression? No, if the expression begins with other characters.
fn may_meet(expression: &str, prefix: &str) -> bool {
    let Some(rest) = expression.strip_prefix('^') else { return true };
    // An alternative may begin with anything.
    if rest.contains('|') {
        return true;
    }
    let mut start = String::new();
    let mut chars = rest.chars().peekable();
    while let Some(c) = chars.next() {
        let literal = match c {
            '\\' => chars.next().filter(|c| !c.is_ascii_alphanumeric()),
            c if c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '%') => Some(c),
            _ => None,
        };
        let repeated = matches!(chars.peek(), Some('*' | '?' | '{' | '+'));
        let Some(literal) = literal.filter(|_| !repeated) else { break };
        start.push(literal);
    }
    start.starts_with(prefix) || prefix.starts_with(&start)
}

/// How a value must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Exactly this.
    Exact(String),
    /// There, or not there.
    Present(bool),
    /// This is found in it.
    Regex(String),
}

/// What a request must have.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Match {
    /// One of these hosts; none for any.
    pub hosts: Vec<HostPattern>,
    /// The path.
    pub path: PathMatch,
    /// One of these methods; none for any.
    pub methods: Vec<String>,
    /// These fields.
    pub headers: BTreeMap<String, Value>,
    /// These parameters.
    pub query: BTreeMap<String, Value>,
    /// One of these ranges; none for any.
    pub clients: Vec<IpNet>,
    /// One of these listeners; none for any.
    pub listeners: Vec<String>,
}

/// What both lists allow, where an empty list allows everything; `None` for nothing.
fn both<T: Clone + PartialEq>(ours: &[T], theirs: &[T], meet: impl Fn(&T, &T) -> Option<T>) -> Option<Vec<T>> {
    if ours.is_empty() {
        return Some(theirs.to_vec());
    }
    if theirs.is_empty() {
        return Some(ours.to_vec());
    }
    let mut found = Vec::new();
    for one in ours.iter().flat_map(|ours| theirs.iter().filter_map(|theirs| meet(ours, theirs)).collect::<Vec<_>>()) {
        if !found.contains(&one) {
            found.push(one);
        }
    }
    (!found.is_empty()).then_some(found)
}

fn same<T: Clone + PartialEq>(one: &T, other: &T) -> Option<T> {
    (one == other).then(|| one.clone())
}

/// The narrower of two, one of which covers the other.
fn narrower(one: &HostPattern, other: &HostPattern) -> Option<HostPattern> {
    match (one.covers(other), other.covers(one)) {
        (true, _) => Some(other.clone()),
        (_, true) => Some(one.clone()),
        _ => None,
    }
}

fn narrower_net(one: &IpNet, other: &IpNet) -> Option<IpNet> {
    match (one.contains(other), other.contains(one)) {
        (true, _) => Some(*other),
        (_, true) => Some(*one),
        _ => None,
    }
}

/// All conditions of both; where both ask something of one field, ours. `None` when the two exclude each other.
fn both_values(ours: &BTreeMap<String, Value>, theirs: &BTreeMap<String, Value>) -> Option<BTreeMap<String, Value>> {
    let mut all = theirs.clone();
    for (name, value) in ours {
        match (value, theirs.get(name)) {
            (Value::Exact(one), Some(Value::Exact(other))) if one != other => return None,
            (Value::Exact(_) | Value::Regex(_), Some(Value::Present(false))) => return None,
            (Value::Present(false), Some(Value::Exact(_) | Value::Regex(_) | Value::Present(true))) => return None,
            (Value::Present(true), Some(Value::Present(false))) => return None,
            (Value::Regex(regex), Some(Value::Exact(text))) | (Value::Exact(text), Some(Value::Regex(regex)))
                if !found(regex, text) =>
            {
                return None;
            }
            // Of two that hold at once, the exact one says more.
            (_, Some(Value::Exact(_))) => {}
            _ => {
                all.insert(name.clone(), value.clone());
            }
        }
    }
    Some(all)
}

impl Match {
    /// Requests that meet both, or a few more of ours; `None` when there are none.
    pub fn meet(&self, other: &Self) -> Option<Self> {
        Some(Self {
            hosts: both(&self.hosts, &other.hosts, narrower)?,
            path: self.path.meet(&other.path)?,
            methods: both(&self.methods, &other.methods, same)?,
            headers: both_values(&self.headers, &other.headers)?,
            query: both_values(&self.query, &other.query)?,
            clients: both(&self.clients, &other.clients, narrower_net)?,
            listeners: both(&self.listeners, &other.listeners, same)?,
        })
    }

    /// Is every request that meets the other one known to meet this?
    pub fn covers(&self, other: &Self) -> bool {
        fn any_of<T>(broad: &[T], narrow: &[T], covers: impl Fn(&T, &T) -> bool) -> bool {
            broad.is_empty() || !narrow.is_empty() && narrow.iter().all(|narrow| broad.iter().any(|broad| covers(broad, narrow)))
        }
        any_of(&self.hosts, &other.hosts, HostPattern::covers)
            && self.path.covers(&other.path)
            && any_of(&self.methods, &other.methods, PartialEq::eq)
            && self.headers.iter().all(|(name, value)| other.headers.get(name) == Some(value))
            && self.query.iter().all(|(name, value)| other.query.get(name) == Some(value))
            && any_of(&self.clients, &other.clients, |broad, narrow| broad.contains(narrow))
            && any_of(&self.listeners, &other.listeners, PartialEq::eq)
    }

    /// The order of those that have the same host and path: less is tried first.
    pub(super) fn rank(&self) -> (bool, isize, isize, isize) {
        let others = isize::from(!self.clients.is_empty()) + isize::from(!self.listeners.is_empty());
        (self.methods.is_empty(), -(self.headers.len() as isize), -(self.query.len() as isize), -others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_meets_a_prefix_unless_it_begins_otherwise() {
        for (expression, prefix, meets) in [
            (r"\.php$", "/api", true),
            ("^/api/v1", "/api", true),
            ("^/ap", "/api/v1", true),
            ("^/img", "/api", false),
            ("^/(img|api)", "/api", true),
            ("^/img?/", "/im", true),
            (r"^/a\.b", "/a.b", true),
            (r"^/\d+", "/api", true),
        ] {
            assert_eq!(may_meet(expression, prefix), meets, "{expression} {prefix}");
        }
    }

    #[test]
    fn two_conditions_meet_in_the_narrower_of_each() {
        let api = Match { path: PathMatch::Below("/api".into()), ..Match::default() };
        let host = Match { hosts: vec!["a.example".parse().unwrap()], methods: vec!["GET".into()], ..Match::default() };
        let met = api.meet(&host).unwrap();
        assert_eq!((met.hosts.len(), met.methods.len(), &met.path), (1, 1, &api.path));
        assert!(api.covers(&met) && host.covers(&met) && !met.covers(&api));
        let other = Match { hosts: vec!["b.example".parse().unwrap()], ..Match::default() };
        assert_eq!(host.meet(&other), None);
    }
}
