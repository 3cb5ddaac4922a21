//! What is kept of one request while it is served.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Arrival, caching::Caching, fault::Verdict, fields::Settled, finish, told::Told};
use crate::{
    endpoint::{AttemptResult, Endpoint, InFlight},
    filter::{Keeping, Pass, Passage},
    observe::{Attempt, Layer, Observer, Outcome, SpanId, Times},
    resilience::Permit,
    route::Route,
    snapshot::Snapshot,
    types::{Cause, Client, Phase, Reply, Stage, Who},
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
    /// The verdict on the last attempt that failed.
    pub(super) verdict: Option<Verdict>,
    /// The whole request has come from the client.
    pub(super) uploaded: bool,
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
    /// Tries that endpoints have refused to process.
    pub(super) unprocessed: u8,
    /// The next try is for one of these reasons, and may go to the same endpoint at once.
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
    /// When the whole request was passed on: from then on the endpoint owes an answer.
    pub(super) whole: Option<Instant>,
    /// The whole request was at hand when it began.
    pub(super) begun_whole: bool,
    /// The response header came, or the attempt failed: it is in the outcome.
    pub(super) recorded: bool,
    /// The response header came.
    pub(super) answered: bool,
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
            verdict: None,
            uploaded: false,
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

    /// How far the attempt under way has come.
    pub(super) fn stage(&self) -> Stage {
        match &self.onward.attempt {
            Some(attempt) if attempt.answered => Stage::Receiving,
            Some(attempt) if attempt.whole.is_some() => Stage::Waiting,
            Some(attempt) if attempt.connected.is_some() => Stage::Sending,
            _ => Stage::Connecting,
        }
    }

    /// The whole request was passed on to the endpoint.
    pub(super) fn request_is_whole(&mut self) {
        let upgrade = self.arrival.admitted.upgrade.is_some();
        let (Some(attempt), Some(upstream)) = (&mut self.onward.attempt, &self.onward.upstream) else { return };
        if attempt.whole.is_some() {
            return;
        }
        let now = Instant::now();
        attempt.whole = Some(now);
        if attempt.recorded {
            return;
        }
        let answer = upstream.spec().connections.response_timeout.limit().map(|limit| now + limit);
        // A tunnel is no try that could be made again: it lives as long as both sides like.
        let each = self.route.as_ref().and_then(|route| route.retry.per_try_timeout()).filter(|_| !upgrade);
        let from = if attempt.begun_whole { attempt.started } else { now };
        self.arrival.deadlines().set_answer(answer.into_iter().chain(each.map(|each| from + each)).min());
    }

    /// The response header has come.
    pub(super) fn attempt_answered(&mut self, status: u16) {
        let now = Instant::now();
        let Some(attempt) = self.onward.attempt.as_ref().filter(|attempt| !attempt.recorded) else { return };
        let connected = attempt.started + attempt.connected.unwrap_or_default();
        let ok = status < 500;
        // The time in which the client sent its body is not the endpoint's. Of an answer that came before its end, only that
        // it came is known.
        let latency = match attempt.whole {
            Some(whole) => Some(now.saturating_duration_since(whole.max(connected))),
            None if ok => None,
            None => Some(Duration::ZERO),
        };
        attempt.guard.record(AttemptResult { ok, first_byte: latency });
        if let (Some(permit), Some(latency), true) = (&self.onward.permit, latency, ok) {
            permit.learn(latency, now);
        }
        self.outcome.times.first_byte = Some(now.saturating_duration_since(connected));
        self.note_attempt(Some(status), None, None, now);
    }

    /// The attempt failed, unless it was answered before.
    pub(super) fn attempt_failed(&mut self, verdict: &Verdict) {
        let (now, stage) = (Instant::now(), self.stage());
        let Some(attempt) = self.onward.attempt.as_ref().filter(|attempt| !attempt.recorded) else { return };
        if verdict.counts {
            attempt.guard.record(AttemptResult { ok: false, first_byte: None });
            // A failure that comes quickly says nothing about how fast the upstream is.
            if let (Some(permit), Some(whole), Cause::HttpResponseTimeout) = (&self.onward.permit, attempt.whole, verdict.cause) {
                permit.learn(now.saturating_duration_since(whole), now);
            }
        }
        self.outcome.times.first_byte = None;
        self.note_attempt(None, Some(verdict.cause), Some(stage), now);
    }

    /// The exchange is over: an attempt that was not answered was abandoned, and one whose response was not passed on whole was
    /// cut in it.
    pub(super) fn attempt_abandoned(&mut self) {
        let stage = self.stage();
        match &self.onward.attempt {
            Some(attempt) if !attempt.recorded => self.note_attempt(None, None, Some(stage), Instant::now()),
            Some(attempt) if attempt.answered && self.outcome.cause.is_some() => {
                if let Some(last) = self.outcome.attempts.last_mut() {
                    last.stage = Some(Stage::Receiving);
                }
            }
            _ => {}
        }
    }

    fn note_attempt(&mut self, status: Option<u16>, failed: Option<Cause>, stage: Option<Stage>, now: Instant) {
        let Some(attempt) = &mut self.onward.attempt else { return };
        (attempt.recorded, attempt.answered) = (true, status.is_some());
        let (endpoint, span) = (attempt.guard.endpoint().label().clone(), attempt.span);
        let since = attempt.started.saturating_duration_since(self.arrival.began.at);
        let took = now.saturating_duration_since(attempt.started);
        self.outcome.attempts.push(Attempt { endpoint, failed, status, stage, since, took, span, detail: None });
    }
}

impl Drop for RequestCtx {
    fn drop(&mut self) {
        if !self.finished {
            finish::abandoned(self);
        }
    }
}
