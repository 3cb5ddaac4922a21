//! One side of a tunnel, as Pingora sees it.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Carrier, Side, Tunnel};

/// A stream whose writes, once the tunnel is open, never wait.
///
/// What is kept is sent whenever the end is read from, written to or flushed. Pingora reads from both sides of a tunnel all the
/// time, in one task: so that task is woken when more can be sent.
#[derive(Debug)]
pub struct End<S: Carrier> {
    /// Gone only when the end is.
    stream: Option<S>,
    side: Side,
    tunnel: Arc<Tunnel>,
    /// Taken from Pingora, and not by the stream.
    kept: BytesMut,
    /// The stream was not flushed since the last write.
    unflushed: bool,
    /// Why the stream takes nothing any more.
    failed: Option<io::Error>,
    /// Nothing more comes.
    ended: bool,
}

impl<S: Carrier> End<S> {
    /// This side of the tunnel.
    pub fn new(stream: S, side: Side, tunnel: Arc<Tunnel>) -> Self {
        let (kept, unflushed, failed, ended) = (BytesMut::new(), false, None, false);
        Self { stream: Some(stream), side, tunnel, kept, unflushed, failed, ended }
    }

    /// The stream itself.
    pub fn get_ref(&self) -> Option<&S> {
        self.stream.as_ref()
    }

    /// The stream itself, for which no tunnel was opened.
    pub fn into_inner(mut self) -> Option<S> {
        self.stream.take()
    }

    /// Lets the stream go as it is: the tunnel is another's.
    pub fn abandon(&mut self) {
        self.stream = None;
    }

    fn stream(&mut self) -> io::Result<Pin<&mut S>> {
        self.stream.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Sends what is kept, as far as it is taken now.
    fn push(&mut self, cx: &mut Context<'_>) {
        if let Poll::Ready(Err(error)) = self.poll_push(cx) {
            self.fail(error);
        }
    }

    fn poll_push(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(Ok(())) };
        while !self.kept.is_empty() {
            let taken = ready!(Pin::new(&mut *stream).poll_write(cx, &self.kept))?;
            if taken == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.kept.advance(taken);
            self.unflushed = true;
            if self.kept.is_empty() {
                // A quiet tunnel holds no buffer.
                self.kept = BytesMut::new();
            }
            self.tunnel.keeps(self.side, self.kept.len());
        }
        if self.unflushed {
            ready!(Pin::new(stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// This side takes nothing any more. What it has said up to here goes on, and so it is by reading that Pingora learns how this
    /// side has ended; meanwhile what is meant for it has nowhere to go.
    fn fail(&mut self, error: io::Error) {
        self.failed = Some(error);
        self.kept = BytesMut::new();
        self.unflushed = false;
        self.tunnel.keeps(self.side, 0);
    }

    fn poll_stream(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.remaining();
        let read = ready!(self.stream()?.poll_read(cx, buf));
        self.ended |= read.is_err() || (before > 0 && buf.remaining() == before);
        match &self.failed {
            // A broken pipe is that of a side which has ended in order, and wanted to hear no more.
            Some(error) if self.ended && error.kind() != io::ErrorKind::BrokenPipe => {
                Poll::Ready(Err(io::Error::new(error.kind(), error.to_string())))
            }
            _ => Poll::Ready(read),
        }
    }
}

impl<S: Carrier> AsyncRead for End<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.tunnel.is_open() {
            return this.stream()?.poll_read(cx, buf);
        }
        this.push(cx);
        ready!(this.tunnel.poll_readable(this.side, cx));
        this.poll_stream(cx, buf)
    }
}

impl<S: Carrier> AsyncWrite for End<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if !this.tunnel.is_open() {
            return this.stream()?.poll_write(cx, bytes);
        }
        if this.failed.is_some() {
            return Poll::Ready(Ok(bytes.len()));
        }
        if this.kept.is_empty() {
            match this.stream()?.poll_write(cx, bytes) {
                Poll::Pending => {}
                Poll::Ready(Ok(taken)) => {
                    this.unflushed = true;
                    return Poll::Ready(Ok(taken));
                }
                Poll::Ready(Err(error)) => {
                    this.fail(error);
                    return Poll::Ready(Ok(bytes.len()));
                }
            }
        }
        this.kept.extend_from_slice(bytes);
        this.tunnel.keeps(this.side, this.kept.len());
        Poll::Ready(Ok(bytes.len()))
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.tunnel.is_open() {
            return self.stream()?.poll_flush(cx);
        }
        self.push(cx);
        Poll::Ready(Ok(()))
    }
    /// The [`Parting`](super::Parting) does it, behind everything that is kept.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.tunnel.is_open() { self.poll_flush(cx) } else { self.stream()?.poll_shutdown(cx) }
    }
}

impl<S: Carrier> Drop for End<S> {
    fn drop(&mut self) {
        let Some(stream) = self.stream.take() else { return };
        self.tunnel.keeps(self.side, 0);
        if self.tunnel.is_open() && self.failed.is_none() {
            self.tunnel.estate.leave(Box::new(stream), std::mem::take(&mut self.kept), self.ended);
        }
    }
}
