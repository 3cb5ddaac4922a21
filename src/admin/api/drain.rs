//! `/api/v1/drain`: the end of the process.

use std::sync::Arc;

use axum::{Json, Router, extract::State, http::StatusCode, routing::post};
use schemars::JsonSchema;
use serde::Serialize;

use super::{super::AdminState, Document};

/// What happens now.
#[derive(Debug, Serialize, JsonSchema)]
struct Draining {
    status: &'static str,
}

async fn drain(State(state): State<Arc<AdminState>>) -> (StatusCode, Json<Draining>) {
    log::warn!("draining, as ordered through the admin API");
    state.commands.drain();
    (StatusCode::ACCEPTED, Json(Draining { status: "draining" }))
}

pub(super) fn router() -> Router<Arc<AdminState>> {
    Router::new().route("/api/v1/drain", post(drain))
}

pub(super) fn describe(document: &mut Document) {
    document
        .operation("post", "/api/v1/drain", "drain", "Stops being ready, finishes what is in flight, and exits.")
        .answers::<Draining>(StatusCode::ACCEPTED, "It has begun.")
        .done();
}
