//! What was purged lately: a response that was being fetched when its URL was purged is not what it was purged for.
//!
//! Most purges are of one URL, by requests that have changed it, and there may be thousands in a second. They are remembered by a
//! hash, each URL once, in lists of their own: neither do those of one URL make others be forgotten, nor do many make all doubtful.

use std::{
    collections::VecDeque,
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicU64, Ordering::SeqCst},
};

use parking_lot::Mutex;

/// So many are remembered in each list; a fill that began before one that is forgotten is not kept.
const REMEMBERED: usize = 256;
/// Lists of URLs: 16,384 in all, 16 bytes each.
const LISTS: usize = 64;

/// What a purge of more than one URL was of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Purged {
    /// Everything.
    All,
    /// All that begin so.
    Prefix(Box<str>),
}

impl Purged {
    pub(super) fn holds(&self, url: &str) -> bool {
        match self {
            Purged::All => true,
            Purged::Prefix(prefix) => url.starts_with(&**prefix),
        }
    }
}

/// The purges, counted from 0.
#[derive(Debug)]
pub(super) struct Purges {
    count: AtomicU64,
    wide: Mutex<List<Purged>>,
    urls: [Mutex<List<u64>>; LISTS],
    hashing: RandomState,
}

impl Default for Purges {
    fn default() -> Self {
        Self {
            count: AtomicU64::new(0),
            wide: Mutex::default(),
            urls: std::array::from_fn(|_| Mutex::default()),
            hashing: RandomState::new(),
        }
    }
}

/// The last ones, each with its number.
#[derive(Debug)]
struct List<T> {
    last: VecDeque<(u64, T)>,
    /// All whose numbers are smaller are doubtful.
    known_from: u64,
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self { last: VecDeque::new(), known_from: 0 }
    }
}

impl<T: PartialEq> List<T> {
    fn add(&mut self, number: u64, purged: T) {
        self.last.retain(|(_, known)| *known != purged);
        self.last.push_back((number, purged));
        if self.last.len() > REMEMBERED
            && let Some((forgotten, _)) = self.last.pop_front()
        {
            self.known_from = self.known_from.max(forgotten + 1);
        }
    }

    /// Is there one with this number or a later one? Yes, when it is not known any more.
    fn since(&self, began: u64, holds: impl Fn(&T) -> bool) -> bool {
        began < self.known_from || self.last.iter().any(|(number, purged)| *number >= began && holds(purged))
    }
}

impl Purges {
    /// Takes down a purge of several URLs.
    pub(super) fn add(&self, purged: Purged) {
        self.wide.lock().add(self.count.fetch_add(1, SeqCst), purged);
    }

    /// Takes down a purge of this URL.
    pub(super) fn add_url(&self, url: &str) {
        let hash = self.hashing.hash_one(url);
        self.list(hash).lock().add(self.count.fetch_add(1, SeqCst), hash);
    }

    fn list(&self, hash: u64) -> &Mutex<List<u64>> {
        &self.urls[hash as usize % LISTS]
    }

    /// How many there have been.
    pub(super) fn count(&self) -> u64 {
        self.count.load(SeqCst)
    }

    /// Was this URL purged since there had been so many? Yes, when it is not known any more.
    pub(super) fn since(&self, began: u64, url: &str) -> bool {
        if self.count() == began {
            return false;
        }
        let hash = self.hashing.hash_one(url);
        self.list(hash).lock().since(began, |purged| *purged == hash) || self.wide.lock().since(began, |purged| purged.holds(url))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_purged_since_is_known_and_in_doubt_it_was() {
        let purges = Purges::default();
        assert!(!purges.since(0, "a"));
        purges.add_url("a");
        let began = purges.count();
        assert!(purges.since(0, "a") && !purges.since(0, "b") && !purges.since(began, "a"));
        purges.add(Purged::Prefix("b".into()));
        assert!(purges.since(began, "bc") && !purges.since(began, "a"));
        for number in 0..=REMEMBERED {
            purges.add(Purged::Prefix(format!("x{number}").into()));
        }
        assert!(purges.since(began, "a"), "too long ago to tell");
        purges.add(Purged::All);
        assert!(purges.since(purges.count() - 1, "anything"));
    }

    #[test]
    fn what_changes_all_the_time_does_not_make_the_rest_doubtful() {
        let purges = Purges::default();
        purges.add_url("a");
        for _ in 0..100_000 {
            purges.add_url("counter");
        }
        assert!(purges.since(0, "a") && purges.since(0, "counter"));
        assert!((0..1000).all(|number| !purges.since(0, &format!("page {number}"))), "one URL is one");
        for number in 0..REMEMBERED * LISTS / 4 {
            purges.add_url(&format!("order {number}"));
        }
        assert!((0..1000).all(|number| !purges.since(0, &format!("page {number}"))), "several thousand are known");
        assert!(purges.since(0, "order 0") && !purges.since(purges.count(), "order 0"));
        for number in 0..REMEMBERED * LISTS * 4 {
            purges.add_url(&format!("more {number}"));
        }
        assert!(purges.since(0, "page 1"), "and beyond, in doubt they were");
        let held: usize = purges.urls.iter().map(|list| list.lock().last.len()).sum();
        assert!(held <= REMEMBERED * LISTS, "{held}");
    }
}
