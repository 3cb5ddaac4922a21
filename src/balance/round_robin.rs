//! The `round_robin` strategy: smooth weighted round robin.
//!
//! A choice costs one pass over the endpoints, by nature: each of them gains its weight at every turn.

use std::sync::Arc;

use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Among, Strategy};
use crate::endpoint::Endpoint;

/// Options of `round_robin`: none.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RoundRobinSpec {}

impl RoundRobinSpec {
    pub(super) fn build(&self, endpoints: &[Arc<Endpoint>]) -> Box<dyn Strategy> {
        Box::new(RoundRobin(Turns::new(endpoints.len())))
    }
}

#[derive(Debug)]
struct RoundRobin(Turns);

impl Strategy for RoundRobin {
    fn pick(&self, _key: u64, among: &Among<'_>) -> Option<usize> {
        self.0.take(among, |index| among.may(index))
    }
}

/// Whose turn it is, smoothly by weight: nginx's algorithm (`ngx_http_upstream_get_peer`,
/// since 1.3.1 of 2012).
///
/// In each turn every candidate gains its weight, and the one with the most is chosen and pays the sum of
/// all gains. So weights 5, 1, 1 give a a b a c a a: the shares are exact over each cycle and the turns of
/// one endpoint are spread out over it.
///
/// One that may not take a request neither gains nor pays, so that the others share its turns by weight,
/// and it comes back where it was. Weights are read in each turn, so a change counts from the next.
///
/// The state of a turn is one number per endpoint that depends on all the others, hence a lock. It is held
/// for one pass over two arrays of numbers and nothing else: endpoints are read before, nothing is
/// allocated, nothing waits. What a schedule computed ahead would save here it would lose when an endpoint leaves: skipping
/// its turns gives all of them to its neighbour.
#[derive(Debug)]
pub(super) struct Turns(Mutex<Box<[i64]>>);

/// Pools up to this size take turns without allocating.
const SMALL: usize = 64;

impl Turns {
    pub(super) fn new(endpoints: usize) -> Self {
        Self(Mutex::new(vec![0; endpoints].into()))
    }

    /// Takes a turn among those that `may`.
    ///
    /// When this request refused the last choice, the turn is taken back and given to the next best, so
    /// that one who was passed over once has not lost its turn.
    pub(super) fn take(&self, among: &Among<'_>, may: impl Fn(usize) -> bool) -> Option<usize> {
        self.turn(among, among.last_refused(), may)
    }

    /// Takes a turn among those that `may`, whoever had the last one.
    pub(super) fn take_anew(&self, among: &Among<'_>, may: impl Fn(usize) -> bool) -> Option<usize> {
        self.turn(among, None, may)
    }

    fn turn(&self, among: &Among<'_>, again: Option<usize>, may: impl Fn(usize) -> bool) -> Option<usize> {
        // Everything that reads endpoints comes before the lock.
        let size = among.endpoints.len();
        let (mut small, mut large) = ([0; SMALL], Vec::new());
        let gains: &mut [i64] = if size <= SMALL {
            &mut small[..size]
        } else {
            large.resize(size, 0);
            &mut large
        };
        for (index, gain) in gains.iter_mut().enumerate() {
            // Those that were refused took part in this turn when it began.
            if may(index) || (again.is_some() && among.was_refused(index)) {
                *gain = among.weight(index).into();
            }
        }
        let total: i64 = gains.iter().sum();

        let mut credits = self.0.lock();
        let mut copy;
        let credits: &mut [i64] = match among.looking {
            false => &mut credits,
            true => {
                copy = credits.clone();
                &mut copy
            }
        };
        let mut best = None;
        for (index, (credit, gain)) in credits.iter_mut().zip(gains.iter()).enumerate() {
            if *gain == 0 {
                continue;
            }
            if again.is_none() {
                *credit += gain;
            }
            if best.is_none_or(|(_, most)| *credit > most) && !among.was_refused(index) {
                best = Some((index, *credit));
            }
        }
        if let Some(refused) = again {
            credits[refused] += total;
        }
        match best {
            Some((best, _)) => credits[best] -= total,
            // Nobody wants the turn, so it did not take place.
            None if again.is_some() => credits.iter_mut().zip(gains.iter()).for_each(|(credit, gain)| *credit -= gain),
            None => {}
        }
        best.map(|(best, _)| best)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Letter, Pool, shares};

    #[test]
    fn the_turns_are_those_of_nginx() {
        let pool = Pool::new("round_robin", &[5, 1, 1]);
        let turns: String = (0..14).map(|_| pool.pick(0).letter()).collect();
        assert_eq!(turns, "aabacaaaabacaa");
    }

    #[test]
    fn equal_weights_take_turns() {
        let pool = Pool::new("round_robin", &[1, 1, 1]);
        assert_eq!((0..6).map(|_| pool.pick(0).letter()).collect::<String>(), "abcabc");
    }

    #[test]
    fn the_turns_of_one_that_left_are_shared_by_all_others() {
        let pool = Pool::new("round_robin", &[1, 1, 1, 1]);
        pool.pick(0);
        pool.set_healthy(1, false);
        let turns: String = (0..30).map(|_| pool.pick(0).letter()).collect();
        // `a` had a turn before, so it has one less now.
        assert_eq!(shares(&turns), [9, 0, 11, 10]);
        assert!(!turns.contains("aa") && !turns.contains("cc") && !turns.contains("dd"), "still in turn: {turns}");
        pool.set_healthy(1, true);
        let turns: String = (0..40).map(|_| pool.pick(0).letter()).collect();
        assert!(shares(&turns).iter().all(|n| (9..=11).contains(n)), "no rush back: {turns}");
    }

    #[test]
    fn a_new_weight_counts_from_the_next_turn() {
        let pool = Pool::new("round_robin", &[1, 1]);
        assert_eq!(shares(&(0..4).map(|_| pool.pick(0).letter()).collect::<String>())[..2], [2, 2]);
        pool.endpoints[0].set_weight(3);
        assert_eq!(shares(&(0..40).map(|_| pool.pick(0).letter()).collect::<String>())[..2], [30, 10]);
    }

    #[test]
    fn a_refused_choice_gets_its_turn_back() {
        let pool = Pool::new("round_robin", &[1, 1, 1]);
        // A retry, which has tried `a` already, goes to `b`; `a` still has the next turn.
        assert_eq!(pool.pick_without(0, &[0]).unwrap().letter(), 'b');
        assert_eq!((0..5).map(|_| pool.pick(0).letter()).collect::<String>(), "acabc");
    }

    #[test]
    fn a_turn_that_nobody_takes_changes_nothing() {
        let pool = Pool::new("round_robin", &[5, 1, 1]);
        (0..1000).for_each(|_| assert!(pool.pick_without(0, &[0, 1, 2]).is_none()));
        assert_eq!((0..7).map(|_| pool.pick(0).letter()).collect::<String>(), "aabacaa");
    }

    #[test]
    fn requests_at_the_same_time_lose_no_turn() {
        let pool = Pool::new("round_robin", &[5, 1, 1]);
        let counts = std::thread::scope(|scope| {
            let run = || (0..700).map(|_| pool.pick(0).letter()).collect::<String>();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(run)).collect();
            let turns: String = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
            shares(&turns)
        });
        assert_eq!(counts, [2000, 400, 400, 0]);
    }
}
