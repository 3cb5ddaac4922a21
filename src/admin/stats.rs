//! `/stats`: a short summary of everything in JSON.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;

use super::AdminState;
use crate::{
    endpoint::Condition,
    observe::{EndpointState, Load, Totals, UpstreamState},
    types::Name,
};

#[derive(Debug, Serialize)]
pub(super) struct Stats {
    version: &'static str,
    generation: u64,
    ready: bool,
    /// Since the start.
    totals: Totals,
    /// Now.
    in_flight: Load,
    upstreams: Vec<Upstream>,
}

#[derive(Debug, Serialize)]
struct Upstream {
    name: Name,
    strategy: &'static str,
    /// Endpoints that may be chosen.
    alive: usize,
    /// So few are that all endpoints are used.
    panic: bool,
    endpoints: Vec<Endpoint>,
}

/// One endpoint.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Endpoint {
    /// Its address.
    endpoint: Arc<str>,
    /// May it be chosen?
    alive: bool,
    state: Condition,
    /// Why, in a few words.
    reason: Arc<str>,
    /// Since when, in RFC 3339.
    since: String,
    /// Its share of the traffic relative to the others.
    weight: u32,
    /// Its group: 0 is used first.
    priority: u8,
    /// Its availability zone.
    zone: Option<Arc<str>>,
    /// Attempts since the start.
    requests: u64,
    /// Those that failed: no response, or a 5xx.
    errors: u64,
    /// Errors per request, 0 to 1.
    error_rate: f64,
    /// Requests in flight.
    in_flight: u32,
    /// How often its circuit opened.
    ejections: u64,
    /// Mean time to the response header since the start, in milliseconds.
    average_ms: f64,
    /// The median of the same over the last minute.
    p50_ms: f64,
    /// The 95th percentile of the same.
    p95_ms: f64,
    /// The 99th percentile of the same.
    p99_ms: f64,
}

impl Stats {
    pub(super) fn read(state: &AdminState) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            generation: state.metrics().generation(),
            ready: state.is_ready(),
            totals: state.metrics().totals(),
            in_flight: state.metrics().load(),
            upstreams: state.state.upstreams().into_iter().map(Upstream::from).collect(),
        }
    }
}

impl From<UpstreamState> for Upstream {
    fn from(state: UpstreamState) -> Self {
        let UpstreamState { name, strategy, panicking: panic, endpoints } = state;
        let alive = endpoints.iter().filter(|endpoint| endpoint.healthy).count();
        Self { name, strategy, alive, panic, endpoints: endpoints.into_iter().map(Endpoint::from).collect() }
    }
}

impl From<EndpointState> for Endpoint {
    fn from(state: EndpointState) -> Self {
        let stats = state.stats;
        Self {
            endpoint: state.label,
            alive: state.healthy,
            state: state.situation.condition,
            reason: state.situation.reason,
            since: humantime::format_rfc3339_seconds(state.situation.since).to_string(),
            weight: state.weight,
            priority: state.priority,
            zone: state.zone,
            requests: stats.requests,
            errors: stats.errors,
            error_rate: if stats.requests == 0 { 0.0 } else { stats.errors as f64 / stats.requests as f64 },
            in_flight: state.in_flight,
            ejections: state.transitions.open,
            average_ms: stats.average_ms,
            p50_ms: stats.p50_ms,
            p95_ms: stats.p95_ms,
            p99_ms: stats.p99_ms,
        }
    }
}
