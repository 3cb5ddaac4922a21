//! What upstreams and endpoints are like right now, for whoever shows it.
//!
//! Observing is layer 1 and knows no snapshot: the process hands in a [`StateSource`] that reads the current one.

use std::sync::Arc;

use crate::{
    endpoint::{EndpointStats, Situation, Transitions},
    types::Name,
};

/// Where the current state is read, at a scrape or for the admin API; never on the path of a request.
pub trait StateSource: Send + Sync {
    /// Every upstream of the running configuration.
    fn upstreams(&self) -> Vec<UpstreamState>;
    /// What the filters of the running configuration count for themselves.
    fn samples(&self) -> Vec<Sample> {
        Vec::new()
    }
}

/// One number that a filter tells. Several of the same series are added up where they count, and are one where they
/// tell a state.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The metric, one of those that are defined.
    pub metric: &'static str,
    /// The values of its labels, in the order of the definition.
    pub labels: Vec<String>,
    /// Its value.
    pub value: f64,
}

/// One upstream.
#[derive(Debug, Clone)]
pub struct UpstreamState {
    /// Its name.
    pub name: Name,
    /// The kind of its strategy.
    pub strategy: &'static str,
    /// So few endpoints are available that all are used.
    pub panicking: bool,
    /// Its endpoints.
    pub endpoints: Vec<EndpointState>,
}

/// One endpoint.
#[derive(Debug, Clone)]
pub struct EndpointState {
    /// Its address, as it is shown everywhere.
    pub label: Arc<str>,
    /// Its share of the traffic.
    pub weight: u32,
    /// Its group: 0 is used first.
    pub priority: u8,
    /// Its availability zone.
    pub zone: Option<Arc<str>>,
    /// May it be chosen?
    pub healthy: bool,
    /// How it stands, and why.
    pub situation: Situation,
    /// How often its circuit breaker changed.
    pub transitions: Transitions,
    /// Requests in flight.
    pub in_flight: u32,
    /// Counters and latencies.
    pub stats: EndpointStats,
}
