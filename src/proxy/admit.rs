//! The first phase: the limits of this exchange, and the head as it was decided on.

use pingora_core::Result;
use pingora_proxy::Session;

use super::{RequestCtx, caching, heads};
use crate::{exchange::DRAIN, gate::Version};

/// Prepares the session and the request's head.
pub(super) fn admit(session: &mut Session, ctx: &mut RequestCtx) -> Result<()> {
    if caching::resume(session, ctx)? {
        return Ok(());
    }
    limits(session, ctx);
    if let Some(request) = ctx.request.take() {
        *session.req_header_mut() = heads::request(request, &ctx.spelling)?;
    }
    Ok(())
}

fn limits(session: &mut Session, ctx: &RequestCtx) {
    let http = &ctx.connection.listener.http;
    session.set_read_timeout(http.body_idle_timeout.limit());
    // The stream of an HTTP/1 client times its writes itself, by what the client takes and not by the piece.
    let writes = http.body_idle_timeout.limit().filter(|_| ctx.link.is_none());
    session.set_write_timeout(writes);
    session.as_downstream_mut().set_total_drain_timeout(Some(DRAIN));
    let keep = ctx.admitted.keep_alive && ctx.connection.stays_open();
    // The driver times idle connections itself; for Pingora it only matters that there is a next request.
    session.set_keepalive(keep.then_some(http.keepalive_timeout.get().as_secs().max(1)));
    // An answer that needs no body leaves the rest of it to be drained, unless the client still waits to be told to
    // send it: closing on unread bytes would reset the connection and may destroy the answer on its way.
    session.as_downstream_mut().set_close_on_response_before_downstream_finish(ctx.admitted.expect_continue);
    // An expectation means nothing in HTTP/1.0, and its clients understand no 1xx.
    session.set_ignore_info_resp(ctx.admitted.http == Version::Http10);
}
