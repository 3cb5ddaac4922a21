//! The store: the index in shards, the account of its bytes, purging.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use parking_lot::RwLock;

use super::{
    Body, CacheSettings, Entry, Fill, GaveUp, Head, Key, Variance,
    purges::{Purged, Purges},
    shard::{Shard, Which},
};
use crate::types::Name;

/// Parts of the index, so that threads seldom wait for each other.
const SHARDS: usize = 64;

/// The largest share of the memory that one response may take: one in so many.
const LARGEST: u64 = 4;

/// So many entries go at most for one piece of a body. What still does not fit is held by clients that read slowly, and driving out
/// the rest would not help.
const MOST_EVICTED: usize = 4096;

/// The responses that are kept, in memory. One for each process, made when the first configuration asks for it.
#[derive(Debug)]
pub struct Cache {
    shards: [RwLock<Shard>; SHARDS],
    hashing: RandomState,
    account: Arc<Account>,
    /// Where the next eviction looks first.
    turn: AtomicUsize,
    ids: AtomicU64,
    purges: Purges,
    counts: Counts,
}

/// Bytes, of what there is and of what there may be.
#[derive(Debug)]
struct Account {
    used: AtomicU64,
    bound: AtomicU64,
}

/// What happened in the store.
#[derive(Debug, Default)]
pub struct Counts {
    /// Responses that were stored.
    pub stored: AtomicU64,
    /// Entries that went to make room.
    pub evicted: AtomicU64,
    /// Entries that were purged.
    pub purged: AtomicU64,
}

/// What the store holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holdings {
    /// Responses.
    pub entries: usize,
    /// Bytes of memory, those of responses being received included.
    pub bytes: u64,
    /// The bound of those.
    pub bound: u64,
}

/// Bytes that are accounted for, until it is dropped.
#[derive(Debug)]
pub(super) struct Reserved {
    account: Arc<Account>,
    bytes: u64,
}

impl Reserved {
    /// Gives back what is more than this.
    pub(super) fn shrunk(mut self, bytes: u64) -> Self {
        let surplus = self.bytes.saturating_sub(bytes);
        self.account.used.fetch_sub(surplus, Relaxed);
        self.bytes -= surplus;
        self
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.account.used.fetch_sub(self.bytes, Relaxed);
    }
}

impl Cache {
    /// An empty one, for as long as the process lives: Pingora works on nothing less.
    pub fn leak(settings: &CacheSettings) -> &'static Self {
        Box::leak(Box::new(Self {
            shards: std::array::from_fn(|_| RwLock::default()),
            hashing: RandomState::new(),
            account: Arc::new(Account { used: AtomicU64::new(0), bound: AtomicU64::new(settings.memory) }),
            turn: AtomicUsize::new(0),
            ids: AtomicU64::new(0),
            purges: Purges::default(),
            counts: Counts::default(),
        }))
    }

    /// Changes its bounds. What does not fit any more goes.
    pub fn configure(&self, settings: &CacheSettings) {
        self.account.bound.store(settings.memory, Relaxed);
        while self.account.used.load(Relaxed) > settings.memory && self.evict() {}
    }

    /// The route's stored response for this URL: the one of this variant, or the one stored first.
    pub fn get(&self, url: &str, route: &Name, variance: Option<&Variance>) -> Option<Arc<Entry>> {
        self.shard(url).read().get(url, route, variance.map_or(Which::First, Which::Exactly))
    }

    /// Begins to receive a response with this head and a body of at most this many bytes.
    pub fn fill(&'static self, key: Key, head: Head, bound: u64, began: u64) -> Fill {
        let bound = bound.min(self.account.bound.load(Relaxed) / LARGEST);
        Fill::new(self, key, head, bound, began)
    }

    /// A mark for [`Self::fill`]: what is purged from now on must not come back by what is fetched from now on.
    pub fn mark(&self) -> u64 {
        self.purges.count()
    }

    /// Puts a new head before the body of an entry, after the origin has said that the body is still right. False when that entry is
    /// gone.
    pub fn renew(&self, key: &Key, head: Head) -> bool {
        let shard = self.shard(&key.url);
        let which = head.variance;
        let Some(old) = shard.read().get(&key.url, &key.route, which.as_ref().map_or(Which::First, Which::Exactly)) else {
            return false;
        };
        if old.head.variance != head.variance {
            return false;
        }
        self.keep(key, head, old.body.clone(), self.mark()).is_ok()
    }

    /// Makes an entry of a head and a body that is paid for.
    pub(super) fn keep(&self, key: &Key, head: Head, body: Arc<Body>, began: u64) -> Result<(), GaveUp> {
        let weight = head.weight(key.url.len() + key.route.len());
        let mut held = self.nothing();
        if !self.grow(&mut held, weight) {
            return Err(GaveUp::NoRoom);
        }
        let weight = weight + body.length();
        let entry = Arc::new(Entry { head, body, _held: held });
        let mut shard = self.shard(&key.url).write();
        if self.purges.since(began, &key.url) {
            return Err(GaveUp::Purged);
        }
        let gone = shard.put(key.url.clone(), &key.route, self.ids.fetch_add(1, Relaxed), entry, weight);
        drop(shard);
        // Freeing a large body takes time, which nobody needs to wait for under the lock.
        drop(gone);
        self.counts.stored.fetch_add(1, Relaxed);
        Ok(())
    }

    /// Removes everything.
    pub fn purge_all(&self) -> usize {
        self.purge(Purged::All)
    }

    /// Removes all answers to this URL.
    pub fn purge_url(&self, url: &str) -> usize {
        // First the mark, then the entries: what comes in between is not kept.
        self.purges.add(Purged::Url(url.into()));
        let gone = self.shard(url).write().remove(url);
        self.purged(gone.len())
    }

    /// Removes all answers to URLs that begin so.
    pub fn purge_prefix(&self, prefix: &str) -> usize {
        self.purge(Purged::Prefix(prefix.into()))
    }

    fn purge(&self, purged: Purged) -> usize {
        self.purges.add(purged.clone());
        let gone = self.shards.iter().map(|shard| shard.write().remove_if(|url| purged.holds(url)).len()).sum();
        self.purged(gone)
    }

    fn purged(&self, count: usize) -> usize {
        self.counts.purged.fetch_add(count as u64, Relaxed);
        count
    }

    /// What it holds now.
    pub fn holdings(&self) -> Holdings {
        Holdings {
            entries: self.shards.iter().map(|shard| shard.read().count()).sum(),
            bytes: self.account.used.load(Relaxed),
            bound: self.account.bound.load(Relaxed),
        }
    }

    /// What happened in it.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    fn shard(&self, url: &str) -> &RwLock<Shard> {
        &self.shards[self.hashing.hash_one(url) as usize % SHARDS]
    }

    pub(super) fn nothing(&self) -> Reserved {
        Reserved { account: self.account.clone(), bytes: 0 }
    }

    /// Accounts for more bytes, for which entries may have to go. False when there is no room for them.
    pub(super) fn grow(&self, held: &mut Reserved, bytes: u64) -> bool {
        for _ in 0..MOST_EVICTED {
            let bound = self.account.bound.load(Relaxed);
            let taken = self.account.used.fetch_update(Relaxed, Relaxed, |used| {
                let after = used.checked_add(bytes)?;
                (after <= bound).then_some(after)
            });
            if taken.is_ok() {
                held.bytes += bytes;
                return true;
            }
            if !self.evict() {
                return false;
            }
        }
        false
    }

    /// Removes one entry, of each shard in turn. False when there is none.
    fn evict(&self) -> bool {
        for _ in 0..SHARDS {
            let turn = self.turn.fetch_add(1, Relaxed) % SHARDS;
            let gone = self.shards[turn].write().evict();
            if gone.is_some() {
                self.counts.evicted.fetch_add(1, Relaxed);
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests;
