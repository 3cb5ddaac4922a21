//! The upstream's response: checked when it arrives, changed before it is sent.

use http::{HeaderValue, Method, StatusCode, Version, header};
use pingora_core::{Error, ErrorType, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use super::{RequestCtx, fields::ResponseFields};
use crate::{filter::FilterResponse, gate, types::Phase};

/// The head of a response (of any status, 1xx too) came from the endpoint.
pub(super) fn received(session: &mut Session, response: &mut ResponseHeader, ctx: &mut RequestCtx) -> Result<()> {
    let method = session.req_header().method.as_str();
    if let Err(reason) = gate::response::check(method, response.status.as_u16(), &response.headers) {
        return Err(broken(reason));
    }
    if response.status == StatusCode::SWITCHING_PROTOCOLS && ctx.arrival.admitted.upgrade.is_none() {
        return Err(broken("switched protocols unasked"));
    }
    if response.status.is_informational() && response.status != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(());
    }
    ctx.record_attempt(Some(response.status.as_u16()), None);
    ctx.outcome.phase = Phase::Response;
    ctx.arrival.progress.settle();
    Ok(())
}

/// An endpoint that breaks HTTP gets a 502 of ours: what it means cannot be told.
fn broken(reason: &'static str) -> Box<Error> {
    let mut error = Error::explain(ErrorType::InvalidHTTPHeader, reason);
    error.as_up();
    error
}

/// The head goes to the client.
pub(super) fn send(session: &mut Session, response: &mut ResponseHeader, ctx: &mut RequestCtx) -> Result<()> {
    let upgraded = response.status == StatusCode::SWITCHING_PROTOCOLS;
    if response.status.is_informational() && !upgraded {
        return Ok(());
    }
    clean(session, response, upgraded);
    ctx.outcome.status = response.status.as_u16();
    if let Some(route) = &ctx.route {
        let endpoint = ctx.attempt.as_ref().map(|attempt| attempt.guard.endpoint().label().clone());
        let mut fields = ResponseFields(response);
        let mut view = FilterResponse {
            status: ctx.outcome.status,
            fields: &mut fields,
            endpoint: endpoint.as_deref(),
            route: &route.name,
            request_id: &ctx.outcome.request_id,
        };
        route.chain.response(&mut view, &mut ctx.slots);
    }
    if upgraded {
        // Pingora writes the 101 before it reads from the client again: from here on bytes belong to the tunnel.
        session.set_read_timeout(None);
        if let Some(link) = &ctx.arrival.link {
            link.open_tunnel();
        }
    }
    Ok(())
}

/// Removes what was meant for us alone (RFC 9110 section 7.6.1).
fn clean(session: &Session, response: &mut ResponseHeader, upgraded: bool) {
    for name in gate::hop::response_removals(&response.headers, upgraded) {
        response.remove_header(&name);
    }
    if upgraded {
        let _ = response.insert_header(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    }
    // A body that has no length goes chunked to HTTP/1.1 and until close to HTTP/1.0; 204 has neither.
    if response.status == StatusCode::NO_CONTENT {
        response.remove_header(&header::CONTENT_LENGTH);
    }
    let request = session.req_header();
    if request.version == Version::HTTP_10 && request.method != Method::HEAD {
        response.remove_header(&header::TRANSFER_ENCODING);
    }
}
