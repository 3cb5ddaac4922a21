//! The retry budget: retries may add so much to the load of an upstream, and no more.
//!
//! A limit on the tries of each request does not bound the whole: when everything fails, three tries mean three
//! times the load on what is already in trouble. The budget bounds the whole, as in Finagle's `RetryBudget`
//! and linkerd's service profiles: over a window of ten seconds, retries are at most a share of the requests
//! plus a minimum per second, which lets an upstream with few requests retry at all.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Instant,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::types::Ratio;

/// How much retries may add to the load of an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetryBudgetSpec {
    /// Retries as a share of the requests of the last ten seconds.
    pub ratio: Ratio,
    /// So many retries per second are allowed beside that, reckoned over the same ten seconds.
    pub min_per_second: u32,
}

impl Default for RetryBudgetSpec {
    fn default() -> Self {
        Self { ratio: Ratio::percent(20), min_per_second: 3 }
    }
}

/// Seconds that are looked back on: long enough to carry a pause between bursts, short enough that traffic of
/// a minute ago does not pay for a storm of now.
const WINDOW: u64 = 10;

/// What requests and retries of one upstream were in the last seconds. Shared by all of its requests.
///
/// A request costs one load and one addition. Nothing locks; when several retries ask at the same moment for
/// the last one that is left, none may get it, but never two.
#[derive(Debug)]
pub struct RetryBudget {
    since: Instant,
    requests: Window,
    retries: Window,
}

impl RetryBudget {
    /// A budget of which nothing is spent.
    pub fn new(now: Instant) -> Self {
        Self { since: now, requests: Window::default(), retries: Window::default() }
    }

    /// A request came: this is what retries are a share of.
    pub fn request(&self, now: Instant) {
        self.requests.add(self.second(now));
    }

    /// Takes one retry out of the budget; false when nothing is left.
    pub fn withdraw(&self, spec: &RetryBudgetSpec, now: Instant) -> bool {
        let second = self.second(now);
        let allowed = self.requests.sum(second) as f64 * spec.ratio.get() + (u64::from(spec.min_per_second) * WINDOW) as f64;
        // Counted in before the sum is taken, so that two cannot both take what is enough for one.
        self.retries.add(second);
        let within = self.retries.sum(second) as f64 <= allowed;
        if !within {
            self.retries.take_back(second);
        }
        within
    }

    fn second(&self, now: Instant) -> u64 {
        // From 1, so that an empty slot is of no second that is asked for.
        now.saturating_duration_since(self.since).as_secs() + WINDOW
    }
}

/// Counts per second of the last [`WINDOW`] seconds. A slot holds its second in the upper half and the count in the
/// lower, so that both change at once; 32 bits hold 136 years, and more events than a second can have.
#[derive(Debug, Default)]
struct Window([AtomicU64; WINDOW as usize]);

const COUNT: u64 = u32::MAX as u64;

impl Window {
    fn slot(&self, second: u64) -> &AtomicU64 {
        &self.0[(second % WINDOW) as usize]
    }

    fn add(&self, second: u64) {
        let slot = self.slot(second);
        let mut seen = slot.load(Relaxed);
        while seen >> 32 < second {
            match slot.compare_exchange_weak(seen, (second << 32) | 1, Relaxed, Relaxed) {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
        // A straggler from a whole window ago would count for now; there is nothing to gain from telling it apart.
        slot.fetch_add(1, Relaxed);
    }

    fn take_back(&self, second: u64) {
        let take = |seen: u64| (seen >> 32 == second && seen & COUNT > 0).then(|| seen - 1);
        let _ = self.slot(second).fetch_update(Relaxed, Relaxed, take);
    }

    fn sum(&self, second: u64) -> u64 {
        let recent = |slot: &AtomicU64| {
            let seen = slot.load(Relaxed);
            if seen >> 32 > second.saturating_sub(WINDOW) { seen & COUNT } else { 0 }
        };
        self.0.iter().map(recent).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn spec(percent: u8, min_per_second: u32) -> RetryBudgetSpec {
        RetryBudgetSpec { ratio: Ratio::percent(percent), min_per_second }
    }

    #[test]
    fn retries_are_a_share_of_the_requests() {
        let now = Instant::now();
        let budget = RetryBudget::new(now);
        (0..1000).for_each(|_| budget.request(now));
        let allowed = (0..1000).filter(|_| budget.withdraw(&spec(20, 0), now)).count();
        assert_eq!(allowed, 200);
        assert!(!budget.withdraw(&spec(20, 0), now), "a refused retry is not counted, nor is it a gift");
        assert!(budget.withdraw(&spec(21, 0), now), "and a larger share that a reload brings holds at once");
    }

    #[test]
    fn few_requests_have_the_minimum() {
        let now = Instant::now();
        let budget = RetryBudget::new(now);
        let ask = |at| (0..100).filter(|_| budget.withdraw(&spec(20, 3), at)).count();
        assert_eq!(ask(now), 30, "3 per second over ten seconds");
        assert_eq!(ask(now + Duration::from_secs(9)), 0);
        assert_eq!(ask(now + Duration::from_secs(10)), 30, "what was spent ten seconds ago is forgotten");
        assert_eq!((0..100).filter(|_| RetryBudget::new(now).withdraw(&spec(0, 0), now)).count(), 0, "off");
    }

    #[test]
    fn over_time_the_load_never_exceeds_the_share() {
        // A minute in which everything fails: 50 requests per second, each of which asks for two retries.
        let start = Instant::now();
        let budget = RetryBudget::new(start);
        let (mut requests, mut retries) = (0, 0);
        for millis in (0..60_000).step_by(20) {
            let now = start + Duration::from_millis(millis);
            budget.request(now);
            requests += 1;
            retries += (0..2).filter(|_| budget.withdraw(&spec(20, 0), now)).count();
        }
        assert_eq!(requests, 3000);
        assert!((540..=600).contains(&retries), "{retries} of {requests}");
    }

    #[test]
    fn traffic_of_long_ago_pays_for_nothing() {
        let now = Instant::now();
        let budget = RetryBudget::new(now);
        (0..1000).for_each(|_| budget.request(now));
        assert!(!budget.withdraw(&spec(20, 0), now + Duration::from_secs(10)));
        assert!(!budget.withdraw(&spec(20, 0), now + Duration::from_secs(10_000)));
    }

    #[test]
    fn threads_do_not_overdraw_it() {
        let now = Instant::now();
        let budget = RetryBudget::new(now);
        (0..1000).for_each(|_| budget.request(now));
        let draw = || (0..200).filter(|_| budget.withdraw(&spec(20, 0), now)).count();
        let drawn: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(draw)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert!(drawn <= 200, "{drawn}");
    }
}
