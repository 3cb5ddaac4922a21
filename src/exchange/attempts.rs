//! The attempt under way: its endpoint, how far it has come, how long it may take, and what its end means.

use std::time::{Duration, Instant};

use http::{HeaderValue, header, request::Parts};

use super::{Answer, Exchange, trace};
use crate::{
    endpoint::{AttemptResult, InFlight},
    gate::hop::{MaxForwards, max_forwards},
    observe::{Attempt, SpanId},
    pace::Limit,
    types::{Cause, FieldsMut, Phase, Reply, Stage, Who},
    upstream::{Again, Fault, Granted, Next, Replay, Stop, Verdict, tell_tls_fault},
};

/// An attempt that is under way.
pub struct Attempting {
    /// Counts it on its endpoint.
    pub guard: InFlight,
    /// When it began.
    pub started: Instant,
    /// Its span, where requests are traced.
    pub span: Option<SpanId>,
    /// How long connecting took.
    pub connected: Option<Duration>,
    /// On a connection from the pool.
    pub reused: bool,
    /// A pooled connection was found closed before it: it needs a new one.
    pub anew: bool,
    /// When the whole request was passed on: from then on the endpoint owes an answer.
    pub whole: Option<Instant>,
    /// The whole request was at hand when it began.
    begun_whole: bool,
    /// The response header came, or the attempt failed: it is in the outcome.
    pub recorded: bool,
    /// The response header came.
    pub answered: bool,
}

impl Attempting {
    /// How far it has come.
    pub(super) fn stage(&self) -> Stage {
        match self {
            _ if self.answered => Stage::Receiving,
            _ if self.whole.is_some() => Stage::Waiting,
            _ if self.connected.is_some() => Stage::Sending,
            _ => Stage::Connecting,
        }
    }
}

impl Exchange {
    /// Begins the next attempt: chooses its endpoint.
    ///
    /// # Errors
    /// What to answer, where there is none. The last verdict says more, where there is one: see [`Exchange::conclude`].
    pub async fn next_attempt(&mut self, request: &Parts) -> Result<(), Option<Box<Answer>>> {
        self.outcome.phase = Phase::Select;
        // The attempt before this one ends here.
        self.attempt = None;
        let left = self.time_left();
        let Some(attempts) = &mut self.attempts else {
            return Err(Some(Answer::weir(Reply::status(500), Cause::ProxyInternalError, "no_upstream")));
        };
        if attempts.is_first() {
            let upstream = attempts.upstream().clone();
            upstream.arrived(self.began.at);
            self.outcome.times.queue = attempts.enter(left).await.map_err(|stop| Some(stopped(stop)))?;
            let pinned = upstream.pinned(&self.head(request), self.began.time);
            if let Some(attempts) = &mut self.attempts {
                attempts.stay_with(pinned);
            }
        }
        let Next { guard, wait, anew } = self.choose_endpoint(request)?;
        if let Some(wait) = wait {
            tokio::time::sleep(self.time_left().map_or(wait, |left| left.min(wait))).await;
        }
        if self.is_late() {
            return Err(Some(Answer::weir(Reply::status(504), Cause::HttpResponseTimeout, "timeout")));
        }
        // A body that is sent again is counted again.
        self.body_in = 0;
        self.answer_by = None;
        self.attempt = Some(Attempting {
            guard,
            span: self.outcome.trace.is_some().then(SpanId::random),
            started: Instant::now(),
            connected: None,
            reused: false,
            anew,
            whole: None,
            begun_whole: self.uploaded,
            recorded: false,
            answered: false,
        });
        self.outcome.phase = Phase::Connect;
        Ok(())
    }

    fn choose_endpoint(&mut self, request: &Parts) -> Result<Next, Option<Box<Answer>>> {
        let (Some(mut attempts), Some(route)) = (self.attempts.take(), self.route.clone()) else {
            return Err(Some(Answer::weir(Reply::status(500), Cause::ProxyInternalError, "no_upstream")));
        };
        let upstream = attempts.upstream().clone();
        let next = attempts.next(&upstream.key(&self.head(request), &self.client), &route.retry);
        self.attempts = Some(attempts);
        next.map_err(|stop| {
            // What the last attempt failed with says more than that nobody is left.
            let failed = self.outcome.attempts.last().is_some_and(|attempt| attempt.failed.is_some());
            (!failed).then(|| stopped(stop))
        })
    }

    /// How long connecting may take, TLS included.
    pub fn connect_patience(&self) -> Option<Duration> {
        let limit = self.upstream().and_then(|upstream| upstream.spec().connections.connect_timeout.limit());
        limit.into_iter().chain(self.attempt_limit()).min()
    }

    /// What this attempt may take, where that is limited: what is left of the whole, and what the route gives each.
    pub fn attempt_limit(&self) -> Option<Duration> {
        self.time_left().into_iter().chain(self.per_try()).min()
    }

    /// What the route gives each attempt. A tunnel is none that could be made again: it lives as long as both sides like.
    pub(super) fn per_try(&self) -> Option<Duration> {
        self.route.as_ref().and_then(|route| route.retry.per_try_timeout()).filter(|_| !self.upgrades())
    }

    /// A connection is there.
    pub fn connected(&mut self, reused: bool) {
        self.outcome.phase = Phase::Request;
        let Some(attempt) = &mut self.attempt else { return };
        let took = attempt.started.elapsed();
        attempt.reused = reused;
        attempt.connected = Some(took);
        self.outcome.times.connect = if reused { Duration::ZERO } else { took };
    }

    /// Finishes the fields of the request for this attempt. What a filter has set or removed of them stays as it left it.
    pub fn onward(&self, fields: &mut dyn FieldsMut) {
        if fields.get(header::HOST.as_str()).is_none_or(<[u8]>::is_empty)
            && let Some(host) = self.endpoint_authority()
        {
            // An HTTP/1.0 client may name no host, and HTTP/1.1 requires one.
            fields.set(header::HOST, host);
        }
        if let Some(via) = self.via.filter(|_| !self.settled.via) {
            fields.append(header::VIA, HeaderValue::from_static(via));
        }
        if let MaxForwards::Forward(left) = max_forwards(self.admitted.max_forwards)
            && !self.settled.max_forwards
        {
            fields.set(header::MAX_FORWARDS, HeaderValue::from(u16::from(left)));
        }
        if !self.settled.traceparent {
            trace::onward(fields, self);
        }
    }

    fn endpoint_authority(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&self.attempt.as_ref()?.guard.endpoint().address().authority()).ok()
    }

    /// When the connection of the attempt under way was there.
    pub fn attempt_ready(&self) -> Instant {
        self.attempt.as_ref().map_or_else(Instant::now, |attempt| attempt.started + attempt.connected.unwrap_or_default())
    }

    /// The whole request was passed on to the endpoint at this moment; it owes an answer by [`Exchange::answer_by`].
    pub fn request_is_whole(&mut self, now: Instant) {
        let each = self.per_try();
        let Some(attempts) = &self.attempts else { return };
        let Some(attempt) = self.attempt.as_mut().filter(|attempt| attempt.whole.is_none()) else { return };
        attempt.whole = Some(now);
        if attempt.recorded {
            return;
        }
        let answer = attempts.upstream().spec().connections.response_timeout.limit().map(|limit| now + limit);
        let from = if attempt.begun_whole { attempt.started } else { now };
        self.answer_by = answer.into_iter().chain(each.map(|each| from + each)).min();
    }

    /// The response header has come.
    pub fn attempt_answered(&mut self, status: u16) {
        let now = Instant::now();
        let Some(attempt) = self.attempt.as_ref().filter(|attempt| !attempt.recorded) else { return };
        let connected = attempt.started + attempt.connected.unwrap_or_default();
        let ok = status < 500;
        // The time in which the client sent its body is not the endpoint's. Of an answer that came before its end, only that
        // it came is known.
        let latency = match attempt.whole {
            Some(whole) => Some(now.saturating_duration_since(whole.max(connected))),
            None if ok => None,
            None => Some(Duration::ZERO),
        };
        attempt.guard.record(AttemptResult { ok, first_byte: latency }, now);
        if let (Some(permit), Some(latency), true) = (self.permit(), latency, ok) {
            permit.learn(latency, now);
        }
        self.outcome.times.first_byte = Some(now.saturating_duration_since(connected));
        self.note_attempt(Some(status), None, None, now);
    }

    fn permit(&self) -> Option<&crate::resilience::Permit> {
        self.attempts.as_ref()?.permit()
    }

    /// The attempt failed: draws the conclusions. Is there another? `at_hand` says that all of the request's body that was read can
    /// be sent once more.
    pub fn failed(&mut self, fault: Fault, at_hand: bool) -> bool {
        let verdict = fault.judge(self.stage());
        self.verdict = Some(verdict);
        let answered = self.attempt.as_ref().is_some_and(|attempt| attempt.recorded);
        if verdict.who == Who::Upstream || verdict.counts {
            self.attempt_failed(&verdict);
        }
        !answered && self.is_granted(verdict.again, at_hand)
    }

    /// The endpoint answered with this status. Is the request sent to another?
    pub fn again_for_status(&mut self, status: u16, at_hand: bool) -> bool {
        let again = Again::Listed { failure: crate::resilience::Failure::Status(status), free: false };
        self.is_granted(again, at_hand)
    }

    fn is_granted(&mut self, again: Again, at_hand: bool) -> bool {
        let replay = Replay { idempotent: self.idempotent, at_hand, in_time: !self.is_late() };
        let (Some(attempts), Some(route)) = (&mut self.attempts, &self.route) else { return false };
        match attempts.again(again, &route.retry, replay) {
            Granted::Yes => true,
            Granted::No => false,
            Granted::Broke => {
                self.observer.metrics().retry_budget_exhausted(attempts.upstream().name());
                false
            }
        }
    }

    /// The attempt that was just recorded failed because of TLS: keeps the reason with it, and tells the process log.
    pub fn tls_failed(&mut self, words: &str) {
        if let (Some(upstream), Some(attempt)) = (&self.outcome.upstream, self.outcome.attempts.last_mut()) {
            tell_tls_fault(upstream, &attempt.endpoint, words);
            attempt.detail = Some(words.into());
        }
    }

    /// The attempt failed, unless it was answered before.
    pub(super) fn attempt_failed(&mut self, verdict: &Verdict) {
        let (now, stage) = (Instant::now(), self.stage());
        let Some(attempt) = self.attempt.as_ref().filter(|attempt| !attempt.recorded) else { return };
        if verdict.counts {
            attempt.guard.record(AttemptResult { ok: false, first_byte: None }, now);
            // A failure that comes quickly says nothing about how fast the upstream is.
            if let (Some(permit), Some(whole), Cause::HttpResponseTimeout) = (self.permit(), attempt.whole, verdict.cause) {
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
        match &self.attempt {
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
        let Some(attempt) = &mut self.attempt else { return };
        (attempt.recorded, attempt.answered) = (true, status.is_some());
        let (endpoint, span) = (attempt.guard.endpoint().label().clone(), attempt.span);
        let since = attempt.started.saturating_duration_since(self.began.at);
        let took = now.saturating_duration_since(attempt.started);
        self.outcome.attempts.push(Attempt { endpoint, failed, status, stage, since, took, span, detail: None });
    }

    /// The endpoint closed the connection. A pooled one may have been closed just as it was taken: that is no failure of the endpoint,
    /// and it is forgiven once when nothing can happen twice. It is noticed by reading or by writing, whichever comes first.
    pub fn closed(&self, at_hand: bool) -> Fault {
        let reused = self.attempt.as_ref().is_some_and(|attempt| attempt.reused);
        let before = self.attempts.as_ref().is_none_or(|attempts| attempts.is_stale());
        let early = matches!(self.stage(), Stage::Sending | Stage::Waiting);
        if reused && self.idempotent && at_hand && !before && early { Fault::Stale } else { Fault::Closed }
    }

    /// A limit has passed.
    pub fn overdue(&self, limit: Limit) -> Fault {
        let whole = self.attempt.as_ref().is_none_or(|attempt| attempt.whole.is_some());
        match limit {
            Limit::Exchange => self.timeout(),
            Limit::Answer => Fault::Silent,
            Limit::Silence if whole => Fault::Silent,
            Limit::Silence => Fault::BothSilent,
            Limit::Unread => Fault::ClientNotReading,
        }
    }

    /// The route's `timeout` is over. It is the endpoint's failure only if most of that time was the endpoint's: a client could
    /// otherwise send its body so slowly that nothing is left for an answer.
    pub fn timeout(&self) -> Fault {
        let whole = self.route.as_ref().and_then(|route| route.timeout);
        let waited = self.attempt.as_ref().and_then(|attempt| match attempt.connected {
            Some(_) => attempt.whole,
            None => Some(attempt.started),
        });
        let endpoints = whole.zip(waited).is_some_and(|(whole, since)| since.elapsed() * 2 >= whole);
        Fault::Timeout { endpoints }
    }
}

fn stopped(stop: Stop) -> Box<Answer> {
    let cause = match stop {
        Stop::QueueFull | Stop::QueueTimeout => Cause::ConnectionLimitReached,
        Stop::NoEndpoint => Cause::DestinationUnavailable,
    };
    // With the shortest sensible wait.
    let reply = Reply::status(503).with(header::RETRY_AFTER, HeaderValue::from_static("1"));
    Answer::weir(reply, cause, stop.reason())
}
