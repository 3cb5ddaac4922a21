//! `/api/v1/explain`: where a described request would go, and why.

use std::sync::Arc;

use axum::{Json, Router, extract::State, http::StatusCode, routing::post};

use super::{
    super::{AdminState, answer::Refusal},
    Document,
    extract::InBody,
};
use crate::explain::{self, DescribedRequest, Explanation};

async fn explain(
    State(state): State<Arc<AdminState>>,
    InBody(described): InBody<DescribedRequest>,
) -> Result<Json<Explanation>, Refusal> {
    let told = explain::explain(&state.store.load(), &described);
    told.map(Json).map_err(|error| Refusal::Body(error.to_string()))
}

pub(super) fn router() -> Router<Arc<AdminState>> {
    Router::new().route("/api/v1/explain", post(explain))
}

pub(super) fn describe(document: &mut Document) {
    document
        .operation("post", "/api/v1/explain", "explain", "Says where a request would go, and why. Nothing is sent.")
        .takes::<DescribedRequest>()
        .answers::<Explanation>(StatusCode::OK, "What would become of it.")
        .done();
}
