//! `/api/v1/overview`: how the edge is doing, in words and in a few numbers.

use std::{sync::Arc, time::SystemTime};

use axum::{Json, Router, extract::State, http::StatusCode, routing::get};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    super::{
        AdminState,
        live::{Moment, Process, Rates},
        verdict::{self, Verdict},
    },
    Document, time,
};
use crate::observe::Totals;

/// How the edge is doing.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::admin) struct Overview {
    /// The version that runs.
    version: &'static str,
    /// The configuration that is served, counted from 1.
    generation: u64,
    /// When the process started, in RFC 3339.
    started: String,
    /// Seconds since then.
    uptime_seconds: u64,
    /// New traffic is welcome: false while the edge drains.
    ready: bool,
    verdict: Verdict,
    /// Traffic over the last 5 to 10 seconds.
    traffic: Rates,
    /// Requests being served.
    in_flight: u64,
    /// Client connections open.
    connections: u64,
    /// CPU cores in use, over the last seconds.
    cpu_cores: f64,
    /// CPU cores that the process may use.
    cpu_available: usize,
    /// Resident memory.
    memory_bytes: u64,
    totals: Totals,
}

impl Overview {
    pub(in crate::admin) fn read(state: &AdminState, moment: &Moment) -> Self {
        let load = state.metrics().load();
        let started = state.live.started;
        Self {
            version: env!("CARGO_PKG_VERSION"),
            generation: state.metrics().generation(),
            started: time(started),
            uptime_seconds: SystemTime::now().duration_since(started).map_or(0, |since| since.as_secs()),
            ready: state.is_ready(),
            verdict: verdict::of(state, moment),
            traffic: moment.total,
            in_flight: load.requests,
            connections: load.connections,
            cpu_cores: moment.cpu,
            cpu_available: std::thread::available_parallelism().map_or(1, |threads| threads.get()),
            memory_bytes: Process::memory(),
            totals: state.metrics().totals(),
        }
    }
}

async fn overview(State(state): State<Arc<AdminState>>) -> Json<Overview> {
    Json(Overview::read(&state, &state.live.moment(&state)))
}

pub(super) fn router() -> Router<Arc<AdminState>> {
    Router::new().route("/api/v1/overview", get(overview))
}

pub(super) fn describe(document: &mut Document) {
    document
        .operation("get", "/api/v1/overview", "overview", "How the edge is doing.")
        .answers::<Overview>(StatusCode::OK, "The verdict, and traffic over the last seconds.")
        .done();
}
