//! `/api/v1/explain`: where a described request would go, and why.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};

use super::{
    super::{AdminState, answer::problem},
    Document,
};
use crate::explain::{self, DescribedRequest, Explanation};

async fn explain(
    State(state): State<Arc<AdminState>>,
    described: Result<Json<DescribedRequest>, axum::extract::rejection::JsonRejection>,
) -> Response {
    let described = match described {
        Ok(Json(described)) => described,
        Err(rejection) => return problem(rejection.status(), "bad_request", rejection.body_text()),
    };
    match explain::explain(&state.store.load(), &described) {
        Ok(told) => Json(told).into_response(),
        Err(error) => problem(StatusCode::BAD_REQUEST, "bad_request", error.to_string()),
    }
}

pub(super) fn router() -> Router<Arc<AdminState>> {
    Router::new().route("/api/v1/explain", post(explain))
}

pub(super) fn describe(document: &mut Document) {
    document
        .operation("post", "/api/v1/explain", "explain", "Says where a request would go, and why. Nothing is sent.")
        .answers::<Explanation>(StatusCode::OK, "What would become of it.")
        .fails(StatusCode::BAD_REQUEST, "What is described is no request.")
        .done();
}
