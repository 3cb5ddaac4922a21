//! HTTP/2 connections: accept streams, admit each, decide on it, hand it to a driver.
//!
//! Streams are served in the task of their connection, so that what they send leaves together and no worker waits for another; what
//! Pingora carries has a task of its own, since it may go on for others when its client has left.

use std::{
    future::poll_fn,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered, task::AtomicWaker};
use h2::{Reason, RecvStream, server};
use http::{Method, request::Parts};
use pingora_core::{apps::HttpServerApp, protocols::http::ServerSession};
use tokio::time::{Instant, timeout};

use super::{
    Shared,
    h2_request::H2Request,
    h2_stream::H2Stream,
    nudge::{Part, Whole},
};
use crate::{
    config::{DriverChoice, HttpSpec},
    exchange::{Attendance, Began, Connection, Decision, Exchange, refusal_length},
    gate::{
        BodyFraming, Glimpse, Refusal, Spelling,
        h2_frames::{Flood, FrameLimits},
    },
    lane::{self, H2Client, RequestStream},
    pace::{Allowance, Clock, Pace, Sending, Share},
    proxy::Arrival,
    wire::Transport,
};

/// Streams of one connection that have a task of their own.
#[derive(Debug, Default)]
struct Elsewhere {
    count: AtomicUsize,
    ended: AtomicWaker,
}

struct Away(Arc<Elsewhere>);

impl Away {
    fn new(elsewhere: &Arc<Elsewhere>) -> Self {
        elsewhere.count.fetch_add(1, Relaxed);
        Self(elsewhere.clone())
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Relaxed);
        self.0.ended.wake();
    }
}

impl Elsewhere {
    /// Is there none? If there is, the task is woken when one ends.
    fn poll_none(&self, cx: &Context<'_>) -> bool {
        self.ended.register(cx.waker());
        self.count.load(Relaxed) == 0
    }
}

fn builder(http: &HttpSpec, limits: &FrameLimits, list_bytes: u32) -> server::Builder {
    // The windows bound what one client can make us buffer: a stream's body, and a connection's together.
    const STREAM_WINDOW: u32 = 256 * 1024;
    const CONNECTION_WINDOW: u32 = 1024 * 1024;
    // What is given to the library of a response is counted beside (see `pace`): this is no more than a backstop.
    const SEND_BUFFER: usize = 64 * 1024;
    let mut builder = server::Builder::new();
    builder
        .max_concurrent_streams(http.h2_max_concurrent_streams.get())
        .max_header_list_size(list_bytes)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        // The observer counts resets, over all of them; the library's own bound on those that come before their stream
        // was accepted is 20 by default, which the requests of one page exceed when its reader leaves at once.
        .max_pending_accept_reset_streams(limits.resets as usize);
    builder
}

type Accepted = (http::Request<RecvStream>, server::SendResponse<Bytes>);

/// What a connection has to see to.
enum Event {
    Request(Box<Accepted>),
    Flood(Flood),
    /// The process drains, or the listener was configured anew.
    Closing,
    /// Nothing was asked for as long as a connection may be idle.
    Idle,
    Ended,
}

/// When a connection that serves nothing has been idle for too long.
struct Idleness {
    patience: Duration,
    since: Option<Instant>,
    clock: Clock,
}

impl Idleness {
    fn poll(&mut self, is_idle: bool, cx: &mut Context<'_>) -> bool {
        if !is_idle {
            self.since = None;
            return false;
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        let over = self.clock.poll(Some(since + self.patience), cx);
        if over {
            self.since = None;
        }
        over
    }
}

/// How often a connection and its streams may wake each other in one turn of their task.
const ROUNDS: usize = 32;

/// Has all streams go on that can. Those that are over are dropped.
fn poll_streams<F: Future>(streams: &mut FuturesUnordered<F>, cx: &mut Context<'_>) {
    while let Poll::Ready(Some(_)) = streams.poll_next_unpin(cx) {}
}

/// Serves streams until the connection closes. `ahead` holds bytes that were read already.
pub(super) async fn serve(transport: Transport, ahead: BytesMut, connection: Arc<Connection>, shared: Arc<Shared>) {
    let http = &connection.listener.http;
    let limits = FrameLimits::new(http.max_header_bytes.get());
    let sending = Arc::<Sending>::default();
    let (stream, alarm) = H2Stream::new(transport, ahead, limits, sending.clone());
    let handshake = builder(http, &limits, connection.head_limits().list_bytes()).handshake::<_, Bytes>(stream);
    let Ok(Ok(mut conn)) = timeout(http.header_timeout.get(), handshake).await else {
        return;
    };
    let allowance = Allowance::new();
    let elsewhere = Arc::<Elsewhere>::default();
    let mut streams = FuturesUnordered::new();
    // Until a GOAWAY was sent.
    let mut door: Option<Attendance> = Some(connection.door.attend());
    let mut idleness = Idleness { patience: http.keepalive_timeout.get(), since: None, clock: Clock::default() };
    let mut left = http.max_requests_per_connection.get();
    let whole = Arc::<Whole>::default();
    let ((read, reads), (served, serves)) = (Part::of(&whole), Part::of(&whole));
    let mut gathering = false;
    loop {
        let event = poll_fn(|cx| {
            whole.work(cx);
            let (reading, serving) = (&mut Context::from_waker(&reads), &mut Context::from_waker(&serves));
            for _ in 0..ROUNDS {
                // What was accepted last is polled when nothing more is there: what comes together is accepted together, and answered
                // together.
                if !gathering && served.take() {
                    poll_streams(&mut streams, serving);
                }
                if gathering | read.take() {
                    match conn.poll_accept(reading) {
                        Poll::Ready(Some(Ok(accepted))) => {
                            gathering = true;
                            return Poll::Ready(Event::Request(Box::new(accepted)));
                        }
                        Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(Event::Ended),
                        Poll::Pending => {}
                    }
                }
                // It reads within the connection, and not one more byte once a flood was seen.
                if let Some(flood) = alarm.raised() {
                    return Poll::Ready(Event::Flood(flood));
                }
                if std::mem::take(&mut gathering) {
                    served.take();
                    poll_streams(&mut streams, serving);
                }
                if door.as_mut().is_some_and(|door| door.poll_closed(reading)) {
                    return Poll::Ready(Event::Closing);
                }
                let is_idle = elsewhere.poll_none(reading) && streams.is_empty();
                if idleness.poll(is_idle, reading) {
                    return Poll::Ready(Event::Idle);
                }
                if whole.rest([&read, &served]) {
                    return Poll::Pending;
                }
                whole.work(cx);
            }
            // Other tasks have their turn.
            cx.waker().wake_by_ref();
            Poll::Pending
        });
        let event = event.await;
        // It may have something to say now.
        reads.wake_by_ref();
        match event {
            Event::Request(accepted) => {
                left = left.saturating_sub(1);
                if left == 0 && door.take().is_some() {
                    conn.graceful_shutdown();
                }
                let (request, respond) = *accepted;
                let pace = Pace::sharing(Share::new(&allowance));
                let sent = sending.begin(respond.stream_id().as_u32(), pace.clone());
                let (head, body) = request.into_parts();
                let client = H2Client::new(RequestStream { body, respond, pace, sent });
                let stream = one(head, client, connection.clone(), shared.clone(), elsewhere.clone());
                // A panic costs this stream and nothing else.
                streams.push(AssertUnwindSafe(stream).catch_unwind());
            }
            Event::Flood(flood) => {
                shared.observer.metrics().rejected(flood.reason());
                log::debug!("HTTP/2 flood from {}: {}", connection.peer, flood.reason());
                conn.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                // Bounded: a client that floods need not be read any further.
                let _ = timeout(Duration::from_secs(1), poll_fn(|cx| conn.poll_closed(cx))).await;
                break;
            }
            // A GOAWAY first; a client that is idle and does not react is let go after as long again.
            Event::Closing | Event::Idle => match door.take() {
                Some(_) => conn.graceful_shutdown(),
                None => break,
            },
            Event::Ended => break,
        }
    }
    drop(conn);
    // What is still under way learns that its client is gone.
    poll_streams(&mut streams, &mut Context::from_waker(&serves));
}

/// Serves one request.
async fn one(mut request: Parts, client: H2Client, connection: Arc<Connection>, shared: Arc<Shared>, elsewhere: Arc<Elsewhere>) {
    let began = Began::now();
    let mut admitted = match connection.admit_h2(&request) {
        Ok(admitted) => admitted,
        Err(refusal) => return Box::pin(refuse(request, client, &connection, &shared, refusal, began)).await,
    };
    if client.is_ended() && admitted.body == BodyFraming::Stream {
        // Its head was the end of the stream.
        admitted.body = BodyFraming::None;
    }
    let exchange = Exchange::new(connection, admitted, began, shared.store.load(), shared.observer.clone());
    // Boxed: it is large, and is handed on from here to there.
    let mut exchange = Box::new(exchange);
    let mut decision = exchange.decide(&mut request).await;
    let direct = shared.driver == DriverChoice::Auto && lane::takes(&exchange, &request, &mut decision);
    if direct {
        let arrival = lane::Arrival { client, exchange, request, spelling: Spelling::default() };
        lane::serve(arrival, decision, &shared.pool).await;
        return;
    }
    let (away, served_by) = (Away::new(&elsewhere), shared.clone());
    shared.spawn(async move {
        let _away = away;
        by_pingora(exchange, request, client.into_stream(), decision, &served_by).await;
    });
}

/// Has Pingora serve a request.
async fn by_pingora(exchange: Box<Exchange>, request: Parts, stream: RequestStream, decision: Decision, shared: &Shared) {
    let (pace, door) = (stream.pace.clone(), exchange.connection.door.clone());
    let session = ServerSession::new_custom(Box::new(H2Request::new(request.clone().into(), stream)));
    let arrival = Arrival::h2(exchange, request, decision, pace);
    arrival.scope(shared.edge.process_new_http(session, door.closed())).await;
}

async fn refuse(request: Parts, client: H2Client, connection: &Connection, shared: &Shared, refusal: Refusal, began: Began) {
    let has_body = request.method != Method::HEAD;
    let mut outcome = connection.refused(shared.store.load().generation, began, refusal, Glimpse::of_parts(&request));
    outcome.bytes_out = if has_body { refusal_length(refusal, &outcome.request_id) } else { 0 };
    shared.observer.finished(&outcome);
    client.refuse(refusal, &outcome.request_id, has_body).await;
}
