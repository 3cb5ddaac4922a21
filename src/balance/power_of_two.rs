//! The `power_of_two` strategy: two at random, the less loaded of them.

use std::{cmp::Ordering, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Among, Strategy,
    load::Load,
    random::{Draw, two},
};
use crate::endpoint::Endpoint;

/// Options of `power_of_two`: none.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PowerOfTwoSpec {}

impl PowerOfTwoSpec {
    pub(super) fn build(&self, _endpoints: &[Arc<Endpoint>]) -> Box<dyn Strategy> {
        Box::new(PowerOfTwo(Draw::new()))
    }
}

/// The power of two choices (Mitzenmacher, 2001): the longest queue grows as the logarithm of the logarithm
/// of what it would with one choice, and no herd runs to the one endpoint that is idle. Two are drawn by
/// weight, and the one with fewer requests in flight per weight is taken.
#[derive(Debug)]
struct PowerOfTwo(Draw);

impl Strategy for PowerOfTwo {
    fn pick(&self, _key: u64, among: &Among<'_>) -> Option<usize> {
        let (one, other) = two(&self.0, among, &mut rand::rng())?;
        let load = |index: usize| Load::of(among, index);
        Some(if load(other).compare(load(one)) == Ordering::Less { other } else { one })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Letter, Pool};

    #[test]
    fn of_two_the_less_loaded_is_chosen() {
        let pool = Pool::new("power_of_two", &[1, 1]);
        let _busy = pool.endpoints[0].begin();
        assert!((0..100).all(|_| pool.pick(0).letter() == 'b'));
        assert_eq!(pool.pick_without(0, &[1]).unwrap().letter(), 'a');
        assert!(pool.pick_without(0, &[0, 1]).is_none());
    }

    #[test]
    fn loads_stay_close_together_by_weight() {
        let pool = Pool::new("power_of_two", &[1, 1, 2, 4]);
        let mut in_flight = Vec::new();
        for _ in 0..8_000 {
            in_flight.push(pool.pick(0).begin());
        }
        for (endpoint, fair) in pool.endpoints.iter().zip([1000, 1000, 2000, 4000]) {
            // One choice would be off by some 30 requests of 1000; two are off by a few.
            assert!(endpoint.in_flight().abs_diff(fair) < 20, "{} for {fair}", endpoint.in_flight());
        }
    }
}
