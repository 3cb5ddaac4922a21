//! What all requests of one connection share, and when one of them began.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Instant, SystemTime},
};

use http::HeaderValue;
use tokio_util::sync::CancellationToken;

use super::Door;
use crate::{
    gate::{self, Admitted, Glimpse, Head, Limits, Refusal, Version},
    observe::{Layer, Opening, Outcome},
    snapshot::Listener,
    types::{Phase, RequestId, Scheme, TlsClient, Who},
};

/// The facts of a connection that every request on it shares.
#[derive(Debug)]
pub struct Connection {
    /// The listener that accepted it, as it was configured then.
    pub listener: Arc<Listener>,
    /// The peer's address, or what a trusted PROXY header says; unspecified for unix sockets.
    pub peer: IpAddr,
    /// The peer's port.
    pub port: u16,
    /// The peer's address as services are told it.
    pub told: HeaderValue,
    /// TLS facts.
    pub tls: Option<Arc<TlsClient>>,
    /// What it came in by.
    pub door: Arc<Door>,
    /// Cancelled when the grace period of a drain is over: what is left then is cut.
    pub cut: CancellationToken,
}

impl Connection {
    /// The scheme of this connection itself.
    pub fn scheme(&self) -> Scheme {
        if self.tls.is_some() { Scheme::Https } else { Scheme::Http }
    }

    /// May another request follow? Not during a drain, and not when the listener was configured anew: the response then
    /// says that the connection closes.
    pub fn stays_open(&self) -> bool {
        self.door.is_open()
    }

    /// Is the grace period of a drain over, so that what ends now was ended by us?
    pub fn is_cut(&self) -> bool {
        self.cut.is_cancelled()
    }

    /// The bounds of a request head on this listener.
    pub fn head_limits(&self) -> Limits {
        Limits::new(self.listener.http.max_header_bytes.get(), self.listener.http.max_header_count.get())
    }

    /// What the gate says of an HTTP/1 head on this listener.
    pub fn admit_h1(&self, head: &Head<'_>) -> Result<Admitted, Refusal> {
        let admitted = gate::admit_h1(head, self.tls.is_some())?;
        self.listener.http.underscore_fields.judge(&admitted).map(|()| admitted)
    }

    /// What the gate says of a head of HTTP/2 or HTTP/3 on this listener.
    pub fn admit_stream(&self, head: &http::request::Parts, version: Version) -> Result<Admitted, Refusal> {
        self.head_limits().check(head)?;
        let admitted = gate::admit_stream(head, version)?;
        self.listener.http.underscore_fields.judge(&admitted).map(|()| admitted)
    }

    /// The outcome of a request on it, of which nothing more is known.
    pub(super) fn begin(&self, generation: u64, began: Began) -> Outcome {
        Outcome::begin(Opening {
            layer: Layer::Http,
            started: began.time,
            id: RequestId::new(began.time),
            client: self.peer,
            client_port: self.port,
            listener: self.listener.name.clone(),
            tls: self.tls.clone(),
            generation,
        })
    }

    /// The outcome of something that ended at the gate: what is known of it so far.
    pub fn refused(&self, generation: u64, began: Began, refusal: Refusal, read: Glimpse) -> Outcome {
        let mut outcome = self.begin(generation, began);
        (outcome.http, outcome.method, outcome.host, outcome.path) = (read.http, read.method, read.host, read.path);
        (outcome.user_agent, outcome.referer) = (read.user_agent, read.referer);
        (outcome.status, outcome.cause, outcome.reason) = (refusal.status(), Some(refusal.cause()), Some(refusal.reason()));
        (outcome.who, outcome.phase) = (Who::Client, Phase::Admit);
        outcome.times.total = began.at.elapsed();
        outcome
    }
}

/// When a request began, on both clocks, read once.
#[derive(Debug, Clone, Copy)]
pub struct Began {
    /// For measuring.
    pub at: Instant,
    /// For telling.
    pub time: SystemTime,
}

impl Began {
    /// Now.
    pub fn now() -> Self {
        Self { at: Instant::now(), time: SystemTime::now() }
    }
}
