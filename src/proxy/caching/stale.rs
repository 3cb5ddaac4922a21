//! No new response can be had: is the stale one sent instead (RFC 5861 section 4)?

use pingora_core::{Error, ErrorSource, ErrorType};
use pingora_proxy::Session;

use super::RequestCtx;
use crate::proxy::at_hand;

/// Pingora asks when the stored response may still be sent for that long.
pub(in crate::proxy) fn serve(session: &Session, ctx: &mut RequestCtx, error: Option<&Error>) -> bool {
    // Sending it while a new one is fetched is decided when it is found.
    let Some(error) = error else { return false };
    if ctx.caching.as_ref().is_none_or(|caching| caching.is_behind()) {
        return false;
    }
    let serves = match (error.esource(), error.etype()) {
        (ErrorSource::Downstream, _) => false,
        // The endpoint's own answer, whose head nobody else will look at.
        (ErrorSource::Upstream, ErrorType::HTTPStatus(status)) if ctx.decided.is_none() => answered(session, *status, ctx),
        (ErrorSource::Upstream, _) => true,
        _ => ctx.decided.as_ref().is_some_and(|decided| matches!(decided.cause.map_or(0, |cause| cause.status()), 502..=504)),
    };
    if serves {
        ctx.decided = None;
        ctx.retrying = false;
        if let Some(caching) = &mut ctx.caching {
            caching.story.instead = true;
        }
    }
    serves
}

fn answered(session: &Session, status: u16, ctx: &mut RequestCtx) -> bool {
    let recorded = ctx.attempt.as_ref().is_none_or(|attempt| attempt.recorded);
    if !recorded && ctx.again_for_status(status, at_hand(session)) {
        if let Some(caching) = &mut ctx.caching {
            caching.granted = true;
        }
        return false;
    }
    ctx.attempt_answered(status);
    if let Some(caching) = &mut ctx.caching {
        caching.story.validated = Some(status);
    }
    true
}
