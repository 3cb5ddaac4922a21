//! The request as the endpoint gets it.

use http::{HeaderValue, header};
use pingora_core::{Error, ErrorType, Result};
use pingora_http::RequestHeader;

use super::RequestCtx;
use crate::gate::hop::{MaxForwards, max_forwards};

/// Finishes the head for this attempt.
pub(super) fn request(request: &mut RequestHeader, ctx: &RequestCtx) -> Result<()> {
    if let Some(target) = &ctx.rewritten {
        let uri = target.parse().map_err(|error| Error::because(ErrorType::InternalError, "rewritten path", error))?;
        request.set_uri(uri);
    }
    if let Some(via) = ctx.via {
        request.append_header(header::VIA, HeaderValue::from_static(via))?;
    }
    if let MaxForwards::Forward(left) = max_forwards(ctx.arrival.admitted.max_forwards) {
        request.insert_header(header::MAX_FORWARDS, HeaderValue::from(u16::from(left)))?;
    }
    Ok(())
}
