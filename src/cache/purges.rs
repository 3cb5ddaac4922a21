//! What was purged lately: a response that was being fetched when its URL was purged is not what it was purged for.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicU64, Ordering::SeqCst},
};

use parking_lot::Mutex;

/// So many are remembered; a fill that began before the oldest of them is not kept.
const REMEMBERED: usize = 256;

/// What a purge was of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Purged {
    /// Everything.
    All,
    /// One URL.
    Url(Box<str>),
    /// All that begin so.
    Prefix(Box<str>),
}

impl Purged {
    pub(super) fn holds(&self, url: &str) -> bool {
        match self {
            Purged::All => true,
            Purged::Url(purged) => **purged == *url,
            Purged::Prefix(prefix) => url.starts_with(&**prefix),
        }
    }
}

/// The purges, counted from 0.
#[derive(Debug, Default)]
pub(super) struct Purges {
    count: AtomicU64,
    last: Mutex<VecDeque<Purged>>,
}

impl Purges {
    /// Takes one down.
    pub(super) fn add(&self, purged: Purged) {
        let mut last = self.last.lock();
        self.count.fetch_add(1, SeqCst);
        last.push_back(purged);
        if last.len() > REMEMBERED {
            last.pop_front();
        }
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
        let last = self.last.lock();
        let missed = usize::try_from(self.count().saturating_sub(began)).unwrap_or(usize::MAX);
        missed > last.len() || last.iter().rev().take(missed).any(|purged| purged.holds(url))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_purged_since_is_known_and_in_doubt_it_was() {
        let purges = Purges::default();
        assert!(!purges.since(0, "a"));
        purges.add(Purged::Url("a".into()));
        let began = purges.count();
        assert!(purges.since(0, "a") && !purges.since(0, "b") && !purges.since(began, "a"));
        purges.add(Purged::Prefix("b".into()));
        assert!(purges.since(began, "bc") && !purges.since(began, "a"));
        for _ in 0..REMEMBERED {
            purges.add(Purged::Url("x".into()));
        }
        assert!(purges.since(began, "a"), "too long ago to tell");
        purges.add(Purged::All);
        assert!(purges.since(purges.count() - 1, "anything"));
    }
}
