//! A client of HTTP/2: one stream, which carries one request. The library drives the frames; how much it holds is decided here.

use std::{
    future::poll_fn,
    io,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use h2::{Reason, RecvStream, SendStream, server::SendResponse};
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
};
use crate::{
    exchange::{DRAIN, Exchange, Framing, Plan, refusal_reply, standard_head},
    gate::{Refusal, Spelling, Version, hop::CONNECTION_FIELDS, response::admit_trailers},
    pace::{Clock, Pace, Sent, Window},
    upstream::Fault,
    wire::Stream,
};

/// Bytes that are handed to the library at a time: one frame of the size that every client takes.
const PIECE: usize = 16 * 1024;

/// A stream that carries one request: what any driver needs of it.
#[derive(Debug)]
pub struct RequestStream {
    /// The body of the request.
    pub body: RecvStream,
    /// The way back.
    pub respond: SendResponse<Bytes>,
    /// How much of the response may be in this process.
    pub pace: Arc<Pace>,
    /// What the socket has taken of it.
    pub sent: Sent,
}

/// One stream.
#[derive(Debug)]
pub struct H2Client {
    stream: RequestStream,
    /// Once the final head was sent.
    send: Option<SendStream<Bytes>>,
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

impl H2Client {
    /// The client behind this stream.
    pub fn new(stream: RequestStream) -> Self {
        Self {
            is_read: stream.body.is_end_stream(),
            stream,
            send: None,
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
    pub fn into_stream(self) -> RequestStream {
        self.stream
    }

    /// Answers a request that the gate refused. The connection lives on: other streams share it.
    pub async fn refuse(mut self, refusal: Refusal, request_id: &str, has_body: bool) {
        const PATIENCE: Duration = Duration::from_secs(5);
        let reply = refusal_reply(refusal);
        let status = reply.status;
        let (fields, body) = standard_head(reply, request_id);
        let framing = if has_body { Framing::Length(body.len() as u64) } else { Framing::None };
        let plan = Plan { framing, keep_alive: true };
        if self.head(status, fields, &Spelling::default(), &plan, Version::Http2).is_ok() {
            let _ = client::send(&mut self, Piece::Held(&body), true, &plan, Some(PATIENCE)).await;
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
            let Some(send) = &mut self.send else { return Poll::Ready(Err(gone())) };
            let capacity = ready!(poll_capacity(send, &self.stream.pace.window, self.waiting.len(), cx));
            let Some(Ok(count)) = capacity else { return Poll::Ready(Err(gone())) };
            let part = self.waiting.split_to(count);
            let end = self.ends && self.waiting.is_empty() && self.gathered.is_empty();
            self.hand_over(part, end)?;
        }
        if self.ends && !self.stream.sent.is_whole {
            self.hand_over(Bytes::new(), true)?;
        }
        Poll::Ready(Ok(()))
    }

    fn hand_over(&mut self, part: Bytes, end: bool) -> io::Result<()> {
        let send = self.send.as_mut().ok_or_else(gone)?;
        self.stream.pace.window.handed(part.len());
        send.send_data(part, end).map_err(|_| gone())?;
        self.stream.sent.is_whole = end;
        Ok(())
    }

    /// Ready when the client has taken all content, or never will.
    fn poll_taken(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.poll_gone(cx).is_ready() {
            return Poll::Ready(());
        }
        self.stream.pace.window.watch(cx);
        if self.unsent() == 0 { Poll::Ready(()) } else { Poll::Pending }
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

/// Resolves to how many of so many bytes may be handed to the library now. `None` when the client wants no more of the stream.
pub fn poll_capacity(
    send: &mut SendStream<Bytes>,
    window: &Window,
    bytes: usize,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<usize, h2::Error>>> {
    ready!(window.poll_turn(cx));
    let wanted = bytes.min(PIECE);
    send.reserve_capacity(wanted);
    match send.capacity() {
        0 => send.poll_capacity(cx).map_ok(|capacity| capacity.min(wanted)),
        capacity => Poll::Ready(Some(Ok(capacity.min(wanted)))),
    }
}

/// A head without what no message of HTTP/2 has.
fn response(status: StatusCode, mut fields: HeaderMap) -> Response<()> {
    CONNECTION_FIELDS.iter().for_each(|name| drop(fields.remove(name)));
    let mut head = Response::new(());
    (*head.status_mut(), *head.headers_mut()) = (status, fields);
    head
}

fn gone() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

impl Client for H2Client {
    fn begin(&mut self, _exchange: &Exchange) {
        self.stream.pace.window.widen();
    }

    fn is_read(&self) -> bool {
        self.is_read
    }

    fn poll_body(&mut self, cx: &mut Context<'_>, see: &mut See<'_>) -> Poll<Result<(), Ended>> {
        let body = &mut self.stream.body;
        match ready!(body.poll_data(cx)) {
            Some(Ok(piece)) => {
                let _ = body.flow_control().release_capacity(piece.len());
                self.is_read = body.is_end_stream();
                if !piece.is_empty() || self.is_read {
                    see(&piece, self.is_read)?;
                }
                Poll::Ready(Ok(()))
            }
            Some(Err(_)) => Poll::Ready(Err(Ended::Fault(Fault::ClientLeft, None))),
            None => {
                // Trailers end a body, too. They go no further, as over HTTP/1.
                let trailers = ready!(body.poll_trailers(cx));
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
        let reset = match &mut self.send {
            Some(send) => send.poll_reset(cx),
            None => self.stream.respond.poll_reset(cx),
        };
        reset.map(drop)
    }

    fn interim(&mut self, status: StatusCode, fields: HeaderMap, _spelling: &Spelling) {
        // A client that is gone by now is told of by whatever is sent next.
        let _ = self.stream.respond.send_informational(response(status, fields));
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
        self.send = Some(self.stream.respond.send_response(response(status, fields), end).map_err(|_| gone())?);
        self.stream.sent.is_whole = end;
        Ok(())
    }

    fn content(&mut self, cx: &mut Context<'_>, piece: Piece<'_>, end: bool, _plan: &Plan) -> io::Result<()> {
        if self.stream.sent.is_whole {
            // Its head was all of it.
            return Ok(());
        }
        let length = piece.bytes().len();
        self.stream.pace.window.passed(length);
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
        self.stream.pace.window.poll_room(cx).map(Ok)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_hand_over(cx)
    }

    fn has_moved(&mut self) -> bool {
        let unsent = self.stream.pace.window.unsent();
        std::mem::replace(&mut self.noted, unsent) > unsent
    }

    fn unsent(&self) -> usize {
        self.stream.pace.window.unsent()
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
            After::Cut if !self.stream.sent.is_whole => {
                // A reset drops what the library still has: its connection, polled in between, sends that first.
                yield_now().await;
                let _ = timeout(FAREWELL, poll_fn(|cx| self.poll_taken(cx))).await;
                self.stream.respond.send_reset(Reason::INTERNAL_ERROR);
            }
            After::Cut | After::Close { .. } => {}
            After::Open => self.drain().await,
        }
        None
    }
}
