//! An HTTP/1 connection as Pingora sees it: one message at a time, and never a byte of the next.
//!
//! The driver (`listener::h1`) reads and checks each head itself. While Pingora works on the message, this
//! stream counts and checks the body's framing and stops at its end. That makes three things hold whatever
//! Pingora does: malformed chunks are refused (`http.md` rule 1), pipelined requests wait their turn, and no
//! byte is taken for tunnel data before the upstream has agreed to a tunnel (rule 12).
//!
//! It also gives up a client that takes nothing of what is written. Pingora times its writes of bodies, and waits for a head
//! or a flush however long they take: answers without a body would hold a connection for as long as nobody reads them.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use pingora_core::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest, UniqueID, UniqueIDType,
    raw_connect::ProxyDigest,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::pingora_stream::pingora_stream;
use crate::{
    gate::{BodyFraming, Limits, chunked::ChunkValidator},
    pace::Watch,
    proxy::Link,
    tunnel::{End, Tunnel},
    wire::{Patience, Transport},
};

/// How the bytes behind the current head are to be understood.
#[derive(Debug)]
enum Framing {
    /// All of the message was read.
    Complete,
    Length(u64),
    Chunked(Box<ChunkValidator>),
    /// Nothing more until the tunnel opens, then everything.
    Upgrade(Arc<Tunnel>),
}

/// One downstream HTTP/1 connection.
#[derive(Debug)]
pub struct H1Stream {
    transport: Transport,
    /// Bytes read and not yet used: of the next head, or of the body.
    ahead: BytesMut,
    framing: Framing,
    link: Arc<Link>,
    watch: Watch,
    /// With a client that takes nothing.
    patience: Patience,
    /// What the kernel had taken when that was last told.
    told: u64,
}

/// Pipelined bytes that are taken in while a request is being served; the rest waits in the socket.
const AHEAD: usize = 4096;

impl H1Stream {
    /// A connection, and what was read of it behind the head of the request that is served. A client that takes nothing of what is
    /// written to it for this long is given up, outside of tunnels.
    pub fn new(transport: Transport, ahead: BytesMut, patience: Option<Duration>) -> Self {
        let patience = Patience::new(patience);
        let (link, watch) = (Arc::default(), Watch::default());
        Self { transport, ahead, framing: Framing::Complete, link, watch, patience, told: 0 }
    }

    /// The connection itself and what was read of it.
    pub fn into_parts(self) -> (Transport, BytesMut) {
        (self.transport, self.ahead)
    }

    /// Starts a message whose head was taken off, and which may ask for a tunnel.
    pub fn begin(&mut self, body: BodyFraming, tunnel: Option<Arc<Tunnel>>, limits: &Limits) -> Arc<Link> {
        self.framing = match (body, &tunnel) {
            (BodyFraming::None | BodyFraming::Length(0), Some(tunnel)) => Framing::Upgrade(tunnel.clone()),
            // `Stream` is HTTP/2's, whose bodies do not come this way.
            (BodyFraming::None | BodyFraming::Stream | BodyFraming::Length(0), _) => Framing::Complete,
            (BodyFraming::Length(length), _) => Framing::Length(length),
            (BodyFraming::Chunked, _) => Framing::Chunked(Box::new(ChunkValidator::new(limits))),
        };
        self.link = Arc::new(Link::new(tunnel));
        self.watch.renew();
        self.link.clone()
    }

    /// Was the whole message read, so that the next one may begin? An upgrade that was answered without one had no body.
    pub fn is_complete(&self) -> bool {
        match &self.framing {
            Framing::Complete => true,
            // Refused an upgrade, the connection goes on with HTTP; what was sent for the tunnel must be a request.
            Framing::Upgrade(tunnel) => !tunnel.is_open(),
            Framing::Length(_) | Framing::Chunked(_) => false,
        }
    }

    /// Reads body bytes, from what was read ahead or from the connection, never past `limit`.
    fn poll_some(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>, limit: usize) -> Poll<io::Result<usize>> {
        if !self.ahead.is_empty() {
            let taken = self.ahead.len().min(limit).min(buf.remaining());
            buf.put_slice(&self.ahead[..taken]);
            self.ahead.advance(taken);
            if self.ahead.is_empty() {
                self.ahead = BytesMut::new();
            }
            return Poll::Ready(Ok(taken));
        }
        let mut limited = buf.take(limit);
        ready!(Pin::new(&mut self.transport).poll_read(cx, &mut limited))?;
        let read = limited.filled().len();
        // SAFETY: `limited` borrows the unfilled part of `buf`, and `read` bytes of it were just filled.
        unsafe { buf.assume_init(read) };
        buf.advance(read);
        Poll::Ready(Ok(read))
    }

    /// Reads of the current message, as its framing allows.
    fn poll_message(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.framing {
            Framing::Complete => self.poll_idle(cx),
            Framing::Length(left) => {
                let limit = usize::try_from(*left).unwrap_or(usize::MAX);
                let read = ready!(self.poll_some(cx, buf, limit))?;
                if let Framing::Length(left) = &mut self.framing {
                    *left -= read as u64;
                    if *left == 0 {
                        self.framing = Framing::Complete;
                    }
                }
                Poll::Ready(Ok(()))
            }
            Framing::Chunked(_) => self.poll_chunked(cx, buf),
            Framing::Upgrade(tunnel) => match tunnel.poll_open(cx) {
                Poll::Ready(()) => self.poll_some(cx, buf, usize::MAX).map_ok(|_| ()),
                Poll::Pending => self.poll_idle(cx),
            },
        }
    }

    fn poll_chunked(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = ready!(self.poll_some(cx, buf, usize::MAX))?;
        let Framing::Chunked(validator) = &mut self.framing else { return Poll::Ready(Ok(())) };
        match validator.feed(&buf.filled()[before..]) {
            Ok(fed) => {
                // What follows the message is the next request's.
                if fed.used < read {
                    let mut rest = BytesMut::from(&buf.filled()[before + fed.used..]);
                    rest.unsplit(std::mem::take(&mut self.ahead));
                    self.ahead = rest;
                    buf.set_filled(before + fed.used);
                }
                if fed.complete {
                    self.framing = Framing::Complete;
                }
                Poll::Ready(Ok(()))
            }
            Err(refusal) => {
                self.link.refuse(refusal);
                buf.set_filled(before);
                Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, refusal.reason())))
            }
        }
    }

    /// Between the end of a request and the end of its response: notices a client that goes away, and
    /// keeps what a pipelining client sends.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.ahead.len() < AHEAD {
            let Self { transport, ahead, .. } = self;
            let mut space = [std::mem::MaybeUninit::uninit(); AHEAD];
            let mut probe = ReadBuf::uninit(&mut space);
            ready!(Pin::new(transport).poll_read(cx, &mut probe))?;
            if probe.filled().is_empty() {
                // A client that pipelined its requests and closed its side still wants its answers.
                return if ahead.is_empty() { Poll::Ready(Ok(())) } else { Poll::Pending };
            }
            ahead.extend_from_slice(probe.filled());
        }
        // The reader is asked again after the response; nothing to wait for until then.
        Poll::Pending
    }
}

impl AsyncRead for H1Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { watch, link, .. } = &mut *self;
        if watch.poll(link.pace(), cx).is_some() {
            link.pace().window.abandon();
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let before = buf.filled().len();
        let read = match &self.framing {
            // The next piece of a body is read when the endpoint has room for it.
            Framing::Length(_) | Framing::Chunked(_) if self.link.pace().upload.poll_ready(cx).is_pending() => Poll::Pending,
            _ => self.poll_message(cx, buf),
        };
        if read.is_pending() {
            self.transport.push(cx);
            self.account();
        } else if buf.filled().len() == before {
            // The client is gone, and nobody will read from it again. What is being stored for others goes on.
            self.link.pace().window.abandon();
        }
        read
    }
}

impl H1Stream {
    /// What the transport says to a write, or that the client has taken nothing for too long. A tunnel has a patience of its own.
    fn poll_taken<T>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut Transport>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let written = write(Pin::new(&mut self.transport), cx);
        self.account();
        let in_tunnel = || matches!(&self.framing, Framing::Upgrade(tunnel) if tunnel.is_open());
        if written.is_pending() && !in_tunnel() && self.patience.poll_over(cx, self.transport.sent()) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if let Poll::Ready(Err(_)) = &written {
            self.link.pace().window.abandon();
        }
        written
    }

    /// Tells how much of the response the kernel has taken since the last time. What waits in between, in a TLS record or for a flush, is
    /// still in this process.
    fn account(&mut self) {
        let sent = self.transport.sent();
        if sent != self.told {
            self.link.pace().window.taken((sent - self.told) as usize);
            self.told = sent;
        }
    }
}

impl AsyncWrite for H1Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_taken(cx, |transport, cx| transport.poll_write(cx, bytes))
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_taken(cx, |transport, cx| transport.poll_write_vectored(cx, pieces))
    }
    fn is_write_vectored(&self) -> bool {
        true
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_taken(cx, Transport::poll_flush))?;
        self.patience.calm();
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.link.is_broken() {
            ready!(self.poll_taken(cx, Transport::poll_flush))?;
            self.transport.break_off();
            return Poll::Ready(Ok(()));
        }
        self.poll_taken(cx, Transport::poll_shutdown)
    }
}

pingora_stream!(H1Stream);
pingora_stream!(End<H1Stream>);

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::{io::AsyncReadExt, net::UnixStream, task::unconstrained, time};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// A connection to a client that takes nothing, when no more fits into its socket.
    async fn full() -> (H1Stream, UnixStream) {
        let (near, far) = UnixStream::pair().unwrap();
        let mut stream = H1Stream::new(Transport::plain(near.into()), BytesMut::new(), Some(PATIENCE));
        while unconstrained(stream.write_all(&[0; 1000])).now_or_never().is_some() {}
        (stream, far)
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_response_is_not_waited_for_longer_than_the_rest() {
        let (mut stream, _far) = full().await;
        let began = time::Instant::now();
        assert_eq!(stream.flush().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed().as_secs(), 30);
        AsyncWriteExt::shutdown(&mut stream).await.unwrap_err();
        assert_eq!(began.elapsed().as_secs(), 30, "nor again for the end of the connection");
        let (mut stream, _far) = full().await;
        AsyncWriteExt::shutdown(&mut stream).await.unwrap_err();
        assert_eq!(began.elapsed().as_secs(), 60);
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_something_in_time_gets_all_of_it() {
        let (mut stream, mut far) = full().await;
        let reading = async {
            time::sleep(PATIENCE - Duration::from_secs(1)).await;
            let mut all = Vec::new();
            far.read_to_end(&mut all).await.unwrap()
        };
        let (sent, read) = tokio::join!(AsyncWriteExt::shutdown(&mut stream), reading);
        sent.unwrap();
        assert_ne!(read, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_tunnel_is_sent_may_wait() {
        let (mut stream, _far) = full().await;
        let (tunnel, _parting) = Tunnel::new();
        stream.begin(BodyFraming::None, Some(tunnel.clone()), &Limits::default());
        tunnel.open();
        assert!(time::timeout(2 * PATIENCE, stream.flush()).await.is_err(), "it waits");
    }
}
