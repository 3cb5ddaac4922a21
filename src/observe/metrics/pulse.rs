//! How the edge as a whole does, in few numbers: for comparing one time with another.

use std::time::Duration;

use super::{
    Metrics, NO_ROUTE,
    counts::{BOUNDS_MICROS, Observed},
};

/// Counts since the start, of all listeners and routes together.
#[derive(Debug, Clone, Default)]
pub struct Pulse {
    /// Requests that ended.
    pub requests: u64,
    /// Those that a client will not have hoped for: answered with a 5xx, or matched by no route.
    pub failures: u64,
    took: Observed,
}

impl Pulse {
    /// What came since an earlier one. Never less than nothing: routes that are gone take their counts with them.
    pub fn since(&self, earlier: &Self) -> Self {
        let mut took = Observed::default();
        for (index, bucket) in took.buckets.iter_mut().enumerate() {
            *bucket = self.took.buckets[index].saturating_sub(earlier.took.buckets[index]);
        }
        took.sum_micros = self.took.sum_micros.saturating_sub(earlier.took.sum_micros);
        let requests = self.requests.saturating_sub(earlier.requests);
        Self { requests, failures: self.failures.saturating_sub(earlier.failures), took }
    }

    /// The share of failures; 0 without requests.
    pub fn failure_share(&self) -> f64 {
        if self.requests == 0 { 0.0 } else { self.failures as f64 / self.requests as f64 }
    }

    /// The duration that this share of the requests did not exceed, to the upper bound of its histogram bucket. `None`
    /// without requests, or when it is beyond every bound.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let all: u64 = self.took.buckets.iter().sum();
        let rank = ((all as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        let bucket = self.took.buckets.iter().position(|count| {
            seen += count;
            seen >= rank
        })?;
        BOUNDS_MICROS.get(bucket).map(|micros| Duration::from_micros(*micros))
    }

    #[cfg(test)]
    pub(crate) fn of(requests: u64, failures: u64, each: Duration) -> Self {
        let durations = super::counts::Durations::default();
        (0..requests).for_each(|_| durations.observe(each));
        let mut took = Observed::default();
        durations.add_to(&mut took);
        Self { requests, failures, took }
    }
}

impl Metrics {
    /// How it goes.
    pub fn pulse(&self) -> Pulse {
        let mut pulse = Pulse::default();
        self.traffic.listeners.each(|_, listener| {
            listener.routes.each(|route, exchanges| {
                exchanges.requests.each(|_, code, count| {
                    pulse.requests += count;
                    pulse.failures += if code.starts_with('5') || route == NO_ROUTE { count } else { 0 };
                });
                exchanges.took.add_to(&mut pulse.took);
            });
        });
        pulse
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_what_came_between() {
        let (fast, slow) = (Duration::from_millis(4), Duration::from_millis(90));
        let earlier = Pulse::of(10, 1, slow);
        let mut now = Pulse::of(100, 0, fast);
        now.requests += earlier.requests;
        now.failures += 3;
        for (bucket, before) in now.took.buckets.iter_mut().zip(earlier.took.buckets) {
            *bucket += before;
        }
        let window = now.since(&earlier);
        assert_eq!((window.requests, window.failures), (100, 2));
        assert_eq!(window.quantile(0.95), Some(Duration::from_millis(5)));
        assert_eq!(now.quantile(0.95), Some(Duration::from_millis(100)));
        assert_eq!(earlier.since(&now).requests, 0);
        assert_eq!(Pulse::default().quantile(0.5), None);
    }
}
