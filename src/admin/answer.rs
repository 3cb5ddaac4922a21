//! Answers: JSON, problems in the form of RFC 9457, and the same few header fields on each.

use std::borrow::Cow;

use axum::{
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::Serialize;

/// The media type of a [`ProblemDetails`].
pub(super) const PROBLEM_TYPE: &str = "application/problem+json";

/// Why a request was refused, in the form of RFC 9457.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ProblemDetails {
    /// Always `about:blank`: the status and the code say what kind of problem it is.
    r#type: &'static str,
    /// The status in words.
    title: &'static str,
    /// The status.
    status: u16,
    /// The kind of problem, for programs.
    code: &'static str,
    /// What is wrong, and what to do about it.
    detail: Cow<'static, str>,
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// There is no such page.
    NotFound,
    /// There is no such thing of this kind.
    NoSuch(&'static str, String),
    Method,
    /// The path cannot be decoded.
    Path,
    Unauthorized,
    Host,
    FormBody,
    /// Every place for subscribers is taken.
    Full,
}

impl Refusal {
    fn parts(self) -> (StatusCode, &'static str, Cow<'static, str>) {
        match self {
            Refusal::NotFound => (StatusCode::NOT_FOUND, "not_found", "there is no such page".into()),
            Refusal::NoSuch(kind, name) => (StatusCode::NOT_FOUND, "not_found", format!("there is no {kind} `{name}`").into()),
            Refusal::Method => {
                (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this page does not know that method".into())
            }
            Refusal::Path => (StatusCode::BAD_REQUEST, "bad_request", "the path is not UTF-8 when its escapes are undone".into()),
            Refusal::Unauthorized => {
                (StatusCode::UNAUTHORIZED, "unauthorized", "this needs the admin token: `Authorization: Bearer TOKEN`".into())
            }
            Refusal::Host => (
                StatusCode::MISDIRECTED_REQUEST,
                "misdirected_request",
                "the Host field does not name this admin listener; ask for it by its address".into(),
            ),
            Refusal::FormBody => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                "forms and plain text are refused here; send `application/json`, or a file as `application/yaml`".into(),
            ),
            Refusal::Full => (
                StatusCode::SERVICE_UNAVAILABLE,
                "too_many_subscribers",
                "every place for subscribers is taken; close one, or try again".into(),
            ),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, code, detail) = self.parts();
        let mut response = problem(status, code, detail);
        match status {
            StatusCode::UNAUTHORIZED => {
                response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"weir\""));
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
            }
            _ => {}
        }
        response
    }
}

/// An answer that says what is wrong.
pub(super) fn problem(status: StatusCode, code: &'static str, detail: impl Into<Cow<'static, str>>) -> Response {
    let title = status.canonical_reason().unwrap_or("Error");
    let details = ProblemDetails { r#type: "about:blank", title, status: status.as_u16(), code, detail: detail.into() };
    typed_json(status, PROBLEM_TYPE, &details)
}

/// An answer in JSON, of this media type.
pub(super) fn typed_json(status: StatusCode, media_type: &'static str, body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(body) => (status, [(header::CONTENT_TYPE, media_type)], body).into_response(),
        Err(error) => {
            log::error!("admin: an answer cannot be written: {error}");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
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

/// Adds those fields, unless the page has its own.
pub(super) async fn finish(mut response: Response) -> Response {
    for (name, value) in FIELDS {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}
