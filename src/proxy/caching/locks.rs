//! Who fetches and who waits, and which keys are not worth waiting for.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use http::Extensions;
use parking_lot::Mutex;
use pingora_cache::{
    CacheKey, NoCacheReason,
    key::CacheHashKey,
    lock::{CacheKeyLock, CacheKeyLockImpl, LockStatus, LockStub, Locked, WritePermit},
    predictor::{CacheablePredictor, Predictor},
};

use super::storage::Wanted;

/// A fetch that takes longer is not waited for by anybody any more: another may begin. It goes at the pace of its client, who may
/// be slow on purpose.
const LONGEST: Duration = Duration::from_secs(10);

/// Shards of the locks, and of what is remembered.
const SHARDS: usize = 16;
/// Keys that are remembered in each: 16,384 in all, 24 bytes and some for each. Forgetting one costs a wait, no more.
const REMEMBERED: usize = 1024;

/// What Pingora asks for as long as the process lives.
#[derive(Clone, Copy)]
pub(in crate::proxy) struct Locks {
    /// One request fetches a key, and the others wait.
    pub(super) lock: &'static CacheKeyLockImpl,
    /// Keys that are not looked for.
    pub(super) hopeless: &'static (dyn CacheablePredictor + Sync),
}

impl Locks {
    /// Made once for a proxy, when the first request wants the cache.
    pub(in crate::proxy) fn leak() -> Self {
        // Reasons of our own say nothing about the next answer.
        let hopeless = Hopeless(Predictor::new(REMEMBERED, Some(|_| true)));
        Self { lock: Box::leak(Box::<Fetches>::default()), hopeless: Box::leak(Box::new(hopeless)) }
    }
}

/// What is being fetched, by key.
///
/// As Pingora's own table, but for one thing: there a fetch whose task was dropped (its client has reset the stream) keeps its
/// place until the key is asked for again, so that a client could fill memory with URLs that nobody asks for.
#[derive(Default)]
struct Fetches {
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Default)]
struct Shard {
    locks: HashMap<u128, LockStub>,
    /// When there are so many, those that were dropped are looked for.
    sweep_at: usize,
}

/// Fewer are not worth a look.
const FEW: usize = 64;

impl Fetches {
    fn shard(&self, key: u128) -> &Mutex<Shard> {
        &self.shards[key as usize % SHARDS]
    }
}

impl Shard {
    fn insert(&mut self, key: u128, lock: LockStub) {
        self.locks.insert(key, lock);
        if self.locks.len() > self.sweep_at.max(FEW) {
            self.locks.retain(|_, lock| is_held(lock));
            self.sweep_at = 2 * self.locks.len();
        }
    }
}

/// Somebody is fetching, and not for too long.
fn is_held(lock: &LockStub) -> bool {
    !matches!(lock.0.lock_status(), LockStatus::Dangling | LockStatus::AgeTimeout)
}

impl CacheKeyLock for Fetches {
    fn lock(&self, key: &CacheKey, stale_writer: bool) -> Locked {
        let key = u128::from_be_bytes(key.combined_bin());
        let mut shard = self.shard(key).lock();
        if let Some(held) = shard.locks.get(&key).filter(|lock| is_held(lock)) {
            return Locked::Read(held.read_lock());
        }
        let (permit, lock) = WritePermit::new(LONGEST, stale_writer, Extensions::new());
        shard.insert(key, lock);
        Locked::Write(permit)
    }

    fn release(&self, key: &CacheKey, mut permit: WritePermit, reason: LockStatus) {
        if permit.lock_status() == LockStatus::AgeTimeout {
            // Another may have its place by now.
            permit.unlock(LockStatus::AgeTimeout);
            return;
        }
        let key = u128::from_be_bytes(key.combined_bin());
        self.shard(key).lock().locks.remove(&key);
        permit.unlock(reason);
    }
}

/// Keys whose last answer could not be stored: nobody waits for such an answer to come, since everybody needs their own. A key with a
/// fresh answer in the store is none of them, whatever somebody else was sent.
struct Hopeless(Predictor<SHARDS>);

impl CacheablePredictor for Hopeless {
    fn cacheable_prediction(&self, key: &CacheKey) -> bool {
        self.0.cacheable_prediction(key) || is_fresh(key)
    }

    fn predicted_uncacheable_reason(&self, key: &CacheKey) -> Option<NoCacheReason> {
        self.0.predicted_uncacheable_reason(key)
    }

    fn mark_cacheable(&self, key: &CacheKey) -> bool {
        self.0.mark_cacheable(key)
    }

    fn mark_uncacheable(&self, key: &CacheKey, reason: NoCacheReason) -> Option<bool> {
        self.0.mark_uncacheable(key, reason)
    }
}

fn is_fresh(key: &CacheKey) -> bool {
    let Some(Wanted { cache, key, .. }) = key.extensions.get() else { return false };
    let stored = cache.get(&key.url, &key.route, None);
    stored.is_some_and(|entry| entry.head.freshness.fresh_until >= SystemTime::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> CacheKey {
        CacheKey::new(text, "")
    }

    #[test]
    fn one_fetches_and_the_others_wait() {
        let fetches = Fetches::default();
        let Locked::Write(permit) = fetches.lock(&key("a"), false) else { panic!("the first fetches") };
        let Locked::Read(waiting) = fetches.lock(&key("a"), false) else { panic!("the second waits") };
        let Locked::Write(other) = fetches.lock(&key("b"), false) else { panic!("for its own key only") };
        fetches.release(&key("b"), other, LockStatus::GiveUp);
        fetches.release(&key("a"), permit, LockStatus::Done);
        assert_eq!(waiting.lock_status(), LockStatus::Done);
        let Locked::Write(again) = fetches.lock(&key("a"), false) else { panic!("it is over") };
        fetches.release(&key("a"), again, LockStatus::Done);
    }

    #[test]
    fn fetches_that_were_dropped_take_no_room() {
        let fetches = Fetches::default();
        let Locked::Write(held) = fetches.lock(&key("held"), false) else { panic!("it fetches") };
        for number in 0..100_000 {
            let Locked::Write(mut permit) = fetches.lock(&key(&number.to_string()), false) else { panic!("it fetches") };
            // Given up without a word to the table.
            permit.unlock(LockStatus::AgeTimeout);
        }
        let count: usize = fetches.shards.iter().map(|shard| shard.lock().locks.len()).sum();
        assert!(count <= SHARDS * (FEW + 1), "{count}");
        assert!(!fetches.lock(&key("held"), false).is_write(), "what is under way is not forgotten");
        fetches.release(&key("held"), held, LockStatus::Done);
    }
}
