//! The `least_connections` strategy: the fewest requests in flight per weight.
//!
//! A choice costs one pass over the endpoints, by nature: the least of all is known only when all were looked at.

use std::{cmp::Ordering, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Among, Strategy, load::Load, round_robin::Turns};
use crate::endpoint::Endpoint;

/// Options of `least_connections`: none.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LeastConnectionsSpec {}

impl LeastConnectionsSpec {
    pub(super) fn build(&self, endpoints: &[Arc<Endpoint>]) -> Box<dyn Strategy> {
        Box::new(LeastConnections(Turns::new(endpoints.len())))
    }
}

/// Weighted least connections, as in LVS (`wlc`) and nginx (`least_conn`): the smallest ratio of requests
/// in flight to weight. Those with the same ratio take smooth weighted turns, so that a pool with little
/// to do is used by weight and not by position.
///
/// The ratios are read at the moment of the choice. Two requests that choose at the same moment may see
/// the same numbers and make the same choice; the turns keep them apart when there is a tie.
#[derive(Debug)]
struct LeastConnections(Turns);

impl Strategy for LeastConnections {
    fn pick(&self, _key: u64, among: &Among<'_>) -> Option<usize> {
        let mut least: Option<(Load, usize)> = None;
        let mut tied = false;
        for (index, _) in among.candidates() {
            let load = Load::of(among, index);
            match least.map_or(Ordering::Less, |(least, _)| load.compare(least)) {
                Ordering::Less => (least, tied) = (Some((load, index)), false),
                Ordering::Equal => tied = true,
                Ordering::Greater => {}
            }
        }
        let (least, index) = least?;
        if !tied {
            return Some(index);
        }
        // Loads may have changed since, so that nobody is at the minimum any more: then the first is as good.
        let in_turn =
            self.0.take_anew(among, |index| among.may(index) && Load::of(among, index).compare(least) != Ordering::Greater);
        in_turn.or(Some(index))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Letter, Pool, shares};

    #[test]
    fn the_least_loaded_is_chosen() {
        let pool = Pool::new("least_connections", &[1, 1, 1]);
        let busy: Vec<_> = [0, 0, 1].map(|index| pool.endpoints[index].begin()).into();
        assert_eq!(pool.pick(0).letter(), 'c');
        let _one_more = pool.endpoints[2].begin();
        let _and_another = pool.endpoints[2].begin();
        assert_eq!(pool.pick(0).letter(), 'b');
        drop(busy);
        assert_ne!(pool.pick(0).letter(), 'c');
    }

    #[test]
    fn load_is_counted_per_weight() {
        let pool = Pool::new("least_connections", &[1, 3]);
        let mut in_flight = Vec::new();
        for _ in 0..40 {
            in_flight.push(pool.pick(0).begin());
        }
        assert_eq!(pool.endpoints[0].in_flight(), 10);
        assert_eq!(pool.endpoints[1].in_flight(), 30);
    }

    #[test]
    fn ties_are_taken_in_turn_by_weight() {
        let pool = Pool::new("least_connections", &[2, 1, 1]);
        assert_eq!(shares(&(0..40).map(|_| pool.pick(0).letter()).collect::<String>())[..3], [20, 10, 10]);
        let _busy = pool.endpoints[0].begin();
        assert_eq!(shares(&(0..10).map(|_| pool.pick(0).letter()).collect::<String>())[..3], [0, 5, 5]);
    }

    #[test]
    fn one_that_left_or_was_tried_is_passed_over() {
        let pool = Pool::new("least_connections", &[1, 1, 1]);
        let _busy = pool.endpoints[2].begin();
        pool.set_healthy(0, false);
        assert_eq!(pool.pick_without(0, &[1]).unwrap().letter(), 'c');
        assert!(pool.pick_without(0, &[1, 2]).is_none());
    }
}
