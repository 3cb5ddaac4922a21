//! Fifteen minutes of history, in a ring of fixed size.

use std::{
    collections::VecDeque,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use schemars::JsonSchema;
use serde::Serialize;

use super::{super::AdminState, Moment, Process};

/// The time between two samples.
pub(in crate::admin) const INTERVAL: Duration = Duration::from_secs(5);
/// 15 minutes: 180 samples of 80 bytes, 14 kB in all.
const KEPT: usize = 180;

/// What went on in five seconds.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(in crate::admin) struct Sample {
    /// The end of the five seconds, in seconds since 1970.
    at: u64,
    /// Requests that ended, per second.
    requests_per_second: f64,
    /// The share of them that was answered with a 5xx, 0 to 1.
    error_share: f64,
    /// The median time that a request took, in milliseconds; 0 without requests.
    p50_ms: f64,
    /// The 95th percentile of the same.
    p95_ms: f64,
    /// The 99th percentile of the same.
    p99_ms: f64,
    /// Requests being served at that moment.
    in_flight: u64,
    /// Client connections open at that moment.
    connections: u64,
    /// CPU cores in use.
    cpu_cores: f64,
    /// Resident memory.
    memory_bytes: u64,
}

impl Sample {
    pub(super) fn new(state: &AdminState, moment: &Moment) -> Self {
        let load = state.metrics().load();
        Self {
            at: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            requests_per_second: moment.total.requests_per_second,
            error_share: moment.total.error_share,
            p50_ms: moment.total.p50_ms,
            p95_ms: moment.total.p95_ms,
            p99_ms: moment.total.p99_ms,
            in_flight: load.requests,
            connections: load.connections,
            cpu_cores: moment.cpu,
            memory_bytes: Process::memory(),
        }
    }
}

/// The ring.
#[derive(Debug, Default)]
pub(in crate::admin) struct History(VecDeque<Sample>);

impl History {
    pub(super) fn add(&mut self, sample: Sample) {
        if self.0.len() >= KEPT {
            self.0.pop_front();
        }
        self.0.push_back(sample);
    }

    pub(super) fn samples(&self) -> Vec<Sample> {
        self.0.iter().cloned().collect()
    }
}
