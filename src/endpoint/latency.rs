//! Latencies of the recent past: a log-linear histogram of atomics in two rotating halves.
//!
//! The bucket layout is HdrHistogram's idea: eight buckets per power of two, so that a percentile is off
//! by at most 1/16 of its value, whatever the value. One relaxed add per request; no clock is read here.

use std::{
    sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// Buckets per power of two, as a power of two.
const SUB_BITS: u32 = 3;
const SUB: u64 = 1 << SUB_BITS;
/// Latencies from 2^27 microseconds (134 s) share the last bucket: no response header is awaited longer
/// by default, and a percentile above that says all it can say.
const MAX_BITS: u32 = 27;
/// 200 buckets of 4 bytes in two halves: 1.6 kB per endpoint.
const BUCKETS: usize = ((MAX_BITS - SUB_BITS + 1) as usize) << SUB_BITS;

/// How long one half collects. Percentiles cover the last one to two of these.
pub(super) const HALF: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Latencies {
    halves: [Box<[AtomicU32]>; 2],
    current: AtomicUsize,
    rotated: Mutex<Option<Instant>>,
}

impl Default for Latencies {
    fn default() -> Self {
        let half = || (0..BUCKETS).map(|_| AtomicU32::new(0)).collect();
        Self { halves: [half(), half()], current: AtomicUsize::new(0), rotated: Mutex::new(None) }
    }
}

impl Latencies {
    pub(super) fn record(&self, latency: Duration) {
        let half = &self.halves[self.current.load(Relaxed) & 1];
        half[bucket(latency.as_micros() as u64)].fetch_add(1, Relaxed);
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
            self.halves[next].iter().for_each(|count| count.store(0, Relaxed));
            self.current.store(next, Relaxed);
        }
    }

    /// The given quantiles (0 to 1, ascending) in milliseconds; zeros when nothing was recorded.
    pub(super) fn quantiles<const N: usize>(&self, quantiles: [f64; N]) -> [f64; N] {
        let counts: Vec<u64> =
            (0..BUCKETS).map(|bucket| self.halves.iter().map(|half| u64::from(half[bucket].load(Relaxed))).sum()).collect();
        let total: u64 = counts.iter().sum();
        quantiles.map(|quantile| {
            // The nearest rank: the smallest value that at least this share of the values does not exceed.
            let rank = ((quantile * total as f64).ceil() as u64).clamp(1, total.max(1));
            let mut seen = 0;
            let found = counts.iter().position(|count| {
                seen += count;
                seen >= rank
            });
            found.map_or(0.0, |bucket| middle(bucket) / 1e3)
        })
    }
}

/// The bucket of a value: exact below 8, then its highest four bits.
fn bucket(micros: u64) -> usize {
    if micros < SUB {
        return micros as usize;
    }
    let bits = 64 - micros.leading_zeros();
    if bits > MAX_BITS {
        return BUCKETS - 1;
    }
    let octave = bits - SUB_BITS - 1;
    let sub = (micros >> octave) & (SUB - 1);
    (u64::from(octave + 1) * SUB + sub) as usize
}

/// The middle of a bucket, in microseconds.
fn middle(bucket: usize) -> f64 {
    let (octave, sub) = (bucket as u64 / SUB, bucket as u64 % SUB);
    if octave == 0 {
        return sub as f64;
    }
    let width = (1u64 << (octave - 1)) as f64;
    (SUB + sub) as f64 * width + (width - 1.0) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_falls_into_a_bucket_whose_middle_is_near() {
        let mut last = 0;
        for micros in (0..200_000u64).chain((1..134).map(|s| s * 1_000_000)) {
            let bucket = bucket(micros);
            assert!(bucket >= last && bucket < BUCKETS, "{micros}");
            last = bucket;
            let error = (middle(bucket) - micros as f64).abs();
            assert!(error <= micros as f64 / 16.0, "{micros} is taken for {}", middle(bucket));
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_are_those_of_the_values() {
        let latencies = Latencies::default();
        assert_eq!(latencies.quantiles([0.5, 0.99]), [0.0, 0.0]);
        (1..=1000).for_each(|ms| latencies.record(Duration::from_millis(ms)));
        for (got, want) in latencies.quantiles([0.5, 0.95, 0.99]).into_iter().zip([500.0, 950.0, 990.0]) {
            assert!((got - want).abs() <= want / 16.0, "{got} for {want}");
        }
    }

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
