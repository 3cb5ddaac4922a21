//! The endpoint of an attempt.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use pingora_core::{Error, ErrorType, Result, upstreams::peer::HttpPeer};
use pingora_http::RequestHeader;

use super::{RequestCtx, ctx::Attempting, request};
use crate::{
    endpoint::InFlight,
    observe::SpanId,
    resilience::{Backoff, Entry},
    types::{Cause, Phase, Reply, Who},
    upstream::{self, Upstream},
};

/// How long a request waits for a place where nothing else limits that.
const PATIENCE: Duration = Duration::from_secs(30);

/// Chooses the endpoint of a try, and how to connect to it.
pub(super) async fn peer(request: &RequestHeader, ctx: &mut RequestCtx) -> Result<Box<HttpPeer>> {
    ctx.outcome.phase = Phase::Select;
    // The attempt before this one ends here.
    ctx.onward.attempt = None;
    let Some(upstream) = ctx.onward.upstream.clone() else {
        return Err(ctx.decide(Reply::status(500), Cause::ProxyInternalError, "no_upstream", Who::Weir));
    };
    if ctx.onward.tried.is_empty() {
        upstream.arrived(ctx.arrival.began.at);
        queue(&upstream, ctx).await?;
        ctx.onward.pinned = upstream.pinned(&request::head(request, ctx), ctx.arrival.began.time);
    }
    let Some(guard) = stay(ctx).or_else(|| take(&upstream, request, ctx)) else { return Err(none_left(ctx)) };
    let endpoint = guard.endpoint().clone();
    let forgiven = std::mem::take(&mut ctx.onward.forgiven);
    let again = ctx.onward.tried.iter().filter(|tried| Arc::ptr_eq(tried, &endpoint)).count();
    if again > 0 && !forgiven {
        let wait = Backoff::wait(again as u8, &mut rand::rng());
        tokio::time::sleep(ctx.time_left().map_or(wait, |left| left.min(wait))).await;
    }
    let left = ctx.time_left();
    if left.is_some_and(|left| left.is_zero()) {
        return Err(ctx.decide(Reply::status(504), Cause::HttpResponseTimeout, "timeout", Who::Weir));
    }
    // A tunnel is no try that could be made again: it lives as long as both sides like.
    let each =
        ctx.route.as_ref().and_then(|route| route.retry.per_try_timeout()).filter(|_| ctx.arrival.admitted.upgrade.is_none());
    let mut peer = upstream.peer(&endpoint, left.into_iter().chain(each).min());
    let hold = match ctx.arrival.tunnel() {
        Some(tunnel) => {
            upstream::for_tunnel(&mut peer);
            upstream::hold_answer(&mut peer, tunnel)
        }
        None => {
            if ctx.arrival.deadlines().is_watched() {
                upstream::wait_for_answer(&mut peer);
            }
            None
        }
    };
    if forgiven {
        upstream::open_anew(&mut peer);
    }
    upstream::connect_by_us(&mut peer);
    let deadlines = ctx.arrival.deadlines();
    deadlines.clear();
    deadlines.set_exchange(ctx.deadline);
    ctx.onward.tries += 1;
    // A body that is sent again is counted again.
    ctx.body_in = 0;
    ctx.onward.tried.push(endpoint);
    let span = ctx.outcome.trace.is_some().then(SpanId::random);
    let started = Instant::now();
    ctx.onward.attempt = Some(Attempting {
        guard,
        hold,
        span,
        started,
        connected: None,
        reused: false,
        whole: None,
        begun_whole: ctx.uploaded,
        recorded: false,
        answered: false,
    });
    ctx.outcome.phase = Phase::Connect;
    Ok(peer)
}

/// Waits for a place among the requests in flight, where those are limited. All tries of the request keep it.
async fn queue(upstream: &Upstream, ctx: &mut RequestCtx) -> Result<()> {
    let Some((entry, limits)) = upstream.enter() else { return Ok(()) };
    match entry {
        Entry::Admitted(permit) => ctx.onward.permit = Some(permit),
        Entry::Refused => return Err(ctx.decide(unavailable(), Cause::ConnectionLimitReached, "queue_full", Who::Weir)),
        Entry::Queued(turn) => {
            let began = Instant::now();
            let patience = limits.queue_timeout.limit().into_iter().chain(ctx.time_left()).min().unwrap_or(PATIENCE);
            let turn = tokio::time::timeout(patience, turn).await.ok().and_then(std::result::Result::ok);
            ctx.outcome.times.queue = began.elapsed();
            ctx.onward.permit = turn;
            if ctx.onward.permit.is_none() {
                return Err(ctx.decide(unavailable(), Cause::ConnectionLimitReached, "queue_timeout", Who::Weir));
            }
        }
    }
    Ok(())
}

/// The endpoint of the request's session: at first, and again when all that failed was a connection that it had
/// closed while nobody used it, which is no reason to lose a session.
fn stay(ctx: &RequestCtx) -> Option<InFlight> {
    let pinned = ctx.onward.pinned.as_ref()?;
    let may = ctx.onward.tried.last().is_none_or(|last| ctx.onward.forgiven && pinned.is_with(last));
    if may { pinned.enter() } else { None }
}

/// An endpoint that this request has not tried; where that may be, else any but the last one, else any.
fn take(upstream: &Upstream, request: &RequestHeader, ctx: &RequestCtx) -> Option<InFlight> {
    let head = request::head(request, ctx);
    let (key, tried) = (&upstream.key(&head, &ctx.client), &ctx.onward.tried);
    let Some(last) = tried.last() else { return upstream.take(key, tried) };
    let but_last = std::slice::from_ref(last);
    if ctx.onward.forgiven {
        // What was tried has not failed: it comes before those that are left alone.
        return upstream.take(key, tried).or_else(|| upstream.take(key, but_last)).or_else(|| upstream.take(key, &[]));
    }
    let another = upstream.take_another(key, tried);
    if !ctx.route.as_ref()?.retry.same_endpoint() {
        return another;
    }
    another.or_else(|| upstream.take_another(key, but_last)).or_else(|| upstream.take(key, &[]))
}

/// No endpoint may take the request: what the last try failed with says more than that.
fn none_left(ctx: &mut RequestCtx) -> Box<Error> {
    let failed = ctx.outcome.attempts.last().is_some_and(|attempt| attempt.failed.is_some());
    if !failed {
        return ctx.decide(unavailable(), Cause::DestinationUnavailable, "no_endpoint", Who::Weir);
    }
    let mut error = Error::explain(ErrorType::ConnectError, "no endpoint for another try");
    error.as_up();
    error
}

/// 503 with the shortest sensible wait.
fn unavailable() -> Reply {
    Reply::status(503).with(http::header::RETRY_AFTER, http::HeaderValue::from_static("1"))
}

/// A connection is there.
pub(super) fn connected(ctx: &mut RequestCtx, reused: bool) {
    ctx.outcome.phase = Phase::Request;
    let Some(attempt) = &mut ctx.onward.attempt else { return };
    let took = attempt.started.elapsed();
    attempt.reused = reused;
    attempt.connected = Some(took);
    ctx.outcome.times.connect = if reused { Duration::ZERO } else { took };
}
