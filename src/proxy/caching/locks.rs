//! Who fetches and who waits, and which keys are not worth waiting for.

use std::time::Duration;

use pingora_cache::{
    lock::{CacheKeyLockImpl, CacheLock},
    predictor::{CacheablePredictor, Predictor},
};

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
    /// Keys whose last answer could not be stored: nobody waits for such an answer to come, since everybody needs their own.
    pub(super) hopeless: &'static (dyn CacheablePredictor + Sync),
}

impl Locks {
    /// Made once for a proxy, when the first request wants the cache.
    pub(in crate::proxy) fn leak() -> Self {
        // Reasons of our own say nothing about the next answer.
        let hopeless: Predictor<SHARDS> = Predictor::new(REMEMBERED, Some(|_| true));
        Self { lock: Box::leak(CacheLock::new_boxed(LONGEST)), hopeless: Box::leak(Box::new(hopeless)) }
    }
}
