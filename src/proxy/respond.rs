//! The upstream's response in Pingora's phases.

use http::{HeaderMap, StatusCode, Version, header, response::Parts};
use pingora_core::{Error, ErrorType, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use super::{RequestCtx, at_hand, body, caching, heads};
use crate::{
    exchange::{Framing, Received},
    gate::{
        self,
        response::{BadResponse, ResponseFraming},
    },
};

/// The head of a response (of any status, 1xx too) came from the endpoint.
pub(super) fn received(session: &mut Session, response: &mut ResponseHeader, ctx: &mut RequestCtx) -> Result<()> {
    let version = if response.version == Version::HTTP_10 { gate::Version::Http10 } else { gate::Version::Http11 };
    if ctx.caching.as_mut().is_some_and(|caching| caching.take_granted()) {
        ctx.attempt_answered(response.status.as_u16());
        return Err(again(response.status, ctx));
    }
    match ctx.received(response.status, version, &response.headers, at_hand(session)).map_err(broken)? {
        Received::Interim => return Ok(()),
        Received::Again => return Err(again(response.status, ctx)),
        Received::Final(_) => {}
    }
    if ctx.caching.is_some() {
        caching::validated(session, response, ctx);
        caching::changed(response.status, &response.headers, ctx);
    }
    let deadlines = ctx.deadlines();
    deadlines.set_answer(None);
    if response.status != StatusCode::SWITCHING_PROTOCOLS && deadlines.is_watched() {
        deadlines.set_silence(ctx.silence());
        // A client may be silent while the endpoint is not: both directions stream as they like.
        session.set_read_timeout(None);
    }
    Ok(())
}

/// The way Pingora has for dropping a response. Its connection goes with it, since its body was not read.
fn again(status: StatusCode, ctx: &mut RequestCtx) -> Box<Error> {
    ctx.retrying = true;
    let mut error = Error::explain(ErrorType::HTTPStatus(status.as_u16()), "worth another try");
    error.as_up();
    error
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
    // Trailers go on between HTTP/2 connections; Pingora has no way for them through HTTP/1.
    let trailers = session.req_header().version == Version::HTTP_2 && response.version == Version::HTTP_2;
    let (mut parts, spelling) = heads::taken(response, ctx.link.is_some())?;
    ctx.clean(parts.status, &mut parts.headers, trailers);
    if parts.version == Version::HTTP_10 {
        // We speak our version of HTTP (RFC 9112 section 2.3).
        parts.version = Version::HTTP_11;
    }
    if parts.status.is_informational() && !upgraded {
        if parts.status == StatusCode::CONTINUE {
            // The client was told to send its body: the connection goes on behind it.
            session.as_downstream_mut().set_close_on_response_before_downstream_finish(false);
            ctx.continued = true;
        }
    } else {
        finally(session, &mut parts, ctx, upgraded);
    }
    *response = heads::response(parts, &spelling)?;
    Ok(())
}

fn finally(session: &mut Session, parts: &mut Parts, ctx: &mut RequestCtx, upgraded: bool) {
    let cached = caching::tell(session, &mut parts.headers, ctx);
    let framing = framing(&parts.headers);
    let plan = ctx.respond(parts.status, &mut parts.headers, framing, cached);
    if plan.framing == Framing::Chunked {
        parts.version = Version::HTTP_11;
    }
    if !upgraded && matches!(plan.framing, Framing::None | Framing::Length(0)) {
        ctx.answered = true;
        body::over(session, ctx);
    }
    ctx.ends_with_connection = plan.framing == Framing::UntilEnd;
    if !upgraded && !plan.keep_alive {
        session.set_keepalive(None);
    }
    if upgraded {
        // Pingora writes the 101 before it reads from the client again: from here on bytes belong to the tunnel.
        session.set_read_timeout(None);
        if let Some(tunnel) = ctx.tunnel() {
            tunnel.open();
        }
    }
}

/// The framing of a response as Pingora hands it over, stored ones too.
fn framing(fields: &HeaderMap) -> ResponseFraming {
    let length = fields.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    match length {
        _ if fields.contains_key(header::TRANSFER_ENCODING) => ResponseFraming::Chunked,
        Some(length) => ResponseFraming::Length(length),
        None => ResponseFraming::UntilClose,
    }
}
