//! The `random` strategy: by weight, with no memory.

use std::sync::Arc;

use rand::Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Among, Strategy};
use crate::endpoint::Endpoint;

/// Options of `random`: none.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RandomSpec {}

impl RandomSpec {
    pub(super) fn build(&self, _endpoints: &[Arc<Endpoint>]) -> Box<dyn Strategy> {
        Box::new(Random)
    }
}

#[derive(Debug)]
struct Random;

impl Strategy for Random {
    fn pick(&self, _key: u64, among: &Among<'_>) -> Option<usize> {
        draw(among, &mut rand::rng())
    }
}

/// One of the candidates, each with a probability proportional to its weight: a uniform number below the
/// sum of the weights, and the candidate it falls on. Nothing is shared between requests.
///
/// The sum is taken anew each time, since health and weights change without notice. Between the two passes
/// they may change as well; the last candidate takes what is left over.
pub(super) fn draw(among: &Among<'_>, random: &mut impl Rng) -> Option<usize> {
    let total: u64 = among.candidates().map(|(_, endpoint)| u64::from(endpoint.weight())).sum();
    if total == 0 {
        return None;
    }
    let mut left = random.random_range(0..total);
    let mut last = None;
    for (index, endpoint) in among.candidates() {
        let weight = u64::from(endpoint.weight());
        if left < weight {
            return Some(index);
        }
        left -= weight;
        last = Some(index);
    }
    last
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::SmallRng};

    use super::{
        super::{Among, testing::Pool},
        draw,
    };

    fn counts(pool: &Pool, refused: &[usize]) -> [u32; 4] {
        let mut random = SmallRng::seed_from_u64(7);
        let mut counts = [0; 4];
        for _ in 0..60_000 {
            counts[draw(&Among::new(&pool.endpoints, refused), &mut random).unwrap()] += 1;
        }
        counts
    }

    /// Within five standard deviations, so that a wrong weight fails and the seed does not matter.
    fn is_share(count: u32, share: f64) -> bool {
        (f64::from(count) - 60_000.0 * share).abs() < 5.0 * (60_000.0 * share * (1.0 - share)).sqrt() + 0.5
    }

    #[test]
    fn shares_follow_the_weights() {
        let pool = Pool::new("random", &[1, 2, 3, 6]);
        for (count, weight) in counts(&pool, &[]).into_iter().zip([1.0, 2.0, 3.0, 6.0]) {
            assert!(is_share(count, weight / 12.0), "{count} for weight {weight}");
        }
    }

    #[test]
    fn the_share_of_one_that_left_is_divided_by_weight() {
        let pool = Pool::new("random", &[1, 2, 3, 6]);
        pool.set_healthy(3, false);
        let counts = counts(&pool, &[0]);
        assert_eq!((counts[0], counts[3]), (0, 0));
        assert!(is_share(counts[1], 0.4) && is_share(counts[2], 0.6), "{counts:?}");
    }

    #[test]
    fn nobody_left_is_nobody() {
        let pool = Pool::new("random", &[1]);
        pool.set_healthy(0, false);
        assert!(pool.pick_without(0, &[]).is_none());
    }
}
