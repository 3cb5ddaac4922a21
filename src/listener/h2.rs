//! HTTP/2 connections: accept streams, admit each, decide on it, let Pingora serve it in a task of its own.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use h2::Reason;
use h2::server;
use http::Method;
use pingora_core::{apps::HttpServerApp, protocols::http::ServerSession};
use tokio::{sync::Notify, time::timeout};

use super::{Shared, h2_request::H2Request, h2_sending::Sending, h2_stream::H2Stream, turned};
use crate::{
    config::HttpSpec,
    exchange::{Began, Connection, Exchange, refusal_length},
    gate::{BodyFraming, Glimpse, Refusal, h2_frames::FrameLimits},
    pace::{Allowance, Pace, Share},
    proxy::{Arrival, refuse_h2},
    wire::Transport,
};

/// Streams of one connection that are being served.
#[derive(Debug, Default)]
struct Active {
    count: AtomicUsize,
    idle: Notify,
}

struct ActiveStream(Arc<Active>);

impl ActiveStream {
    fn new(active: &Arc<Active>) -> Self {
        active.count.fetch_add(1, Relaxed);
        Self(active.clone())
    }
}

impl Drop for ActiveStream {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Relaxed) == 1 {
            self.0.idle.notify_one();
        }
    }
}

impl Active {
    /// Resolves when nothing was being served for this long.
    async fn idle_for(&self, patience: Duration) {
        loop {
            while self.count.load(Relaxed) != 0 {
                self.idle.notified().await;
            }
            tokio::time::sleep(patience).await;
            if self.count.load(Relaxed) == 0 {
                return;
            }
        }
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
    let active = Arc::<Active>::default();
    let mut closed = connection.door.closed().clone();
    let mut left = http.max_requests_per_connection.get();
    let mut leaving = false;
    loop {
        let accepted = tokio::select! {
            biased;
            flood = alarm.raised() => {
                shared.observer.metrics().rejected(flood.reason());
                log::debug!("HTTP/2 flood from {}: {}", connection.peer, flood.reason());
                conn.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                // Bounded: a client that floods need not be read any further.
                let _ = timeout(Duration::from_secs(1), std::future::poll_fn(|cx| conn.poll_closed(cx))).await;
                return;
            }
            _ = turned(&mut closed), if !leaving => {
                conn.graceful_shutdown();
                leaving = true;
                continue;
            }
            accepted = conn.accept() => accepted,
            _ = active.idle_for(http.keepalive_timeout.get()) => {
                if leaving {
                    return;
                }
                // A GOAWAY first; a client that does not react is let go after as long again.
                conn.graceful_shutdown();
                leaving = true;
                continue;
            }
        };
        match accepted {
            Some(Ok((request, respond))) => {
                left = left.saturating_sub(1);
                if left == 0 && !leaving {
                    conn.graceful_shutdown();
                    leaving = true;
                }
                let pace = Pace::sharing(Share::new(&allowance));
                let request = H2Request::new(request, respond, pace.clone(), &sending);
                start(request, pace, &connection, &shared, ActiveStream::new(&active));
            }
            Some(Err(_)) | None => return,
        }
    }
}

/// Admits a stream and serves it in a task of its own.
fn start(request: H2Request, pace: Arc<Pace>, connection: &Arc<Connection>, shared: &Arc<Shared>, active: ActiveStream) {
    let began = Began::now();
    let (connection, served_by) = (connection.clone(), shared.clone());
    shared.spawn(async move {
        let _active = active;
        let shared = served_by;
        let admitted = connection.admit_h2(request.head());
        let mut head = request.head().as_owned_parts();
        let ended = request.is_ended();
        let session = ServerSession::new_custom(Box::new(request));
        match admitted {
            Ok(mut admitted) => {
                let door = connection.door.clone();
                if ended && admitted.body == BodyFraming::Stream {
                    // Its head was the end of the stream.
                    admitted.body = BodyFraming::None;
                }
                let exchange = Exchange::new(connection, admitted, began, shared.store.load(), shared.observer.clone());
                // Boxed: it is large, and is handed on from here to there.
                let mut exchange = Box::new(exchange);
                let decision = exchange.decide(&mut head).await;
                let arrival = Arrival::h2(exchange, head, decision, pace);
                arrival.scope(shared.edge.process_new_http(session, door.closed())).await;
            }
            Err(refusal) => Box::pin(refuse(session, &connection, &shared, refusal, began)).await,
        }
    });
}

async fn refuse(session: ServerSession, connection: &Connection, shared: &Shared, refusal: Refusal, began: Began) {
    let read = Glimpse::of_parts(session.req_header());
    let has_body = session.req_header().method != Method::HEAD;
    let mut outcome = connection.refused(shared.store.load().generation, began, refusal, read);
    outcome.bytes_out = if has_body { refusal_length(refusal, &outcome.request_id) } else { 0 };
    let request_id = outcome.request_id.clone();
    shared.observer.finished(&outcome);
    let _ = timeout(Duration::from_secs(5), refuse_h2(session, refusal, &request_id)).await;
}
