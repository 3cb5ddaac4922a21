//! The end of a request: one outcome, whatever happened.

use pingora_proxy::Session;

use super::{RequestCtx, caching, fail, fault::Fault, trace};
use crate::{
    filter::Passage,
    types::{Phase, Who},
};

/// The request ended in the ordinary way.
pub(super) fn finish(session: &Session, ctx: &mut RequestCtx) {
    if ctx.finished {
        return;
    }
    ctx.outcome.bytes_out = session.body_bytes_sent() as u64;
    ctx.outcome.bytes_in = session.body_bytes_read() as u64;
    if ctx.outcome.cache.is_none() {
        ctx.outcome.cache = caching::word(session, ctx);
    }
    if ctx.outcome.status == 0 {
        ctx.outcome.status = session.response_written().map_or(0, |response| response.status.as_u16());
    }
    if ctx.outcome.cause.is_none() {
        ctx.outcome.phase = Phase::Done;
    }
    report(ctx);
}

/// The request's task was cancelled: its client reset the stream, its body stalled, or a drain had no time left for it.
pub(super) fn abandoned(ctx: &mut RequestCtx) {
    // What Pingora has counted is gone with its session. A piece that was on its way counts as sent.
    (ctx.outcome.bytes_in, ctx.outcome.bytes_out) = (ctx.body_in, ctx.body_out);
    let fault = if let Some(limit) = ctx.arrival.deadlines().take_passed() {
        fail::overdue(ctx, limit)
    } else if ctx.arrival.connection.is_cut() {
        Fault::Drained
    } else {
        Fault::Cancelled
    };
    let verdict = fault.judge(ctx.stage());
    if verdict.who == Who::Upstream || verdict.counts {
        ctx.attempt_failed(&verdict);
    }
    (ctx.outcome.who, ctx.outcome.cause, ctx.outcome.reason) = (verdict.who, Some(verdict.cause), verdict.reason);
    if let Some(status) = verdict.status.filter(|_| ctx.outcome.status == 0) {
        // The stream is reset, since its task is gone; in the log it is what it would be on HTTP/1.
        ctx.outcome.status = status;
    }
    report(ctx);
}

fn report(ctx: &mut RequestCtx) {
    ctx.finished = true;
    ctx.attempt_abandoned();
    trace::finish(ctx);
    ctx.onward.attempt = None;
    ctx.onward.permit = None;
    // With what filters hold for the request: a place among those in flight, say.
    ctx.filters = Passage::default();
    ctx.in_flight = None;
    ctx.outcome.times.total = ctx.arrival.began.at.elapsed();
    if ctx.is_behind() {
        ctx.observer.fetched(&ctx.outcome);
    } else {
        ctx.observer.finished(&ctx.outcome);
    }
}
