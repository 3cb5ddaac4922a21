//! Layer 1: one address that requests are sent to, and what was learned about it.
//!
//! An [`Endpoint`] is identified by its upstream and address. It lives outside the snapshot, in the
//! [`EndpointRegistry`], so what is known about it (health, load, latency) survives a reload.

mod ewma;
mod in_flight;
mod latency;
mod registry;
mod state;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

pub use in_flight::InFlight;
pub use registry::{Discovered, EndpointRegistry};
pub use state::{AttemptResult, EndpointStats, Health, HealthStatus};

use crate::types::{Address, Name};

/// One address of one upstream.
pub struct Endpoint {
    upstream: Name,
    address: Address,
    label: Arc<str>,
    zone: Option<Arc<str>>,
    weight: AtomicU32,
    state: state::State,
    changes: Arc<AtomicU64>,
}

impl Endpoint {
    /// An endpoint nothing is known about yet: taken to be healthy, with nothing in flight.
    /// A weight of 0 counts as 1 (zero weights panic inside Pingora).
    pub fn new(upstream: Name, address: Address, weight: u32, zone: Option<Arc<str>>) -> Self {
        Self::counted(upstream, address, weight, zone, Arc::default())
    }
    fn counted(upstream: Name, address: Address, weight: u32, zone: Option<Arc<str>>, changes: Arc<AtomicU64>) -> Self {
        let label = address.to_string().into();
        let weight = AtomicU32::new(weight.max(1));
        Self { upstream, address, label, zone, weight, state: state::State::default(), changes }
    }
    /// The upstream it belongs to.
    pub fn upstream(&self) -> &Name {
        &self.upstream
    }
    /// Where to connect.
    pub fn address(&self) -> &Address {
        &self.address
    }
    /// The address as logs, metrics and the admin API show it.
    pub fn label(&self) -> &Arc<str> {
        &self.label
    }
    /// The availability zone that the configuration names.
    pub fn zone(&self) -> Option<&str> {
        self.zone.as_deref()
    }
    /// Its share of the traffic relative to the others, at least 1.
    pub fn weight(&self) -> u32 {
        self.weight.load(Relaxed)
    }
    /// Changes the weight (at least 1).
    pub fn set_weight(&self, weight: u32) {
        if self.weight.swap(weight.max(1), Relaxed) != weight.max(1) {
            self.changes.fetch_add(1, Relaxed);
        }
    }
    /// Counts changes of weight of all endpoints of the same registry: what was derived from weights is
    /// still good while this stays the same.
    pub fn changes(&self) -> u64 {
        self.changes.load(Relaxed)
    }
    /// Requests (or layer-4 connections) in flight.
    pub fn in_flight(&self) -> u32 {
        self.state.in_flight()
    }
    /// Counts a request in until the guard drops.
    pub fn begin(self: &Arc<Self>) -> InFlight {
        InFlight::new(self.clone())
    }
    /// May it be chosen now, as far as health checks know?
    pub fn is_healthy(&self) -> bool {
        self.state.is_healthy()
    }
    /// What health checks know, why, and since when.
    pub fn health(&self) -> Health {
        self.state.health()
    }
    /// Records a verdict of the health checks. True when the status changed.
    pub fn set_health(&self, status: HealthStatus, reason: impl Into<Arc<str>>) -> bool {
        self.state.set_health(status, reason.into())
    }
    /// Learns from an attempt that finished `now`.
    pub fn record_at(&self, result: AttemptResult, now: Instant) {
        self.state.record(result, now);
    }
    /// Learns from an attempt that finished just now. Whoever has read the clock calls
    /// [`Endpoint::record_at`].
    pub fn record(&self, result: AttemptResult) {
        self.record_at(result, Instant::now());
    }
    /// The moving average of the time to the response header, in microseconds; 0 when nothing is known.
    pub fn average_micros(&self, now: Instant) -> f64 {
        self.state.average_micros(now)
    }
    /// The same, where a value above the average replaces it.
    pub fn peak_micros(&self, now: Instant) -> f64 {
        self.state.peak_micros(now)
    }
    /// How long a latency counts in the moving averages.
    pub fn set_decay(&self, decay: Duration) {
        self.state.set_decay(decay);
    }
    /// The current run of health checks: so many passes (positive) or failures (negative) in a row. It is
    /// kept here so that a reload does not start the counting anew.
    pub fn streak(&self) -> i32 {
        self.state.streak()
    }
    /// Records the current run of health checks.
    pub fn set_streak(&self, streak: i32) {
        self.state.set_streak(streak);
    }
    /// Lets latencies that are no longer recent be forgotten. To be called every few seconds.
    pub fn tick(&self, now: Instant) {
        self.state.tick(now);
    }
    /// Counters and latencies so far.
    pub fn stats(&self) -> EndpointStats {
        self.state.stats()
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("upstream", &self.upstream)
            .field("address", &self.label)
            .field("weight", &self.weight())
            .finish()
    }
}
