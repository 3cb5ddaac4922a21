//! HTTP/2 connections: accept streams, admit each, decide on it, hand it to a driver in a task of its own.

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
use http::{Method, request::Parts};
use pingora_core::{apps::HttpServerApp, protocols::http::ServerSession};
use tokio::{sync::Notify, time::timeout};

use super::{Shared, h2_request::H2Request, h2_stream::H2Stream, turned};
use crate::{
    config::{DriverChoice, HttpSpec},
    exchange::{Began, Connection, Exchange, refusal_length},
    gate::{BodyFraming, Glimpse, Refusal, Spelling, h2_frames::FrameLimits},
    lane::{self, H2Client, RequestStream},
    pace::{Allowance, Pace, Sending, Share},
    proxy::Arrival,
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
                let sent = sending.begin(respond.stream_id().as_u32(), pace.clone());
                let (head, body) = request.into_parts();
                let client = H2Client::new(RequestStream { body, respond, pace, sent });
                start(head, client, &connection, &shared, ActiveStream::new(&active));
            }
            Some(Err(_)) | None => return,
        }
    }
}

/// Admits a stream and serves it in a task of its own.
fn start(head: Parts, client: H2Client, connection: &Arc<Connection>, shared: &Arc<Shared>, active: ActiveStream) {
    let began = Began::now();
    let (connection, served_by) = (connection.clone(), shared.clone());
    shared.spawn(async move {
        let _active = active;
        one(head, client, began, connection, &served_by).await;
    });
}

/// Serves one request.
async fn one(mut request: Parts, client: H2Client, began: Began, connection: Arc<Connection>, shared: &Shared) {
    let mut admitted = match connection.admit_h2(&request) {
        Ok(admitted) => admitted,
        Err(refusal) => return Box::pin(refuse(request, client, &connection, shared, refusal, began)).await,
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
        let arrival = lane::Arrival { client, exchange, request, spelling: Spelling::default(), decision };
        lane::serve(arrival, &shared.pool).await;
        return;
    }
    let stream = client.into_stream();
    let pace = stream.pace.clone();
    let door = exchange.connection.door.clone();
    let session = ServerSession::new_custom(Box::new(H2Request::new(request.clone().into(), stream)));
    let arrival = Arrival::h2(exchange, request, decision, pace);
    Box::pin(arrival.scope(shared.edge.process_new_http(session, door.closed()))).await;
}

async fn refuse(request: Parts, client: H2Client, connection: &Connection, shared: &Shared, refusal: Refusal, began: Began) {
    let has_body = request.method != Method::HEAD;
    let mut outcome = connection.refused(shared.store.load().generation, began, refusal, Glimpse::of_parts(&request));
    outcome.bytes_out = if has_body { refusal_length(refusal, &outcome.request_id) } else { 0 };
    shared.observer.finished(&outcome);
    client.refuse(refusal, &outcome.request_id, has_body).await;
}
