//! The client's side of an exchange, whichever version of HTTP it speaks.

use std::{
    future::{Future, poll_fn},
    io,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use tokio::time::Instant;

use super::run::Ended;
use crate::{
    exchange::{Exchange, Plan},
    gate::{Spelling, Version},
    pace::Clock,
    wire::Stream,
};

/// A piece of a response's content.
#[derive(Debug, Clone, Copy)]
pub enum Piece<'a> {
    /// In memory that is needed for something else in a moment.
    Lent(&'a [u8]),
    /// In memory that may be held for as long as it takes.
    Held(&'a Bytes),
}

impl Piece<'_> {
    /// Its bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Piece::Lent(bytes) => bytes,
            Piece::Held(bytes) => bytes,
        }
    }
}

/// What becomes of a client's connection, or stream, behind a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// Another request may follow.
    Open,
    /// It closes in order.
    Close {
        /// The client still sends its body, which is taken in so that a reset does not destroy the answer.
        reads_on: bool,
    },
    /// It ends as it is: what was sent is not whole.
    Cut,
}

/// Takes what was read of a request's body: content, and whether the body ends behind it.
pub type See<'a> = dyn FnMut(&[u8], bool) -> Result<(), Ended> + 'a;

/// What a driver needs of a client: the body of its request, and a way to send it a response.
///
/// Heads are queued. Content is queued as well, and sent as far as the client takes it at once; what waits goes first.
pub trait Client: Sized + Send {
    /// A request that this exchange is about begins.
    fn begin(&mut self, exchange: &Exchange);

    /// Was all of the request's body read?
    fn is_read(&self) -> bool;

    /// Lends `see` what has come of the request's body: content, and whether the body ends behind it. Nothing of it may have been content.
    fn poll_body(&mut self, cx: &mut Context<'_>, see: &mut See<'_>) -> Poll<Result<(), Ended>>;

    /// Ready when the client is gone. For when its body was read.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// Queues the head of an interim response.
    fn interim(&mut self, status: StatusCode, fields: HeaderMap, spelling: &Spelling);

    /// Queues the head of the final response, or of one that opens a tunnel.
    ///
    /// # Errors
    /// When the client is gone, as with all that sends.
    fn head(
        &mut self,
        status: StatusCode,
        fields: HeaderMap,
        spelling: &Spelling,
        plan: &Plan,
        version: Version,
    ) -> io::Result<()>;

    /// Takes a piece of the content, and the end of the body when `end`.
    ///
    /// # Errors
    /// When the client is gone.
    fn content(&mut self, cx: &mut Context<'_>, piece: Piece<'_>, end: bool, plan: &Plan) -> io::Result<()>;

    /// Sends what waits. Resolves to how much of the response may be read from the endpoint now.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>>;

    /// Sends what waits. Ready when nothing does any more.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Has the client taken anything since this was asked last?
    fn has_moved(&mut self) -> bool;

    /// Bytes that the client has not taken, wherever they are.
    fn unsent(&self) -> usize;

    /// Bytes that wait here: of these, what is lost when the exchange ends now.
    fn waiting(&self) -> usize;

    /// Its one timer.
    fn clock(&mut self) -> &mut Clock;

    /// Lends a buffer that has served to the next bytes that wait.
    fn lend(&mut self, _buffer: BytesMut) {}

    /// The connection itself, what was read of it, and what it has not taken. `None` where it carries other exchanges.
    fn into_tunnel(self) -> Option<(Stream, Vec<u8>, Vec<u8>)>;

    /// Makes the client ready for its next request, or ends it. Returns it in the first case.
    fn end(self, after: After) -> impl Future<Output = Option<Self>> + Send;
}

/// Sends a piece, and waits until all of it is taken. A client that takes nothing for as long as `patience` is given up.
pub(super) async fn send<C: Client>(
    client: &mut C,
    piece: Piece<'_>,
    end: bool,
    plan: &Plan,
    patience: Option<Duration>,
) -> io::Result<()> {
    if end || !piece.bytes().is_empty() {
        poll_fn(|cx| Poll::Ready(client.content(cx, piece, end, plan))).await?;
    }
    flush(client, patience).await
}

/// Waits until all that waits is taken.
pub(super) async fn flush<C: Client>(client: &mut C, patience: Option<Duration>) -> io::Result<()> {
    let mut last = Instant::now();
    poll_fn(|cx| {
        let flushed = client.poll_flush(cx);
        if client.has_moved() {
            last = Instant::now();
        }
        match flushed {
            Poll::Pending if client.clock().poll(patience.map(|patience| last + patience), cx) => {
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            flushed => flushed,
        }
    })
    .await
}
