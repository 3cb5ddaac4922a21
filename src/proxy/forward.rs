//! The request as the endpoint gets it.

use http::{HeaderValue, header};
use pingora_core::{Error, ErrorType, Result};
use pingora_http::RequestHeader;

use super::RequestCtx;

/// Finishes the head for this attempt.
pub(super) fn request(request: &mut RequestHeader, ctx: &RequestCtx) -> Result<()> {
    if let Some(target) = &ctx.rewritten {
        let uri = target.parse().map_err(|error| Error::because(ErrorType::InternalError, "rewritten path", error))?;
        request.set_uri(uri);
    }
    if let Some(via) = &ctx.via {
        request.insert_header(header::VIA, via.clone())?;
    }
    if let Some(left) = ctx.arrival.admitted.max_forwards {
        request.insert_header(header::MAX_FORWARDS, HeaderValue::from(u16::from(left.saturating_sub(1))))?;
    }
    Ok(())
}
