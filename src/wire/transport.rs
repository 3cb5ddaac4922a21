//! What carries the bytes of one connection: a socket, or TLS over it; buffered on the way out.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    task::coop,
};
use tokio_rustls::server::TlsStream;

use super::{Socket, Stream, WriteBuffer, stream::reset_on_close};

/// Cleartext or TLS, with small writes collected until a flush.
#[derive(Debug)]
pub struct Transport {
    inner: Inner,
    out: WriteBuffer,
    /// Something was written since the last flush.
    unflushed: bool,
}

#[derive(Debug)]
enum Inner {
    Plain(Socket),
    Tls(Box<TlsStream<Socket>>),
}

impl Transport {
    /// Cleartext.
    pub fn plain(socket: Socket) -> Self {
        Self { inner: Inner::Plain(socket), out: WriteBuffer::default(), unflushed: false }
    }
    /// TLS, after its handshake.
    pub fn tls(stream: TlsStream<Socket>) -> Self {
        Self { inner: Inner::Tls(Box::new(stream)), out: WriteBuffer::default(), unflushed: false }
    }

    /// How many bytes the kernel has taken so far, records and all.
    pub fn sent(&self) -> u64 {
        match &self.inner {
            Inner::Plain(socket) => socket.sent(),
            Inner::Tls(stream) => stream.get_ref().0.sent(),
        }
    }

    /// Writes these pieces as they are, collecting nothing: for whoever has a whole message in hand. What was collected must be out.
    pub fn poll_send(&mut self, cx: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let written = match &mut self.inner {
            Inner::Plain(socket) => ready!(Pin::new(socket).poll_write_vectored(cx, pieces)),
            Inner::Tls(stream) => ready!(Pin::new(stream.as_mut()).poll_write_vectored(cx, pieces)),
        };
        spend(written.as_ref().map_or(0, |count| *count), cx);
        Poll::Ready(written)
    }

    /// The connection itself, and what was put back of it. What was collected must be out.
    pub fn into_stream(self) -> (Stream, BytesMut) {
        match self.inner {
            Inner::Plain(socket) => socket.into_parts(),
            Inner::Tls(stream) => ((*stream).into(), BytesMut::new()),
        }
    }

    /// Lets the other end see a failure rather than an end when it is closed next. What was collected must be out.
    pub fn break_off(&self) {
        if let Inner::Plain(socket) = &self.inner {
            reset_on_close(socket);
        }
        // TLS ends without a close_notify, which says the same.
    }

    /// Starts to send what was collected, as far as the socket takes it now; for when there is nothing to read and thus
    /// nothing to do but wait. Pingora does not flush a response of known length before its end, and a piece of it may
    /// be all that comes for a long time. An error is found by the next write.
    pub fn push(&mut self, cx: &mut Context<'_>) {
        if self.unflushed {
            let _ = Pin::new(self).poll_flush(cx);
        }
    }
}

/// What counts as one operation of those that a task may do before others have their turn.
const OPERATION: usize = 1024;

/// Takes from the task's turn what writing so many bytes is worth. Tokio counts operations, 128 for a turn, and to it 64 KiB are one:
/// a client that takes everything at once would keep the worker to itself for 8 MiB, when what is sent to it is at hand.
fn spend(bytes: usize, cx: &mut Context<'_>) {
    for _ in 0..bytes / OPERATION {
        match coop::poll_proceed(cx) {
            Poll::Ready(operation) => operation.made_progress(),
            Poll::Pending => return,
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.inner {
            Inner::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Inner::Tls(stream) => match Pin::new(stream.as_mut()).poll_read(cx, buf) {
                // A peer that closes TCP without close_notify has closed, no more.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
                other => other,
            },
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }
    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let Self { inner, out, unflushed } = &mut *self;
        *unflushed = true;
        let written = match inner {
            Inner::Plain(socket) => ready!(out.poll_write(socket, cx, pieces)),
            Inner::Tls(stream) => ready!(out.poll_write(stream.as_mut(), cx, pieces)),
        };
        spend(written.as_ref().map_or(0, |count| *count), cx);
        Poll::Ready(written)
    }
    fn is_write_vectored(&self) -> bool {
        true
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { inner, out, unflushed } = &mut *self;
        match inner {
            Inner::Plain(socket) => {
                ready!(out.poll_drain(socket, cx))?;
                ready!(Pin::new(socket).poll_flush(cx))?;
            }
            Inner::Tls(stream) => {
                ready!(out.poll_drain(stream.as_mut(), cx))?;
                ready!(Pin::new(stream.as_mut()).poll_flush(cx))?;
            }
        }
        *unflushed = false;
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        match &mut self.inner {
            Inner::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Inner::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn two_long_writes_are_a_turn() {
        let turn = std::future::poll_fn(|cx| {
            let mut left = Vec::new();
            for bytes in [OPERATION - 1, 64 * OPERATION, 64 * OPERATION, 64 * OPERATION] {
                spend(bytes, cx);
                left.push(coop::has_budget_remaining());
            }
            Poll::Ready(left)
        });
        assert_eq!(tokio::spawn(turn).await.unwrap(), [true, true, false, false]);
    }
}
