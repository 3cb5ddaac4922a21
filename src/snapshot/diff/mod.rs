//! What changes in meaning from one configuration to another.
//!
//! Both are compared with every default filled in, includes joined, and what may be written in several ways in one of
//! them: to write out a default, or to move a route to where it makes no difference, is no change. Files that a
//! configuration names (certificates, pages) are compared by name; certificates are read again when they change, without
//! a reload.

mod text;
mod tree;

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::{
    config::{self, Loaded, Spec},
    route,
    types::{OneOrMany, Secret},
};
use tree::Node;

/// What changes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
pub struct Diff {
    /// Routes, by name.
    pub routes: Section,
    /// Routes that stay, of which another one than before is tried first, and a request may meet both.
    pub reordered: Vec<Reordered>,
    /// Upstreams, by name.
    pub upstreams: Section,
    /// Listeners, by name.
    pub listeners: Section,
    /// Everything else that a reload takes: logs, the admin listener.
    pub settings: Vec<Change>,
    /// What only a restart or a binary upgrade takes: the keys of `server`.
    pub restart: Vec<Change>,
    /// Addresses that close. Their connections finish what they are doing and are closed; all others stay.
    pub drained: Vec<Drained>,
}

/// What changes among things that have a name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
pub struct Section {
    /// Those that are new.
    pub added: Vec<Named>,
    /// Those that are gone.
    pub removed: Vec<Named>,
    /// Those that are different.
    pub changed: Vec<Changed>,
}

/// One that is only on one side.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// All of it, secrets hidden.
    pub value: Value,
}

/// One that is on both sides.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Changed {
    /// Its name.
    pub name: String,
    /// What is different about it.
    pub changes: Vec<Change>,
}

/// One value that is different.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Change {
    /// Where it is, below what was named already: `http.header_timeout`, `endpoints[127.0.0.1:9001].weight`.
    pub path: String,
    /// What it was, as far as it may be shown; absent when it was not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<Value>,
    /// What it becomes; absent when it is no longer there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<Value>,
    /// The values are different and neither may be shown: a secret, or what a variable holds.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hidden: bool,
    /// Only the order is different.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub order: bool,
}

/// Two routes that changed places.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Reordered {
    /// The one that is tried first from now on.
    pub first: String,
    /// The one that was.
    pub before: String,
}

/// An address that closes.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Drained {
    /// The listener that had it.
    pub listener: String,
    /// The address.
    pub address: String,
    /// The listener that has it from now on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moved_to: Option<String>,
}

/// What changes from `old` to `new`. Secrets are told apart and not shown; a value that came from a variable is shown,
/// since a Spec does not know that it did: [`View::of_loaded`] does.
pub fn diff(old: &Spec, new: &Spec) -> Diff {
    Diff::between(&View::of_spec(old), &View::of_spec(new))
}

/// A configuration made ready to be compared.
#[derive(Debug, Clone)]
pub struct View(Node);

impl View {
    /// What a Spec tells.
    pub fn of_spec(spec: &Spec) -> Self {
        Self::new(real(spec), &plain(spec))
    }

    /// What was loaded: values that came from variables and files are compared by value and shown as they were written.
    /// `None` when there is no Spec.
    pub fn of_loaded(loaded: &Loaded) -> Option<Self> {
        let spec = loaded.spec.as_ref()?;
        let shown = config::effective_value(loaded).ok().flatten().and_then(|value| serde_json::to_value(value).ok());
        Some(Self::new(real(spec), &shown?))
    }

    /// What was loaded, by how it is written: for comparing with [`View::of_effective`].
    pub fn of_written(loaded: &Loaded) -> Option<Self> {
        let value = serde_json::to_value(config::effective_value(loaded).ok().flatten()?).ok()?;
        Some(Self::new(value.clone(), &value))
    }

    /// The effective configuration of an edge, as `weir check --print effective` and the admin API print it. Variables
    /// are compared by how they are written, and secrets that are written out not at all.
    pub fn of_effective(yaml: &str) -> Result<Self, String> {
        let value: serde_yaml::Value = serde_yaml::from_str(yaml).map_err(|error| error.to_string())?;
        let value = serde_json::to_value(value).map_err(|error| error.to_string())?;
        if !value.is_object() {
            return Err("this is no configuration".into());
        }
        Ok(Self::new(value.clone(), &value))
    }

    fn new(real: Value, shown: &Value) -> Self {
        let mut root = Node::pair(real, shown);
        if let Some(Node::List(routes)) = root.get_mut("routes") {
            routes.iter_mut().for_each(settle_route);
        }
        if let Some(Node::Map(listeners)) = root.get_mut("listeners") {
            listeners.values_mut().for_each(settle_listener);
        }
        if let Some(Node::Map(upstreams)) = root.get_mut("upstreams") {
            upstreams.values_mut().for_each(settle_upstream);
        }
        Self(root)
    }

    fn root(&self, key: &str) -> Option<&Node> {
        self.0.get(key)
    }

    /// By name, in the order of the file where it has one.
    fn named(&self, section: &str) -> Vec<(&str, &Node)> {
        match self.root(section) {
            Some(Node::Map(entries)) => entries.iter().map(|(name, node)| (name.as_str(), node)).collect(),
            Some(Node::List(items)) => items.iter().filter_map(|item| Some((item.get("name")?.text()?, item))).collect(),
            _ => Vec::new(),
        }
    }

    /// The routes as a Spec has them, as far as they can be told from how they are written.
    fn positions(&self) -> Vec<(&str, &str)> {
        let routes: Vec<(&str, route::RouteSpec)> = self
            .named("routes")
            .into_iter()
            .filter_map(|(name, node)| {
                let matches = node.get("match").map_or_else(|| serde_json::json!({}), Node::shown);
                Some((name, serde_json::from_value(serde_json::json!({"name": "x", "match": matches})).ok()?))
            })
            .collect();
        let (names, specs): (Vec<&str>, Vec<route::RouteSpec>) = routes.into_iter().unzip();
        let pairs = route::decided_by_position(&specs);
        pairs.into_iter().map(|(first, second)| (names[first], names[second])).collect()
    }

    /// Every address with its listener.
    fn addresses(&self) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        for (name, listener) in self.named("listeners") {
            if let Some(Node::List(addresses)) = listener.get("address") {
                found.extend(addresses.iter().filter_map(|address| Some((address.text()?.to_owned(), name.to_owned()))));
            }
        }
        found
    }
}

fn joined(spec: &Spec) -> Spec {
    Spec { include: OneOrMany::default(), ..spec.clone() }
}

fn plain(spec: &Spec) -> Value {
    // A Spec is plain data with text for keys, which JSON can hold.
    serde_json::to_value(joined(spec)).unwrap_or_default()
}

fn real(spec: &Spec) -> Value {
    Secret::told_apart(|| plain(spec))
}

fn settle_route(route: &mut Node) {
    let Some(Node::Map(matches)) = route.get_mut("match") else { return };
    for (key, condition) in matches {
        if !matches!(&**key, "path" | "path_regex" | "headers" | "query") {
            condition.make_set();
        }
    }
}

fn settle_listener(listener: &mut Node) {
    for key in ["address", "trusted_proxies"] {
        listener.get_mut(key).into_iter().for_each(Node::make_set);
    }
    listener.get_mut("proxy_protocol").and_then(|proxy| proxy.get_mut("from")).into_iter().for_each(Node::make_set);
}

/// One strategy has two names.
fn settle_upstream(upstream: &mut Node) {
    if let Some(Node::Map(strategy)) = upstream.get_mut("strategy")
        && let Some(options) = strategy.remove("weighted_round_robin")
    {
        strategy.insert("round_robin".into(), options);
    }
}

impl Diff {
    /// What changes from one to the other.
    pub fn between(old: &View, new: &View) -> Self {
        let mut diff = Self {
            routes: Section::between("routes", old, new),
            upstreams: Section::between("upstreams", old, new),
            listeners: Section::between("listeners", old, new),
            reordered: reordered(old, new),
            drained: drained(old, new),
            ..Self::default()
        };
        let mut settings = Vec::new();
        if let (Node::Map(ours), Node::Map(theirs)) = (&old.0, &new.0) {
            let rest = |entries: &BTreeMap<String, Node>| {
                let named = |key: &str| matches!(key, "routes" | "upstreams" | "listeners" | "include");
                Node::Map(entries.iter().filter(|(key, _)| !named(key)).map(|(key, node)| (key.clone(), node.clone())).collect())
            };
            tree::compare("", &rest(ours), &rest(theirs), &mut settings);
        }
        let server = |change: &Change| change.path == "server" || change.path.starts_with("server.");
        (diff.restart, diff.settings) = settings.into_iter().partition(server);
        diff
    }

    /// True when nothing changes.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Section {
    fn between(section: &str, old: &View, new: &View) -> Self {
        let (ours, theirs) = (old.named(section), new.named(section));
        let index = |all: &[(&str, &Node)]| all.iter().map(|(name, _)| (*name).to_owned()).collect::<BTreeSet<_>>();
        let (known_before, known_now) = (index(&ours), index(&theirs));
        let named = |(name, node): &(&str, &Node)| Named { name: (*name).to_owned(), value: node.shown() };
        let then: BTreeMap<&str, &Node> = ours.iter().copied().collect();
        let changed = theirs.iter().filter_map(|(name, node)| {
            let mut changes = Vec::new();
            tree::compare("", then.get(name)?, node, &mut changes);
            (!changes.is_empty()).then(|| Changed { name: (*name).to_owned(), changes })
        });
        Self {
            added: theirs.iter().filter(|(name, _)| !known_before.contains(*name)).map(named).collect(),
            removed: ours.iter().filter(|(name, _)| !known_now.contains(*name)).map(named).collect(),
            changed: changed.collect(),
        }
    }

    /// True when nothing changes.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Change {
    fn between(path: &str, old: Option<&Node>, new: Option<&Node>) -> Self {
        let (old, new) = (old.map(Node::shown), new.map(Node::shown));
        Self { path: path.to_owned(), hidden: old == new, old, new, order: false }
    }

    fn order(path: &str, old: &[String], new: &[String]) -> Self {
        Self { path: path.to_owned(), old: Some(old.into()), new: Some(new.into()), hidden: false, order: true }
    }
}

/// Pairs whose order decided before and decides now, the other way round.
fn reordered(old: &View, new: &View) -> Vec<Reordered> {
    let names = |view: &View| -> Vec<String> { view.named("routes").iter().map(|(name, _)| (*name).to_owned()).collect() };
    let (ours, theirs) = (names(old), names(new));
    let (known, stay): (BTreeSet<&String>, BTreeSet<&String>) = (ours.iter().collect(), theirs.iter().collect());
    if ours.iter().filter(|name| stay.contains(name)).eq(theirs.iter().filter(|name| known.contains(name))) {
        // Most changes leave the order alone, and comparing pairs is what costs.
        return Vec::new();
    }
    let before: BTreeSet<(&str, &str)> = old.positions().into_iter().collect();
    let turned = new.positions().into_iter().filter(|(first, second)| before.contains(&(*second, *first)));
    turned.map(|(first, before)| Reordered { first: first.to_owned(), before: before.to_owned() }).collect()
}

fn drained(old: &View, new: &View) -> Vec<Drained> {
    let now = new.addresses();
    let closing = old.addresses().into_iter().filter_map(|(address, listener)| match now.get(&address) {
        Some(same) if *same == listener => None,
        moved => Some(Drained { listener, address, moved_to: moved.cloned() }),
    });
    closing.collect()
}

#[cfg(test)]
mod tests;
