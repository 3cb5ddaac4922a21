//! Responses made by Weir itself.

use std::{fmt, io, pin::Pin};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use http::{HeaderName, HeaderValue, StatusCode, header};
use parking_lot::Mutex;

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

/// A body that is sent as it is read: of a file, a cache, another service.
pub struct BodyStream {
    /// Its length, if that is known. A body that turns out to be of another length is cut, visibly.
    pub length: Option<u64>,
    /// In a lock that nobody ever waits for: it makes what may be sent to another thread something that may be seen there.
    pieces: Mutex<Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>>,
}

impl BodyStream {
    /// A body of these pieces, each of a size that may be held. An error cuts the response.
    pub fn new(length: Option<u64>, pieces: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Self {
        Self { length, pieces: Mutex::new(Box::pin(pieces)) }
    }

    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// When the rest cannot be read.
    pub async fn next(&mut self) -> io::Result<Option<Bytes>> {
        self.pieces.get_mut().next().await.transpose()
    }
}

impl fmt::Debug for BodyStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BodyStream({:?})", self.length)
    }
}
