//! `/api/v1/errors`: the last errors with their requests.

use std::sync::Arc;

use axum::{Json, Router, extract::State, http::StatusCode, routing::get};
use schemars::JsonSchema;
use serde::Serialize;

use super::{super::AdminState, Document, time};
use crate::{observe::RecentError, types::Name};

/// An exchange that ended in an error. Host and path are what a client sent: they may hold anything, and are shortened
/// to 256 bytes.
#[derive(Debug, Serialize, JsonSchema)]
struct Error {
    /// When the request arrived, in RFC 3339.
    at: String,
    /// The id of the request, to find it in the access log.
    request_id: String,
    /// The address of the client.
    client: String,
    method: String,
    host: String,
    /// The canonical path without the query.
    path: String,
    /// The route; null when none matched.
    route: Option<Name>,
    /// The upstream; null when the request was not forwarded.
    upstream: Option<Name>,
    /// The endpoint of the last attempt.
    endpoint: Option<Arc<str>>,
    /// The status that the client got; 0 for none.
    status: u16,
    /// The RFC 9209 word for the error.
    error: &'static str,
    /// The gate's or a filter's own word for a refusal.
    reason: Option<&'static str>,
    /// Why the last attempt failed, in words, where `error` alone does not say it: what was wrong with a certificate.
    detail: Option<Box<str>>,
    /// Who ended the exchange: `client`, `weir` or `upstream`.
    who: &'static str,
    /// How far it came.
    phase: &'static str,
}

impl From<RecentError> for Error {
    fn from(error: RecentError) -> Self {
        Self {
            at: time(error.at),
            request_id: error.request_id.to_string(),
            client: error.client.to_string(),
            method: error.method,
            host: error.host,
            path: error.path,
            route: error.route,
            upstream: error.upstream,
            endpoint: error.endpoint,
            status: error.status,
            error: error.cause.word(),
            reason: error.reason,
            detail: error.detail,
            who: error.who.word(),
            phase: error.phase.word(),
        }
    }
}

/// The last errors.
#[derive(Debug, Serialize, JsonSchema)]
struct Errors {
    /// The newest first; at most 100.
    errors: Vec<Error>,
}

async fn errors(State(state): State<Arc<AdminState>>) -> Json<Errors> {
    Json(Errors { errors: state.observer.recent().errors().into_iter().map(Error::from).collect() })
}

pub(super) fn router() -> Router<Arc<AdminState>> {
    Router::new().route("/api/v1/errors", get(errors))
}

pub(super) fn describe(document: &mut Document) {
    document
        .operation("get", "/api/v1/errors", "errors", "The last errors with their requests.")
        .answers::<Errors>(StatusCode::OK, "The last 100 errors.")
        .done();
}
