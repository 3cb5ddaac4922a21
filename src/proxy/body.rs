//! Bodies on their way through: counted, bounded, and never buffered here.

use std::time::Duration;

use bytes::Bytes;
use pingora_core::Result;
use pingora_proxy::Session;

use super::RequestCtx;
use crate::{
    filter::Verdict,
    gate::Refusal,
    types::{Cause, Reply, Who},
};

/// A body gets this long before its rate is judged.
const RATE_GRACE: Duration = Duration::from_secs(10);

/// How long the rest of a request body is waited for once the response is complete. As long as an idle client of others.
const LINGER: Duration = Duration::from_secs(5);
/// Not at all; a timer of zero might be taken for none.
const NOTHING: Duration = Duration::from_millis(1);

/// A piece of the request body.
pub(super) fn request(body: &mut Option<Bytes>, end: bool, ctx: &mut RequestCtx) -> Result<()> {
    ctx.arrival.progress.moved();
    if end {
        ctx.arrival.progress.settle();
    }
    let Some(piece) = body else { return Ok(()) };
    ctx.body_in += piece.len() as u64;
    if overdue(ctx) {
        return Err(ctx.decide(Reply::status(504), Cause::HttpResponseTimeout, "timeout", Who::Weir));
    }
    if !end && too_slow(ctx) {
        let refusal = Refusal::BodyTooSlow;
        return Err(ctx.decide(Reply::status(refusal.status()), refusal.cause(), refusal.reason(), Who::Client));
    }
    let Some(route) = ctx.route.clone().filter(|route| route.chain.sees_request_body()) else { return Ok(()) };
    match route.chain.request_body(ctx.body_in, &mut ctx.slots) {
        Verdict::Continue => Ok(()),
        Verdict::Answer { reply, reason } => Err(ctx.decide(reply, Cause::HttpRequestDenied, reason, Who::Weir)),
    }
}

/// A piece of the response body: only the deadline is looked at, and what is too late is cut, visibly.
pub(super) fn response(session: &mut Session, end: bool, ctx: &mut RequestCtx) -> Result<()> {
    if overdue(ctx) {
        return Err(ctx.decide(Reply::status(504), Cause::HttpResponseTimeout, "timeout", Who::Weir));
    }
    if end && !session.was_upgraded() {
        ctx.answered = true;
        if !session.is_body_done() {
            // The service has said all it wants of a body that is still coming. A client that waits to be told to send it
            // never will; another gets a little time, so that a reset does not destroy the answer.
            let asked = ctx.continued || ctx.body_in > 0 || !ctx.arrival.admitted.expect_continue;
            session.set_read_timeout(Some(if asked { LINGER } else { NOTHING }));
        }
    }
    Ok(())
}

fn overdue(ctx: &RequestCtx) -> bool {
    ctx.time_left().is_some_and(|left| left.is_zero())
}

/// Is the body slower than the listener puts up with? A tunnel or a response under way is not judged.
fn too_slow(ctx: &RequestCtx) -> bool {
    let min = ctx.arrival.connection.listener.http.min_body_rate.each_second();
    let took = ctx.arrival.began.at.elapsed();
    ctx.outcome.status == 0 && took > RATE_GRACE && (ctx.body_in as f64) < min * took.as_secs_f64()
}
