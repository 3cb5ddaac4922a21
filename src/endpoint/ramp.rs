//! Slow start: an endpoint that is new, or back, gets its share of the traffic little by little.
//!
//! Caches are cold then, pools empty, code not compiled yet. As in Envoy's slow start mode with an aggression
//! of 1: the weight grows linearly over the window, from a tenth, since an endpoint that gets nothing never warms.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

/// The share of its weight that an endpoint starts with.
const START: f64 = 0.1;

/// How warm an endpoint is: two atomics, and in the ordinary state one load.
#[derive(Debug)]
pub(super) struct Ramp {
    /// Nanoseconds from `base` to the start, at least 1; 0 while there is none.
    from: AtomicU64,
    /// Nanoseconds it takes; 0 without slow start.
    window: AtomicU64,
    base: Instant,
}

impl Ramp {
    pub(super) fn new(base: Instant) -> Self {
        Self { from: AtomicU64::new(0), window: AtomicU64::new(0), base }
    }
    /// How long it takes; nothing switches it off.
    pub(super) fn set_window(&self, window: Option<Duration>) {
        self.window.store(window.map_or(0, |window| window.as_nanos() as u64), Relaxed);
    }
    /// The endpoint is new or back.
    pub(super) fn start(&self, now: Instant) {
        if self.window.load(Relaxed) > 0 {
            self.from.store(self.nanos(now), Relaxed);
        }
    }
    pub(super) fn is_ramping(&self) -> bool {
        self.from.load(Relaxed) != 0
    }
    /// The share of its weight that counts now. Whoever finds the time over ends it.
    pub(super) fn share(&self, now: Instant) -> f64 {
        let (from, window) = (self.from.load(Relaxed), self.window.load(Relaxed));
        if from == 0 {
            return 1.0;
        }
        let elapsed = self.nanos(now).saturating_sub(from);
        if elapsed >= window {
            // It may have started anew in between: then that one stays.
            let _ = self.from.compare_exchange(from, 0, Relaxed, Relaxed);
            return 1.0;
        }
        START + (1.0 - START) * elapsed as f64 / window as f64
    }
    fn nanos(&self, now: Instant) -> u64 {
        (now.saturating_duration_since(self.base).as_nanos() as u64).saturating_add(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_grows_from_a_tenth_to_all() {
        let start = Instant::now();
        let ramp = Ramp::new(start);
        ramp.start(start);
        assert!(!ramp.is_ramping(), "not without a window");
        ramp.set_window(Some(Duration::from_secs(30)));
        ramp.start(start);
        for (secs, share) in [(0, 0.1), (10, 0.4), (20, 0.7)] {
            assert!((ramp.share(start + Duration::from_secs(secs)) - share).abs() < 1e-6, "{secs}");
        }
        assert!(ramp.is_ramping());
        assert_eq!(ramp.share(start + Duration::from_secs(30)), 1.0);
        assert!(!ramp.is_ramping() && ramp.share(start) == 1.0, "it is over for good");
    }
}
