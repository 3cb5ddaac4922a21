//! A request on its way into the context that Pingora makes for it: decided already, by [`crate::exchange`].

use std::{
    cell::RefCell,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use http::request::Parts;
use parking_lot::Mutex;

use crate::{
    exchange::{Decision, Exchange},
    gate::{Refusal, Spelling},
    pace::Pace,
    tunnel::Tunnel,
};

tokio::task_local! {
    /// Pingora calls `new_ctx` without the session, in the task that serves it: the arrival waits here.
    static ARRIVAL: RefCell<Option<Arrival>>;
}

/// What the stream of an HTTP/1 client and the request that is using it tell each other.
#[derive(Debug)]
pub struct Link {
    /// Of a request that asks for one.
    tunnel: Option<Arc<Tunnel>>,
    pace: Arc<Pace>,
    refusal: Mutex<Option<Refusal>>,
    broken: AtomicBool,
}

impl Default for Link {
    fn default() -> Self {
        Self::new(None)
    }
}

impl Link {
    /// Of a request that may ask for a tunnel.
    pub fn new(tunnel: Option<Arc<Tunnel>>) -> Self {
        Self { tunnel, pace: Pace::alone(), refusal: Mutex::default(), broken: AtomicBool::new(false) }
    }
    /// The tunnel that the request asks for.
    pub fn tunnel(&self) -> Option<&Arc<Tunnel>> {
        self.tunnel.as_ref()
    }
    /// How much of the exchange may be in this process.
    pub fn pace(&self) -> &Arc<Pace> {
        &self.pace
    }
    /// The body is refused.
    pub fn refuse(&self, refusal: Refusal) {
        *self.refusal.lock() = Some(refusal);
    }
    /// The end of the connection would be taken for that of a response which is cut: it must end as a failure.
    pub fn break_off(&self) {
        self.broken.store(true, Relaxed);
    }
    /// Must it?
    pub fn is_broken(&self) -> bool {
        self.broken.load(Relaxed)
    }
    /// Why the body was refused, if it was.
    pub fn refusal(&self) -> Option<Refusal> {
        *self.refusal.lock()
    }
}

/// A request of which it is decided what becomes of it.
pub struct Arrival {
    pub(super) exchange: Box<Exchange>,
    pub(super) request: Parts,
    pub(super) spelling: Spelling,
    pub(super) decision: Decision,
    pub(super) link: Option<Arc<Link>>,
    pub(super) pace: Arc<Pace>,
}

impl Arrival {
    /// A request on an HTTP/1 connection.
    pub fn h1(exchange: Box<Exchange>, request: Parts, spelling: Spelling, decision: Decision, link: Arc<Link>) -> Self {
        let pace = link.pace().clone();
        Self { exchange, request, spelling, decision, link: Some(link), pace }
    }

    /// A request on a stream of HTTP/2 or HTTP/3, whose names are in lower case.
    pub fn stream(exchange: Box<Exchange>, request: Parts, decision: Decision, pace: Arc<Pace>) -> Self {
        Self { exchange, request, spelling: Spelling::default(), decision, link: None, pace }
    }

    /// Runs the future with this arrival waiting for `new_ctx`.
    pub async fn scope<F: Future>(self, future: F) -> F::Output {
        let pace = self.pace.clone();
        pace.scope(ARRIVAL.scope(RefCell::new(Some(self)), future)).await
    }

    /// The arrival of the request that this task serves.
    pub(super) fn current() -> Self {
        // Only `listener` hands requests to the proxy, and always within `scope`.
        ARRIVAL.with(|arrival| arrival.borrow_mut().take()).expect("requests come through the listener")
    }
}
