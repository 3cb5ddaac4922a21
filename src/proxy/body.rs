//! Bodies on their way through: counted, bounded, and never buffered here.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use pingora_core::Result;
use pingora_proxy::Session;

use super::RequestCtx;
use crate::{
    filter::{RequestPiece, Verdict},
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
pub(super) fn request(session: &Session, body: &mut Option<Bytes>, end: bool, ctx: &mut RequestCtx) -> Result<()> {
    ctx.arrival.deadlines().moved();
    if end {
        ctx.uploaded = true;
        ctx.request_is_whole();
        // Pingora writes an empty last piece to HTTP/1 endpoints as a last chunk, and then one more for the end. The second one would
        // be the beginning of a request that nobody made (cloudflare/pingora#935).
        body.take_if(|piece| piece.is_empty());
    }
    let length = body.as_ref().map_or(0, Bytes::len);
    if length == 0 && !end {
        return Ok(());
    }
    ctx.body_in += length as u64;
    if overdue(ctx) {
        return Err(ctx.decide(Reply::status(504), Cause::HttpResponseTimeout, "timeout", Who::Weir));
    }
    if !end && too_slow(ctx) {
        let refusal = Refusal::BodyTooSlow;
        return Err(ctx.decide(Reply::status(refusal.status()), refusal.cause(), refusal.reason(), Who::Client));
    }
    // What passes through a tunnel is no body.
    if !ctx.filters.sees_request_body() || session.was_upgraded() {
        return Ok(());
    }
    let none = Bytes::new();
    let piece = RequestPiece { bytes: body.as_ref().unwrap_or(&none), so_far: ctx.body_in, end };
    match ctx.filters.request_body(&piece) {
        // There is nothing to wait with: the upstream has the head, and bytes are coming.
        Verdict::Continue | Verdict::Later(_) => Ok(()),
        Verdict::Answer { reply, reason } | Verdict::Stream { reply, reason, .. } => {
            Err(ctx.decide(reply, Cause::HttpRequestDenied, reason, Who::Weir))
        }
    }
}

/// A piece of the response body: what is too late is cut, visibly; filters see and change the rest.
pub(super) fn response(session: &mut Session, body: &mut Option<Bytes>, end: bool, ctx: &mut RequestCtx) -> Result<()> {
    ctx.arrival.deadlines().moved();
    if overdue(ctx) {
        return Err(ctx.decide(Reply::status(504), Cause::HttpResponseTimeout, "timeout", Who::Weir));
    }
    if is_bodiless(session, ctx) {
        *body = None;
    } else if ctx.filters.wants_response_body() && !session.was_upgraded() {
        let had_one = body.is_some();
        let mut piece = body.take().unwrap_or_default();
        let passed = ctx.filters.response_body(&mut piece, end);
        *body = (had_one || !piece.is_empty()).then_some(piece);
        passed.map_err(|reason| ctx.decide(Reply::status(500), Cause::ProxyInternalError, reason, Who::Weir))?;
    }
    let length = body.as_ref().map_or(0, Bytes::len);
    ctx.body_out += length as u64;
    if !session.was_upgraded() {
        ctx.arrival.pace.window.passed(length);
    }
    if end && !session.was_upgraded() {
        ctx.answered = true;
        ctx.arrival.deadlines().set_silence(None);
        if !session.is_body_done() {
            // The service has said all it wants of a body that is still coming. A client that waits to be told to send it
            // never will; another gets a little time, so that a reset does not destroy the answer.
            let asked = ctx.continued || ctx.body_in > 0 || !ctx.arrival.admitted.expect_continue;
            session.set_read_timeout(Some(if asked { LINGER } else { NOTHING }));
        }
    }
    Ok(())
}

/// Has the response a head and no more? A body comes all the same where the store asked for one: with the answer to a HEAD, or one
/// that became a 304. Pingora leaves it out on HTTP/1 alone.
fn is_bodiless(session: &Session, ctx: &RequestCtx) -> bool {
    session.req_header().method == Method::HEAD || matches!(ctx.outcome.status, 204 | 304)
}

/// Trailers end a body too: what filters have kept back is sent in their place, for lack of a way to send both.
pub(super) async fn trailers(session: &mut Session, ctx: &mut RequestCtx) -> Option<Bytes> {
    if !ctx.filters.wants_response_body() {
        return None;
    }
    let mut rest = Bytes::new();
    if let Err(reason) = ctx.filters.response_body(&mut rest, true) {
        // An error of this phase would end the response as if it were whole.
        ctx.outcome.cause = Some(Cause::ProxyInternalError);
        ctx.outcome.reason = Some(reason);
        ctx.outcome.who = Who::Weir;
        session.as_downstream_mut().shutdown().await;
    }
    (!rest.is_empty()).then_some(rest)
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
