//! What the gate knows of a request, on its way into the context that Pingora makes for it.

use std::{
    cell::RefCell,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use pingora_core::{apps::HttpServerApp, protocols::http::ServerSession, server::ShutdownWatch};

use super::Edge;
use crate::{
    gate::{Admitted, BodyFraming},
    listener::{Began, Connection, Link},
    pace::Pace,
    tunnel::Tunnel,
};

tokio::task_local! {
    /// Pingora calls `new_ctx` without the session, in the task that serves it: the arrival waits here.
    static ARRIVAL: RefCell<Option<Arrival>>;
}

/// A request that the gate has admitted.
#[derive(Debug)]
pub struct Arrival {
    /// The connection it came on.
    pub connection: Arc<Connection>,
    /// What the gate found.
    pub admitted: Admitted,
    /// When it began.
    pub began: Began,
    /// The HTTP/1 stream it came on.
    pub link: Option<Arc<Link>>,
    /// How its body gets on.
    pub progress: Arc<Progress>,
    /// How much of it may be in this process.
    pub pace: Arc<Pace>,
    /// The connection closes after it.
    pub last: bool,
}

/// In place of the time of the last progress: no byte of the body was asked for yet.
const UNASKED: u64 = u64::MAX;

/// How a request body gets on, for the watch over HTTP/2 streams, whose reads have no timeout in Pingora.
#[derive(Debug)]
pub struct Progress {
    since: Instant,
    last_millis: AtomicU64,
    settled: AtomicBool,
    expired: AtomicBool,
}

impl Progress {
    fn new(since: Instant) -> Self {
        let last_millis = AtomicU64::new(UNASKED);
        Self { since, last_millis, settled: AtomicBool::new(false), expired: AtomicBool::new(false) }
    }
    /// Body bytes arrived, or are asked for from now on.
    pub fn moved(&self) {
        self.last_millis.store(self.since.elapsed().as_millis() as u64, Relaxed);
    }
    /// The body is complete, or the response has begun and both directions stream as they like.
    pub fn settle(&self) {
        self.settled.store(true, Relaxed);
    }
    /// Was the request given up because its body did not get on?
    pub fn expired(&self) -> bool {
        self.expired.load(Relaxed)
    }

    /// Resolves when the body made no progress for this long. Never, once it is settled; nor while nobody reads it, since a request
    /// that waits in a queue or for a connection is not held up by its client.
    async fn stalled(&self, patience: Duration) {
        loop {
            let now = Instant::now();
            let idle_since = match self.last_millis.load(Relaxed) {
                UNASKED => now,
                millis => self.since + Duration::from_millis(millis),
            };
            let deadline = idle_since + patience;
            if self.settled.load(Relaxed) {
                std::future::pending::<()>().await;
            }
            if now >= deadline {
                self.expired.store(true, Relaxed);
                return;
            }
            tokio::time::sleep_until(deadline.into()).await;
        }
    }
}

impl Arrival {
    /// A request on an HTTP/1 connection.
    pub fn h1(connection: Arc<Connection>, admitted: Admitted, began: Began, link: Arc<Link>, last: bool) -> Self {
        let (progress, pace) = (Arc::new(Progress::new(began.at)), link.pace().clone());
        Self { connection, admitted, began, link: Some(link), progress, pace, last }
    }

    /// A request on an HTTP/2 stream.
    pub fn h2(connection: Arc<Connection>, admitted: Admitted, began: Began, pace: Arc<Pace>) -> Self {
        Self { connection, admitted, began, link: None, progress: Arc::new(Progress::new(began.at)), pace, last: false }
    }

    /// The tunnel that it asks for.
    pub(super) fn tunnel(&self) -> Option<&Arc<Tunnel>> {
        self.link.as_ref()?.tunnel()
    }

    /// The same request once more, from now, for no connection that would wait for it.
    pub(super) fn again(&self) -> Self {
        let began = Began::now();
        Self {
            connection: self.connection.clone(),
            admitted: self.admitted.clone(),
            began,
            link: None,
            progress: Arc::new(Progress::new(began.at)),
            pace: Pace::unpaced(),
            last: false,
        }
    }

    /// Runs the future with this arrival waiting for `new_ctx`.
    pub async fn scope<F: Future>(self, future: F) -> F::Output {
        let pace = self.pace.clone();
        pace.scope(ARRIVAL.scope(RefCell::new(Some(self)), future)).await
    }

    /// Serves a whole HTTP/2 stream, and gives it up (a reset) when its body stalls.
    pub async fn serve_h2(self, edge: &Arc<Edge>, session: ServerSession, closed: &ShutdownWatch) {
        let progress = self.progress.clone();
        let patience = self.connection.listener.http.body_idle_timeout.limit();
        if matches!(self.admitted.body, BodyFraming::None | BodyFraming::Length(0)) || patience.is_none() {
            progress.settle();
        }
        let serve = self.scope(edge.process_new_http(session, closed));
        tokio::select! {
            biased;
            _ = serve => {}
            _ = progress.stalled(patience.unwrap_or_default()) => {}
        }
    }

    /// The arrival of the request that this task serves.
    pub(super) fn current() -> Self {
        // Only `listener` hands requests to the proxy, and always within `scope`.
        ARRIVAL.with(|arrival| arrival.borrow_mut().take()).expect("requests come through the listener")
    }
}
