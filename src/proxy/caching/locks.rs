//! Who fetches and who waits, and which keys are not worth waiting for.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::Extensions;
use parking_lot::Mutex;
use pingora_cache::{
    CacheKey, NoCacheReason,
    key::CacheHashKey,
    lock::{CacheKeyLock, CacheKeyLockImpl, LockCore, LockStatus, LockStub, Locked, WritePermit},
    predictor::{CacheablePredictor, Predictor},
};

use super::storage::Wanted;
use crate::cache::{Entry, Freshness};

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
/// As Pingora's own table, but for one thing: there a permit that is dropped and not released (its task was cancelled or has
/// panicked) panics in builds with assertions, before those who wait are told, and keeps its place in the table. Here a fetch ends
/// with its permit, however that goes.
#[derive(Default)]
struct Fetches {
    table: Arc<Table>,
}

type Table = [Mutex<HashMap<u128, Arc<LockCore>>>; SHARDS];

/// A fetch, for as long as its permit is there.
struct Fetch {
    table: Arc<Table>,
    key: u128,
    /// What the others wait for.
    awaited: Arc<LockCore>,
}

impl Fetch {
    /// Lets the others go, once. Those of a fetch that took too long went by themselves, and another may have its place.
    fn end(&self, reason: LockStatus) {
        let mut shard = shard(&self.table, self.key).lock();
        if shard.get(&self.key).is_some_and(|held| Arc::ptr_eq(held, &self.awaited)) {
            shard.remove(&self.key);
            drop(shard);
            self.awaited.unlock(reason);
        }
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        // One of those who wait fetches next.
        self.end(LockStatus::TransientError);
    }
}

fn shard(table: &Table, key: u128) -> &Mutex<HashMap<u128, Arc<LockCore>>> {
    &table[key as usize % SHARDS]
}

/// Somebody is fetching, and not for too long.
fn is_held(lock: &LockCore) -> bool {
    lock.lock_status() != LockStatus::AgeTimeout
}

impl CacheKeyLock for Fetches {
    fn lock(&self, key: &CacheKey, stale_writer: bool) -> Locked {
        if is_asked_about_each_time(key) {
            return Locked::Write(permit(stale_writer, Extensions::new()));
        }
        let key = u128::from_be_bytes(key.combined_bin());
        let mut shard = shard(&self.table, key).lock();
        if let Some(held) = shard.get(&key).filter(|lock| is_held(lock)) {
            return Locked::Read(LockStub(held.clone()).read_lock());
        }
        let awaited = LockCore::new_arc(LONGEST, stale_writer, Extensions::new());
        shard.insert(key, awaited.clone());
        let mut carried = Extensions::new();
        carried.insert(Arc::new(Fetch { table: self.table.clone(), key, awaited }));
        Locked::Write(permit(stale_writer, carried))
    }

    fn release(&self, _: &CacheKey, permit: WritePermit, reason: LockStatus) {
        if let Some(fetch) = permit.extensions().get::<Arc<Fetch>>() {
            fetch.end(reason);
        }
    }
}

/// Nobody waits for the permit itself, so it is over from the start and may be dropped: what it carries goes with it.
fn permit(stale_writer: bool, carried: Extensions) -> WritePermit {
    let (mut permit, _) = WritePermit::new(LONGEST, stale_writer, carried);
    permit.unlock(LockStatus::Done);
    permit
}

/// What is stored is stale from the start (`no-cache`), and not to be sent while it is: what one is told of it helps no other.
fn is_asked_about_each_time(key: &CacheKey) -> bool {
    stored(key).is_some_and(|entry| {
        let Freshness { epoch, fresh_until, stale_while_revalidate, .. } = entry.head.freshness;
        fresh_until <= epoch && stale_while_revalidate == 0
    })
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
    stored(key).is_some_and(|entry| entry.head.freshness.fresh_until >= SystemTime::now())
}

fn stored(key: &CacheKey) -> Option<Arc<Entry>> {
    let Wanted { cache, key: wanted, .. } = key.extensions.get()?;
    cache.get(wanted, key.variance_bin().as_ref())
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

    impl Fetches {
        fn count(&self) -> usize {
            self.table.iter().map(|shard| shard.lock().len()).sum()
        }
    }

    #[test]
    fn a_fetch_that_is_cancelled_is_another_ones_turn() {
        let fetches = Fetches::default();
        let Locked::Write(permit) = fetches.lock(&key("a"), false) else { panic!("the first fetches") };
        let Locked::Read(waiting) = fetches.lock(&key("a"), false) else { panic!("the second waits") };
        assert!(waiting.locked());
        drop(permit);
        assert_eq!((waiting.locked(), waiting.lock_status()), (false, LockStatus::TransientError));
        assert_eq!(fetches.count(), 0, "it takes no room");
        let Locked::Write(permit) = fetches.lock(&key("a"), false) else { panic!("it is nobody's") };
        let Locked::Read(waiting) = fetches.lock(&key("a"), false) else { panic!("the next one waits") };
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _permit = permit;
            panic!("a fault of ours while it is fetched");
        }));
        assert!(panicked.is_err() && !waiting.locked(), "neither does a panic keep it, nor end the process");
        assert_eq!(fetches.count(), 0);
    }

    #[test]
    fn a_fetch_that_took_too_long_ends_without_the_next_one() {
        let fetches = Fetches::default();
        let Locked::Write(slow) = fetches.lock(&key("a"), false) else { panic!("the first fetches") };
        fetches.table.iter().for_each(|shard| shard.lock().values().for_each(|lock| lock.unlock(LockStatus::AgeTimeout)));
        let Locked::Write(next) = fetches.lock(&key("a"), false) else { panic!("nobody waits for it any more") };
        let Locked::Read(waiting) = fetches.lock(&key("a"), false) else { panic!("but for the next one") };
        fetches.release(&key("a"), slow, LockStatus::Done);
        assert!(waiting.locked(), "the next one is under way");
        fetches.release(&key("a"), next, LockStatus::Done);
        assert_eq!((waiting.lock_status(), fetches.count()), (LockStatus::Done, 0));
    }
}
