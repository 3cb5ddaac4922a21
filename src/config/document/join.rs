//! Making one tree of several files.

use std::collections::HashMap;

use super::{Document, Kind, NodeId};

impl Document {
    /// `key`, or what the keys of this mapping name.
    pub(in crate::config) fn what_keys_are(&self, map: NodeId) -> &'static str {
        match self.path(map).to_string().as_str() {
            "listeners" => "listener",
            "upstreams" => "upstream",
            "filter_chains" => "filter chain",
            _ => "key",
        }
    }

    /// Joins the entries of another mapping of the same kind (an included file's) to this one's; a key that is there
    /// twice is returned with its first.
    pub(in crate::config) fn join_maps(&mut self, into: NodeId, from: NodeId) -> Vec<(NodeId, NodeId)> {
        let mut first: HashMap<String, NodeId> =
            self.entries(into).iter().map(|(key, _)| (self.key_text(*key).to_owned(), *key)).collect();
        let (mut twice, mut added) = (Vec::new(), Vec::new());
        for (key, value) in self.entries(from).to_vec() {
            if self.is_poisoned(key) {
                continue;
            }
            match first.get(self.key_text(key)) {
                Some(there) => twice.push((key, *there)),
                None => {
                    first.insert(self.key_text(key).to_owned(), key);
                    added.push((key, value));
                }
            }
        }
        if let Kind::Map(entries) = self.kind_mut(into) {
            entries.extend(added);
        }
        twice
    }

    /// Joins the items of another list to this one's.
    pub(in crate::config) fn join_lists(&mut self, into: NodeId, from: NodeId) {
        let Kind::List(more) = self.kind(from) else { return };
        let more = more.clone();
        if let Kind::List(items) = self.kind_mut(into) {
            items.extend(more);
        }
    }

    /// Puts another value in the place of an empty one.
    pub(in crate::config) fn replace(&mut self, map: NodeId, old: NodeId, key: NodeId, value: NodeId) {
        if let Kind::Map(entries) = self.kind_mut(map)
            && let Some(entry) = entries.iter_mut().find(|(_, there)| *there == old)
        {
            *entry = (key, value);
        }
    }

    /// Adds an entry to the root, for a section that only included files have.
    pub(in crate::config) fn adopt(&mut self, map: NodeId, key: NodeId, value: NodeId) {
        if let Kind::Map(entries) = self.kind_mut(map) {
            entries.push((key, value));
        }
    }
}
