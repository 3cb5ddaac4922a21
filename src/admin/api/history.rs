//! `/api/v1/history`: the last fifteen minutes, for charts.

use std::sync::Arc;

use axum::{Json, Router, extract::State, http::StatusCode, routing::get};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    super::{
        AdminState,
        live::{INTERVAL, Sample},
    },
    Document,
};

/// The last fifteen minutes.
#[derive(Debug, Serialize, JsonSchema)]
struct History {
    /// The time between two samples.
    interval_seconds: u64,
    /// The oldest first; at most 180.
    samples: Vec<Sample>,
}

async fn history(State(state): State<Arc<AdminState>>) -> Json<History> {
    Json(History { interval_seconds: INTERVAL.as_secs(), samples: state.live.history() })
}

pub(super) fn router() -> Router<Arc<AdminState>> {
    Router::new().route("/api/v1/history", get(history))
}

pub(super) fn describe(document: &mut Document) {
    document
        .operation("get", "/api/v1/history", "history", "The last fifteen minutes.")
        .answers::<History>(StatusCode::OK, "One sample for each five seconds.")
        .done();
}
