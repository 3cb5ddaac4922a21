//! Which page is where.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    middleware,
    response::{IntoResponse, Json, Response},
    routing::get,
};
use serde_json::{Value, json};

use super::{AdminState, access, answer, answer::Refusal, api, dashboard, stats};

/// The media type of the text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All pages, behind the access rules.
pub(super) fn router(state: Arc<AdminState>) -> Router {
    Router::new()
        .merge(dashboard::router())
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/stats", get(stats))
        .merge(api::router())
        .fallback(async || Refusal::NotFound)
        .method_not_allowed_fallback(async || Refusal::Method)
        .layer(middleware::from_fn_with_state(state.clone(), access::check))
        .layer(middleware::map_response(answer::finish))
        .with_state(state)
}

async fn healthz() -> Json<Value> {
    Json(json!({"status": "ok"}))
}

async fn readyz(State(state): State<Arc<AdminState>>) -> Response {
    match state.is_ready() {
        true => Json(json!({"status": "ready"})).into_response(),
        false => (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"status": "not ready"}))).into_response(),
    }
}

async fn metrics(State(state): State<Arc<AdminState>>) -> Response {
    ([(header::CONTENT_TYPE, METRICS_TYPE)], state.metrics().render()).into_response()
}

async fn stats(State(state): State<Arc<AdminState>>) -> Json<stats::Stats> {
    Json(stats::Stats::read(&state))
}
