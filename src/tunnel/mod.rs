//! A tunnel as it should be: two directions, and neither waits for the other.
//!
//! A trap of pingora-proxy 0.9.1: while it waits for one side to take bytes, it reads nothing from that side. An endpoint
//! that sends back a whole message before it reads the next one, and a client that sends the next one meanwhile, get on
//! without a proxy. With one they wait forever once the sockets are full: the endpoint for its answer to be read, Pingora for
//! the endpoint to read.
//!
//! So both sides of a tunnel are wrapped in an [`End`] below Pingora, for which no write ever waits: what the other
//! side's socket does not take is kept. As long as more than 64 KiB is kept for one side, nothing is read from the other
//! one, so that a sender feels how fast the receiver is, and what is kept is bounded: by that, and by the pieces that Pingora has
//! on their way then, half a dozen of 64 KiB at most. A direction depends on its own receiver alone, and bytes that stand
//! still in one hold up nothing in the other.
//!
//! Before the tunnel is open, an [`End`] is not there but for a look at a flag. What an end still keeps when Pingora is
//! through with it is delivered by the [`Parting`].

mod end;
mod parting;
#[cfg(test)]
mod tests;

use std::{
    fmt::Debug,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite};

use self::parting::Estate;
pub use self::{
    end::End,
    parting::{LINGER, Parting},
};

/// One of Pingora's pieces. A side that says less while the other takes nothing is still read from, and so the end of one that
/// went away is found out.
const ENOUGH: usize = 64 * 1024;

/// What carries the bytes of one side.
pub trait Carrier: AsyncRead + AsyncWrite + Unpin + Send + Sync + Debug + 'static {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + Sync + Debug + 'static> Carrier for T {}

/// The sides of a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Who asked for it.
    Client,
    /// Who agreed to it.
    Endpoint,
}

impl Side {
    fn other(self) -> Self {
        match self {
            Self::Client => Self::Endpoint,
            Self::Endpoint => Self::Client,
        }
    }
}

/// What the two ends of a tunnel tell each other.
#[derive(Debug)]
pub struct Tunnel {
    open: AtomicBool,
    client: Shared,
    endpoint: Shared,
    estate: Estate,
}

#[derive(Debug, Default)]
struct Shared {
    /// More is kept for this side than [`ENOUGH`].
    full: AtomicBool,
    /// Who reads from this side, and must wait.
    reader: AtomicWaker,
}

impl Tunnel {
    /// One that may come to be, and who sees to it that nothing is lost when it ends.
    pub fn new() -> (Arc<Self>, Parting) {
        let parting = Parting::default();
        let tunnel = Self {
            open: AtomicBool::new(false),
            client: Shared::default(),
            endpoint: Shared::default(),
            estate: parting.estate(),
        };
        (Arc::new(tunnel), parting)
    }
    /// The upstream has agreed: from here on bytes flow freely.
    pub fn open(&self) {
        self.open.store(true, Ordering::Release);
        self.client.reader.wake();
    }
    /// Has the upstream agreed?
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }
    /// Ready when it is open; the reader of the client's side is woken when it opens.
    pub fn poll_open(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_open() {
            return Poll::Ready(());
        }
        self.client.reader.register(cx.waker());
        if self.is_open() { Poll::Ready(()) } else { Poll::Pending }
    }

    fn side(&self, side: Side) -> &Shared {
        match side {
            Side::Client => &self.client,
            Side::Endpoint => &self.endpoint,
        }
    }
    /// So many bytes are kept for this side; when those are few again, the other one is read again.
    fn keeps(&self, side: Side, bytes: usize) {
        let full = bytes > ENOUGH;
        if self.side(side).full.swap(full, Ordering::AcqRel) && !full {
            self.side(side.other()).reader.wake();
        }
    }
    /// Ready when this side may be read: not too much is kept for the other one.
    fn poll_readable(&self, side: Side, cx: &mut Context<'_>) -> Poll<()> {
        let full = &self.side(side.other()).full;
        if !full.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        self.side(side).reader.register(cx.waker());
        if full.load(Ordering::Acquire) { Poll::Pending } else { Poll::Ready(()) }
    }
}
