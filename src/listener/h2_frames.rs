//! An HTTP/2 connection under the observer that counts what floods are made of.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use parking_lot::Mutex;
use pingora_core::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest, UniqueID, UniqueIDType,
    raw_connect::ProxyDigest,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::pingora_stream::pingora_stream;
use crate::{
    gate::h2_frames::{Flood, FrameLimits, FrameObserver},
    pace::{Sending, SentFrames},
    wire::Transport,
};

/// Tells the driver of a flood that the stream has seen.
#[derive(Debug, Default)]
pub(super) struct Alarm(Mutex<Option<Flood>>);

impl Alarm {
    /// The flood, if there was one: to be asked whenever the connection has been polled.
    pub(super) fn raised(&self) -> Option<Flood> {
        *self.0.lock()
    }
}

/// The bytes of an HTTP/2 connection, observed on their way in and counted on their way out.
#[derive(Debug)]
pub(super) struct FrameStream {
    transport: Transport,
    ahead: BytesMut,
    observer: FrameObserver,
    sent: SentFrames,
    alarm: Arc<Alarm>,
}

impl FrameStream {
    pub(super) fn new(transport: Transport, ahead: BytesMut, limits: FrameLimits, sending: Arc<Sending>) -> (Self, Arc<Alarm>) {
        let alarm = Arc::<Alarm>::default();
        let (observer, sent) = (FrameObserver::from_preface(limits), SentFrames::new(sending));
        (Self { transport, ahead, observer, sent, alarm: alarm.clone() }, alarm)
    }

    /// The transport has taken so many of these bytes.
    fn wrote<'b>(&mut self, pieces: impl Iterator<Item = &'b [u8]>, count: usize) {
        self.observer.sent(count);
        let mut left = count;
        for piece in pieces {
            let taken = piece.len().min(left);
            self.sent.feed(&piece[..taken]);
            left -= taken;
        }
    }
}

impl AsyncRead for FrameStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        if this.ahead.is_empty() {
            ready!(Pin::new(&mut this.transport).poll_read(cx, buf))?;
        } else {
            let taken = this.ahead.len().min(buf.remaining());
            buf.put_slice(&this.ahead[..taken]);
            this.ahead.advance(taken);
        }
        let fresh = &buf.filled()[before..];
        if !fresh.is_empty()
            && let Err(flood) = this.observer.feed(fresh, Instant::now())
        {
            // The driver says GOAWAY; not one more byte is worked on until it does.
            *this.alarm.0.lock() = Some(flood);
            buf.set_filled(before);
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for FrameStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.transport).poll_write(cx, bytes))?;
        self.wrote(std::iter::once(bytes), count);
        Poll::Ready(Ok(count))
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.transport).poll_write_vectored(cx, pieces))?;
        self.wrote(pieces.iter().map(|piece| &**piece), count);
        Poll::Ready(Ok(count))
    }
    fn is_write_vectored(&self) -> bool {
        true
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_shutdown(cx)
    }
}

pingora_stream!(FrameStream);
