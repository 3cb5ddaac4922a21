//! What is kept of one request while it is served.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Arrival, caching::Caching, fields::Settled, finish, told::Told};
use crate::{
    endpoint::{Endpoint, InFlight},
    filter::{Keeping, Pass, Passage},
    observe::{Attempt, Layer, Observer, Outcome, SpanId, Times},
    resilience::Permit,
    route::Route,
    snapshot::Snapshot,
    types::{Cause, Client, Phase, Reply, Who},
    upstream::{Hold, Pinned, Upstream},
};

/// One request. It reports its outcome exactly once, in `logging` or, when Pingora is cancelled before that, on drop.
pub struct RequestCtx {
    pub(super) arrival: Arrival,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) client: Client,
    pub(super) route: Option<Arc<Route>>,
    pub(super) filters: Passage,
    /// What filters say about keeping the answer.
    pub(super) keeping: Keeping,
    /// The cache at work, where the route wants one. In a box: most routes do not.
    pub(super) caching: Option<Box<Caching>>,
    /// When the whole exchange must be over.
    pub(super) deadline: Option<Instant>,
    pub(super) onward: Onward,
    /// What Weir decided to answer, when a phase can only fail to say so.
    pub(super) decided: Option<Decided>,
    pub(super) body_in: u64,
    /// Bytes of the response's body that were passed on to be sent.
    pub(super) body_out: u64,
    /// The client was told to go on with its body.
    pub(super) continued: bool,
    /// The whole response went to the client, whatever becomes of the rest of the request.
    pub(super) answered: bool,
    pub(super) outcome: Outcome,
    pub(super) in_flight: Option<crate::observe::RequestGuard>,
    pub(super) observer: Arc<Observer>,
    pub(super) finished: bool,
    /// The request asked why it went where it went.
    pub(super) told: Option<Box<Told>>,
}

/// The way to an endpoint: what is kept from try to try.
#[derive(Default)]
pub(super) struct Onward {
    /// Our entry in Via.
    pub(super) via: Option<&'static str>,
    /// What filters have decided on of the fields that are written behind them.
    pub(super) settled: Settled,
    /// The path and query to forward instead of the client's own.
    pub(super) rewritten: Option<String>,
    /// The upstream that serves it: one for all tries.
    pub(super) upstream: Option<Arc<Upstream>>,
    /// The session that the request belongs to, where those stay with an endpoint.
    pub(super) pinned: Option<Pinned>,
    /// Its place among the requests in flight on that upstream, where those are limited.
    pub(super) permit: Option<Permit>,
    pub(super) attempt: Option<Attempting>,
    /// Tries made. One that found a pooled connection closed is none.
    pub(super) tries: u8,
    /// A pooled connection was found closed: that is forgiven once.
    pub(super) stale: bool,
    /// The next try is for that reason, and may go to the same endpoint at once.
    pub(super) forgiven: bool,
    /// The status that the endpoint answered with is worth another try, which is paid for.
    pub(super) retrying: bool,
    /// The endpoints that were tried, in order.
    pub(super) tried: Vec<Arc<Endpoint>>,
}

/// An answer of Weir's own, with the words that explain it.
pub(super) struct Decided {
    pub(super) reply: Reply,
    pub(super) cause: Cause,
    pub(super) reason: Option<&'static str>,
    pub(super) who: Who,
}

/// The attempt that is under way.
pub(super) struct Attempting {
    pub(super) guard: InFlight,
    /// Of a try for a tunnel.
    pub(super) hold: Option<Hold>,
    pub(super) started: Instant,
    /// Its span, where requests are traced.
    pub(super) span: Option<SpanId>,
    pub(super) connected: Option<Duration>,
    pub(super) reused: bool,
    /// How it ends says nothing about the endpoint.
    pub(super) blameless: bool,
    /// The response header came, or the attempt failed: it is in the outcome.
    pub(super) recorded: bool,
}

/// A fresh request id: UUID version 7, which sorts by time.
pub fn new_request_id() -> Arc<str> {
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    Arc::from(&*uuid::Uuid::now_v7().as_hyphenated().encode_lower(&mut text))
}

impl RequestCtx {
    pub(super) fn new(mut arrival: Arrival, snapshot: Arc<Snapshot>, observer: Arc<Observer>) -> Self {
        let connection = &arrival.connection;
        let client = Client {
            ip: connection.peer,
            port: connection.port,
            scheme: connection.scheme(),
            listener: connection.listener.name.clone(),
            tls: connection.tls.clone(),
            whereabouts: snapshot.whereabouts(),
        };
        let filters = Passage {
            listener: Pass::new(snapshot.listener_filters.get(&client.listener).cloned().unwrap_or_default()),
            route: Pass::default(),
        };
        let outcome = Outcome {
            layer: Layer::Http,
            started: arrival.began.time,
            request_id: new_request_id(),
            trace: None,
            client: client.ip,
            client_port: client.port,
            listener: client.listener.clone(),
            tls: client.tls.clone(),
            http: arrival.admitted.http,
            method: String::new(),
            host: std::mem::take(&mut arrival.admitted.host),
            path: std::mem::take(&mut arrival.admitted.path),
            route: None,
            upstream: None,
            attempts: Vec::new(),
            status: 0,
            bytes_in: 0,
            bytes_out: 0,
            times: Times::default(),
            who: Who::Upstream,
            phase: Phase::Admit,
            cause: None,
            reason: None,
            generation: snapshot.generation,
            user_agent: None,
            referer: None,
            cache: None,
        };
        Self {
            arrival,
            snapshot,
            client,
            route: None,
            filters,
            keeping: Keeping::default(),
            caching: None,
            deadline: None,
            onward: Onward::default(),
            decided: None,
            body_in: 0,
            body_out: 0,
            continued: false,
            answered: false,
            outcome,
            in_flight: None,
            observer,
            finished: false,
            told: None,
        }
    }

    /// The context of a request that is made behind another, to fetch for the cache what that one got stale.
    pub(super) fn behind(before: &Self, caching: Box<Caching>) -> Self {
        let mut behind = Self::new(before.arrival.again(), before.snapshot.clone(), before.observer.clone());
        behind.client = before.client.clone();
        behind.route = before.route.clone();
        behind.filters = Passage::default();
        behind.deadline = before.route.as_ref().and_then(|route| route.timeout).map(|timeout| behind.arrival.began.at + timeout);
        behind.onward.via = before.onward.via;
        behind.onward.settled = before.onward.settled;
        behind.onward.rewritten = before.onward.rewritten.clone();
        behind.onward.upstream = before.onward.upstream.clone();
        behind.caching = Some(caching);
        behind.outcome.request_id = before.outcome.request_id.clone();
        behind.outcome.method = "GET".to_owned();
        behind.outcome.host = before.outcome.host.clone();
        behind.outcome.path = before.outcome.path.clone();
        behind.outcome.route = before.outcome.route.clone();
        behind.outcome.upstream = before.outcome.upstream.clone();
        behind
    }

    /// It is made for no client.
    pub(super) fn is_behind(&self) -> bool {
        self.caching.as_ref().is_some_and(|caching| caching.is_behind())
    }

    /// Decides on an answer of Weir's own. The caller then fails its phase, and `fail` writes it.
    pub(super) fn decide(&mut self, reply: Reply, cause: Cause, reason: &'static str, who: Who) -> Box<pingora_core::Error> {
        let status = reply.status.as_u16();
        self.decided = Some(Decided { reply, cause, reason: Some(reason), who });
        pingora_core::Error::explain(pingora_core::ErrorType::HTTPStatus(status), reason)
    }

    /// Time left of the whole exchange; `None` without a deadline, zero when it has passed.
    pub(super) fn time_left(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Writes down how the attempt under way ended, once.
    pub(super) fn record_attempt(&mut self, status: Option<u16>, failed: Option<Cause>) {
        let Some(attempt) = self.onward.attempt.as_mut().filter(|attempt| !attempt.recorded) else { return };
        attempt.recorded = true;
        let endpoint = attempt.guard.endpoint();
        let took = attempt.started.elapsed();
        let first_byte = status.map(|_| took.saturating_sub(attempt.connected.unwrap_or_default()));
        self.outcome.times.first_byte = first_byte;
        if !attempt.blameless {
            attempt.guard.record(crate::endpoint::AttemptResult { ok: status.is_some_and(|status| status < 500), first_byte });
        }
        if let Some(permit) = &self.onward.permit
            && (status.is_some_and(|status| status < 500) || failed == Some(Cause::HttpResponseTimeout))
        {
            // A failure that comes quickly says nothing about how fast the upstream is.
            permit.learn(first_byte.unwrap_or(took), attempt.started + took);
        }
        let since = attempt.started.saturating_duration_since(self.arrival.began.at);
        let (endpoint, span) = (endpoint.label().clone(), attempt.span);
        self.outcome.attempts.push(Attempt { endpoint, failed, status, since, took, span, detail: None });
    }
}

impl Drop for RequestCtx {
    fn drop(&mut self) {
        if !self.finished {
            finish::abandoned(self);
        }
    }
}
