//! The connection of an HTTP/1 client: what was read of it and not used yet, and what it has not taken yet.

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use smallvec::SmallVec;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    time::Instant,
};

use super::scratch;
use crate::{
    pace::Clock,
    wire::{Stream, Transport},
};

/// Pipelined bytes that are taken in while a request is being served; the rest waits in the socket.
const AHEAD: usize = 4096;

/// One connection. While it is idle it holds no buffer.
#[derive(Debug)]
pub struct Client {
    transport: Transport,
    /// Bytes read and not yet used: of the next head, or of the body.
    pub(super) ahead: BytesMut,
    /// Bytes of a response that the transport has not taken.
    pending: BytesMut,
    /// Something was written since the last flush.
    unflushed: bool,
    /// The end of the connection is the end of the response under way: one that is cut must not end in order.
    pub(super) ends_with_connection: bool,
    /// Its one timer.
    pub(super) clock: Clock,
}

impl Client {
    /// A connection of which nothing was read yet.
    pub fn new(transport: Transport) -> Self {
        Self::again(transport, BytesMut::new())
    }

    /// A connection, and what was read of it.
    pub fn again(transport: Transport, ahead: BytesMut) -> Self {
        Self {
            transport,
            ahead,
            pending: BytesMut::new(),
            unflushed: false,
            ends_with_connection: false,
            clock: Clock::default(),
        }
    }

    /// The connection itself, and what was read of it.
    pub fn into_parts(self) -> (Transport, BytesMut) {
        (self.transport, self.ahead)
    }

    /// The bytes that wait to be understood.
    pub fn ahead(&self) -> &[u8] {
        &self.ahead
    }

    /// Takes the first bytes off.
    pub fn take(&mut self, count: usize) -> BytesMut {
        if count == self.ahead.len() { std::mem::take(&mut self.ahead) } else { self.ahead.split_to(count) }
    }

    /// Drops the first bytes, which were used.
    pub(super) fn used(&mut self, count: usize) {
        self.ahead.advance(count);
        if self.ahead.is_empty() {
            self.ahead = BytesMut::new();
        }
    }

    /// Reads more behind what is ahead. 0 at the end of the stream.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        scratch::with(scratch::SMALL, |space| {
            let mut read = ReadBuf::new(space);
            ready!(Pin::new(&mut self.transport).poll_read(cx, &mut read))?;
            self.ahead.extend_from_slice(read.filled());
            Poll::Ready(Ok(read.filled().len()))
        })
    }

    /// Reads into this space, when nothing is ahead.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, space: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut read = ReadBuf::new(space);
        ready!(Pin::new(&mut self.transport).poll_read(cx, &mut read))?;
        Poll::Ready(Ok(read.filled().len()))
    }

    /// While its request is being served: notices a client that goes away, and keeps what a pipelining client sends. Ready when it is gone.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.ahead.len() < AHEAD {
            match ready!(self.poll_fill(cx)) {
                Ok(1..) => {}
                // A client that pipelined its requests and closed its side still wants its answers.
                Ok(0) if !self.ahead.is_empty() => return Poll::Pending,
                Ok(0) | Err(_) => return Poll::Ready(()),
            }
        }
        // It is read again after the response.
        Poll::Pending
    }

    /// Has this moment come? If not, the task is woken when it does.
    pub fn poll_overdue(&mut self, deadline: Instant, cx: &mut Context<'_>) -> bool {
        self.clock.poll(Some(deadline), cx)
    }

    /// Reads more, up to this moment. `None` when that has come.
    pub async fn fill(&mut self, deadline: Instant) -> Option<io::Result<usize>> {
        poll_fn(|cx| match self.poll_fill(cx) {
            Poll::Ready(read) => Poll::Ready(Some(read)),
            Poll::Pending if self.poll_overdue(deadline, cx) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    /// Bytes that wait to be taken.
    pub(super) fn unsent(&self) -> usize {
        self.pending.len()
    }

    /// Puts bytes behind those that wait to be taken.
    pub(super) fn queue(&mut self) -> &mut BytesMut {
        &mut self.pending
    }

    /// Lends a buffer that has served to the next bytes that wait.
    pub(super) fn lend(&mut self, buffer: BytesMut) {
        if self.pending.capacity() == 0 {
            self.pending = buffer;
        }
    }

    /// Sends what waits, and these behind it. What is not taken at once waits. Returns how many bytes were taken of all.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>, pieces: &[&[u8]]) -> io::Result<usize> {
        let mut sent = 0;
        let mut skip = 0;
        let total: usize = pieces.iter().map(|piece| piece.len()).sum();
        loop {
            let waiting = self.pending.len();
            if waiting == 0 && skip == total {
                return Ok(sent);
            }
            let written = {
                let mut slices: SmallVec<[IoSlice<'_>; 5]> = SmallVec::new();
                if waiting > 0 {
                    slices.push(IoSlice::new(&self.pending));
                }
                let mut left = skip;
                for piece in pieces {
                    let from = left.min(piece.len());
                    left -= from;
                    if from < piece.len() {
                        slices.push(IoSlice::new(&piece[from..]));
                    }
                }
                self.transport.poll_send(cx, &slices)
            };
            let Poll::Ready(written) = written else { break };
            let written = written?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.unflushed = true;
            sent += written;
            let of_waiting = written.min(waiting);
            self.sent(of_waiting);
            skip += written - of_waiting;
        }
        for piece in pieces {
            let from = skip.min(piece.len());
            skip -= from;
            self.pending.extend_from_slice(&piece[from..]);
        }
        Ok(sent)
    }

    fn sent(&mut self, count: usize) {
        self.pending.advance(count);
        if self.pending.is_empty() {
            self.pending = BytesMut::new();
        }
    }

    /// Ready when nothing waits any more, below us too.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_send(cx, &[])?;
        if !self.pending.is_empty() {
            return Poll::Pending;
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.transport).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Sends everything. A client that takes nothing for as long as `patience` is given up.
    pub async fn send(&mut self, pieces: &[&[u8]], patience: Option<std::time::Duration>) -> io::Result<()> {
        let mut first = true;
        let mut last = Instant::now();
        poll_fn(|cx| {
            let pieces = if std::mem::take(&mut first) { pieces } else { &[] };
            if self.poll_send(cx, pieces)? > 0 {
                last = Instant::now();
            }
            match self.poll_flush(cx) {
                Poll::Pending if self.clock.poll(patience.map(|patience| last + patience), cx) => {
                    Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
                }
                flushed => flushed,
            }
        })
        .await
    }

    /// The connection as a stream, what was read of it, and what it has not taken.
    pub(super) fn into_stream(self) -> (Stream, Vec<u8>, Vec<u8>) {
        let (stream, unread) = self.transport.into_stream();
        let mut ahead = self.ahead.to_vec();
        ahead.extend_from_slice(&unread);
        (stream, ahead, self.pending.to_vec())
    }

    /// Ends it so that the other end sees a failure.
    pub(super) fn break_off(self) {
        self.transport.break_off();
    }

    /// Closes our side.
    pub async fn shutdown(&mut self) -> io::Result<()> {
        self.transport.shutdown().await
    }
}
