//! A client of a connection that carries several requests at a time: one stream, which carries one of them.

use std::{
    future::poll_fn,
    io,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Response, StatusCode, header};
use tokio::{
    task::yield_now,
    time::{Instant, timeout, timeout_at},
};

use super::{
    client::{self, After, Client, Piece, See},
    head,
    own::FAREWELL,
    run::Ended,
    stream::RequestStream,
};
use crate::{
    exchange::{DRAIN, Exchange, Framing, Plan, refusal_reply, standard_head},
    gate::{Refusal, Spelling, Version, hop::CONNECTION_FIELDS, response::admit_trailers},
    pace::Clock,
    upstream::Fault,
    wire::Stream,
};

/// How long a client may take to have what was handed over for it.
pub const ARRIVAL: Duration = Duration::from_secs(30);

/// One stream.
#[derive(Debug)]
pub struct StreamClient<S> {
    stream: S,
    is_read: bool,
    /// Content that the library was not given: these bytes, and those behind them.
    waiting: Bytes,
    gathered: BytesMut,
    /// Nothing follows what waits.
    ends: bool,
    /// What the client had not taken when that was looked at last.
    noted: usize,
    clock: Clock,
}

impl<S: RequestStream> StreamClient<S> {
    /// The client behind this stream.
    pub fn new(stream: S) -> Self {
        Self {
            is_read: stream.is_read(),
            stream,
            waiting: Bytes::new(),
            gathered: BytesMut::new(),
            ends: false,
            noted: 0,
            clock: Clock::default(),
        }
    }

    /// Was the head of its request the end of it?
    pub fn is_ended(&self) -> bool {
        self.is_read
    }

    /// The stream, of which nothing was read and to which nothing was sent.
    pub fn into_stream(self) -> S {
        self.stream
    }

    /// Answers a request that the gate refused. The connection lives on: other streams share it.
    pub async fn refuse(&mut self, refusal: Refusal, request_id: &str, has_body: bool) {
        const PATIENCE: Duration = Duration::from_secs(5);
        let reply = refusal_reply(refusal);
        let status = reply.status;
        let (fields, body) = standard_head(reply, request_id);
        let framing = if has_body { Framing::Length(body.len() as u64) } else { Framing::None };
        let plan = Plan { framing, keep_alive: true };
        if self.head(status, fields, &Spelling::default(), &plan, S::VERSION).is_ok() {
            let _ = client::send(self, Piece::Held(&body), true, &plan, Some(PATIENCE)).await;
        }
    }

    /// Hands what waits to the library, as far as the client takes it. Ready when nothing waits.
    fn poll_hand_over(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.waiting.is_empty() {
                self.waiting = std::mem::take(&mut self.gathered).freeze();
            }
            if self.waiting.is_empty() {
                break;
            }
            let count = ready!(self.stream.poll_capacity(self.waiting.len(), cx))?;
            let part = self.waiting.split_to(count);
            let end = self.ends && self.waiting.is_empty() && self.gathered.is_empty();
            self.stream.data(part, end)?;
        }
        if self.ends && !self.stream.is_sent() {
            self.stream.data(Bytes::new(), true)?;
        }
        self.stream.poll_flush(cx)
    }

    /// Ready when the client has taken all content, or never will.
    fn poll_taken(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.poll_gone(cx).is_ready() {
            return Poll::Ready(());
        }
        self.stream.pace().window.watch(cx);
        if self.unsent() == 0 { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Waits for the client to have all of the response, for a while.
    pub async fn arrive(&mut self) {
        let _ = timeout(ARRIVAL, poll_fn(|cx| self.stream.poll_arrived(cx))).await;
    }

    /// Reads the rest of the request's body, for a while.
    async fn drain(&mut self) {
        let deadline = Instant::now() + DRAIN;
        while !self.is_read {
            let read = poll_fn(|cx| self.poll_body(cx, &mut |_, _| Ok(())));
            if !matches!(timeout_at(deadline, read).await, Ok(Ok(()))) {
                return;
            }
        }
    }
}

/// A head without what only messages of HTTP/1 have.
fn response(status: StatusCode, mut fields: HeaderMap) -> Response<()> {
    CONNECTION_FIELDS.iter().for_each(|name| drop(fields.remove(name)));
    let mut head = Response::new(());
    (*head.status_mut(), *head.headers_mut()) = (status, fields);
    head
}

impl<S: RequestStream> Client for StreamClient<S> {
    fn begin(&mut self, _exchange: &Exchange) {
        self.stream.pace().window.widen();
    }

    fn is_read(&self) -> bool {
        self.is_read
    }

    fn poll_body(&mut self, cx: &mut Context<'_>, see: &mut See<'_>) -> Poll<Result<(), Ended>> {
        match ready!(self.stream.poll_data(cx)) {
            Some(Ok(piece)) => {
                self.stream.release(piece.len());
                self.is_read = self.stream.is_read();
                if !piece.is_empty() || self.is_read {
                    see(&piece, self.is_read)?;
                }
                Poll::Ready(Ok(()))
            }
            Some(Err(_)) => Poll::Ready(Err(Ended::Fault(Fault::ClientLeft, None))),
            None => {
                // Trailers end a body, too. They go no further, as over HTTP/1.
                let trailers = ready!(self.stream.poll_trailers(cx));
                let trailers = trailers.map_err(|_| Ended::Fault(Fault::ClientLeft, None))?;
                if trailers.is_some_and(|trailers| admit_trailers(&trailers).is_err()) {
                    return Poll::Ready(Err(Ended::Fault(Fault::RequestBody(Refusal::BadTrailer), None)));
                }
                self.is_read = true;
                Poll::Ready(see(&[], true))
            }
        }
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_gone(cx)
    }

    fn interim(&mut self, status: StatusCode, fields: HeaderMap, _spelling: &Spelling) {
        self.stream.interim(response(status, fields));
    }

    fn head(
        &mut self,
        status: StatusCode,
        mut fields: HeaderMap,
        _spelling: &Spelling,
        plan: &Plan,
        _version: Version,
    ) -> io::Result<()> {
        if !fields.contains_key(header::DATE) {
            fields.insert(header::DATE, head::date());
        }
        let end = matches!(plan.framing, Framing::None | Framing::Length(0));
        self.stream.head(response(status, fields), end)
    }

    fn content(&mut self, cx: &mut Context<'_>, piece: Piece<'_>, end: bool, _plan: &Plan) -> io::Result<()> {
        if self.stream.is_sent() {
            // Its head was all of it.
            return Ok(());
        }
        let length = piece.bytes().len();
        self.stream.pace().window.passed(length);
        self.noted += length;
        match piece {
            Piece::Held(piece) if self.waiting.is_empty() && self.gathered.is_empty() => self.waiting = piece.clone(),
            piece => self.gathered.extend_from_slice(piece.bytes()),
        }
        self.ends |= end;
        // What is not the end is sent with what comes right behind it.
        match end.then(|| self.poll_hand_over(cx)) {
            Some(Poll::Ready(sent)) => sent,
            Some(Poll::Pending) | None => Ok(()),
        }
    }

    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        ready!(self.poll_hand_over(cx))?;
        self.stream.pace().window.poll_room(cx).map(Ok)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_hand_over(cx)
    }

    fn has_moved(&mut self) -> bool {
        let unsent = self.stream.pace().window.unsent();
        std::mem::replace(&mut self.noted, unsent) > unsent
    }

    fn unsent(&self) -> usize {
        self.stream.pace().window.unsent()
    }

    fn waiting(&self) -> usize {
        self.waiting.len() + self.gathered.len()
    }

    fn clock(&mut self) -> &mut Clock {
        &mut self.clock
    }

    fn into_tunnel(self) -> Option<(Stream, Vec<u8>, Vec<u8>)> {
        None
    }

    async fn end(mut self, after: After) -> Option<Self> {
        match after {
            After::Cut if !self.stream.is_sent() => {
                // A reset drops what the library still has: its connection, polled in between, sends that first.
                yield_now().await;
                let _ = timeout(FAREWELL, poll_fn(|cx| self.poll_taken(cx))).await;
                self.stream.reset();
            }
            After::Cut | After::Close { .. } => self.arrive().await,
            After::Open => {
                self.drain().await;
                self.arrive().await;
            }
        }
        None
    }
}
