//! Answers: JSON, with the same few header fields on each.

use axum::{
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Json, Response},
};
use serde_json::json;

/// A refusal, as `{"error": "...", "code": "..."}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    NotFound,
    Method,
    Unauthorized,
    Host,
    FormBody,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, code, error) = match self {
            Refusal::NotFound => (StatusCode::NOT_FOUND, "not_found", "there is no such page"),
            Refusal::Method => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this page does not know that method"),
            Refusal::Unauthorized => {
                (StatusCode::UNAUTHORIZED, "unauthorized", "this needs the admin token: `Authorization: Bearer TOKEN`")
            }
            Refusal::Host => (
                StatusCode::MISDIRECTED_REQUEST,
                "misdirected_request",
                "the Host field does not name this admin listener; ask for it by its address",
            ),
            Refusal::FormBody => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", "forms are refused here; send `application/json`")
            }
        };
        let mut response = (status, Json(json!({"error": error, "code": code}))).into_response();
        if self == Refusal::Unauthorized {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"weir\""));
        }
        response
    }
}

/// Nothing is cached, sniffed, framed, or told to another site. There are no CORS fields on purpose: no other
/// origin's script is meant to read this.
const FIELDS: [(HeaderName, &str); 5] = [
    (header::CACHE_CONTROL, "no-store"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
];

/// Adds those fields.
pub(super) async fn finish(mut response: Response) -> Response {
    for (name, value) in FIELDS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
