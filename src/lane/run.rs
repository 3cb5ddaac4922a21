//! One attempt: the request goes to the endpoint, its response to the client, both directions at a time and at the pace of the
//! slower side.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use http::{StatusCode, request::Parts};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use super::{
    body::{Body, framed},
    client::{Client, Piece},
    head::{self, ResponseHead},
    scratch,
};
use crate::{
    exchange::{Answer, Exchange, Framing, LINGER, Plan, Received},
    gate::{BodyFraming, Refusal, Version, response::ResponseFraming},
    pace::Limit,
    upstream::Fault,
    wire::Stream,
};

/// A request body up to this length can be sent once more.
const REPLAY: usize = 64 * 1024;

/// The request's body, over all attempts.
pub(super) struct Upload {
    /// There is one.
    has_body: bool,
    /// It goes on in chunks.
    chunked: bool,
    /// What was read of it, for another attempt.
    replay: BytesMut,
    /// There was more than is kept.
    truncated: bool,
    /// Nothing of it is kept: it would not be sent again.
    once: bool,
}

impl Upload {
    pub(super) fn new(client: &impl Client, exchange: &Exchange, request: &Parts) -> Self {
        Self {
            has_body: !client.is_read(),
            chunked: matches!(exchange.admitted.body, BodyFraming::Chunked | BodyFraming::Stream),
            replay: BytesMut::new(),
            truncated: false,
            once: !request.method.is_idempotent(),
        }
    }

    /// Can all that was read of it be sent once more?
    pub(super) fn is_at_hand(&self) -> bool {
        !self.truncated
    }

    fn keep(&mut self, content: &[u8]) {
        if self.once || self.truncated || self.replay.len() + content.len() > REPLAY {
            self.truncated |= !content.is_empty();
            self.replay = BytesMut::new();
        } else {
            self.replay.extend_from_slice(content);
        }
    }

    /// It will not be sent again.
    fn forget(&mut self) {
        (self.once, self.replay) = (true, BytesMut::new());
    }

    /// The framing around a piece of content, behind what is there.
    fn encode(&self, out: &mut BytesMut, content: &[u8], end: bool) {
        for piece in framed(self.chunked, content, end, &mut [0; 18]) {
            out.extend_from_slice(piece);
        }
    }
}

/// What became of an attempt.
pub enum Ended {
    /// The response was passed on whole.
    Answered {
        /// The endpoint's connection may serve another request.
        reusable: bool,
        /// The client's may.
        keep_alive: bool,
    },
    /// The endpoint has opened a tunnel. What it has sent behind its head.
    Tunnel(BytesMut),
    /// The response is dropped, and another endpoint asked.
    Again,
    /// Something went wrong.
    Fault(Fault, Option<io::Error>),
    /// Weir ends it, with this answer if it still can.
    Decided(Box<Answer>),
}

/// Where the response is.
enum Down {
    /// Its head has not come, but for these bytes.
    Head(BytesMut),
    /// Its body goes on.
    Body { body: Body, plan: Plan, keeps_alive: bool },
    /// All of it was passed on.
    Done { reusable: bool, keep_alive: bool },
}

/// Both directions of one attempt.
pub(super) struct Run<'a, C> {
    client: &'a mut C,
    endpoint: &'a mut Stream,
    exchange: &'a mut Exchange,
    upload: &'a mut Upload,
    down: Down,
    /// Bytes that the endpoint has not taken.
    out: BytesMut,
    unflushed: bool,
    /// The endpoint takes nothing any more: its response may say why.
    deaf: bool,
    sent_whole: bool,
    /// When bytes moved last, towards the endpoint and towards the client.
    moved_up: Instant,
    moved_down: Instant,
    /// The moment of this poll, once somebody asked.
    now: Option<Instant>,
    /// How long the endpoint may take nothing, and the client may send or take nothing.
    endpoint_patience: Option<Duration>,
    client_patience: Option<Duration>,
}

impl<'a, C: Client> Run<'a, C> {
    pub(super) fn new(
        client: &'a mut C,
        endpoint: &'a mut Stream,
        exchange: &'a mut Exchange,
        upload: &'a mut Upload,
        head: BytesMut,
    ) -> Self {
        let now = Instant::from_std(exchange.attempt_ready());
        let mut out = head;
        // What was read of the body for an attempt before.
        upload.encode(&mut out, &upload.replay, client.is_read());
        let endpoint_patience = exchange.upstream().and_then(|upstream| upstream.spec().connections.response_timeout.limit());
        let client_patience = exchange.connection.listener.http.body_idle_timeout.limit();
        Self {
            client,
            endpoint,
            exchange,
            upload,
            down: Down::Head(BytesMut::new()),
            out,
            unflushed: false,
            deaf: false,
            sent_whole: false,
            moved_up: now,
            moved_down: now,
            now: None,
            endpoint_patience,
            client_patience,
        }
    }

    /// Runs it to its end.
    pub(super) async fn run(mut self) -> Ended {
        if let Err(answer) = self.again_from_the_start() {
            return Ended::Decided(answer);
        }
        poll_fn(|cx| self.poll(cx)).await
    }

    /// What is sent of the body already passes the filters again.
    fn again_from_the_start(&mut self) -> Result<(), Box<Answer>> {
        let Self { client, upload, exchange, .. } = self;
        let (length, whole) = (upload.replay.len(), client.is_read());
        if length == 0 && !upload.has_body {
            exchange.request_is_whole(self.moved_up.into_std());
            return Ok(());
        }
        exchange.request_piece(length, whole, || Bytes::copy_from_slice(&upload.replay))
    }

    /// This moment, read once in each poll.
    fn now(&mut self) -> Instant {
        *self.now.get_or_insert_with(Instant::now)
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        self.now = None;
        if let Err(ended) = self.poll_up(cx) {
            // The response was whole, and nobody needs the rest of the request.
            let over = matches!(self.down, Down::Done { .. }) && self.client.waiting() == 0;
            return Poll::Ready(if over { Ended::Answered { reusable: false, keep_alive: false } } else { ended });
        }
        match self.poll_down(cx) {
            Ok(Poll::Pending) => {}
            Ok(Poll::Ready(ended)) | Err(ended) => return Poll::Ready(ended),
        }
        self.poll_limits(cx)
    }

    fn fault<T>(fault: Fault) -> Result<T, Ended> {
        Err(Ended::Fault(fault, None))
    }

    /// Passes on what there is of the request.
    fn poll_up(&mut self, cx: &mut Context<'_>) -> Result<(), Ended> {
        loop {
            if self.poll_out(cx)?.is_pending() {
                // The client is read again when the endpoint has taken this.
                return Ok(());
            }
            if self.client.is_read() {
                self.sent_whole = true;
                return match self.client.poll_gone(cx) {
                    Poll::Ready(()) if !matches!(self.down, Down::Done { .. }) => Self::fault(Fault::ClientLeft),
                    _ => Ok(()),
                };
            }
            let Self { client, upload, exchange, down, out, deaf, .. } = self;
            let read = client.poll_body(cx, &mut |content, end| {
                exchange.request_piece(content.len(), end, || Bytes::copy_from_slice(content)).map_err(Ended::Decided)?;
                if matches!(down, Down::Head(_)) {
                    upload.keep(content);
                }
                if !*deaf {
                    upload.encode(out, content, end);
                }
                Ok(())
            });
            match read {
                Poll::Ready(Ok(())) => self.moved_up = self.now(),
                Poll::Ready(Err(ended)) => return Err(ended),
                Poll::Pending => return Ok(()),
            }
        }
    }

    /// Ready when the endpoint has taken everything.
    fn poll_out(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, Ended> {
        while !self.out.is_empty() {
            match Pin::new(&mut *self.endpoint).poll_write(cx, &self.out) {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(Ok(count)) if count > 0 => {
                    self.out.advance(count);
                    (self.unflushed, self.moved_up) = (true, self.now());
                }
                Poll::Ready(_) => {
                    // It may have said why before it closed.
                    (self.deaf, self.unflushed, self.out) = (true, false, BytesMut::new());
                }
            }
        }
        if self.unflushed {
            match Pin::new(&mut *self.endpoint).poll_flush(cx) {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => self.deaf = true,
            }
            self.unflushed = false;
        }
        if self.out.capacity() > scratch::SMALL {
            self.out = BytesMut::new();
        }
        Ok(Poll::Ready(()))
    }

    /// Passes on what there is of the response.
    fn poll_down(&mut self, cx: &mut Context<'_>) -> Result<Poll<Ended>, Ended> {
        loop {
            if let Down::Done { reusable, keep_alive } = self.down {
                let flushed = self.client.poll_flush(cx).map_err(Self::unsent)?;
                self.client_moved();
                if flushed.is_pending() {
                    return Ok(Poll::Pending);
                }
                let whole = self.client.is_read();
                // What is left of the request goes on, too, for a while.
                if !whole && self.exchange.sends_its_body() {
                    return Ok(Poll::Pending);
                }
                return Ok(Poll::Ready(Ended::Answered {
                    reusable: reusable && whole && self.sent_whole && !self.deaf,
                    keep_alive: keep_alive && whole,
                }));
            }
            let room = self.client.poll_room(cx);
            self.client_moved();
            let room = match room {
                Poll::Ready(room) => room.map_err(Self::unsent)?,
                Poll::Pending => return Ok(Poll::Pending),
            };
            let size = if matches!(self.down, Down::Head(_)) { scratch::SMALL } else { scratch::LARGE.min(room) };
            let read = scratch::with(size, |space| {
                let mut read = ReadBuf::new(space);
                match Pin::new(&mut *self.endpoint).poll_read(cx, &mut read) {
                    Poll::Pending => Ok(None),
                    Poll::Ready(Err(error)) => Err(self.broken(Some(error))),
                    Poll::Ready(Ok(())) => {
                        self.moved_down = self.now();
                        self.take_down(cx, read.filled()).map(Some)
                    }
                }
            })?;
            match read {
                Some(Some(ended)) => return Ok(Poll::Ready(ended)),
                Some(None) => {}
                None => {
                    // There is nothing to read, so what was sent goes out.
                    let _ = self.client.poll_flush(cx).map_err(Self::unsent)?;
                    return Ok(Poll::Pending);
                }
            }
        }
    }

    /// The client may have taken something.
    fn client_moved(&mut self) {
        if self.client.has_moved() {
            self.moved_down = self.now();
        }
    }

    fn unsent(error: io::Error) -> Ended {
        Ended::Fault(Fault::ClientLeft, Some(error))
    }

    /// The endpoint's connection is over before its response is.
    fn broken(&self, error: Option<io::Error>) -> Ended {
        Ended::Fault(self.exchange.closed(self.upload.is_at_hand()), error)
    }

    /// Takes these bytes of the response, or its end when there are none.
    fn take_down(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Result<Option<Ended>, Ended> {
        match &mut self.down {
            Down::Head(_) if bytes.is_empty() => Err(self.broken(None)),
            Down::Head(before) if before.is_empty() => self.heads(cx, bytes),
            Down::Head(before) => {
                before.extend_from_slice(bytes);
                let all = std::mem::take(before);
                self.heads(cx, &all)
            }
            Down::Body { body, .. } if bytes.is_empty() => {
                if !body.ends_here() {
                    return Self::fault(Fault::Closed);
                }
                self.content(cx, bytes).map(|()| None)
            }
            Down::Body { .. } => self.content(cx, bytes).map(|()| None),
            Down::Done { .. } => Ok(None),
        }
    }

    /// Reads heads out of these bytes, interim ones first.
    fn heads(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Result<Option<Ended>, Ended> {
        let mut rest = bytes;
        loop {
            let (head, length) = match head::parse(rest) {
                Ok(Some(head)) => head,
                Ok(None) => {
                    self.down = Down::Head(BytesMut::from(rest));
                    return Ok(None);
                }
                Err(fault) => return Self::fault(fault),
            };
            rest = &rest[length..];
            let at_hand = self.upload.is_at_hand();
            match self.exchange.received(head.status, head.version, &head.fields, at_hand) {
                Err(_) => return Self::fault(Fault::NotHttp),
                Ok(Received::Again) => return Ok(Some(Ended::Again)),
                Ok(Received::Interim) => self.interim(head),
                Ok(Received::Final(_)) if head.status == StatusCode::SWITCHING_PROTOCOLS => {
                    self.respond(head, ResponseFraming::None)?;
                    if let Poll::Ready(Err(error)) = self.client.poll_room(cx) {
                        return Err(Self::unsent(error));
                    }
                    return Ok(Some(Ended::Tunnel(BytesMut::from(rest))));
                }
                Ok(Received::Final(framing)) => {
                    self.upload.forget();
                    let keeps_alive = head.keeps_alive;
                    let plan = self.respond(head, framing)?;
                    let body = Body::of_response(framing);
                    self.down = Down::Body { body, plan, keeps_alive };
                    return self.content(cx, rest).map(|()| None);
                }
            }
            if rest.is_empty() {
                self.down = Down::Head(BytesMut::new());
                return Ok(None);
            }
        }
    }

    fn interim(&mut self, mut head: ResponseHead) {
        if head.status == StatusCode::CONTINUE {
            self.exchange.continued = true;
        }
        // Clients of HTTP/1.0 understand none.
        if self.exchange.admitted.http != Version::Http10 {
            self.exchange.clean(head.status, &mut head.fields, false);
            self.client.interim(head.status, head.fields, &head.spelling);
        }
    }

    /// Queues the final head for the client.
    fn respond(&mut self, mut head: ResponseHead, framing: ResponseFraming) -> Result<Plan, Ended> {
        let exchange = &mut *self.exchange;
        exchange.clean(head.status, &mut head.fields, false);
        let mut plan = exchange.respond(head.status, &mut head.fields, framing, false);
        // A client that waits to be told to send its body never will.
        plan.keep_alive &= self.client.is_read() || exchange.sends_its_body();
        if self.out.is_empty() {
            self.client.lend(std::mem::take(&mut self.out));
        }
        self.client.head(head.status, head.fields, &head.spelling, &plan, exchange.admitted.http).map_err(Self::unsent)?;
        Ok(plan)
    }

    /// Passes on the content in these bytes, and the end of the body when it is there.
    fn content(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Result<(), Ended> {
        let Down::Body { body, plan, keeps_alive } = &mut self.down else { return Ok(()) };
        let (plan, keeps_alive) = (*plan, *keeps_alive);
        let mut used = 0;
        loop {
            let here = &bytes[used..];
            let decoded = match body.decode(here) {
                Ok(decoded) => decoded,
                Err(_) => return Self::fault(Fault::NotHttp),
            };
            used += decoded.used;
            let (content, end) = (&here[decoded.content], body.is_done());
            if !content.is_empty() || end {
                pass(self.client, self.exchange, cx, content, end, plan)?;
            }
            if end {
                // What follows is no response to anything that was asked.
                let reusable = keeps_alive && used == bytes.len();
                self.down = Down::Done { reusable, keep_alive: plan.keep_alive };
                self.moved_up = self.now();
                return Ok(());
            }
            if used == bytes.len() {
                return Ok(());
            }
        }
    }

    /// Nothing moves now. Has that been so for too long?
    fn poll_limits(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        let after = |since: Instant, patience: Option<Duration>| patience.map(|patience| since + patience);
        let waiting_up = !self.out.is_empty() || self.unflushed;
        let uploading = !self.client.is_read();
        let mut limits: [(Option<Instant>, Lapse); 3] = [(None, Lapse::Exchange); 3];
        limits[0] = (self.exchange.deadline.map(Instant::from_std), Lapse::Exchange);
        match &self.down {
            Down::Head(_) => {
                limits[1] = match (waiting_up, uploading) {
                    (true, _) => (after(self.moved_up, self.endpoint_patience), Lapse::Deaf),
                    (false, true) => (after(self.moved_up, self.client_patience), Lapse::Mute),
                    (false, false) => (None, Lapse::Exchange),
                };
                limits[2] = (self.exchange.answer_by.map(Instant::from_std), Lapse::Limit(Limit::Answer));
            }
            Down::Body { .. } => {
                let moved = self.moved_down.max(if uploading { self.moved_up } else { self.moved_down });
                limits[1] = match self.client.unsent() {
                    0 => (after(moved, self.exchange.silence()), Lapse::Limit(Limit::Silence)),
                    _ => (after(self.moved_down, self.exchange.silence()), Lapse::Limit(Limit::Unread)),
                };
            }
            Down::Done { .. } if self.client.waiting() > 0 => {
                limits[1] = (after(self.moved_down, self.client_patience), Lapse::Limit(Limit::Unread));
            }
            Down::Done { .. } => {
                limits[0] = (None, Lapse::Exchange);
                limits[1] = (Some(self.moved_up + LINGER), Lapse::Lingered);
            }
        }
        let Some((deadline, lapse)) = limits.into_iter().filter_map(|(at, lapse)| Some((at?, lapse))).min_by_key(|(at, _)| *at)
        else {
            return Poll::Pending;
        };
        if !self.client.clock().poll(Some(deadline), cx) {
            return Poll::Pending;
        }
        let fault = match lapse {
            Lapse::Exchange => self.exchange.timeout(),
            Lapse::Deaf => Fault::NotReading,
            Lapse::Mute => Fault::RequestBody(Refusal::BodyTimeout),
            Lapse::Limit(limit) => self.exchange.overdue(limit),
            Lapse::Lingered => return Poll::Ready(Ended::Answered { reusable: false, keep_alive: false }),
        };
        Poll::Ready(Ended::Fault(fault, None))
    }
}

/// Which limit it is that has passed.
#[derive(Debug, Clone, Copy)]
enum Lapse {
    Exchange,
    /// The endpoint takes nothing.
    Deaf,
    /// The client sends nothing.
    Mute,
    Limit(Limit),
    /// The rest of the request was waited for long enough.
    Lingered,
}

/// Sends a piece of content to the client, framed by the plan.
fn pass<C: Client>(
    client: &mut C,
    exchange: &mut Exchange,
    cx: &mut Context<'_>,
    content: &[u8],
    end: bool,
    plan: Plan,
) -> Result<(), Ended> {
    let replaced;
    let piece = if plan.framing == Framing::None {
        exchange.response_piece(&mut Bytes::new(), end).map_err(Ended::Decided)?;
        Piece::Lent(&[])
    } else if exchange.filters.wants_response_body() {
        let mut piece = Bytes::copy_from_slice(content);
        exchange.response_piece(&mut piece, end).map_err(Ended::Decided)?;
        replaced = piece;
        Piece::Held(&replaced)
    } else {
        exchange.response_moved(content.len(), end).map_err(Ended::Decided)?;
        Piece::Lent(content)
    };
    client.content(cx, piece, end, &plan).map_err(|error| Ended::Fault(Fault::ClientLeft, Some(error)))
}
