//! Moving averages of latency, for the strategies that go by it.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

/// An exponentially weighted moving average over time, in microseconds: what was measured one `decay` ago
/// counts 1/e. As in Finagle's and linkerd's peak EWMA it sinks while nothing is measured, so that an
/// endpoint that was slow once is tried again.
///
/// Value and time are two atomics. Two measurements at the same moment may each see the time of the other,
/// which shifts their weights by as little as lies between them.
#[derive(Debug)]
pub(super) struct Ewma {
    /// The bits of an `f64`.
    micros: AtomicU64,
    /// Nanoseconds from `start` to the last measurement.
    at: AtomicU64,
    start: Instant,
    /// A measurement above the average replaces it: fast to see that something is wrong, slow to forget.
    peak: bool,
}

impl Ewma {
    pub(super) fn new(start: Instant, peak: bool) -> Self {
        Self { micros: AtomicU64::new(0), at: AtomicU64::new(0), start, peak }
    }

    fn nanos(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.start).as_nanos() as u64
    }

    /// Learns from a measurement. A failure never makes the average look better: what fails fast is not fast.
    pub(super) fn record(&self, latency: Duration, ok: bool, now: Instant, decay: Duration) {
        let now = self.nanos(now);
        // The last time, but never in the future: measurements may arrive out of order.
        let last = self.at.fetch_max(now, Relaxed);
        let keep = weight(now.saturating_sub(last), decay);
        let latency = latency.as_nanos() as f64 / 1e3;
        let first = last == 0;
        let update = |bits| {
            let average = f64::from_bits(bits);
            let latency = if ok { latency } else { latency.max(average) };
            let replace = first || average == 0.0 || (self.peak && latency > average);
            Some(if replace { latency } else { average * keep + latency * (1.0 - keep) }.to_bits())
        };
        // Never fails: `update` always has a new value.
        let _ = self.micros.fetch_update(Relaxed, Relaxed, update);
    }

    /// The average now, in microseconds; 0 when nothing was ever measured.
    pub(super) fn get(&self, now: Instant, decay: Duration) -> f64 {
        let average = f64::from_bits(self.micros.load(Relaxed));
        if average == 0.0 {
            return 0.0;
        }
        average * weight(self.nanos(now).saturating_sub(self.at.load(Relaxed)), decay)
    }
}

/// What remains of a weight of 1 after this time.
fn weight(nanos: u64, decay: Duration) -> f64 {
    (-(nanos as f64) / decay.as_nanos().max(1) as f64).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DECAY: Duration = Duration::from_secs(10);

    fn at(start: Instant, secs: u64) -> Instant {
        start + Duration::from_secs(secs)
    }

    #[test]
    fn the_average_follows_and_the_peak_jumps() {
        let start = Instant::now();
        let (average, peak) = (Ewma::new(start, false), Ewma::new(start, true));
        for ewma in [&average, &peak] {
            ewma.record(Duration::from_millis(10), true, at(start, 1), DECAY);
            ewma.record(Duration::from_millis(110), true, at(start, 11), DECAY);
        }
        let expected = 10_000.0 / std::f64::consts::E + 110_000.0 * (1.0 - 1.0 / std::f64::consts::E);
        assert!((average.get(at(start, 11), DECAY) - expected).abs() < 1.0);
        assert!((peak.get(at(start, 11), DECAY) - 110_000.0).abs() < 1.0);
        // Downwards both are slow.
        peak.record(Duration::from_millis(10), true, at(start, 12), DECAY);
        assert!(peak.get(at(start, 12), DECAY) > 90_000.0);
    }

    #[test]
    fn without_measurements_it_sinks() {
        let start = Instant::now();
        let ewma = Ewma::new(start, true);
        assert_eq!(ewma.get(at(start, 5), DECAY), 0.0);
        ewma.record(Duration::from_secs(1), true, at(start, 1), DECAY);
        assert!((ewma.get(at(start, 11), DECAY) - 1e6 / std::f64::consts::E).abs() < 1.0);
    }

    #[test]
    fn a_fast_failure_is_no_improvement() {
        let start = Instant::now();
        let ewma = Ewma::new(start, false);
        ewma.record(Duration::from_millis(50), true, at(start, 1), DECAY);
        ewma.record(Duration::from_micros(1), false, at(start, 1), DECAY);
        ewma.record(Duration::from_micros(1), false, at(start, 2), DECAY);
        assert!(ewma.get(at(start, 2), DECAY) >= 49_999.0);
    }
}
