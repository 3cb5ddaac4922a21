//! The request as the endpoint gets it.

use http::{HeaderValue, Version, header};
use pingora_core::{Error, ErrorType, Result};
use pingora_http::RequestHeader;
use pingora_proxy::Session;

use super::{RequestCtx, trace};
use crate::gate::hop::{MaxForwards, max_forwards};

/// Finishes the head for this attempt.
pub(super) fn request(session: &Session, request: &mut RequestHeader, ctx: &mut RequestCtx) -> Result<()> {
    let asked = session.req_header();
    if request.version == Version::HTTP_2 && asked.version == Version::HTTP_2 && asked.headers.contains_key(header::TE) {
        // What is left of TE says that the client takes trailers. It is told to those whose trailers can go on to the
        // client, which they cannot through HTTP/1; gRPC services insist on it. Pingora has removed it.
        request.insert_header(header::TE, HeaderValue::from_static("trailers"))?;
    }
    if asked.version == Version::HTTP_2 {
        // For an endpoint that speaks HTTP/1 Pingora has put `:authority` in the place of what `headers` has set; for one that
        // speaks HTTP/2 the host would go with the target that a rewrite replaces.
        let named = || asked.uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
        if let Some(host) = asked.headers.get(header::HOST).cloned().or_else(named) {
            request.insert_header(header::HOST, host)?;
        }
    }
    if let Some(attempt) = &ctx.onward.attempt
        && request.uri.authority().is_none()
        && request.headers.get(header::HOST).is_none_or(HeaderValue::is_empty)
    {
        // An HTTP/1.0 client may name no host, and HTTP/1.1 requires one.
        request.insert_header(header::HOST, attempt.guard.endpoint().address().authority())?;
    }
    if let Some(target) = &ctx.onward.rewritten {
        let uri = target.parse().map_err(|error| Error::because(ErrorType::InternalError, "rewritten path", error))?;
        request.set_uri(uri);
    }
    // What a filter has set or removed of the following stays as it left it.
    let settled = ctx.onward.settled;
    if let Some(via) = ctx.onward.via.filter(|_| !settled.via) {
        request.append_header(header::VIA, HeaderValue::from_static(via))?;
    }
    if let MaxForwards::Forward(left) = max_forwards(ctx.arrival.admitted.max_forwards)
        && !settled.max_forwards
    {
        request.insert_header(header::MAX_FORWARDS, HeaderValue::from(u16::from(left)))?;
    }
    if !settled.traceparent {
        trace::onward(request, ctx)?;
    }
    if ctx.uploaded {
        ctx.request_is_whole();
    }
    if let Some(hold) = ctx.onward.attempt.as_ref().and_then(|attempt| attempt.hold.as_ref()) {
        hold.begin();
    }
    Ok(())
}
