//! Who fetches and who waits, and which keys are not worth waiting for.

use std::time::{Duration, SystemTime};

use pingora_cache::{
    CacheKey, NoCacheReason,
    lock::{CacheKeyLockImpl, CacheLock},
    predictor::{CacheablePredictor, Predictor},
};

use super::storage::Wanted;

/// A fetch that takes longer is not waited for by anybody any more: another may begin.
const LONGEST: Duration = Duration::from_secs(60);

/// Shards of what is remembered.
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
        Self { lock: Box::leak(CacheLock::new_boxed(LONGEST)), hopeless: Box::leak(Box::new(hopeless)) }
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
