//! HTTP/2 connections: accept streams, admit each, decide on it, hand it to a driver.
//!
//! Streams are served in the task of their connection, so that what they send leaves together and no worker waits for another; what
//! Pingora carries has a task of its own, since it may go on for others when its client has left.

use std::{
    future::poll_fn,
    panic::AssertUnwindSafe,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use h2::{Reason, RecvStream, server};
use tokio::time::timeout;

use super::{
    Shared,
    h2_frames::FrameStream,
    idle::Idleness,
    nudge::{Part, Whole},
    stream::{self, Elsewhere},
};
use crate::{
    config::HttpSpec,
    exchange::{Attendance, Connection},
    gate::h2_frames::{Flood, FrameLimits},
    lane::{H2Stream, StreamClient},
    pace::{Allowance, Pace, Sending, Share},
    wire::Transport,
};

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
    let (stream, alarm) = FrameStream::new(transport, ahead, limits, sending.clone());
    let handshake = builder(http, &limits, connection.head_limits().list_bytes()).handshake::<_, Bytes>(stream);
    let Ok(Ok(mut conn)) = timeout(http.header_timeout.get(), handshake).await else {
        return;
    };
    let allowance = Allowance::new();
    let elsewhere = Arc::<Elsewhere>::default();
    let mut streams = FuturesUnordered::new();
    // Until a GOAWAY was sent.
    let mut door: Option<Attendance> = Some(connection.door.attend());
    let mut idleness = Idleness::new(http.keepalive_timeout.get());
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
                let client = StreamClient::new(H2Stream::new(body, respond, pace, sent));
                let stream = stream::serve(head, client, connection.clone(), shared.clone(), elsewhere.clone());
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
