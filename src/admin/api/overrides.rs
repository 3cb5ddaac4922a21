//! `/api/v1/overrides`: what was changed while running, and is in force.

use std::sync::Arc;

use axum::{Json, Router, extract::State, http::StatusCode, routing::get};
use schemars::JsonSchema;
use serde::Serialize;

use super::{super::AdminState, Document, time};
use crate::admin::Change;

/// A change that is in force.
#[derive(Debug, Serialize, JsonSchema)]
struct Override {
    /// Since when, in RFC 3339.
    since: String,
    /// What was changed: `add_endpoint`, `remove_endpoint`, `set_weight`, `set_mode` or `set_strategy`, with its values.
    change: Change,
}

/// Everything that was changed while running.
#[derive(Debug, Serialize, JsonSchema)]
struct Overrides {
    /// The oldest first. They outlive a reload and are lost with the process.
    overrides: Vec<Override>,
}

async fn overrides(State(state): State<Arc<AdminState>>) -> Json<Overrides> {
    let shown = |known: crate::admin::Override| Override { since: time(known.since), change: known.change };
    Json(Overrides { overrides: state.commands.overrides().into_iter().map(shown).collect() })
}

pub(super) fn router() -> Router<Arc<AdminState>> {
    Router::new().route("/api/v1/overrides", get(overrides))
}

pub(super) fn describe(document: &mut Document) {
    document
        .operation("get", "/api/v1/overrides", "overrides", "What was changed while running, and is in force.")
        .answers::<Overrides>(StatusCode::OK, "Every change.")
        .done();
}
