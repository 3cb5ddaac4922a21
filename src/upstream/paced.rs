//! An HTTP/1 connection to an endpoint that is read at the pace of the client.

use std::{
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use super::{io::pingora_io, strict::Strict};
use crate::{pace::Pace, wire::Stream};

/// Reads no more than the exchange has room for. In the pool, where it serves none, reads pass.
#[derive(Debug)]
pub(super) struct Paced {
    stream: Stream,
    /// Of a read whose client is gone.
    timer: Option<Pin<Box<Sleep>>>,
    /// The last write had to wait. Nothing is read while one does, so that a read finds this only of one that was given up.
    stuck: bool,
    /// What the response must be, and the attempt that it answers.
    strict: Strict,
    attempt: u64,
}

impl Paced {
    pub(super) fn new(stream: Stream) -> Self {
        Self { stream, timer: None, stuck: false, strict: Strict::default(), attempt: 0 }
    }

    /// Bytes of a request are written, the first ones of which begin an attempt.
    fn writing(&mut self, bytes: &[u8]) {
        if let Some(attempt) = Pace::with(|pace| pace.window.attempt())
            && attempt != self.attempt
        {
            (self.attempt, self.strict) = (attempt, Strict::begin(bytes));
        }
    }

    /// Nothing came. Resolves when it has not for too long, where nobody else sees to that.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.stuck {
            // In the time that the write was given it could have said why it takes nothing.
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let Some(patience) = Pace::with(Pace::orphaned).flatten() else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Paced {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.strict.closes() && Pace::with(|pace| pace.window.attempt()) != Some(self.attempt) {
            // Whoever looks whether it can be used again finds it closed, as it is about to be.
            return Poll::Ready(Ok(()));
        }
        let room = match Pace::with(|pace| pace.window.poll_room(cx)) {
            Some(room) => ready!(room),
            None => return Pin::new(&mut self.stream).poll_read(cx, buf),
        };
        let mut limited = buf.take(room);
        let Poll::Ready(filled) = Pin::new(&mut self.stream).poll_read(cx, &mut limited) else { return self.poll_silence(cx) };
        filled?;
        self.timer = None;
        let read = limited.filled().len();
        // SAFETY: `limited` borrows the unfilled part of `buf`, and `read` bytes of it were just filled.
        unsafe { buf.assume_init(read) };
        buf.advance(read);
        Pace::with(|pace| pace.window.read(read));
        let filled = buf.filled().len();
        let fresh = &buf.filled()[filled - read..];
        Poll::Ready(self.strict.feed(fresh).map_err(|reason| io::Error::new(io::ErrorKind::InvalidData, reason)))
    }
}

impl AsyncWrite for Paced {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.writing(bytes);
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.stuck = written.is_pending();
        written
    }
    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.writing(pieces.first().map_or(&[], |piece| piece));
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        self.stuck = written.is_pending();
        written
    }
    fn is_write_vectored(&self) -> bool {
        true
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

pingora_io!(Paced, this => Some(&this.stream));
