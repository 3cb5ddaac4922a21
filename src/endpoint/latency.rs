//! Latencies of the recent past: spread over two rotating halves.

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::Spread;

/// How long one half collects. Percentiles cover the last one to two of these.
pub(super) const HALF: Duration = Duration::from_secs(30);

/// 1.6 kB per endpoint.
#[derive(Debug, Default)]
pub(super) struct Latencies {
    halves: [Spread; 2],
    current: AtomicUsize,
    rotated: Mutex<Option<Instant>>,
}

impl Latencies {
    pub(super) fn record(&self, latency: Duration) {
        self.halves[self.current.load(Relaxed) & 1].record(latency);
    }

    /// Starts a new half when the current one is full, which forgets the one before it. A request that
    /// is counted at the same moment may be lost: percentiles do not notice.
    pub(super) fn tick(&self, now: Instant) {
        let mut rotated = self.rotated.lock();
        let since = *rotated.get_or_insert(now);
        let age = now.saturating_duration_since(since);
        if age < HALF {
            return;
        }
        *rotated = Some(now);
        // After a long pause both halves are old.
        for _ in 0..if age < 2 * HALF { 1 } else { 2 } {
            let next = (self.current.load(Relaxed) + 1) & 1;
            self.halves[next].clear();
            self.current.store(next, Relaxed);
        }
    }

    /// The given quantiles (0 to 1, ascending) in milliseconds; zeros when nothing was recorded.
    pub(super) fn quantiles<const N: usize>(&self, quantiles: [f64; N]) -> [f64; N] {
        let [one, other] = &self.halves;
        let mut counted = one.read();
        counted.add(&other.read());
        counted.quantiles(quantiles)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_past_is_forgotten_in_two_steps() {
        let (latencies, start) = (Latencies::default(), Instant::now());
        latencies.tick(start);
        latencies.record(Duration::from_secs(1));
        latencies.tick(start + HALF - Duration::from_millis(1));
        latencies.tick(start + HALF);
        assert!(latencies.quantiles([0.5])[0] > 900.0, "the half before still counts");
        latencies.record(Duration::from_millis(1));
        latencies.tick(start + 2 * HALF);
        assert!(latencies.quantiles([1.0])[0] < 1.1, "the second is gone, the millisecond is not");
        latencies.tick(start + 9 * HALF);
        assert_eq!(latencies.quantiles([1.0]), [0.0], "after a long pause nothing is recent");
    }
}
