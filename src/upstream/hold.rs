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

use async_trait::async_trait;
use futures_util::task::AtomicWaker;
use pingora_core::{
    Result,
    connectors::l4::Connect,
    protocols::l4::{
        ext::{connect, connect_uds, set_tcp_keepalive},
        socket::SocketAddr,
        stream::Stream,
        virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream},
    },
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
    time::Sleep,
};

use crate::tunnel::{Carrier, End, Side, Tunnel};

/// No read waits longer than this, whatever becomes of the request. What is waited for has no need of the network and
/// takes microseconds.
const LONGEST: Duration = Duration::from_secs(1);

/// Reads pass. So they do at first, since a TLS handshake reads.
const OPEN: u8 = 0;
/// Reads wait: the head is being written.
const HEAD: u8 = 1;
/// Reads wait: the head was written.
const BODY: u8 = 2;
/// The request is over: there is nothing to read any more.
const OVER: u8 = 3;

/// A try's hand on the connection that is made for it. When it is let go, the connection reads as closed.
///
/// That keeps the connection of a refused upgrade out of Pingora's pool, which tells connections apart by their
/// descriptors; one made by a connector like this has none to show.
#[derive(Debug)]
pub struct Hold(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    stage: AtomicU8,
    reader: AtomicWaker,
    tunnel: Arc<Tunnel>,
}

impl Hold {
    pub(super) fn new(tunnel: Arc<Tunnel>) -> Self {
        Self(Arc::new(Shared { stage: AtomicU8::new(OPEN), reader: AtomicWaker::new(), tunnel }))
    }
    /// Makes the connection.
    pub(super) fn connector(&self) -> Arc<dyn Connect + Send + Sync> {
        Arc::new(Connector(self.0.clone()))
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

#[derive(Debug)]
struct Connector(Arc<Shared>);

#[async_trait]
impl Connect for Connector {
    /// As Pingora connects by itself, without what Weir never asks of it (source addresses, options before the connect).
    /// The timeout of the whole, which includes TLS, is Pingora's still, and so are keepalive and TLS.
    async fn connect(&self, address: &SocketAddr) -> Result<Stream> {
        let shared = self.0.clone();
        let socket: Box<dyn VirtualSocket> = match address {
            SocketAddr::Inet(address) => Box::new(Held::new(connect(address, None).await?, shared)),
            SocketAddr::Unix(address) => {
                let path = address.as_pathname().unwrap_or(std::path::Path::new(""));
                Box::new(Held::new(connect_uds(path).await?, shared))
            }
        };
        Ok(Stream::from(VirtualSocketStream::new(socket)))
    }
}

/// A socket whose reads wait when they must.
#[derive(Debug)]
struct Held<S: Carrier> {
    end: End<S>,
    shared: Arc<Shared>,
    /// Made by the first read that waits.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<S: Carrier> Held<S> {
    fn new(socket: S, shared: Arc<Shared>) -> Self {
        Self { end: End::new(socket, Side::Endpoint, shared.tunnel.clone()), shared, timer: None }
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

impl VirtualSocket for Held<TcpStream> {
    fn set_socket_option(&self, option: VirtualSockOpt) -> io::Result<()> {
        let Some(socket) = self.end.get_ref() else { return Ok(()) };
        match option {
            VirtualSockOpt::NoDelay => socket.set_nodelay(true),
            VirtualSockOpt::KeepAlive(keepalive) => set_tcp_keepalive(socket, &keepalive).map_err(io::Error::other),
            _ => Ok(()),
        }
    }
}

impl VirtualSocket for Held<UnixStream> {
    fn set_socket_option(&self, _: VirtualSockOpt) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use futures_util::FutureExt;
    use pingora_core::upstreams::peer::Peer;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
        net::TcpListener,
    };

    use super::*;
    use crate::upstream::{hold_answer, tests::first_peer};

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

    #[tokio::test]
    async fn a_socket_takes_the_options_of_any_other() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let socket = connect(&listener.local_addr().unwrap(), None).await.unwrap();
        let held = Held::new(socket, Hold::new(Tunnel::new().0).0.clone());
        let keepalive = crate::upstream::peer::keepalive();
        held.set_socket_option(VirtualSockOpt::KeepAlive(keepalive)).unwrap();
        held.set_socket_option(VirtualSockOpt::NoDelay).unwrap();
        let socket = socket2::SockRef::from(held.end.get_ref().unwrap());
        assert!(socket.keepalive().unwrap() && socket.tcp_nodelay().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(60));
    }

    #[test]
    fn only_a_tunnel_over_http1_gets_a_connection_of_its_own() {
        let plain = "{endpoints: ['127.0.0.1:1']}";
        let mut peers = [first_peer(plain), first_peer(plain)];
        assert!(peers.iter().all(|peer| peer.options.custom_l4.is_none()));
        let ordinary = peers[0].reuse_hash();
        let tunnel = Tunnel::new().0;
        let _holds: Vec<_> = peers.iter_mut().map(|peer| hold_answer(peer, &tunnel).unwrap()).collect();
        assert!(peers.iter().all(|peer| peer.options.custom_l4.is_some() && peer.reuse_hash() != ordinary));
        assert_ne!(peers[0].reuse_hash(), peers[1].reuse_hash());
        let mut h2c = first_peer("{endpoints: ['127.0.0.1:1'], connections: {protocol: h2c}}");
        assert!(hold_answer(&mut h2c, &tunnel).is_none() && h2c.options.custom_l4.is_none());
    }
}
