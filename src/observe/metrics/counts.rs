//! What is counted per route or endpoint: plain atomics, placed by arithmetic.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// Counts by status code: one array of 100 for each class that occurs, so that a route which only ever
/// answers 2xx costs 800 bytes.
#[derive(Debug, Default)]
pub(super) struct Codes([OnceLock<Box<[AtomicU64; 100]>>; 6]);

/// Class 0 holds what is no status: nothing sent at all, and numbers outside 100 to 599.
const NONE: (usize, usize) = (0, 0);
const STRANGE: (usize, usize) = (0, 1);
const ABANDONED: (usize, usize) = (0, 2);

impl Codes {
    /// Counts one; 0 stands for no response.
    pub(super) fn hit(&self, code: u16) {
        let (class, rest) = match code {
            0 => NONE,
            100..=599 => (usize::from(code / 100), usize::from(code % 100)),
            _ => STRANGE,
        };
        self.add(class, rest);
    }

    /// Counts an attempt that was abandoned before it was answered.
    pub(super) fn abandoned(&self) {
        self.add(ABANDONED.0, ABANDONED.1);
    }

    fn add(&self, class: usize, rest: usize) {
        let counts = self.0[class].get_or_init(|| Box::new([const { AtomicU64::new(0) }; 100]));
        counts[rest].fetch_add(1, Relaxed);
    }

    /// Adds the counts of each class, by its first digit; 0 is for what is no status.
    fn add_classes(&self, sums: &mut [u64; 6]) {
        for (sum, counts) in sums.iter_mut().zip(&self.0) {
            *sum += counts.get().into_iter().flat_map(|counts| counts.iter()).map(|count| count.load(Relaxed)).sum::<u64>();
        }
    }

    /// Every code that occurred.
    pub(super) fn each(&self, mut visit: impl FnMut(&str, u64)) {
        for (class, counts) in self.0.iter().enumerate() {
            for (rest, count) in counts.get().into_iter().flat_map(|counts| counts.iter().enumerate()) {
                match (count.load(Relaxed), (class, rest)) {
                    (0, _) => {}
                    (count, NONE) => visit("0", count),
                    (count, STRANGE) => visit(super::named::OTHER, count),
                    (count, ABANDONED) => visit(crate::observe::Attempt::ABANDONED, count),
                    (count, _) => visit(&(class * 100 + rest).to_string(), count),
                }
            }
        }
    }
}

/// The methods that have a label of their own; a client's invention must not become one.
const METHODS: [&str; 10] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", super::named::OTHER];

/// Counts by method and status code.
#[derive(Debug, Default)]
pub(super) struct MethodCodes([OnceLock<Box<Codes>>; METHODS.len()]);

impl MethodCodes {
    pub(super) fn hit(&self, method: &str, code: u16) {
        let index = METHODS.iter().position(|known| *known == method).unwrap_or(METHODS.len() - 1);
        self.0[index].get_or_init(Box::default).hit(code);
    }

    /// The counts of each class of codes, by its first digit; 0 is for what is no status.
    pub(super) fn classes(&self) -> [u64; 6] {
        let mut sums = [0; 6];
        self.0.iter().filter_map(OnceLock::get).for_each(|codes| codes.add_classes(&mut sums));
        sums
    }

    pub(super) fn each(&self, mut visit: impl FnMut(&str, &str, u64)) {
        for (method, codes) in METHODS.iter().zip(&self.0) {
            if let Some(codes) = codes.get() {
                codes.each(|code, count| visit(method, code, count));
            }
        }
    }
}

/// Upper bounds of the buckets of every duration, in microseconds.
pub(super) const BOUNDS_MICROS: [u64; 14] = [
    5_000, 10_000, 25_000, 50_000, 75_000, 100_000, 250_000, 500_000, 750_000, 1_000_000, 2_500_000, 5_000_000, 7_500_000,
    10_000_000,
];

/// A histogram of durations. Observing costs two additions (the library's own costs four and a
/// compare-and-swap loop); the count is the sum of the buckets, so that a scrape is always consistent in itself.
#[derive(Debug, Default)]
pub(super) struct Durations {
    buckets: [AtomicU64; BOUNDS_MICROS.len() + 1],
    sum_micros: AtomicU64,
}

impl Durations {
    pub(super) fn observe(&self, took: Duration) {
        let micros = took.as_micros() as u64;
        let bucket = BOUNDS_MICROS.iter().position(|bound| micros <= *bound).unwrap_or(BOUNDS_MICROS.len());
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.sum_micros.fetch_add(micros, Relaxed);
    }

    /// Adds what was observed to `total`.
    pub(super) fn add_to(&self, total: &mut Observed) {
        for (sum, bucket) in total.buckets.iter_mut().zip(&self.buckets) {
            *sum += bucket.load(Relaxed);
        }
        total.sum_micros += self.sum_micros.load(Relaxed);
    }
}

/// What one or several [`Durations`] held when they were read.
#[derive(Debug, Clone, Default)]
pub(super) struct Observed {
    /// The observations in each bucket, the last one beyond every bound.
    pub(super) buckets: [u64; BOUNDS_MICROS.len() + 1],
    /// Their sum.
    pub(super) sum_micros: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_methods_are_bounded() {
        let counts = MethodCodes::default();
        for (method, code) in [("GET", 200), ("GET", 200), ("GET", 0), ("BREW", 418), ("", 99), ("POST", 999), ("POST", 65535)] {
            counts.hit(method, code);
        }
        let mut seen = Vec::new();
        counts.each(|method, code, count| seen.push(format!("{method} {code} {count}")));
        assert_eq!(seen, ["GET 0 1", "GET 200 2", "POST _other 2", "_other _other 1", "_other 418 1"]);
    }

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let durations = Durations::default();
        for micros in [0, 5_000, 5_001, 10_000_000, 10_000_001] {
            durations.observe(Duration::from_micros(micros));
        }
        let mut total = Observed::default();
        durations.add_to(&mut total);
        assert_eq!((total.buckets[0], total.buckets[1], total.buckets[13], total.buckets[14]), (2, 1, 1, 1));
        assert_eq!(total.sum_micros, 20_010_002);
    }
}
