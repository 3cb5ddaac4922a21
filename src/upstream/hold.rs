//! Holds back an endpoint's answer to a request for a tunnel until that request was passed on whole.
//!
//! A trap of pingora-proxy 0.9.1 (cloudflare/pingora#946): where it reads the 101 before it has handled the end of the
//! request's own, empty body, it takes that end for the tunnel's, and closes it. When both are there at once, chance
//! decides which comes first; that is so with an endpoint that is quick, and on a busy machine with any. No phase of
//! Pingora comes in between. But at the socket the order can be seen, and kept: Pingora flushes behind the head, and
//! once more when it has handled the end of the body. Between the two, reads wait; nothing else does.
//!
//! When Pingora is mended, reads need not wait, and what is left is the connection that is the endpoint's end of the tunnel
//! ([`crate::tunnel`]). The tests in `tests/it/websockets.rs` tell whether it is.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::task::AtomicWaker;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

use super::io::pingora_io;
use crate::{
    tunnel::{Carrier, End, Side, Tunnel},
    wire::Stream,
};

/// No read waits longer than this, whatever becomes of the request. What is waited for has no need of the network and
/// takes microseconds.
const LONGEST: Duration = Duration::from_secs(1);

/// Reads pass.
const OPEN: u8 = 0;
/// Reads wait: the head is being written.
const HEAD: u8 = 1;
/// Reads wait: the head was written.
const BODY: u8 = 2;
/// The request is over: there is nothing to read any more.
const OVER: u8 = 3;

/// A try's hand on the connection that is made for it. When it is let go, the connection reads as closed.
///
/// That keeps the connection of a refused upgrade out of Pingora's pool.
#[derive(Debug)]
pub struct Hold(Arc<Shared>);

/// What a try and its connection tell each other.
#[derive(Debug)]
pub(super) struct Shared {
    stage: AtomicU8,
    reader: AtomicWaker,
    tunnel: Arc<Tunnel>,
}

impl Hold {
    pub(super) fn new(tunnel: Arc<Tunnel>) -> Self {
        Self(Arc::new(Shared { stage: AtomicU8::new(OPEN), reader: AtomicWaker::new(), tunnel }))
    }
    /// The connection's part, for [`Held::new`].
    pub(super) fn shared(&self) -> Arc<Shared> {
        self.0.clone()
    }
    /// A number that no other one has as long as its connection exists.
    pub(super) fn number(&self) -> u64 {
        Arc::as_ptr(&self.0).addr() as u64
    }
    /// The request is about to be sent: from here on what comes is its answer.
    pub fn begin(&self) {
        self.0.stage.store(HEAD, Ordering::Release);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.go_on(OVER);
    }
}

impl Shared {
    fn stage(&self) -> u8 {
        self.stage.load(Ordering::Acquire)
    }
    fn go_on(&self, stage: u8) {
        self.stage.store(stage, Ordering::Release);
        self.reader.wake();
    }
    fn flushed(&self) {
        match self.stage() {
            HEAD => self.go_on(BODY),
            BODY => self.go_on(OPEN),
            _ => {}
        }
    }
}

/// A connection whose reads wait when they must.
#[derive(Debug)]
pub(super) struct Held<S: Carrier> {
    end: End<S>,
    shared: Arc<Shared>,
    /// Made by the first read that waits.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<S: Carrier> Held<S> {
    /// The connection that this try was made for.
    pub(super) fn new(stream: S, shared: Arc<Shared>) -> Self {
        Self { end: End::new(stream, Side::Endpoint, shared.tunnel.clone()), shared, timer: None }
    }

    /// Ready when reads may pass.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !matches!(self.shared.stage(), HEAD | BODY) {
            return Poll::Ready(());
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(LONGEST)));
        ready!(timer.as_mut().poll(cx));
        log::warn!("an endpoint's answer waited {LONGEST:?} for the end of the request");
        self.shared.go_on(OPEN);
        Poll::Ready(())
    }
}

impl<S: Carrier> AsyncRead for Held<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // First, so that no change of stage is missed.
        self.shared.reader.register(cx.waker());
        ready!(self.poll_open(cx));
        if self.shared.stage() == OVER {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.end).poll_read(cx, buf)
    }
}

impl<S: Carrier> AsyncWrite for Held<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.end).poll_write(cx, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.end).poll_flush(cx))?;
        self.shared.flushed();
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.end).poll_shutdown(cx)
    }
}

impl<S: Carrier> Drop for Held<S> {
    fn drop(&mut self) {
        if self.shared.stage() == OVER {
            // The try was given up before its connection: should there be a tunnel, it is that of a later one.
            self.end.abandon();
        }
    }
}

pingora_io!(Held<Stream>, this => this.end.get_ref());

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use pingora_core::upstreams::peer::Peer;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;
    use crate::upstream::{hold_answer, peer::Way, tests::first_peer};

    /// A connection to an endpoint that has answered already, whose request is about to be sent.
    async fn answered() -> (Hold, Held<DuplexStream>, DuplexStream) {
        let (near, mut far) = duplex(64);
        far.write_all(b"answer").await.unwrap();
        let hold = Hold::new(Tunnel::new().0);
        let held = Held::new(near, hold.0.clone());
        hold.begin();
        (hold, held, far)
    }

    async fn read(held: &mut Held<DuplexStream>) -> Vec<u8> {
        let mut bytes = vec![0; 16];
        let count = held.read(&mut bytes).await.unwrap();
        bytes.truncate(count);
        bytes
    }

    #[tokio::test]
    async fn reads_wait_from_the_head_to_the_second_flush_and_writes_never() {
        let (_hold, mut held, mut far) = answered().await;
        assert!(read(&mut held).now_or_never().is_none(), "the head is not written");
        held.write_all(b"head").await.unwrap();
        held.flush().await.unwrap();
        assert!(read(&mut held).now_or_never().is_none(), "the body's end was not handled");
        let mut head = [0; 4];
        far.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"head");
        // The reader that waits is woken, not only one that comes later.
        let (mut reader, mut writer) = tokio::io::split(held);
        let mut answer = [0; 6];
        let (read, _) = tokio::join!(reader.read_exact(&mut answer), async {
            tokio::task::yield_now().await;
            writer.flush().await.unwrap();
        });
        assert_eq!((read.unwrap(), &answer), (6, b"answer"));
        writer.flush().await.unwrap();
        far.write_all(b"more").await.unwrap();
        assert_eq!(reader.read(&mut answer).await.unwrap(), 4, "for good");
    }

    #[tokio::test]
    async fn reads_pass_before_the_request() {
        let (near, mut far) = duplex(64);
        let hold = Hold::new(Tunnel::new().0);
        let mut held = Held::new(near, hold.0.clone());
        for _ in 0..3 {
            held.flush().await.unwrap();
            far.write_all(b"greeting").await.unwrap();
            assert_eq!(read(&mut held).await, b"greeting");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_waits_forever() {
        let (_hold, mut held, _far) = answered().await;
        let began = tokio::time::Instant::now();
        assert_eq!(read(&mut held).await, b"answer");
        assert!(began.elapsed() >= LONGEST && began.elapsed() < LONGEST * 2);
    }

    #[tokio::test]
    async fn the_connection_of_a_request_that_is_over_reads_as_closed() {
        let (hold, mut held, _far) = answered().await;
        held.flush().await.unwrap();
        held.flush().await.unwrap();
        assert_eq!(read(&mut held).await, b"answer");
        let (read, ()) = tokio::join!(read(&mut held), async { drop(hold) });
        assert!(read.is_empty());
    }

    #[tokio::test]
    async fn the_connection_of_an_earlier_try_is_no_end_of_the_tunnel() {
        let (tunnel, _parting) = Tunnel::new();
        let (near, mut far) = duplex(64);
        let hold = Hold::new(tunnel.clone());
        let held = Held::new(near, hold.0.clone());
        drop(hold);
        tunnel.open();
        drop(held);
        assert_eq!(far.read(&mut [0; 1]).now_or_never().expect("closed at once").unwrap(), 0);
    }

    #[test]
    fn only_a_tunnel_over_http1_gets_a_connection_of_its_own() {
        let plain = "{endpoints: ['127.0.0.1:1']}";
        let mut peers = [first_peer(plain), first_peer(plain)];
        assert!(peers.iter().all(|peer| Way::of(peer).hold.is_none()));
        let ordinary = peers[0].reuse_hash();
        let tunnel = Tunnel::new().0;
        let _holds: Vec<_> = peers.iter_mut().map(|peer| hold_answer(peer, &tunnel).unwrap()).collect();
        assert!(peers.iter().all(|peer| Way::of(peer).hold.is_some() && peer.reuse_hash() != ordinary));
        assert_ne!(peers[0].reuse_hash(), peers[1].reuse_hash());
        let mut h2c = first_peer("{endpoints: ['127.0.0.1:1'], connections: {protocol: h2c}}");
        assert!(hold_answer(&mut h2c, &tunnel).is_none() && Way::of(&h2c).hold.is_none());
    }
}
