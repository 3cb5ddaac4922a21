//! The upstream's response: checked when it arrives, changed before it is sent.

use http::{HeaderMap, Method, StatusCode, Version, header, response::Parts};
use pingora_core::{Error, ErrorType, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use super::{
    RequestCtx, caching,
    filters::{self, Origin},
    retry, told,
};
use crate::{
    filter::BodyWish,
    gate::{
        self,
        hop::{self, Onward},
        response::BadResponse,
    },
    types::{Phase, Scheme},
};

/// The head of a response (of any status, 1xx too) came from the endpoint.
pub(super) fn received(session: &mut Session, response: &mut ResponseHeader, ctx: &mut RequestCtx) -> Result<()> {
    let method = session.req_header().method.as_str();
    let version = if response.version == Version::HTTP_10 { gate::Version::Http10 } else { gate::Version::Http11 };
    let upgrading = ctx.arrival.admitted.upgrade.is_some();
    gate::response::admit_response(method, response.status.as_u16(), version, upgrading, &response.headers).map_err(broken)?;
    if response.status.is_informational() && response.status != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(());
    }
    let status = response.status.as_u16();
    let granted = ctx.caching.as_mut().is_some_and(|caching| caching.take_granted());
    if granted || retry::after_status(session, ctx, status) {
        ctx.attempt_answered(status);
        ctx.onward.retrying = true;
        // The way Pingora has for dropping a response. Its connection goes with it, since its body was not read.
        let mut error = Error::explain(ErrorType::HTTPStatus(status), "worth another try");
        error.as_up();
        return Err(error);
    }
    ctx.attempt_answered(status);
    if ctx.caching.is_some() {
        caching::validated(session, response, ctx);
        caching::changed(response.status, &response.headers, ctx);
    }
    ctx.outcome.phase = Phase::Response;
    // The try has answered in time. What is left is the exchange's, and silence, in which a tunnel may be as long as it likes.
    let deadlines = ctx.arrival.deadlines();
    deadlines.set_answer(None);
    if response.status != StatusCode::SWITCHING_PROTOCOLS && deadlines.is_watched() {
        let idle = ctx.arrival.connection.listener.http.body_idle_timeout.limit();
        let each = ctx.route.as_ref().and_then(|route| route.retry.per_try_timeout());
        deadlines.set_silence(idle.into_iter().chain(each).min());
        // A client may be silent while the endpoint is not: both directions stream as they like.
        session.set_read_timeout(None);
    }
    Ok(())
}

/// The trailers of a response came from the endpoint.
pub(super) fn trailers(trailers: &HeaderMap) -> Result<()> {
    gate::response::admit_trailers(trailers).map_err(broken)
}

/// An endpoint that breaks HTTP gets a 502 of ours: what it means cannot be told.
fn broken(reason: BadResponse) -> Box<Error> {
    let mut error = Error::explain(ErrorType::InvalidHTTPHeader, reason.to_string());
    error.as_up();
    error
}

/// The head goes to the client.
pub(super) fn send(session: &mut Session, response: &mut ResponseHeader, ctx: &mut RequestCtx) -> Result<()> {
    let upgraded = response.status == StatusCode::SWITCHING_PROTOCOLS;
    if response.status.is_informational() && !upgraded {
        if response.status == StatusCode::CONTINUE {
            // The client was told to send its body: the connection goes on behind it.
            session.as_downstream_mut().set_close_on_response_before_downstream_finish(false);
            ctx.continued = true;
        }
        return clean(session, response, None);
    }
    clean(session, response, ctx.arrival.admitted.upgrade.filter(|_| upgraded))?;
    if ctx.arrival.admitted.http == "1.0" {
        // Knows no chunks (RFC 9112 section 6.1). Without them the body ends with the connection, which Pingora closes.
        response.remove_header(&header::TRANSFER_ENCODING);
    }
    ctx.outcome.status = response.status.as_u16();
    let cached = caching::tell(session, response, ctx);
    if cached {
        // No endpoint has sent this: the one that was asked in vain least of all.
        ctx.onward.attempt = None;
    }
    let endpoint = ctx.onward.attempt.as_ref().map(|attempt| attempt.guard.endpoint().label().clone());
    let origin = match endpoint.as_deref() {
        Some(endpoint) => Origin::Endpoint(endpoint),
        None if cached => Origin::Cache,
        None => Origin::Weir { standard: false },
    };
    if filters::response(session.req_header().method.as_str(), response, origin, ctx) == BodyWish::Replace {
        unmeasured(session, response)?;
    }
    keep(response, ctx)?;
    told::tell(response, ctx);
    if !upgraded && !ctx.arrival.connection.stays_open() {
        session.set_keepalive(None);
    }
    if upgraded {
        // Pingora writes the 101 before it reads from the client again: from here on bytes belong to the tunnel.
        session.set_read_timeout(None);
        if let Some(tunnel) = ctx.arrival.tunnel() {
            tunnel.open();
        }
    }
    Ok(())
}

/// The framing of a body whose length is not known before its end.
pub(super) fn unmeasured(session: &mut Session, response: &mut ResponseHeader) -> Result<()> {
    response.remove_header(&header::CONTENT_LENGTH);
    let request = session.req_header();
    let has_body = request.method != Method::HEAD && !matches!(response.status.as_u16(), 100..200 | 204 | 304);
    match request.version {
        Version::HTTP_2 => {}
        // Knows no chunks (RFC 9112 section 6.1): the body ends where the connection does.
        Version::HTTP_10 if has_body => session.set_keepalive(None),
        _ if has_body => {
            response.set_version(Version::HTTP_11);
            response.insert_header(header::TRANSFER_ENCODING, "chunked")?;
        }
        _ => {}
    }
    Ok(())
}

/// Keeps the client with the endpoint that answered, where the upstream wants that. After the filters, so that one
/// that removes the endpoint's own cookies does not end sessions.
fn keep(response: &mut ResponseHeader, ctx: &RequestCtx) -> Result<()> {
    let (Some(upstream), Some(attempt)) = (&ctx.onward.upstream, &ctx.onward.attempt) else { return Ok(()) };
    let (secure, now) = (ctx.client.scheme == Scheme::Https, ctx.arrival.began.time);
    match upstream.set_cookie(ctx.onward.pinned.as_ref(), attempt.guard.endpoint(), secure, now) {
        Some(cookie) => response.append_header(header::SET_COOKIE, cookie).map(drop),
        None => Ok(()),
    }
}

/// Removes what was meant for us alone (RFC 9110 section 7.6.1), and speaks our version of HTTP (RFC 9112 section 2.3).
fn clean(session: &mut Session, response: &mut ResponseHeader, upgrade: Option<gate::Upgrade>) -> Result<()> {
    // Trailers go on between HTTP/2 connections; Pingora has no way for them through HTTP/1.
    let trailers = session.req_header().version == Version::HTTP_2 && response.version == Version::HTTP_2;
    let placeholder = ResponseHeader::build_no_case(response.status, Some(0))?;
    let mut parts = Parts::from(std::mem::replace(response, placeholder));
    hop::strip_response(&mut parts.headers, Onward { upgrade, trailers });
    if parts.status == StatusCode::NO_CONTENT || parts.status.is_informational() {
        parts.headers.remove(header::CONTENT_LENGTH);
    }
    if parts.version == Version::HTTP_10 {
        parts.version = Version::HTTP_11;
    }
    if session.req_header().version == Version::HTTP_10 && parts.headers.remove(header::TRANSFER_ENCODING).is_some() {
        // HTTP/1.0 knows no chunks (RFC 9112 section 6.1): the body ends where the connection does.
        session.set_keepalive(None);
    }
    *response = ResponseHeader::from(parts);
    Ok(())
}
