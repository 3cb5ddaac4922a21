//! The end of a tunnel: what is kept is delivered, then each side is closed in order.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::timeout,
};

use super::Carrier;

/// A side that takes nothing for so long gets no more. Who takes something gets everything.
const STALLED: Duration = Duration::from_secs(60);

/// How long a side that was told of the end may go on talking. To close while it does would reset the connection and
/// could destroy what is on its way to it (RFC 9112 section 9.6).
pub const LINGER: Duration = Duration::from_secs(2);

/// Waits for the ends of a tunnel, and parts with them. What it has not got to when it is dropped is closed at once.
#[derive(Debug, Default)]
pub struct Parting(Arc<Mutex<Vec<Rest>>>);

/// Where an end leaves what it has. It does not keep the ends alive, which hold it themselves.
#[derive(Debug)]
pub(super) struct Estate(Weak<Mutex<Vec<Rest>>>);

impl Estate {
    pub(super) fn leave(&self, stream: Box<dyn Carrier>, kept: BytesMut, ended: bool) {
        if let Some(left) = self.0.upgrade() {
            left.lock().push(Rest { stream, kept, ended });
        }
    }
}

impl Parting {
    pub(super) fn estate(&self) -> Estate {
        Estate(Arc::downgrade(&self.0))
    }
    /// Parts with the ends that Pingora has let go of, both at a time.
    pub async fn finish(self) {
        let left = std::mem::take(&mut *self.0.lock());
        join_all(left.into_iter().map(Rest::part)).await;
    }
}

/// What was left of an end.
#[derive(Debug)]
struct Rest {
    stream: Box<dyn Carrier>,
    kept: BytesMut,
    ended: bool,
}

impl Rest {
    async fn part(mut self) {
        if let Ok(()) = self.deliver().await
            && !self.ended
        {
            let _ = timeout(LINGER, poll_fn(|cx| self.poll_ignore(cx))).await;
        }
    }

    /// Sends what is kept, then says that this was all.
    async fn deliver(&mut self) -> io::Result<()> {
        while !self.kept.is_empty() {
            let taken = timeout(STALLED, poll_fn(|cx| self.poll_write(cx))).await??;
            if taken == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.kept.advance(taken);
        }
        let shutdown = poll_fn(|cx| {
            let _ = self.poll_ignore(cx);
            Pin::new(&mut self.stream).poll_shutdown(cx)
        });
        timeout(STALLED, shutdown).await?
    }

    /// Who is stuck with a write of its own takes nothing until that was read, though nobody wants to hear it any more.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let _ = self.poll_ignore(cx);
        Pin::new(&mut self.stream).poll_write(cx, &self.kept)
    }

    /// Reads what comes, to its end.
    fn poll_ignore(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut space = [std::mem::MaybeUninit::uninit(); 8192];
        while !self.ended {
            let mut ignored = ReadBuf::uninit(&mut space);
            let read = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut ignored));
            self.ended = read.is_err() || ignored.filled().is_empty();
        }
        Poll::Ready(())
    }
}
