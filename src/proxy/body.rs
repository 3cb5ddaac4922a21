//! Bodies in Pingora's phases.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use pingora_core::Result;
use pingora_proxy::Session;

use super::RequestCtx;
use crate::{
    exchange::LINGER,
    types::{Cause, Who},
};

/// Not at all; a timer of zero might be taken for none.
const NOTHING: Duration = Duration::from_millis(1);

/// A piece of the request body.
pub(super) fn request(session: &Session, body: &mut Option<Bytes>, end: bool, ctx: &mut RequestCtx) -> Result<()> {
    ctx.deadlines().moved();
    if end {
        // Pingora writes an empty last piece to HTTP/1 endpoints as a last chunk, and then one more for the end. The second one would
        // be the beginning of a request that nobody made (cloudflare/pingora#935).
        body.take_if(|piece| piece.is_empty());
    }
    let length = body.as_ref().map_or(0, Bytes::len);
    if session.was_upgraded() {
        // What passes through a tunnel is no body.
        ctx.body_in += length as u64;
        return Ok(());
    }
    let passed = ctx.request_piece(length, end, || body.clone().unwrap_or_default());
    if end {
        ctx.deadlines().set_answer(ctx.answer_by);
    }
    passed.map_err(|answer| ctx.decide(answer))
}

/// A piece of the response body.
pub(super) fn response(session: &mut Session, body: &mut Option<Bytes>, end: bool, ctx: &mut RequestCtx) -> Result<()> {
    ctx.deadlines().moved();
    if session.was_upgraded() {
        ctx.body_out += body.as_ref().map_or(0, Bytes::len) as u64;
        return Ok(());
    }
    if is_bodiless(session, ctx) {
        *body = None;
    }
    let had_one = body.is_some();
    let mut piece = body.take().unwrap_or_default();
    let passed = ctx.response_piece(&mut piece, end);
    ctx.pace.window.passed(piece.len());
    *body = (had_one || !piece.is_empty()).then_some(piece);
    passed.map_err(|answer| ctx.decide(answer))?;
    if end {
        over(session, ctx);
    }
    Ok(())
}

/// The response is complete. One without a body is with its head, behind which nothing is asked of us.
pub(super) fn over(session: &mut Session, ctx: &RequestCtx) {
    ctx.deadlines().set_silence(None);
    if !session.is_body_done() {
        // The service has said all it wants of a body that is still coming. A client that waits to be told to send it
        // never will; another gets a little time, so that a reset does not destroy the answer.
        session.set_read_timeout(Some(if ctx.sends_its_body() { LINGER } else { NOTHING }));
    }
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
