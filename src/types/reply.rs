//! A whole response made by Weir itself.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};

/// A response with its body in memory.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// Fields beside `Content-Length`, `Date` and, on errors, `Cache-Control`, which the writer adds.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body, `None` where the writer should make the short standard text for the status, in the
    /// format that the client asked for.
    pub body: Option<Bytes>,
}

impl Reply {
    /// The standard short answer for a status. An invalid status is a fault of ours: 500.
    pub fn status(status: u16) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, headers: Vec::new(), body: None }
    }

    /// An answer with this body.
    pub fn text(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let mut reply = Self::status(status);
        reply.headers.push((header::CONTENT_TYPE, HeaderValue::from_static(content_type)));
        reply.body = Some(body.into());
        reply
    }

    /// Adds a field.
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }
}
