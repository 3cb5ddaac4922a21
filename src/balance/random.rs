//! The `random` strategy: by weight, with no memory.

use std::sync::Arc;

use rand::Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Among, Strategy, derived::Derived};
use crate::endpoint::{Endpoint, WEIGHT_SCALE};

/// Options of `random`: none.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RandomSpec {}

impl RandomSpec {
    pub(super) fn build(&self, _endpoints: &[Arc<Endpoint>]) -> Box<dyn Strategy> {
        Box::new(Random(Draw::new()))
    }
}

#[derive(Debug)]
struct Random(Draw);

impl Strategy for Random {
    fn pick(&self, _key: u64, among: &Among<'_>) -> Option<usize> {
        self.0.one(among, None, &mut rand::rng())
    }
}

/// Draws candidates, each with a probability proportional to its weight. Requests share nothing.
///
/// By rejection first (von Neumann, 1951): anyone at random, accepted if it may be chosen and with the
/// probability of its weight over the largest one. That costs the same in a pool of any size. When it
/// takes too many tries, since weights are very unequal or few are healthy, by going through all: a uniform
/// number below the sum of weights, and the candidate it falls on. Both give the same shares.
#[derive(Debug)]
pub(super) struct Draw {
    largest_weight: Derived<u32>,
}

/// Below this many going through all is as quick as guessing.
const SMALL: usize = 8;
/// After as many tries half of the pool or more is probably out, or hardly weighs anything.
const TRIES: usize = 16;

impl Draw {
    pub(super) fn new() -> Self {
        let largest = |endpoints: &[Arc<Endpoint>]| endpoints.iter().map(|endpoint| endpoint.weight()).max().unwrap_or(1);
        Self { largest_weight: Derived::new(largest) }
    }

    /// One of the candidates other than `except`.
    pub(super) fn one(&self, among: &Among<'_>, except: Option<usize>, random: &mut impl Rng) -> Option<usize> {
        let size = among.endpoints.len();
        if size > SMALL {
            let largest = self.largest_weight.with(among, |largest| *largest) * WEIGHT_SCALE;
            for _ in 0..TRIES {
                let index = random.random_range(0..size);
                let accepted = random.random_range(0..largest) < among.weight(index);
                if accepted && Some(index) != except && among.may(index) {
                    return Some(index);
                }
            }
        }
        from_all(among, except, random)
    }
}

/// Two different candidates, or the same twice if there is only one.
pub(super) fn two(draw: &Draw, among: &Among<'_>, random: &mut impl Rng) -> Option<(usize, usize)> {
    let one = draw.one(among, None, random)?;
    Some((one, draw.one(among, Some(one), random).unwrap_or(one)))
}

/// The sum is taken anew each time, since health and weights change without notice. Between the two passes
/// they may change as well; the last candidate takes what is left over.
fn from_all(among: &Among<'_>, except: Option<usize>, random: &mut impl Rng) -> Option<usize> {
    let candidates = || among.candidates().filter(|(index, _)| Some(*index) != except);
    let total: u64 = candidates().map(|(index, _)| u64::from(among.weight(index))).sum();
    if total == 0 {
        return None;
    }
    let mut left = random.random_range(0..total);
    let mut last = None;
    for (index, _) in candidates() {
        let weight = u64::from(among.weight(index));
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
        super::{Among, Clock, testing::Pool},
        Draw,
    };

    fn counts(pool: &Pool, refused: &[usize]) -> [u32; 4] {
        let mut random = SmallRng::seed_from_u64(7);
        let (draw, mut counts) = (Draw::new(), [0; 4]);
        for _ in 0..60_000 {
            // In the large pool the further endpoints repeat the first four.
            counts[draw.one(&Among::new(&pool.endpoints, refused, &Clock::default()), None, &mut random).unwrap() % 4] += 1;
        }
        counts
    }

    /// Within five standard deviations, so that a wrong weight fails and the seed does not matter.
    fn is_share(count: u32, share: f64) -> bool {
        (f64::from(count) - 60_000.0 * share).abs() < 5.0 * (60_000.0 * share * (1.0 - share)).sqrt() + 0.5
    }

    #[test]
    fn shares_follow_the_weights() {
        for weights in [vec![1, 2, 3, 6], [1, 2, 3, 6].repeat(5)] {
            let pool = Pool::new("random", &weights);
            for (count, weight) in counts(&pool, &[]).into_iter().zip([1.0, 2.0, 3.0, 6.0]) {
                assert!(is_share(count, weight / 12.0), "{count} for weight {weight} of {}", weights.len());
            }
        }
    }

    #[test]
    fn guessing_gives_way_to_counting_when_few_are_left() {
        let pool = Pool::new("random", &[1; 26]);
        (0..24).for_each(|index| pool.set_healthy(index, false));
        pool.endpoints[25].set_weight(3);
        let counts = counts(&pool, &[]);
        assert!(is_share(counts[0], 0.25) && is_share(counts[1], 0.75), "{counts:?}");
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
