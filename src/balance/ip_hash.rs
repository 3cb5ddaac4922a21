//! The `ip_hash` strategy: the same client goes to the same endpoint.
//!
//! A choice costs one pass over the endpoints, by nature: each of them bids for the key.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Among, Strategy,
    hash::{hash, mix},
};
use crate::endpoint::Endpoint;

/// Options of `ip_hash`: none.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct IpHashSpec {}

impl IpHashSpec {
    pub(super) fn build(&self, endpoints: &[Arc<Endpoint>]) -> Box<dyn Strategy> {
        Box::new(IpHash { seeds: endpoints.iter().map(|endpoint| hash(endpoint.label().as_bytes())).collect() })
    }
}

/// Weighted rendezvous hashing: Thaler and Ravishankar, "Using name-based mappings to increase hit rates"
/// (1998), with the weights of Schindelhauer and Schomaker, "Weighted distributed hash tables" (2005).
///
/// Each endpoint has a score that depends on the key, on its own address and weight, and on nothing else;
/// the highest score takes the request. So when an endpoint leaves, only its own keys move, to all others
/// by weight, and when it returns they return; a larger weight only draws keys to itself.
///
/// The price is one hash and one logarithm per endpoint and request.
#[derive(Debug)]
struct IpHash {
    seeds: Box<[u64]>,
}

impl Strategy for IpHash {
    fn pick(&self, key: u64, among: &Among<'_>) -> Option<usize> {
        let scores = among.candidates().map(|(index, _)| (index, score(key ^ self.seeds[index], among.weight(index))));
        scores.max_by(|a, b| a.1.total_cmp(&b.1)).map(|(index, _)| index)
    }
}

/// `-weight / ln(u)` for `u` uniform in (0, 1): the chance to be the highest is proportional to the weight.
fn score(hash: u64, weight: u32) -> f64 {
    // 53 bits, the precision of a float, and half a step up: neither 0 nor 1.
    let uniform = ((mix(hash) >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    -f64::from(weight) / uniform.ln()
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
    fn shares_follow_the_weights() {
        let pool = Pool::new("ip_hash", &[1, 2, 3, 4]);
        let mut counts = [0.0; 4];
        keys().for_each(|key| counts[pool.index(&pool.pick(key))] += 1.0);
        for (count, weight) in counts.into_iter().zip([1.0, 2.0, 3.0, 4.0]) {
            let share: f64 = weight / 10.0;
            let deviation = (20_000.0 * share * (1.0 - share)).sqrt();
            assert!((count - 20_000.0 * share).abs() < 5.0 * deviation, "{count} for weight {weight}");
        }
    }

    #[test]
    fn only_the_keys_of_one_that_left_move() {
        let pool = Pool::new("ip_hash", &[1, 1, 1, 1]);
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
        assert!(moved[1] == 0 && [0, 2, 3].iter().all(|other| moved[*other] > 1400), "spread over all others: {moved:?}");
        pool.set_healthy(1, true);
        assert!(keys().zip(&before).all(|(key, before)| pool.pick(key).letter() == *before));
    }

    #[test]
    fn a_pool_without_an_endpoint_agrees_with_one_where_it_is_down() {
        // What another edge, or this one after a reload, decides: the order in the file must not matter.
        let (with, without) = (Pool::new("ip_hash", &[1, 1, 1]), Pool::new("ip_hash", &[1, 1]));
        with.set_healthy(2, false);
        assert!(keys().all(|key| with.pick(key).letter() == without.pick(key).letter()));
    }

    #[test]
    fn a_larger_weight_only_draws_keys_to_itself() {
        let pool = Pool::new("ip_hash", &[1, 1, 1]);
        let before: Vec<_> = keys().map(|key| pool.pick(key).letter()).collect();
        pool.endpoints[0].set_weight(2);
        for (key, before) in keys().zip(before) {
            let now = pool.pick(key).letter();
            assert!(now == before || now == 'a');
        }
    }
}
