//! The `least_response_time` strategy: the lowest expected wait of all.
//!
//! A choice costs one pass over the endpoints, by nature: the least of all is known only when all were looked at.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Among, Strategy, round_robin::Turns};
use crate::{endpoint::Endpoint, types::Span};

/// Options of `least_response_time`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LeastResponseTimeSpec {
    /// After this time a measured latency counts 1/e of what it did.
    pub decay: Span,
}

impl Default for LeastResponseTimeSpec {
    fn default() -> Self {
        Self { decay: Span::secs(10) }
    }
}

impl LeastResponseTimeSpec {
    pub(super) fn build(&self, endpoints: &[Arc<Endpoint>]) -> Box<dyn Strategy> {
        Box::new(LeastResponseTime(Turns::new(endpoints.len())))
    }
}

/// The lowest product of average latency and requests that would be in flight, per weight (as in Traefik's
/// and NGINX Plus' `least_time`). Of those nothing is known about, the one with the least to do comes
/// first; ties are taken in turn.
///
/// The average sinks while an endpoint is not chosen, so each is tried again at some time.
#[derive(Debug)]
struct LeastResponseTime(Turns);

/// Latency of one that was never measured, in microseconds: below any that was.
const UNKNOWN: f64 = 1e-3;

fn cost(among: &Among<'_>, index: usize) -> f64 {
    let endpoint = among.endpoint(index);
    let wait = endpoint.average_micros(among.now()).max(UNKNOWN) * (1.0 + f64::from(endpoint.in_flight()));
    wait / f64::from(among.weight(index))
}

impl Strategy for LeastResponseTime {
    fn pick(&self, _key: u64, among: &Among<'_>) -> Option<usize> {
        let (mut least, mut first, mut tied) = (f64::INFINITY, None, false);
        for (index, _) in among.candidates() {
            let cost = cost(among, index);
            if first.is_none() || cost < least {
                (least, first, tied) = (cost, Some(index), false);
            } else if cost == least {
                tied = true;
            }
        }
        let first = first?;
        if !tied {
            return Some(first);
        }
        let at_least = |index: usize| among.may(index) && cost(among, index) <= least;
        self.0.take_anew(among, at_least).or(Some(first))
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
    fn the_lowest_expected_wait_is_chosen() {
        let pool = Pool::new("least_response_time", &[1, 1, 4]);
        answered(&pool, &[10, 25, 100]);
        let mut in_flight = Vec::new();
        let turns: String = (0..5)
            .map(|_| {
                let endpoint = pool.pick(0);
                in_flight.push(endpoint.begin());
                endpoint.letter()
            })
            .collect();
        // `a` costs 10, 20, 30, ..., `b` 25, 50, ..., and `c` a quarter of 100, 200, ...: 25, 50.
        assert_eq!(turns[..2], *"aa");
        let mut after: Vec<_> = turns[2..4].chars().collect();
        after.sort_unstable();
        assert_eq!(after, ['b', 'c']);
        assert_eq!(turns[4..], *"a");
    }

    #[test]
    fn those_nothing_is_known_about_take_turns_first() {
        let pool = Pool::new("least_response_time", &[1, 1, 1]);
        answered(&pool, &[1]);
        let turns: String = (0..4).map(|_| pool.pick(0).letter()).collect();
        assert_eq!(turns, "bcbc");
        assert_eq!(pool.pick_without(0, &[1, 2]).unwrap().letter(), 'a');
    }
}
