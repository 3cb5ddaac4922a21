//! Two configurations value by value.
//!
//! Each value is kept twice: as it is, to be compared, and as it may be shown, which for a secret, or a value that came
//! from a variable, is something else.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Change;

/// A configuration, or a part of one, in the one form that everything that means the same has.
#[derive(Debug, Clone)]
pub(super) enum Node {
    Leaf { real: Value, shown: Value },
    List(Vec<Node>),
    Map(BTreeMap<String, Node>),
}

impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Node::Leaf { real, .. }, Node::Leaf { real: other, .. }) => real == other,
            (Node::List(ours), Node::List(theirs)) => ours == theirs,
            (Node::Map(ours), Node::Map(theirs)) => ours == theirs,
            _ => false,
        }
    }
}

impl Node {
    /// Pairs a value with how it is shown, which has the same shape but for its leaves.
    pub(super) fn pair(real: Value, shown: &Value) -> Self {
        match (real, shown) {
            (Value::Object(entries), shown) => Node::Map(
                entries
                    .into_iter()
                    .map(|(key, value)| {
                        let below = shown.get(&key).cloned().unwrap_or_else(|| value.clone());
                        (key, Node::pair(value, &below))
                    })
                    .collect(),
            ),
            (Value::Array(items), shown) => Node::List(
                items
                    .into_iter()
                    .enumerate()
                    .map(|(index, item)| {
                        let below = shown.get(index).cloned().unwrap_or_else(|| item.clone());
                        Node::pair(item, &below)
                    })
                    .collect(),
            ),
            (real, shown) => Node::Leaf { real, shown: shown.clone() },
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        match self {
            Node::Map(entries) => entries.get(key),
            _ => None,
        }
    }

    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        match self {
            Node::Map(entries) => entries.get_mut(key),
            _ => None,
        }
    }

    /// The text of a leaf, as it is.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Node::Leaf { real, .. } => real.as_str(),
            _ => None,
        }
    }

    /// As it may be shown.
    pub(super) fn shown(&self) -> Value {
        match self {
            Node::Leaf { shown, .. } => shown.clone(),
            Node::List(items) => items.iter().map(Node::shown).collect(),
            Node::Map(entries) => Value::Object(entries.iter().map(|(key, node)| (key.clone(), node.shown())).collect()),
        }
    }

    /// A set, whether it was written as one value, or as several in some order.
    pub(super) fn make_set(&mut self) {
        if !matches!(self, Node::List(_)) {
            let one = std::mem::replace(self, Node::List(Vec::new()));
            *self = Node::List(vec![one]);
        }
        if let Node::List(items) = self {
            items.sort_by_cached_key(|item| item.text().map(str::to_owned));
            items.dedup();
        }
    }
}

/// What a list's item is known by, so that it is found again when others come or go around it.
fn identity(item: &Node) -> Option<String> {
    let entries = match item {
        Node::Leaf { .. } => return item.text().map(str::to_owned),
        Node::List(_) => return None,
        Node::Map(entries) => entries,
    };
    let key = ["name", "address", "upstream", "cert"].iter().find_map(|key| entries.get(*key)?.text());
    match key {
        Some(text) => Some(text.to_owned()),
        // A choice by kind.
        None if entries.len() == 1 => entries.keys().next().cloned(),
        None => None,
    }
}

/// Every item with what it is known by, the second of the same kind as `kind#2`. `None` when some cannot be told apart.
fn identified(items: &[Node]) -> Option<Vec<(String, &Node)>> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    items
        .iter()
        .map(|item| {
            let name = identity(item)?;
            let count = seen.entry(name.clone()).or_default();
            *count += 1;
            Some((if *count == 1 { name } else { format!("{name}#{count}") }, item))
        })
        .collect()
}

/// Lists in which it means something which item comes first.
fn ordered(path: &str) -> bool {
    !path.ends_with("endpoints") && !path.ends_with("split")
}

fn below(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Everything that differs below `path`.
pub(super) fn compare(path: &str, old: &Node, new: &Node, changes: &mut Vec<Change>) {
    if old == new {
        return;
    }
    match (old, new) {
        (Node::Map(ours), Node::Map(theirs))
            if ours.is_empty() || theirs.is_empty() || ours.keys().any(|key| theirs.contains_key(key)) =>
        {
            let keys: std::collections::BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
            for key in keys {
                either(&below(path, key), ours.get(key), theirs.get(key), changes);
            }
        }
        (Node::List(ours), Node::List(theirs)) => match (identified(ours), identified(theirs)) {
            (Some(ours), Some(theirs)) if !(scalars(&ours) && scalars(&theirs)) => items(path, &ours, &theirs, changes),
            _ => changes.push(Change::between(path, Some(old), Some(new))),
        },
        _ => changes.push(Change::between(path, Some(old), Some(new))),
    }
}

fn either(path: &str, old: Option<&Node>, new: Option<&Node>, changes: &mut Vec<Change>) {
    match (old, new) {
        (Some(old), Some(new)) => compare(path, old, new, changes),
        (old, new) => changes.push(Change::between(path, old, new)),
    }
}

fn scalars(items: &[(String, &Node)]) -> bool {
    items.iter().all(|(_, item)| matches!(item, Node::Leaf { .. }))
}

fn items(path: &str, old: &[(String, &Node)], new: &[(String, &Node)], changes: &mut Vec<Change>) {
    let place = |name: &str| format!("{path}[{name}]");
    let find = |items: &[(String, &Node)], name: &str| items.iter().position(|(known, _)| known == name);
    for (name, item) in old {
        match find(new, name) {
            Some(at) => compare_items(&place(name), item, new[at].1, changes),
            None => changes.push(Change::between(&place(name), Some(item), None)),
        }
    }
    for (name, item) in new {
        if find(old, name).is_none() {
            changes.push(Change::between(&place(name), None, Some(item)));
        }
    }
    let kept = |items: &[(String, &Node)], others: &[(String, &Node)]| -> Vec<String> {
        items.iter().filter(|(name, _)| find(others, name).is_some()).map(|(name, _)| name.clone()).collect()
    };
    let (before, after) = (kept(old, new), kept(new, old));
    if ordered(path) && before != after {
        changes.push(Change::order(path, &before, &after));
    }
}

/// A kind is named in the place already.
fn compare_items(place: &str, old: &Node, new: &Node, changes: &mut Vec<Change>) {
    match (old, new) {
        (Node::Map(ours), Node::Map(theirs)) if ours.len() == 1 && theirs.len() == 1 && identity(old) == identity(new) => {
            let (Some(old), Some(new)) = (ours.values().next(), theirs.values().next()) else { return };
            compare(place, old, new, changes);
        }
        _ => compare(place, old, new, changes),
    }
}
