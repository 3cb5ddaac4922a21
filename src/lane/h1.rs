//! An HTTP/1 client: what was read of its connection and not used yet, and what it has not taken yet.

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use http::{HeaderMap, StatusCode};
use smallvec::SmallVec;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    time::Instant,
};

use super::{
    body::{Body, framed},
    client::{After, Client, Piece, See, flush},
    head,
    run::Ended,
    scratch,
};
use crate::{
    exchange::{DRAIN, Exchange, Framing, Plan},
    gate::{Spelling, Version},
    pace::Clock,
    types::give_back,
    upstream::Fault,
    wire::{Stream, Transport},
};

/// Pipelined bytes that are taken in while a request is being served; the rest waits in the socket.
const AHEAD: usize = 4096;

/// How long, and how much, a client may go on to send on a connection that is over.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 256 * 1024;

/// One connection. While it is idle it holds no buffer.
#[derive(Debug)]
pub struct H1Client {
    transport: Transport,
    /// Bytes read and not yet used: of the next head, or of the body.
    ahead: BytesMut,
    /// What is still to be read of the request's body.
    body: Body,
    /// Bytes of a response that the transport has not taken.
    pending: BytesMut,
    /// Something was written since the last flush.
    unflushed: bool,
    /// The client has taken something since that was asked last.
    moved: bool,
    /// The end of the connection is the end of the response under way: one that is cut must not end in order.
    ends_with_connection: bool,
    /// Its one timer.
    clock: Clock,
}

impl H1Client {
    /// A connection of which nothing was read yet.
    pub fn new(transport: Transport) -> Self {
        Self::again(transport, BytesMut::new())
    }

    /// A connection, and what was read of it.
    pub fn again(transport: Transport, ahead: BytesMut) -> Self {
        Self {
            transport,
            ahead,
            body: Body::Done,
            pending: BytesMut::new(),
            unflushed: false,
            moved: false,
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
    fn used(&mut self, count: usize) {
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

    /// Sends what waits, and these behind it. What is not taken at once waits.
    fn poll_send(&mut self, cx: &mut Context<'_>, pieces: &[&[u8]]) -> io::Result<()> {
        let mut skip = 0;
        let total: usize = pieces.iter().map(|piece| piece.len()).sum();
        loop {
            let waiting = self.pending.len();
            if waiting == 0 && skip == total {
                return Ok(());
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
            (self.unflushed, self.moved) = (true, true);
            let of_waiting = written.min(waiting);
            self.sent(of_waiting);
            skip += written - of_waiting;
        }
        for piece in pieces {
            let from = skip.min(piece.len());
            skip -= from;
            self.pending.extend_from_slice(&piece[from..]);
        }
        Ok(())
    }

    fn sent(&mut self, count: usize) {
        self.pending.advance(count);
        if self.pending.is_empty() {
            self.pending = BytesMut::new();
        }
    }

    /// Sends these bytes. A client that takes nothing for as long as `patience` is given up.
    ///
    /// # Errors
    /// When it is gone.
    pub async fn send(&mut self, bytes: &[u8], patience: Duration) -> io::Result<()> {
        self.pending.extend_from_slice(bytes);
        flush(self, Some(patience)).await
    }

    /// Takes the body's content out of these bytes. Returns how many were used.
    fn decode(&mut self, bytes: &[u8], see: &mut See<'_>) -> Result<usize, Ended> {
        let mut used = 0;
        while used < bytes.len() && !self.body.is_done() {
            let here = &bytes[used..];
            let decoded = self.body.decode(here).map_err(|refusal| Ended::Fault(Fault::RequestBody(refusal), None))?;
            used += decoded.used;
            let content = &here[decoded.content];
            if !content.is_empty() || self.body.is_done() {
                see(content, self.body.is_done())?;
            }
        }
        Ok(used)
    }

    /// Reads the rest of the request's body. False when it does not come to its end in time.
    async fn drain(&mut self) -> bool {
        let deadline = Instant::now() + DRAIN;
        loop {
            while !self.ahead.is_empty() && !self.body.is_done() {
                let Ok(decoded) = self.body.decode(&self.ahead) else { return false };
                self.used(decoded.used);
            }
            if self.body.is_done() {
                return true;
            }
            match self.fill(deadline).await {
                Some(Ok(1..)) => {}
                _ => return false,
            }
        }
    }

    /// Closes our side.
    pub async fn shutdown(&mut self) -> io::Result<()> {
        self.transport.shutdown().await
    }

    /// Closes our side and takes in what the client still sends, bounded in time and bytes: closing with unread bytes would reset the
    /// connection and could destroy the answer on its way (RFC 9112 section 9.6).
    pub async fn close(mut self) {
        let deadline = Instant::now() + LINGER;
        let closed = tokio::time::timeout(LINGER, self.shutdown()).await;
        if !matches!(closed, Ok(Ok(()))) {
            return;
        }
        let mut seen = 0;
        while seen < LINGER_BYTES {
            let ahead = self.ahead.len();
            self.used(ahead);
            match self.fill(deadline).await {
                Some(Ok(read @ 1..)) => seen += read,
                _ => return,
            }
        }
    }
}

impl Client for H1Client {
    fn begin(&mut self, exchange: &Exchange) {
        self.body = Body::of_request(exchange.admitted.body, &exchange.connection.head_limits());
    }

    fn is_read(&self) -> bool {
        self.body.is_done()
    }

    fn poll_body(&mut self, cx: &mut Context<'_>, see: &mut See<'_>) -> Poll<Result<(), Ended>> {
        if !self.ahead.is_empty() {
            let ahead = std::mem::take(&mut self.ahead);
            let used = self.decode(&ahead, see)?;
            self.ahead = ahead;
            self.used(used);
            return Poll::Ready(Ok(()));
        }
        scratch::with(scratch::SMALL, |space| {
            let mut read = ReadBuf::new(space);
            let came = ready!(Pin::new(&mut self.transport).poll_read(cx, &mut read));
            let bytes = read.filled();
            if came.is_err() || bytes.is_empty() {
                return Poll::Ready(Err(Ended::Fault(Fault::ClientLeft, None)));
            }
            let used = self.decode(bytes, see)?;
            self.ahead.extend_from_slice(&bytes[used..]);
            Poll::Ready(Ok(()))
        })
    }

    /// Keeps what a pipelining client sends.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
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

    fn interim(&mut self, status: StatusCode, fields: HeaderMap, spelling: &Spelling) {
        head::write_interim(&mut self.pending, status, &fields, spelling);
        give_back(fields);
    }

    fn head(
        &mut self,
        status: StatusCode,
        fields: HeaderMap,
        spelling: &Spelling,
        plan: &Plan,
        version: Version,
    ) -> io::Result<()> {
        self.ends_with_connection = plan.framing == Framing::UntilEnd;
        head::write_response(&mut self.pending, status, &fields, spelling, plan, version);
        give_back(fields);
        Ok(())
    }

    fn content(&mut self, cx: &mut Context<'_>, piece: Piece<'_>, end: bool, plan: &Plan) -> io::Result<()> {
        if plan.framing == Framing::None {
            return self.poll_send(cx, &[]);
        }
        self.poll_send(cx, &framed(plan.framing == Framing::Chunked, piece.bytes(), end, &mut [0; 18]))
    }

    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if !self.pending.is_empty() {
            self.poll_send(cx, &[])?;
        }
        if self.pending.is_empty() { Poll::Ready(Ok(usize::MAX)) } else { Poll::Pending }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
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

    fn has_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    fn unsent(&self) -> usize {
        self.pending.len()
    }

    fn waiting(&self) -> usize {
        self.pending.len()
    }

    fn clock(&mut self) -> &mut Clock {
        &mut self.clock
    }

    fn lend(&mut self, buffer: BytesMut) {
        if self.pending.capacity() == 0 {
            self.pending = buffer;
        }
    }

    fn into_tunnel(self) -> Option<(Stream, Vec<u8>, Vec<u8>)> {
        let (stream, unread) = self.transport.into_stream();
        let mut ahead = self.ahead.to_vec();
        ahead.extend_from_slice(&unread);
        Some((stream, ahead, self.pending.to_vec()))
    }

    async fn end(mut self, after: After) -> Option<Self> {
        let drained = match after {
            After::Cut => {
                if self.ends_with_connection {
                    // The end must look like a failure.
                    self.transport.break_off();
                }
                return None;
            }
            After::Open => self.drain().await,
            After::Close { reads_on } => {
                if reads_on {
                    self.drain().await;
                }
                false
            }
        };
        if drained {
            return Some(self);
        }
        if self.body.is_done() && self.ahead.is_empty() {
            // Nothing is unread, so that an ordinary end destroys nothing.
            let _ = tokio::time::timeout(LINGER, self.shutdown()).await;
        } else {
            self.close().await;
        }
        None
    }
}
