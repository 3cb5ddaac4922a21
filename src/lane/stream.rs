//! A stream that carries one request, of a connection that carries several: what any driver needs of it, whichever version it speaks.

use std::{
    io,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, Response};

use crate::{gate::Version, pace::Pace};

/// Bytes that are handed to the library at a time: one frame of the size that every client takes.
pub(super) const PIECE: usize = 16 * 1024;

/// One stream. Errors say that the client is gone, or wants no more of it.
pub trait RequestStream: Send + Sync + Unpin + 'static {
    /// The version of HTTP.
    const VERSION: Version;

    /// How much of the response may be in this process.
    fn pace(&self) -> &Arc<Pace>;

    /// Was all of the request read?
    fn is_read(&self) -> bool;

    /// Resolves to what comes next of the request's body. `None` where trailers follow, or nothing.
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>>;

    /// So many bytes of it are needed no more: the client may send as many.
    fn release(&mut self, bytes: usize);

    /// Resolves to the trailers, once there is no more data.
    fn poll_trailers(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<HeaderMap>>>;

    /// Ready when the client wants no more of the stream.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// Sends an interim response.
    fn interim(&mut self, head: Response<()>);

    /// Sends the head of the response, which is the end of it when `end`.
    ///
    /// # Errors
    /// As all that sends.
    fn head(&mut self, head: Response<()>, end: bool) -> io::Result<()>;

    /// Resolves to how many of so many bytes may be handed over now.
    fn poll_capacity(&mut self, bytes: usize, cx: &mut Context<'_>) -> Poll<io::Result<usize>>;

    /// Hands over content, no more than there was capacity for, and the end of the response when `end`.
    ///
    /// # Errors
    /// As all that sends.
    fn data(&mut self, part: Bytes, end: bool) -> io::Result<()>;

    /// Hands over trailers, which end the response.
    ///
    /// # Errors
    /// As all that sends.
    fn trailers(&mut self, fields: HeaderMap) -> io::Result<()>;

    /// Ready when the library has what was handed over.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Was the end of the response handed over?
    fn is_sent(&self) -> bool;

    /// Ready when the client has all of the response, where the end of the connection could lose it.
    fn poll_arrived(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// The same, for when the stream itself is not at hand any more: one that was not ended is cut then.
    fn farewell(&self) -> impl Future<Output = ()> + Send + 'static;

    /// Ends the response as one that is not whole.
    fn reset(&mut self);
}

pub(super) fn gone() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}
