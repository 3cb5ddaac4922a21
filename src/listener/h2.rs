//! The HTTP/2 driver: accept streams, admit each, let Pingora serve it in a task of its own.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::BytesMut;
use h2::Reason;
use pingora_core::protocols::{
    Digest,
    http::{
        ServerSession,
        v2::server::{H2Accept, H2Options, HttpSession, default_h2_options, handshake},
    },
};
use tokio::{sync::Notify, time::timeout};

use super::{Began, Connection, Shared, h2_stream::H2Stream, transport::Transport, turned};
use crate::{
    config::HttpSpec,
    gate::{Glimpse, Refusal, h2_frames::FrameLimits},
    proxy::{Arrival, refuse_h2},
};

/// Requests that the codec rejects on one connection before it is closed.
const MALFORMED_STREAMS: u32 = 32;

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

fn options(http: &HttpSpec, limits: &FrameLimits, list_bytes: u32) -> H2Options {
    // The windows bound what one client can make us buffer: a stream's body, and a connection's together.
    const STREAM_WINDOW: u32 = 256 * 1024;
    const CONNECTION_WINDOW: u32 = 1024 * 1024;
    let mut options = default_h2_options();
    options
        .max_concurrent_streams(http.h2_max_concurrent_streams.get())
        .max_header_list_size(list_bytes)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(STREAM_WINDOW as usize)
        // The observer counts resets, over all of them; the library's own bound on those that come before their stream
        // was accepted is 20 by default, which the requests of one page exceed when its reader leaves at once.
        .max_pending_accept_reset_streams(limits.resets as usize);
    options
}

/// Serves streams until the connection closes. `ahead` holds bytes that were read already.
pub(super) async fn serve(transport: Transport, ahead: BytesMut, connection: Arc<Connection>, shared: Arc<Shared>) {
    let http = &connection.listener.http;
    let limits = FrameLimits::new(http.max_header_bytes.get());
    let (stream, alarm) = H2Stream::new(transport, ahead, limits);
    let settings = options(http, &limits, connection.head_limits().list_bytes());
    let Ok(Ok(mut conn)) = timeout(http.header_timeout.get(), handshake(Box::new(stream), Some(settings))).await else {
        return;
    };
    let digest = Arc::new(Digest::default());
    let active = Arc::<Active>::default();
    let mut closed = connection.door.closed().clone();
    let mut left = http.max_requests_per_connection.get();
    let mut malformed = MALFORMED_STREAMS;
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
            accepted = HttpSession::from_h2_conn(&mut conn, digest.clone()) => accepted,
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
            Ok(Some(H2Accept::Session(session))) => {
                left = left.saturating_sub(1);
                if left == 0 && !leaving {
                    conn.graceful_shutdown();
                    leaving = true;
                }
                start(session, &connection, &shared, ActiveStream::new(&active));
            }
            Ok(Some(H2Accept::Rejected)) => {
                // Answered or reset already; the library does not tell what it was.
                let read = Glimpse { http: "2", ..Glimpse::default() };
                let generation = shared.store.load().generation;
                let outcome = connection.refused(generation, Began::now(), Refusal::MalformedHttp2, read);
                shared.observer.finished(&outcome);
                malformed = malformed.saturating_sub(1);
                if malformed == 0 {
                    conn.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                }
            }
            Ok(None) | Err(_) => return,
        }
    }
}

/// Admits a stream and serves it in a task of its own.
fn start(session: HttpSession, connection: &Arc<Connection>, shared: &Arc<Shared>, active: ActiveStream) {
    let began = Began::now();
    let (connection, served_by) = (connection.clone(), shared.clone());
    shared.spawn(async move {
        let _active = active;
        let shared = served_by;
        let session = ServerSession::new_http2(session);
        match connection.admit_h2(session.req_header()) {
            Ok(admitted) => {
                let door = connection.door.clone();
                Arrival::h2(connection, admitted, began).serve_h2(&shared.edge, session, door.closed()).await;
            }
            Err(refusal) => Box::pin(refuse(session, &connection, &shared, refusal, began)).await,
        }
    });
}

async fn refuse(session: ServerSession, connection: &Connection, shared: &Shared, refusal: Refusal, began: Began) {
    let read = Glimpse::of_parts(session.req_header());
    let outcome = connection.refused(shared.store.load().generation, began, refusal, read);
    let request_id = outcome.request_id.clone();
    shared.observer.finished(&outcome);
    let _ = timeout(Duration::from_secs(5), refuse_h2(session, refusal, &request_id)).await;
}
