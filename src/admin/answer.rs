//! Answers: JSON, problems in the form of RFC 9457, and the same few header fields on each.

use std::borrow::Cow;

use axum::{
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::Serialize;

use super::api::Finding;

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
    /// What is wrong with a configuration, line by line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    problems: Vec<Finding>,
}

impl ProblemDetails {
    pub(super) fn new(status: StatusCode, code: &'static str, detail: Cow<'static, str>) -> Self {
        let title = status.canonical_reason().unwrap_or("Error");
        Self { r#type: "about:blank", title, status: status.as_u16(), code, detail, problems: Vec::new() }
    }

    pub(super) fn with(self, problems: Vec<Finding>) -> Self {
        Self { problems, ..self }
    }
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
    /// The request cannot be read, and why.
    Body(String),
    /// The body is not of this type.
    MediaType(&'static str),
    /// The body has more bytes than this.
    TooLarge(usize),
    /// Another generation is running than the request is meant for.
    Generation(String),
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
            Refusal::Body(reason) => (StatusCode::BAD_REQUEST, "bad_request", reason.into()),
            Refusal::MediaType(wanted) => {
                let detail = format!("this takes a body of type `{wanted}`; the Content-Type says otherwise");
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail.into())
            }
            Refusal::TooLarge(most) => {
                let detail = format!("the body has more than {most} bytes, or did not come whole");
                (StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail.into())
            }
            Refusal::Generation(reason) => (StatusCode::PRECONDITION_FAILED, "other_generation", reason.into()),
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
    problem_of(ProblemDetails::new(status, code, detail.into()))
}

/// The same, with everything that is to be said.
pub(super) fn problem_of(details: ProblemDetails) -> Response {
    let status = StatusCode::from_u16(details.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    match serde_json::to_vec(&details) {
        Ok(body) => (status, [(header::CONTENT_TYPE, PROBLEM_TYPE)], body).into_response(),
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
