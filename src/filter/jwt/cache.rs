//! Tokens that were verified lately: a client shows the same one with each request.

use std::{collections::HashMap, fmt, sync::Arc};

use aws_lc_rs::digest;
use http::HeaderValue;
use parking_lot::RwLock;

/// Tokens with the same first bits share a lock, so that threads seldom wait for each other.
const SHARDS: usize = 16;

/// So many are remembered in each, 4096 together: with what endpoints are told, 6 MiB at most, and 1 MiB as a rule.
const MAX_EACH: usize = 256;

/// A token of which the endpoint is told more is verified each time.
const MAX_TOLD: usize = 1024;

/// What stands for a token, of which nothing is kept.
pub(super) type Tag = [u8; 32];

/// What is known of a token that was admitted.
#[derive(Debug)]
pub(super) struct Admitted {
    /// What the endpoint is told, in the order of the configuration. `None` for a claim that it does not make.
    pub(super) told: Box<[Option<HeaderValue>]>,
    /// The keys that it was verified by.
    pub(super) keys: [u8; 32],
    /// When it must be verified again, in seconds since 1970: its expiry, or earlier.
    pub(super) until: f64,
}

pub(super) struct Cache {
    shards: [RwLock<HashMap<Tag, Arc<Admitted>>>; SHARDS],
    /// Seconds that a token is remembered at most; 0 remembers none.
    keep: f64,
}

/// Nothing of what is in it: claims are about people.
impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("keep", &self.keep).finish_non_exhaustive()
    }
}

impl Cache {
    pub(super) fn new(keep: f64) -> Self {
        Self { shards: Default::default(), keep }
    }

    /// `None` where nothing is remembered.
    pub(super) fn tag(&self, token: &str) -> Option<Tag> {
        (self.keep > 0.0).then(|| {
            let mut tag = Tag::default();
            tag.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
            tag
        })
    }

    /// The token, if these keys have verified it and that still holds.
    pub(super) fn get(&self, tag: &Tag, keys: &[u8; 32], now: f64) -> Option<Arc<Admitted>> {
        let shard = self.shard(tag).read();
        shard.get(tag).filter(|admitted| now < admitted.until && admitted.keys == *keys).cloned()
    }

    pub(super) fn put(&self, tag: Tag, mut admitted: Admitted, now: f64) -> Arc<Admitted> {
        admitted.until = admitted.until.min(now + self.keep);
        let admitted = Arc::new(admitted);
        if admitted.told.iter().flatten().map(HeaderValue::len).sum::<usize>() > MAX_TOLD {
            return admitted;
        }
        let shard = &mut self.shard(&tag).write();
        if shard.len() >= MAX_EACH {
            shard.retain(|_, known| now < known.until && known.keys == admitted.keys);
        }
        // A look at each takes less than the signature that went before.
        let first = (shard.len() >= MAX_EACH).then(|| shard.iter().min_by(|a, b| a.1.until.total_cmp(&b.1.until))).flatten();
        if let Some(first) = first.map(|(tag, _)| *tag) {
            shard.remove(&first);
        }
        shard.insert(tag, admitted.clone());
        admitted
    }

    fn shard(&self, tag: &Tag) -> &RwLock<HashMap<Tag, Arc<Admitted>>> {
        &self.shards[usize::from(tag[0]) % SHARDS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(until: f64, keys: u8) -> Admitted {
        Admitted { told: Box::default(), keys: [keys; 32], until }
    }

    #[test]
    fn a_token_is_remembered_until_it_expires_or_the_keys_change() {
        let cache = Cache::new(60.0);
        let tag = cache.tag("a.b.c").unwrap();
        assert!(cache.get(&tag, &[1; 32], 100.0).is_none());
        cache.put(tag, admitted(110.0, 1), 100.0);
        assert!(cache.get(&tag, &[1; 32], 109.9).is_some());
        assert!(cache.get(&tag, &[1; 32], 110.0).is_none());
        assert!(cache.get(&tag, &[2; 32], 101.0).is_none(), "other keys may not know it");
        assert!(cache.get(&cache.tag("a.b.d").unwrap(), &[1; 32], 101.0).is_none());
        cache.put(tag, admitted(f64::INFINITY, 1), 100.0);
        assert!(cache.get(&tag, &[1; 32], 159.9).is_some());
        assert!(cache.get(&tag, &[1; 32], 160.0).is_none(), "nor is it ever longer than it was told to be");
        assert!(Cache::new(0.0).tag("a.b.c").is_none());
        let large = Admitted { told: vec![Some(HeaderValue::from_bytes(&[b'x'; 1025]).unwrap())].into(), ..admitted(110.0, 1) };
        let tag = cache.tag("large").unwrap();
        cache.put(tag, large, 100.0);
        assert!(cache.get(&tag, &[1; 32], 100.0).is_none());
    }

    #[test]
    fn it_holds_no_more_than_it_may() {
        let cache = Cache::new(60.0);
        for number in 0..3 * SHARDS * MAX_EACH {
            let tag = cache.tag(&number.to_string()).unwrap();
            cache.put(tag, admitted(200.0 + number as f64, 1), 180.0);
        }
        assert!(cache.shards.iter().all(|shard| shard.read().len() == MAX_EACH));
    }
}
