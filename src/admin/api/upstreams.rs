//! `/api/v1/upstreams`: pools and their endpoints.

use std::sync::Arc;

use axum::{Json, Router, extract::State, http::StatusCode, routing::get};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    super::{AdminState, answer::Refusal, live::Moment, stats},
    Document,
    extract::InPath,
};
use crate::{observe::UpstreamState, types::Name};

/// One endpoint.
#[derive(Debug, Serialize, JsonSchema)]
struct Endpoint {
    #[serde(flatten)]
    stats: stats::Endpoint,
    /// Attempts that ended, per second, over the last 5 to 10 seconds.
    requests_per_second: f64,
    /// The share of those that failed: no response, or a 5xx; 0 to 1.
    error_share: f64,
}

/// One upstream.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::admin) struct Upstream {
    name: Name,
    /// How an endpoint is chosen.
    strategy: &'static str,
    /// Endpoints that may be chosen.
    alive: usize,
    /// So few are that all endpoints are used.
    panic: bool,
    /// Requests in flight on its endpoints.
    in_flight: u64,
    /// Attempts that ended, per second, over the last 5 to 10 seconds.
    requests_per_second: f64,
    endpoints: Vec<Endpoint>,
}

impl Upstream {
    pub(in crate::admin) fn all(moment: &Moment) -> Vec<Self> {
        moment.upstreams.iter().map(|upstream| Self::new(upstream, moment)).collect()
    }

    fn new(state: &UpstreamState, moment: &Moment) -> Self {
        let endpoint = |endpoint: &crate::observe::EndpointState| {
            let (requests_per_second, error_share) = moment.endpoint(&state.name, &endpoint.label);
            Endpoint { stats: endpoint.clone().into(), requests_per_second, error_share }
        };
        let endpoints: Vec<Endpoint> = state.endpoints.iter().map(endpoint).collect();
        Self {
            name: state.name.clone(),
            strategy: state.strategy,
            alive: state.endpoints.iter().filter(|endpoint| endpoint.healthy).count(),
            panic: state.panicking,
            in_flight: state.endpoints.iter().map(|endpoint| u64::from(endpoint.in_flight)).sum(),
            requests_per_second: endpoints.iter().map(|endpoint| endpoint.requests_per_second).sum(),
            endpoints,
        }
    }
}

/// Every upstream.
#[derive(Debug, Serialize, JsonSchema)]
struct Upstreams {
    /// By name.
    upstreams: Vec<Upstream>,
}

async fn upstreams(State(state): State<Arc<AdminState>>) -> Json<Upstreams> {
    Json(Upstreams { upstreams: Upstream::all(&state.live.moment(&state)) })
}

async fn upstream(State(state): State<Arc<AdminState>>, InPath(name): InPath<String>) -> Result<Json<Upstream>, Refusal> {
    let moment = state.live.moment(&state);
    let found = moment.upstreams.iter().find(|upstream| upstream.name.as_str() == name);
    found.map(|upstream| Json(Upstream::new(upstream, &moment))).ok_or(Refusal::NoSuch("upstream", name))
}

pub(super) fn router() -> Router<Arc<AdminState>> {
    Router::new().route("/api/v1/upstreams", get(upstreams)).route("/api/v1/upstreams/{upstream}", get(upstream))
}

pub(super) fn describe(document: &mut Document) {
    document
        .operation("get", "/api/v1/upstreams", "upstreams", "Pools and their endpoints.")
        .answers::<Upstreams>(StatusCode::OK, "Every upstream.")
        .done();
    document
        .operation("get", "/api/v1/upstreams/{upstream}", "upstream", "One pool and its endpoints.")
        .parameter("upstream", "The name of an upstream.")
        .answers::<Upstream>(StatusCode::OK, "The upstream.")
        .fails(StatusCode::NOT_FOUND, "There is no such upstream.")
        .fails(StatusCode::BAD_REQUEST, "The path cannot be read.")
        .done();
}
