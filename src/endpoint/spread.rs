//! How durations are spread: a log-linear histogram of atomics.
//!
//! The bucket layout is HdrHistogram's idea: eight buckets per power of two, so that a percentile is off
//! by at most 1/16 of its value, whatever the value. One relaxed add per duration; no clock is read here.

use std::{
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

/// Buckets per power of two, as a power of two.
const SUB_BITS: u32 = 3;
const SUB: u64 = 1 << SUB_BITS;
/// Durations from 2^27 microseconds (134 s) share the last bucket: no response header is awaited longer
/// by default, and a percentile above that says all it can say.
const MAX_BITS: u32 = 27;
/// 200 buckets of 4 bytes: 800 bytes.
const BUCKETS: usize = ((MAX_BITS - SUB_BITS + 1) as usize) << SUB_BITS;

/// Durations, counted by their size. Counts wrap around, which differences of two readings do not notice.
#[derive(Debug)]
pub struct Spread(Box<[AtomicU32]>);

impl Default for Spread {
    fn default() -> Self {
        Self((0..BUCKETS).map(|_| AtomicU32::new(0)).collect())
    }
}

impl Spread {
    /// Counts one.
    pub fn record(&self, duration: Duration) {
        self.0[bucket(duration.as_micros() as u64)].fetch_add(1, Relaxed);
    }

    /// What was counted so far.
    pub fn read(&self) -> Counted {
        Counted(self.0.iter().map(|count| count.load(Relaxed)).collect())
    }

    pub(super) fn clear(&self) {
        self.0.iter().for_each(|count| count.store(0, Relaxed));
    }
}

/// What one or several [`Spread`]s held when they were read.
#[derive(Debug, Clone)]
pub struct Counted(Box<[u32]>);

impl Default for Counted {
    fn default() -> Self {
        Self([0; BUCKETS].into())
    }
}

impl Counted {
    /// Adds what was counted elsewhere.
    pub fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(sum, count)| *sum = sum.wrapping_add(*count));
    }

    /// What came since an earlier reading of the same.
    pub fn since(&self, earlier: &Self) -> Self {
        Self(self.0.iter().zip(&earlier.0).map(|(now, then)| now.wrapping_sub(*then)).collect())
    }

    /// The given quantiles (0 to 1, ascending) in milliseconds; zeros when nothing was counted.
    pub fn quantiles<const N: usize>(&self, quantiles: [f64; N]) -> [f64; N] {
        let total: u64 = self.0.iter().map(|count| u64::from(*count)).sum();
        quantiles.map(|quantile| {
            // The nearest rank: the smallest value that at least this share of the values does not exceed.
            let rank = ((quantile * total as f64).ceil() as u64).clamp(1, total.max(1));
            let mut seen = 0;
            let found = self.0.iter().position(|count| {
                seen += u64::from(*count);
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
        let spread = Spread::default();
        assert_eq!(spread.read().quantiles([0.5, 0.99]), [0.0, 0.0]);
        (1..=1000).for_each(|ms| spread.record(Duration::from_millis(ms)));
        for (got, want) in spread.read().quantiles([0.5, 0.95, 0.99]).into_iter().zip([500.0, 950.0, 990.0]) {
            assert!((got - want).abs() <= want / 16.0, "{got} for {want}");
        }
    }

    #[test]
    fn readings_are_added_and_compared() {
        let spread = Spread::default();
        spread.record(Duration::from_secs(1));
        let before = spread.read();
        spread.record(Duration::from_millis(1));
        let mut since = spread.read().since(&before);
        assert!(since.quantiles([1.0])[0] < 1.1, "the second was before");
        since.add(&before);
        assert!(since.quantiles([1.0])[0] > 900.0);
        let (mut full, mut wrapped) = (Counted::default(), Counted::default());
        (full.0[0], wrapped.0[0]) = (u32::MAX, 1);
        assert_eq!(wrapped.since(&full).0[0], 2);
    }
}
