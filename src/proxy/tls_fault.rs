//! An attempt that failed because of TLS, for those who ask why.

use pingora_core::Error;

use super::RequestCtx;
use crate::upstream::{tell_tls_fault, tls_fault};

/// Keeps the reason with the attempt that was just recorded, and tells the process log.
pub(super) fn note(ctx: &mut RequestCtx, error: &Error) {
    let Some(fault) = tls_fault(error) else { return };
    let (upstream, attempt) = (&ctx.exchange.outcome.upstream, ctx.exchange.outcome.attempts.last_mut());
    if let (Some(upstream), Some(attempt)) = (upstream, attempt) {
        tell_tls_fault(upstream, &attempt.endpoint, &fault);
        attempt.detail = Some(fault.into());
    }
}
