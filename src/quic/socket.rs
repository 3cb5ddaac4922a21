//! The socket of an endpoint, which may pass from one process to the next while connections go on.

use std::{
    io::{self, IoSliceMut},
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use arc_swap::ArcSwapOption;
use futures_util::task::AtomicWaker;
use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit},
};

use super::{
    ids::Tag,
    relay::{Link, Message},
};

/// The process that had the socket before, until it has drained.
#[derive(Debug)]
pub(super) struct Before {
    link: Link,
    /// Its connections, and those of the ones before it.
    tags: Vec<Tag>,
    /// It reads the socket no more.
    left: AtomicBool,
}

impl Before {
    pub(super) fn new(link: Link, tags: Vec<Tag>) -> Self {
        Self { link, tags, left: AtomicBool::new(false) }
    }
}

/// A UDP socket, or what another process passes on of one.
#[derive(Debug)]
pub(super) struct Socket {
    io: Arc<dyn AsyncUdpSocket>,
    own: Tag,
    before: ArcSwapOption<Before>,
    /// The process that has the socket now.
    after: ArcSwapOption<Link>,
    reader: AtomicWaker,
}

impl Socket {
    pub(super) fn new(io: Arc<dyn AsyncUdpSocket>, own: Tag, before: Option<Before>) -> Self {
        let before = ArcSwapOption::from(before.map(Arc::new));
        Self { io, own, before, after: ArcSwapOption::empty(), reader: AtomicWaker::new() }
    }

    /// Whose connections a next process must pass on.
    pub(super) fn tags(&self) -> Vec<Tag> {
        let before = self.before.load();
        std::iter::once(self.own).chain(before.iter().flat_map(|before| before.tags.clone())).collect()
    }

    /// Another process reads the socket from now on.
    pub(super) fn leave_to(&self, link: Link) {
        let link = Arc::new(link);
        self.after.store(Some(link.clone()));
        self.reader.wake();
        link.leave();
    }

    /// Ready when this process is the one that reads the socket.
    fn poll_turn(&self, before: &Before, cx: &mut Context<'_>) -> Poll<()> {
        if before.left.load(Relaxed) {
            return Poll::Ready(());
        }
        let gone = ready!(before.link.poll_next(cx, |message| matches!(message, Message::Gone)));
        before.left.store(true, Relaxed);
        if gone {
            self.before.store(None);
        }
        Poll::Ready(())
    }

    /// Passes on what belongs to the process before this one. Returns how much is left of the buffer.
    fn sort(&self, before: &Before, buffer: &mut [u8], meta: &RecvMeta) -> usize {
        let stride = meta.stride.max(1);
        let (mut at, mut kept) = (0, 0);
        while at < meta.len {
            let end = (at + stride).min(meta.len);
            let foreign = Tag::of(&buffer[at..end]).filter(|tag| *tag != self.own && before.tags.contains(tag));
            if foreign.is_none() {
                buffer.copy_within(at..end, kept);
                kept += end - at;
            } else if !before.link.pass(meta, &buffer[at..end]) {
                self.before.store(None);
            }
            at = end;
        }
        kept
    }

    /// Reads what the process that has the socket passes on.
    fn poll_passed(
        &self,
        link: &Link,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<Option<usize>> {
        let (Some(buffer), Some(meta)) = (bufs.first_mut(), meta.first_mut()) else { return Poll::Ready(Some(0)) };
        loop {
            let read = ready!(link.poll_next(cx, |message| match message {
                Message::Gone => None,
                Message::Datagram(found, datagram) if datagram.len() <= buffer.len() => {
                    buffer[..datagram.len()].copy_from_slice(datagram);
                    Some(Some(found))
                }
                Message::Datagram(..) | Message::Left => Some(None),
            }));
            match read {
                None => return Poll::Ready(None),
                Some(None) => {}
                Some(Some(found)) => {
                    *meta = found;
                    if let Some(before) = &*self.before.load() {
                        meta.len = self.sort(before, buffer, &found);
                    }
                    return Poll::Ready(Some(1));
                }
            }
        }
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.io.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.io.try_send(transmit)
    }

    fn poll_recv(&self, cx: &mut Context<'_>, bufs: &mut [IoSliceMut<'_>], meta: &mut [RecvMeta]) -> Poll<io::Result<usize>> {
        self.reader.register(cx.waker());
        if let Some(link) = &*self.after.load() {
            match ready!(self.poll_passed(link, cx, bufs, meta)) {
                Some(count) => return Poll::Ready(Ok(count)),
                // It has failed: the socket is read here again.
                None => self.after.store(None),
            }
        }
        let before = self.before.load();
        let Some(before) = &*before else { return self.io.poll_recv(cx, bufs, meta) };
        ready!(self.poll_turn(before, cx));
        let count = ready!(self.io.poll_recv(cx, bufs, meta))?;
        for (buffer, meta) in bufs.iter_mut().zip(meta).take(count) {
            meta.len = self.sort(before, buffer, meta);
        }
        Poll::Ready(Ok(count))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.io.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.io.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.io.may_fragment()
    }
}
