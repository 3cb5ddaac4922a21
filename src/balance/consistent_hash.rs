//! The `consistent_hash` strategy: a ketama ring with bounded loads.
//!
//! Finding the place on the ring is a binary search; the bound costs one pass over the endpoints, for it is a share of
//! all requests in flight.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Among, SelectionKey, Strategy,
    derived::Derived,
    hash::{hash, mix},
};
use crate::endpoint::Endpoint;

/// Options of `consistent_hash`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ConsistentHashSpec {
    /// What decides where a request goes; the client's address when a request has no such part.
    pub key: SelectionKey,
    /// Points on the ring per unit of weight: more of them even out the shares and take memory.
    pub virtual_nodes: std::num::NonZeroU16,
    /// An endpoint takes at most this many times its fair share of the requests in flight; what is beyond
    /// goes to the next on the ring. At least 1.
    pub load_bound: LoadBound,
}

impl Default for ConsistentHashSpec {
    fn default() -> Self {
        const NODES: std::num::NonZeroU16 = std::num::NonZeroU16::new(150).unwrap();
        Self { key: SelectionKey::default(), virtual_nodes: NODES, load_bound: LoadBound(1.25) }
    }
}

/// How much more than its fair share: a number of at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "f64")]
pub struct LoadBound(f64);

impl TryFrom<f64> for LoadBound {
    type Error = String;
    fn try_from(bound: f64) -> Result<Self, String> {
        match bound.is_finite() && bound >= 1.0 {
            true => Ok(Self(bound)),
            false => Err(format!("`{bound}` is below 1: all endpoints together could not take all requests")),
        }
    }
}

impl ConsistentHashSpec {
    pub(super) fn build(&self, _endpoints: &[Arc<Endpoint>]) -> Box<dyn Strategy> {
        let nodes = u64::from(self.virtual_nodes.get());
        Box::new(ConsistentHash { ring: Derived::new(move |endpoints| Ring::new(endpoints, nodes)), bound: self.load_bound.0 })
    }
}

/// Points on all rings of 16 bytes each: at most 16 MiB per upstream. Weights that ask for more are scaled.
const MAX_POINTS: u64 = 1 << 20;

/// Consistent hashing on a ring (Karger and others, 1997; libketama, 2007), with bounded loads (Mirrokni,
/// Thorup, Zadimoghaddam, 2016; in HAProxy as `hash-balance-factor`).
///
/// A key belongs to the first point at or after its hash. When an endpoint leaves, each stretch of the
/// ring before one of its points falls to whoever is next, so only its keys move, and they spread.
#[derive(Debug)]
struct ConsistentHash {
    ring: Derived<Ring>,
    bound: f64,
}

impl Strategy for ConsistentHash {
    fn pick(&self, key: u64, among: &Among<'_>) -> Option<usize> {
        let (mut in_flight, mut weights) = (0u64, 0u64);
        for (index, endpoint) in among.candidates() {
            in_flight += u64::from(endpoint.in_flight());
            weights += u64::from(among.weight(index));
        }
        if weights == 0 {
            return None;
        }
        // With this request counted, rounded up: so there is always one below its bound.
        let per_weight = self.bound * (in_flight + 1) as f64 / weights as f64;
        let below =
            |index: usize| f64::from(among.endpoint(index).in_flight()) < (per_weight * f64::from(among.weight(index))).ceil();
        self.ring.with(among, |ring| {
            let mut first = None;
            for index in ring.from(key) {
                if among.may(index) {
                    if below(index) && among.has_warmed_to(index, key) {
                        return Some(index);
                    }
                    first.get_or_insert(index);
                }
            }
            // Loads have moved while we looked, or all start slowly.
            first
        })
    }
}

#[derive(Debug)]
struct Ring(Box<[(u64, u32)]>);

impl Ring {
    fn new(endpoints: &[Arc<Endpoint>], nodes: u64) -> Self {
        let total: u64 = endpoints.iter().map(|endpoint| u64::from(endpoint.weight()) * nodes).sum();
        let mut points = Vec::new();
        for (index, endpoint) in endpoints.iter().enumerate() {
            let seed = hash(endpoint.label().as_bytes());
            let count = u64::from(endpoint.weight()) * nodes;
            let count = if total <= MAX_POINTS { count } else { (count * MAX_POINTS / total).max(1) };
            // A point depends on its endpoint and number only: another weight adds or removes points of this one.
            points.extend((0..count).map(|point| (mix(seed.wrapping_add(mix(point + 1))), index as u32)));
        }
        points.sort_unstable();
        Self(points.into())
    }

    /// The endpoints at the points from the key on, once around.
    fn from(&self, key: u64) -> impl Iterator<Item = usize> {
        let start = self.0.partition_point(|(point, _)| *point < key);
        self.0[start..].iter().chain(&self.0[..start]).map(|(_, index)| *index as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{
        hash::hash,
        testing::{Letter, Pool},
    };

    fn keys() -> impl Iterator<Item = u64> {
        (0..20_000u32).map(|client| hash(&client.to_be_bytes()))
    }

    #[test]
    fn shares_follow_the_weights_also_when_they_change() {
        let pool = Pool::new("consistent_hash", &[1, 1, 2]);
        let count = || keys().filter(|key| pool.pick(*key).letter() == 'c').count();
        assert!((8_500..=11_500).contains(&count()), "half: {}", count());
        pool.endpoints[2].set_weight(6);
        assert!((13_900..=16_100).contains(&count()), "three quarters: {}", count());
    }

    #[test]
    fn only_the_keys_of_one_that_left_move() {
        let pool = Pool::new("consistent_hash", &[1, 1, 1, 1]);
        let before: Vec<_> = keys().map(|key| pool.pick(key).letter()).collect();
        pool.set_healthy(1, false);
        let mut moved = [0; 4];
        for (key, before) in keys().zip(&before) {
            let now = pool.pick(key);
            match before {
                'b' => moved[pool.index(&now)] += 1,
                _ => assert_eq!(now.letter(), *before),
            }
        }
        assert!(moved[1] == 0 && [0, 2, 3].iter().all(|other| moved[*other] > 700), "{moved:?}");
    }

    #[test]
    fn a_popular_key_overflows_to_the_next() {
        let pool = Pool::new("consistent_hash", &[1, 1, 1, 1]);
        let mut in_flight = Vec::new();
        for _ in 0..400 {
            in_flight.push(pool.pick(7).begin());
        }
        let mut loads: Vec<_> = pool.endpoints.iter().map(|endpoint| endpoint.in_flight()).collect();
        loads.sort_unstable();
        // At most 1.25 of the fair share of 100 each: three full ones and the rest on the fourth.
        assert_eq!(loads, [25, 125, 125, 125]);
        // One after the other they all go home.
        drop(in_flight);
        let home = pool.pick(7).letter();
        assert!((0..100).all(|_| pool.pick(7).letter() == home));
    }

    #[test]
    fn everyone_gets_tried() {
        let pool = Pool::new("consistent_hash", &[1, 1, 1]);
        assert!(pool.pick_without(9, &[0, 1]).is_some_and(|endpoint| endpoint.letter() == 'c'));
        assert!(pool.pick_without(9, &[0, 1, 2]).is_none());
    }
}
