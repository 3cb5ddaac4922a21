//! The `concurrency` filter: how much somebody may ask at a time.
//!
//! A request holds its place by a guard in its slot, which is released when the request ends, however it ends. What is
//! kept is one number for each key that has a request in flight, so the requests in flight bound it.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{BuildHasher, Hasher, RandomState},
    num::NonZeroU32,
    sync::Arc,
};

use http::{HeaderValue, header};
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Filter, FilterRequest, Scope, Slot, Verdict,
    key::{self, LimitKey},
};
use crate::types::{At, Code, OneOrMany, Reply};

/// Bounds how much somebody may ask at a time: 429 beyond. A WebSocket counts as long as it is open.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConcurrencySpec {
    /// Requests at a time.
    pub max: NonZeroU32,
    /// Who is counted together: `client_ip` (an IPv6 client by its /64 network), `header:NAME`, `cookie:NAME`, `route`,
    /// or a list of them, for each combination. Without the field or cookie, a client's address is taken.
    #[serde(default = "ConcurrencySpec::default_key")]
    pub key: OneOrMany<LimitKey>,
    /// What others get: 429 (you ask too much) or 503 (there is no room), with `Retry-After`.
    #[serde(default = "ConcurrencySpec::default_status")]
    pub status: u16,
}

impl ConcurrencySpec {
    fn default_key() -> OneOrMany<LimitKey> {
        OneOrMany(vec![LimitKey::ClientIp])
    }
    fn default_status() -> u16 {
        429
    }

    pub(super) fn compile(&self, at: &At, scope: &Scope<'_>) -> Option<Arc<dyn Filter>> {
        let mut sound = true;
        if self.key.is_absent() {
            at.key("key").problem(Code::MissingKey, "a key without parts").hint("write `client_ip`, or leave it out");
            sound = false;
        }
        if !matches!(self.status, 429 | 503) {
            let message = format!("{} does not say that it is too much", self.status);
            at.key("status").problem(Code::BadValue, message).hint("429 or 503");
            sound = false;
        }
        let parts = &self.key;
        sound.then(|| -> Arc<dyn Filter> {
            Arc::new(Concurrency {
                max: self.max.get(),
                key: parts.iter().cloned().collect(),
                status: self.status,
                // Requests that are in flight over a reload are in flight after it.
                counts: scope.shared(&format!("concurrency {}", key::text(parts)), Counts::default),
            })
        })
    }
}

#[derive(Debug)]
struct Concurrency {
    max: u32,
    key: Box<[LimitKey]>,
    status: u16,
    counts: Arc<Counts>,
}

/// Shards, so that threads seldom wait for each other.
const SHARDS: usize = 16;

/// The requests in flight, by a hash of their key that nobody outside can aim at.
#[derive(Debug)]
struct Counts {
    shards: [Mutex<HashMap<u64, u32>>; SHARDS],
    hashing: RandomState,
}

impl Default for Counts {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()), hashing: RandomState::new() }
    }
}

impl Counts {
    fn shard(&self, tag: u64) -> &Mutex<HashMap<u64, u32>> {
        &self.shards[tag as usize % SHARDS]
    }

    fn enter(self: &Arc<Self>, tag: u64, max: u32) -> Option<Place> {
        let mut shard = self.shard(tag).lock();
        let count = shard.entry(tag).or_default();
        if *count >= max {
            return None;
        }
        *count += 1;
        Some(Place { counts: self.clone(), tag })
    }
}

/// A request's place, until it is dropped.
struct Place {
    counts: Arc<Counts>,
    tag: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.counts.shard(self.tag).lock().entry(self.tag) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

impl Filter for Concurrency {
    fn kind(&self) -> &'static str {
        "concurrency"
    }

    fn request(&self, request: &mut FilterRequest<'_>, slot: &mut Slot) -> Verdict {
        let mut hasher = self.counts.hashing.build_hasher();
        key::feed(&self.key, request, &mut |bytes| hasher.write(bytes));
        match self.counts.enter(hasher.finish(), self.max) {
            Some(place) => {
                *slot = Some(Box::new(place));
                Verdict::Continue
            }
            None => {
                let reply = Reply::status(self.status).with(header::RETRY_AFTER, HeaderValue::from_static("1"));
                Verdict::Answer { reply, reason: "concurrency_limited" }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        filter::{
            Chains, Kept,
            tests_support::{Exchange, compile, refused},
        },
        types::Problems,
    };

    fn exchange(ip: &str) -> Exchange {
        let mut exchange = Exchange::default();
        exchange.client.ip = ip.parse().unwrap();
        exchange
    }

    #[test]
    fn a_place_is_held_until_the_request_is_gone() {
        let chain = compile(r#"[{"concurrency": {"max": 2}}]"#);
        let (mut one, mut two, mut three) = (exchange("192.0.2.1"), exchange("192.0.2.1"), exchange("192.0.2.1"));
        one.request(&chain).unwrap();
        two.request(&chain).unwrap();
        let (reply, reason) = three.request(&chain).unwrap_err();
        assert_eq!((reply.status.as_u16(), reason), (429, "concurrency_limited"));
        assert_eq!(reply.headers[0], (header::RETRY_AFTER, HeaderValue::from_static("1")));
        exchange("192.0.2.2").request(&chain).expect("somebody else");
        one.response(&chain, 200);
        assert!(exchange("192.0.2.1").request(&chain).is_err(), "the body is still on its way");
        drop(one);
        exchange("192.0.2.1").request(&chain).unwrap();
    }

    #[test]
    fn places_are_kept_over_a_reload_and_nothing_is_kept_of_those_who_left() {
        let (kept, problems) = (Kept::default(), Problems::default());
        let load = |max: u32| {
            let specs = serde_json::from_value::<Vec<_>>(
                serde_json::json!([{"concurrency": {"max": max, "key": "route", "status": 503}}]),
            );
            Chains::compile(&Default::default(), &kept, Default::default(), &problems.root())
                .build("route r", &specs.unwrap(), &problems.root())
                .unwrap()
        };
        let before = load(1);
        let mut held = exchange("192.0.2.1");
        held.request(&before).unwrap();
        let after = load(2);
        let mut second = exchange("192.0.2.2");
        second.request(&after).unwrap();
        assert_eq!(exchange("192.0.2.3").request(&after).unwrap_err().0.status, 503);
        drop((held, second));
        let counts = Arc::new(Counts::default());
        drop((counts.enter(7, 2), counts.enter(7, 2), counts.enter(8, 1)));
        assert!(counts.shards.iter().all(|shard| shard.lock().is_empty()));
    }

    #[test]
    fn mistakes_are_named() {
        assert!(refused(r#"[{"concurrency": {"max": 1, "status": 500}}]"#)[0].message.contains("500"));
        assert_eq!(refused(r#"[{"concurrency": {"max": 1, "key": []}}]"#)[0].path.to_string(), "filters[0].concurrency.key");
    }
}
