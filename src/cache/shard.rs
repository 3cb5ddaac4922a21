//! A part of the index: entries by URL.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
};

use smallvec::SmallVec;

use super::{Entry, Key, Variance, vary::varies_alike};
use crate::types::Name;

/// Answers to one URL, by what its `Vary` names. Beyond this the oldest goes: an origin that varies on something that every
/// client has for itself should not fill the cache with one page.
pub(super) const MOST_VARIANTS: usize = 64;

/// How often an entry that was asked for is spared: more tells nothing about the future.
const MOST_ASKED: u8 = 3;

/// Of which variant.
#[derive(Debug, Clone, Copy)]
pub(super) enum Which<'a> {
    /// The one that was stored first, to learn what the response varies on.
    First,
    /// This one.
    Exactly(&'a Variance),
}

/// What becomes of an entry whose turn it is to go.
#[derive(Debug)]
pub(super) enum Judged {
    /// It was not there any more.
    Gone,
    /// It was asked for since it was judged last, and stays.
    Stays,
    /// It goes.
    Goes(Arc<Entry>),
}

#[derive(Debug)]
struct Slot {
    id: u64,
    route: Name,
    spelling: Option<Arc<str>>,
    entry: Arc<Entry>,
    asked: AtomicU8,
}

impl Slot {
    fn is_of(&self, key: &Key) -> bool {
        self.route == key.route && self.spelling == key.spelling
    }
}

/// See above.
#[derive(Debug, Default)]
pub(super) struct Shard {
    entries: HashMap<Arc<str>, SmallVec<[Slot; 1]>>,
    count: usize,
}

impl Shard {
    /// Entries.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Looks one up, and counts that.
    pub(super) fn get(&self, key: &Key, which: Which<'_>) -> Option<Arc<Entry>> {
        let mut slots = self.entries.get(&key.url)?.iter().filter(|slot| slot.is_of(key));
        let found = match which {
            Which::First => slots.min_by_key(|slot| (slot.entry.head.created, slot.id)),
            Which::Exactly(variance) => slots.find(|slot| slot.entry.head.variance.as_ref() == Some(variance)),
        }?;
        let asked = found.asked.load(Relaxed);
        if asked < MOST_ASKED {
            found.asked.store(asked + 1, Relaxed);
        }
        Some(found.entry.clone())
    }

    /// Puts an entry in the place of those that it replaces, which are returned: the one with its variance; all of its key, where
    /// it varies on other fields than they do.
    pub(super) fn put(&mut self, key: &Key, id: u64, entry: Arc<Entry>) -> Vec<Arc<Entry>> {
        let url = &key.url;
        let mut gone = self.take(url, |slot| {
            slot.is_of(key)
                && (slot.entry.head.variance == entry.head.variance || !varies_alike(&slot.entry.head.fields, &entry.head.fields))
        });
        let slots = self.entries.get(url).map(|slots| &slots[..]).unwrap_or_default();
        if slots.len() >= MOST_VARIANTS
            // Nobody's odd spellings drive out what everybody asks for.
            && let Some(oldest) = slots.iter().min_by_key(|slot| (slot.spelling.is_none(), slot.id)).map(|slot| slot.id)
        {
            gone.extend(self.take(url, |slot| slot.id == oldest));
        }
        self.count += 1;
        let slot = Slot { id, route: key.route.clone(), spelling: key.spelling.clone(), entry, asked: AtomicU8::new(0) };
        self.entries.entry(url.clone()).or_default().push(slot);
        gone
    }

    /// Is it there?
    pub(super) fn has(&self, url: &str, id: u64) -> bool {
        self.entries.get(url).is_some_and(|slots| slots.iter().any(|slot| slot.id == id))
    }

    /// The turn of an entry to go has come. One that was asked for stays; `anew` when it has to be asked for again from the start.
    pub(super) fn judge(&mut self, url: &str, id: u64, anew: bool) -> Judged {
        let Some(slot) = self.entries.get(url).and_then(|slots| slots.iter().find(|slot| slot.id == id)) else {
            return Judged::Gone;
        };
        let asked = slot.asked.load(Relaxed);
        if asked > 0 {
            slot.asked.store(if anew { 0 } else { asked - 1 }, Relaxed);
            return Judged::Stays;
        }
        self.take(url, |slot| slot.id == id).pop().map_or(Judged::Gone, Judged::Goes)
    }

    /// Removes what this URL has.
    pub(super) fn remove(&mut self, url: &str) -> Vec<Arc<Entry>> {
        self.take(url, |_| true)
    }

    /// Removes every URL that this holds for.
    pub(super) fn remove_if(&mut self, holds: impl Fn(&str) -> bool) -> Vec<Arc<Entry>> {
        let urls: Vec<Arc<str>> = self.entries.keys().filter(|url| holds(url)).cloned().collect();
        urls.iter().flat_map(|url| self.take(url, |_| true)).collect()
    }

    fn take(&mut self, url: &str, goes: impl Fn(&Slot) -> bool) -> Vec<Arc<Entry>> {
        let Some(slots) = self.entries.get_mut(url) else { return Vec::new() };
        let mut gone = Vec::new();
        slots.retain(|slot| {
            if !goes(slot) {
                return true;
            }
            gone.push(slot.entry.clone());
            false
        });
        if slots.is_empty() {
            self.entries.remove(url);
        }
        self.count -= gone.len();
        gone
    }
}
