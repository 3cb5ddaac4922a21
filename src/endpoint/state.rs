//! What is counted and measured on an endpoint: atomics.

use std::{
    sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use super::{ewma::Ewma, latency::Latencies};

/// How one attempt on an endpoint ended.
#[derive(Debug, Clone, Copy)]
pub struct AttemptResult {
    /// False for connect errors, resets, timeouts and 5xx.
    pub ok: bool,
    /// Time from sending the request to the response header; `None` when there was none.
    pub first_byte: Option<Duration>,
}

/// Counters and latencies of an endpoint.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct EndpointStats {
    /// Attempts that ended.
    pub requests: u64,
    /// Those that failed.
    pub errors: u64,
    /// Mean time to the response header, in milliseconds, since the start.
    pub average_ms: f64,
    /// Percentiles of the same over the recent past, in milliseconds.
    pub p50_ms: f64,
    /// 95th percentile.
    pub p95_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
}

#[derive(Debug)]
pub(super) struct State {
    in_flight: AtomicU32,
    streak: AtomicI32,
    requests: AtomicU64,
    errors: AtomicU64,
    latency_micros: AtomicU64,
    latency_count: AtomicU64,
    latencies: Latencies,
    average: Ewma,
    peak: Ewma,
    decay_millis: AtomicU32,
}

impl Default for State {
    fn default() -> Self {
        let start = Instant::now();
        Self {
            in_flight: AtomicU32::new(0),
            streak: AtomicI32::new(0),
            requests: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            latency_micros: AtomicU64::new(0),
            latency_count: AtomicU64::new(0),
            latencies: Latencies::default(),
            average: Ewma::new(start, false),
            peak: Ewma::new(start, true),
            decay_millis: AtomicU32::new(10_000),
        }
    }
}

impl State {
    pub(super) fn enter(&self) {
        self.in_flight.fetch_add(1, Relaxed);
    }
    pub(super) fn leave(&self) {
        self.in_flight.fetch_sub(1, Relaxed);
    }
    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }
    pub(super) fn record(&self, result: AttemptResult, now: Instant) {
        self.requests.fetch_add(1, Relaxed);
        if !result.ok {
            self.errors.fetch_add(1, Relaxed);
        }
        if let Some(first_byte) = result.first_byte {
            self.latency_micros.fetch_add(first_byte.as_micros() as u64, Relaxed);
            self.latency_count.fetch_add(1, Relaxed);
            self.latencies.record(first_byte);
            self.average.record(first_byte, result.ok, now, self.decay());
            self.peak.record(first_byte, result.ok, now, self.decay());
        }
    }
    pub(super) fn tick(&self, now: Instant) {
        self.latencies.tick(now);
    }
    fn decay(&self) -> Duration {
        Duration::from_millis(self.decay_millis.load(Relaxed).into())
    }
    pub(super) fn set_decay(&self, decay: Duration) {
        self.decay_millis.store(u32::try_from(decay.as_millis()).unwrap_or(u32::MAX), Relaxed);
    }
    pub(super) fn average_micros(&self, now: Instant) -> f64 {
        self.average.get(now, self.decay())
    }
    pub(super) fn peak_micros(&self, now: Instant) -> f64 {
        self.peak.get(now, self.decay())
    }
    pub(super) fn streak(&self) -> i32 {
        self.streak.load(Relaxed)
    }
    pub(super) fn set_streak(&self, streak: i32) {
        self.streak.store(streak, Relaxed);
    }
    pub(super) fn stats(&self) -> EndpointStats {
        let count = self.latency_count.load(Relaxed);
        let average_ms = if count == 0 { 0.0 } else { self.latency_micros.load(Relaxed) as f64 / count as f64 / 1e3 };
        let [p50_ms, p95_ms, p99_ms] = self.latencies.quantiles([0.5, 0.95, 0.99]);
        EndpointStats {
            requests: self.requests.load(Relaxed),
            errors: self.errors.load(Relaxed),
            average_ms,
            p50_ms,
            p95_ms,
            p99_ms,
        }
    }
}
