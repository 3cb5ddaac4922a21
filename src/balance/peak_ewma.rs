//! The `peak_ewma` strategy: two at random, the one with the lower expected wait.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Among, Strategy,
    random::{Draw, two},
};
use crate::{endpoint::Endpoint, types::Span};

/// Options of `peak_ewma`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PeakEwmaSpec {
    /// After this time a measured latency counts 1/e of what it did.
    pub decay: Span,
}

impl Default for PeakEwmaSpec {
    fn default() -> Self {
        Self { decay: Span::secs(10) }
    }
}

impl PeakEwmaSpec {
    pub(super) fn build(&self, _endpoints: &[Arc<Endpoint>]) -> Box<dyn Strategy> {
        Box::new(PeakEwma(Draw::new()))
    }
}

/// Peak EWMA with two choices, as in Finagle and linkerd: the cost of an endpoint is its latency (a moving
/// average that jumps up to each peak and sinks slowly) times the requests that would be in flight, here
/// per weight. So a request avoids an endpoint that has just become slow before its requests pile up.
///
/// An endpoint that has requests in flight and no latency yet is unproven and costs more than any other,
/// or all would run to one that never answers.
#[derive(Debug)]
struct PeakEwma(Draw);

/// What an unproven endpoint with work to do costs, in microseconds: over an hour.
const UNPROVEN: f64 = 4e9;

fn cost(among: &Among<'_>, index: usize) -> f64 {
    let endpoint = among.endpoint(index);
    let (latency, in_flight) = (endpoint.peak_micros(among.now()), f64::from(endpoint.in_flight()));
    let latency = if latency == 0.0 && in_flight > 0.0 { UNPROVEN } else { latency };
    latency * (in_flight + 1.0) / f64::from(among.weight(index))
}

impl Strategy for PeakEwma {
    fn pick(&self, _key: u64, among: &Among<'_>) -> Option<usize> {
        let (one, other) = two(&self.0, among, &mut rand::rng())?;
        if one == other {
            return Some(one);
        }
        Some(if cost(among, other) < cost(among, one) { other } else { one })
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::super::testing::{Letter, Pool};
    use crate::endpoint::AttemptResult;

    /// All at the same moment, so that a slow test machine changes nothing.
    fn answered(pool: &Pool, millis: &[u64]) {
        let now = Instant::now();
        for (endpoint, millis) in pool.endpoints.iter().zip(millis) {
            endpoint.record_at(AttemptResult { ok: true, first_byte: Some(Duration::from_millis(*millis)) }, now);
        }
    }

    #[test]
    fn of_two_the_quicker_is_chosen_until_its_queue_is_longer() {
        let pool = Pool::new("peak_ewma", &[1, 1]);
        answered(&pool, &[10, 55]);
        let mut in_flight = Vec::new();
        let turns: String = (0..6)
            .map(|_| {
                let endpoint = pool.pick(0);
                in_flight.push(endpoint.begin());
                endpoint.letter()
            })
            .collect();
        // 10, 20, 30, 40, 50 against 55; then 60 against 55.
        assert_eq!(turns, "aaaaab");
    }

    #[test]
    fn a_peak_counts_at_once() {
        let pool = Pool::new("peak_ewma", &[1, 1]);
        answered(&pool, &[10, 20]);
        assert_eq!(pool.pick(0).letter(), 'a');
        answered(&pool, &[1000, 20]);
        assert_eq!(pool.pick(0).letter(), 'b');
    }

    #[test]
    fn one_that_never_answered_is_tried_once() {
        let pool = Pool::new("peak_ewma", &[1, 1]);
        answered(&pool, &[10]);
        assert_eq!(pool.pick(0).letter(), 'b');
        let _silent = pool.endpoints[1].begin();
        assert!((0..20).all(|_| pool.pick(0).letter() == 'a'));
    }
}
