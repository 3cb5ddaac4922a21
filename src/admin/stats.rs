//! `/stats`: a short summary of everything in JSON.

use std::sync::Arc;

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

#[derive(Debug, Serialize)]
struct Endpoint {
    endpoint: Arc<str>,
    alive: bool,
    state: Condition,
    reason: Arc<str>,
    /// RFC 3339.
    since: String,
    weight: u32,
    priority: u8,
    zone: Option<Arc<str>>,
    requests: u64,
    errors: u64,
    /// Errors per request, 0 to 1.
    error_rate: f64,
    in_flight: u32,
    /// How often its circuit opened.
    ejections: u64,
    average_ms: f64,
    p50_ms: f64,
    p95_ms: f64,
    p99_ms: f64,
}

impl Stats {
    pub(super) fn read(state: &AdminState) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            generation: state.metrics.generation(),
            ready: state.is_ready(),
            totals: state.metrics.totals(),
            in_flight: state.metrics.load(),
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
