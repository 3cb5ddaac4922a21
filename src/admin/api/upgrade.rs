//! `/api/v1/upgrade`: another process takes over.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};
use schemars::JsonSchema;
use serde::Serialize;

use super::{super::AdminState, Document, applied::refuse};

/// Who serves now.
#[derive(Debug, Serialize, JsonSchema)]
struct TakenOver {
    /// The process id of the successor.
    process: u32,
}

async fn upgrade(State(state): State<Arc<AdminState>>) -> Response {
    log::warn!("upgrading, as ordered through the admin API");
    match state.commands.upgrade().await {
        Ok(process) => (StatusCode::OK, Json(TakenOver { process })).into_response(),
        Err(refused) => refuse(refused),
    }
}

pub(super) fn router() -> Router<Arc<AdminState>> {
    Router::new().route("/api/v1/upgrade", post(upgrade))
}

pub(super) fn describe(document: &mut Document) {
    let what = "Starts the binary that is installed now and, once that serves, drains this process. The answer comes then.";
    document
        .operation("post", "/api/v1/upgrade", "upgrade", what)
        .answers::<TakenOver>(StatusCode::OK, "The successor serves.")
        .fails(StatusCode::CONFLICT, "The successor did not start, and this process goes on; or it drains already.")
        .done();
}
