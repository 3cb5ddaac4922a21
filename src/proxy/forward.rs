//! The request as the endpoint gets it.

use http::{HeaderValue, header};
use pingora_core::{Error, ErrorType, Result};
use pingora_http::RequestHeader;

use super::RequestCtx;
use crate::gate;

/// Finishes the head for this attempt.
pub(super) fn request(request: &mut RequestHeader, ctx: &RequestCtx) -> Result<()> {
    if let Some(target) = &ctx.rewritten {
        let uri = target.parse().map_err(|error| Error::because(ErrorType::InternalError, "rewritten path", error))?;
        request.set_uri(uri);
    }
    let via = gate::hop::via(&request.headers, ctx.arrival.admitted.http);
    if let Ok(via) = HeaderValue::from_str(&via) {
        request.insert_header(header::VIA, via)?;
    }
    gate::hop::decrement_max_forwards(request.method.as_str(), &request.headers).map_or(Ok(()), |left| request.insert_header(header::MAX_FORWARDS, HeaderValue::from(u16::from(left))))
}
