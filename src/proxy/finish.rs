//! The end of a request, as Pingora's session counts it.

use pingora_proxy::Session;

use super::{RequestCtx, caching};

/// The request ended in the ordinary way.
pub(super) fn finish(session: &Session, ctx: &mut RequestCtx) {
    ctx.outcome.bytes_out = session.body_bytes_sent() as u64;
    ctx.outcome.bytes_in = session.body_bytes_read() as u64;
    if ctx.outcome.cache.is_none() {
        ctx.outcome.cache = caching::word(session, ctx);
    }
    if ctx.outcome.status == 0 {
        ctx.outcome.status = session.response_written().map_or(0, |response| response.status.as_u16());
    }
    ctx.finish();
}
