//! Counting requests in flight, as a guard.

use std::{sync::Arc, time::Instant};

use super::{AttemptResult, Endpoint};
use crate::resilience::Admission;

/// One request in flight on an endpoint. Dropping it, on whatever path, counts the request out, and gives
/// back its place if it was a probe.
#[derive(Debug)]
pub struct InFlight {
    endpoint: Arc<Endpoint>,
    /// The epoch of the circuit in which it began.
    epoch: u32,
    admission: Admission,
}

impl InFlight {
    pub(super) fn new(endpoint: Arc<Endpoint>, epoch: u32, admission: Admission) -> Self {
        endpoint.state.enter();
        Self { endpoint, epoch, admission }
    }
    /// The endpoint.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }
    /// Learns how this attempt ended, and when. The circuit breaker ignores what began before its last
    /// transition: that is old news.
    pub fn record(&self, result: AttemptResult, now: Instant) {
        self.endpoint.learn(result, Some(self.epoch), self.admission == Admission::Early, now);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.endpoint.state.leave();
        match self.admission {
            Admission::Probe => self.endpoint.probe_ended(self.epoch),
            Admission::Early => self.endpoint.early_ended(),
            Admission::Pass | Admission::Refused => {}
        }
    }
}
