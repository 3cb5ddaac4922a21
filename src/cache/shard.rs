//! A part of the index: entries by URL, and the order in which they go.
//!
//! Eviction is S3-FIFO (Yang et al., SOSP 2023), with sizes: what is new goes through a small queue, and only what was asked for
//! again there comes into the main one, so that what is asked for once does not drive out what is asked for often. A hit changes
//! one atomic number, under a lock that hits share.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
};

use smallvec::SmallVec;

use super::{Entry, Variance};
use crate::types::Name;

/// Answers to one URL, by what its `Vary` names. Beyond this the oldest goes: an origin that varies on something that every
/// client has for itself should not fill the cache with one page.
const MOST_VARIANTS: usize = 64;

/// How often an entry that was asked for is spared: more tells nothing about the future.
const MOST_ASKED: u8 = 3;

/// The share of a shard's bytes that what is new may take: one in so many.
const SMALL: u64 = 10;

/// Of which variant.
#[derive(Debug, Clone, Copy)]
pub(super) enum Which<'a> {
    /// The one that was stored first, to learn what the response varies on.
    First,
    /// This one.
    Exactly(&'a Variance),
}

#[derive(Debug)]
struct Slot {
    id: u64,
    route: Name,
    entry: Arc<Entry>,
    weight: u64,
    asked: AtomicU8,
    small: bool,
}

/// A place in a queue. What it names may be gone.
#[derive(Debug)]
struct Place {
    url: Arc<str>,
    id: u64,
}

/// See above.
#[derive(Debug, Default)]
pub(super) struct Shard {
    entries: HashMap<Arc<str>, SmallVec<[Slot; 1]>>,
    count: usize,
    small: VecDeque<Place>,
    main: VecDeque<Place>,
    small_bytes: u64,
    bytes: u64,
    ghosts: Ghosts,
}

impl Shard {
    /// Entries.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Looks one up, and counts that.
    pub(super) fn get(&self, url: &str, route: &Name, which: Which<'_>) -> Option<Arc<Entry>> {
        let slots = self.entries.get(url)?.iter().filter(|slot| slot.route == *route);
        let found = match which {
            Which::First => slots.min_by_key(|slot| (slot.entry.head.created, slot.id)),
            Which::Exactly(variance) => slots.into_iter().find(|slot| slot.entry.head.variance.as_ref() == Some(variance)),
        }?;
        let asked = found.asked.load(Relaxed);
        if asked < MOST_ASKED {
            found.asked.store(asked + 1, Relaxed);
        }
        Some(found.entry.clone())
    }

    /// Puts an entry in the place of those that it replaces, which are returned: the one with its variance; all of its route, where
    /// it varies on other fields than they do.
    pub(super) fn put(&mut self, url: Arc<str>, route: &Name, id: u64, entry: Arc<Entry>, weight: u64) -> Vec<Arc<Entry>> {
        let mut gone = self.take(&url, |slot| {
            slot.route == *route && (slot.entry.head.variance == entry.head.variance || !vary_alike(&slot.entry, &entry))
        });
        let slots = self.entries.entry(url.clone()).or_default();
        if slots.len() >= MOST_VARIANTS
            && let Some(oldest) = slots.iter().min_by_key(|slot| slot.id).map(|slot| slot.id)
        {
            gone.extend(self.take(&url, |slot| slot.id == oldest));
        }
        let small = !self.ghosts.had(&url);
        self.bytes += weight;
        self.small_bytes += if small { weight } else { 0 };
        self.count += 1;
        let queue = if small { &mut self.small } else { &mut self.main };
        queue.push_back(Place { url: url.clone(), id });
        let slot = Slot { id, route: route.clone(), entry, weight, asked: AtomicU8::new(0), small };
        self.entries.entry(url).or_default().push(slot);
        self.sweep();
        gone
    }

    /// Removes one entry, if there is one: the one that the future will miss least.
    pub(super) fn evict(&mut self) -> Option<Arc<Entry>> {
        loop {
            let from_small = !self.small.is_empty() && (self.main.is_empty() || self.small_bytes * SMALL >= self.bytes);
            let place = if from_small { self.small.pop_front()? } else { self.main.pop_front()? };
            let Some(slot) = self.entries.get_mut(&place.url).and_then(|slots| slots.iter_mut().find(|slot| slot.id == place.id))
            else {
                continue;
            };
            let asked = slot.asked.load(Relaxed);
            if asked > 0 {
                slot.asked.store(if from_small { 0 } else { asked - 1 }, Relaxed);
                if std::mem::take(&mut slot.small) {
                    self.small_bytes -= slot.weight;
                }
                self.main.push_back(place);
                continue;
            }
            if from_small {
                self.ghosts.add(&place.url, self.count);
            }
            let id = place.id;
            return self.take(&place.url, |slot| slot.id == id).pop();
        }
    }

    /// Removes what this URL has.
    pub(super) fn remove(&mut self, url: &str) -> Vec<Arc<Entry>> {
        self.take(url, |_| true)
    }

    /// Removes every URL that this holds for.
    pub(super) fn remove_if(&mut self, holds: impl Fn(&str) -> bool) -> Vec<Arc<Entry>> {
        let urls: Vec<Arc<str>> = self.entries.keys().filter(|url| holds(url)).cloned().collect();
        let gone = urls.iter().flat_map(|url| self.take(url, |_| true)).collect();
        self.sweep();
        gone
    }

    fn take(&mut self, url: &str, goes: impl Fn(&Slot) -> bool) -> Vec<Arc<Entry>> {
        let Some(slots) = self.entries.get_mut(url) else { return Vec::new() };
        let mut gone = Vec::new();
        slots.retain(|slot| {
            if !goes(slot) {
                return true;
            }
            self.bytes -= slot.weight;
            self.small_bytes -= if slot.small { slot.weight } else { 0 };
            self.count -= 1;
            gone.push(slot.entry.clone());
            false
        });
        if slots.is_empty() {
            self.entries.remove(url);
        }
        gone
    }

    /// Forgets the places of what is gone, before they are more than those of what is there.
    fn sweep(&mut self) {
        if self.small.len() + self.main.len() <= 2 * self.count + 64 {
            return;
        }
        let entries = &self.entries;
        let there = |place: &Place| entries.get(&place.url).is_some_and(|slots| slots.iter().any(|slot| slot.id == place.id));
        self.small.retain(there);
        self.main.retain(there);
    }
}

/// Do both vary on the same fields?
fn vary_alike(one: &Entry, other: &Entry) -> bool {
    let vary = |entry: &Entry| {
        let values = entry.head.fields.get_all(http::header::VARY);
        let mut names: Vec<String> = Vec::new();
        for value in values {
            let text = value.to_str().unwrap_or_default();
            names.extend(text.split(',').map(|name| name.trim().to_ascii_lowercase()).filter(|name| !name.is_empty()));
        }
        names.sort_unstable();
        names.dedup();
        names
    };
    vary(one) == vary(other)
}

/// What went out of the small queue lately, by name only: if it comes again, it was asked for more than once.
#[derive(Debug, Default)]
struct Ghosts {
    order: VecDeque<u64>,
    known: HashSet<u64>,
}

/// A shard that holds little remembers so many.
const LEAST_GHOSTS: usize = 64;

impl Ghosts {
    fn tag(url: &str) -> u64 {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hasher = DefaultHasher::new();
        url.hash(&mut hasher);
        hasher.finish()
    }

    /// As many as there are entries.
    fn add(&mut self, url: &str, most: usize) {
        let tag = Self::tag(url);
        if self.known.insert(tag) {
            self.order.push_back(tag);
        }
        while self.order.len() > most.max(LEAST_GHOSTS) {
            if let Some(oldest) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
    }

    fn had(&self, url: &str) -> bool {
        self.known.contains(&Self::tag(url))
    }
}
