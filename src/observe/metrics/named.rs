//! Values found by a name from the configuration, without a lock on the way.

use std::{collections::HashMap, sync::Arc};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

/// The name that stands for everything beyond [`LIMIT`].
pub(super) const OTHER: &str = "_other";

/// Names in one map. Far above what a configuration holds (a few thousand routes or endpoints); it only
/// keeps a caller's mistake (a label that a client chooses) from eating the memory.
const LIMIT: usize = 16_384;

/// Names come from the configuration, so that nobody chooses them to collide.
type Map<V> = HashMap<Box<str>, Arc<V>, foldhash::fast::RandomState>;

/// A map that is read on every request and written when a name is seen for the first time.
///
/// Reading costs one hash of a short name and no lock: the map is replaced as a whole when it grows, so
/// that filling it is quadratic in the number of names, which happens once per name and process.
#[derive(Debug)]
pub(super) struct Named<V> {
    map: ArcSwap<Map<V>>,
    growing: Mutex<()>,
}

impl<V> Default for Named<V> {
    fn default() -> Self {
        Self { map: ArcSwap::default(), growing: Mutex::new(()) }
    }
}

impl<V: Default> Named<V> {
    /// Does something with the value of this name.
    pub(super) fn with<R>(&self, name: &str, use_it: impl FnOnce(&V) -> R) -> R {
        let map = self.map.load();
        match map.get(name) {
            Some(value) => use_it(value),
            None => {
                drop(map);
                use_it(&self.grow(name))
            }
        }
    }

    /// The value of this name, to keep.
    pub(super) fn get(&self, name: &str) -> Arc<V> {
        let known = self.map.load().get(name).cloned();
        known.unwrap_or_else(|| self.grow(name))
    }

    #[cold]
    fn grow(&self, name: &str) -> Arc<V> {
        let _one_at_a_time = self.growing.lock();
        let map = self.map.load_full();
        let name = if map.len() < LIMIT || map.contains_key(name) { name } else { OTHER };
        if let Some(value) = map.get(name) {
            return value.clone();
        }
        let value = Arc::<V>::default();
        let mut larger = Map::clone(&map);
        larger.insert(name.into(), value.clone());
        self.map.store(Arc::new(larger));
        value
    }

    /// Forgets the names that `keep` refuses.
    pub(super) fn retain(&self, mut keep: impl FnMut(&str, &V) -> bool) {
        let _one_at_a_time = self.growing.lock();
        let map = self.map.load_full();
        let kept: Map<V> =
            map.iter().filter(|(name, value)| keep(name, value)).map(|(name, value)| (name.clone(), value.clone())).collect();
        if kept.len() < map.len() {
            self.map.store(Arc::new(kept));
        }
    }

    /// Every name with its value.
    pub(super) fn each(&self, mut visit: impl FnMut(&str, &V)) {
        for (name, value) in self.map.load().iter() {
            visit(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use super::*;

    #[test]
    fn a_name_has_one_value_until_it_is_forgotten() {
        let named = Named::<AtomicU64>::default();
        named.with("a", |count| count.fetch_add(1, Relaxed));
        named.with("a", |count| count.fetch_add(1, Relaxed));
        assert_eq!(named.get("a").load(Relaxed), 2);
        named.retain(|name, _| name != "a");
        assert_eq!(named.get("a").load(Relaxed), 0);
    }

    #[test]
    fn names_are_bounded() {
        let named = Named::<AtomicU64>::default();
        named.map.store(Arc::new((0..LIMIT).map(|n| (n.to_string().into(), Arc::default())).collect()));
        named.with("one more", |count| count.fetch_add(1, Relaxed));
        named.with("and more", |count| count.fetch_add(1, Relaxed));
        assert_eq!(named.get(OTHER).load(Relaxed), 2);
        assert_eq!(named.map.load().len(), LIMIT + 1);
    }
}
