//! Another try, or not: the route's policy, the time left, the endpoints left, and the upstream's budget.

use std::time::Instant;

use pingora_proxy::Session;

use super::RequestCtx;
use crate::{
    resilience::{Failure, Tries},
    types::Cause,
};

/// Should this request be tried once more after this failure? A yes has paid for the try.
pub(super) fn another(session: &Session, ctx: &RequestCtx, failure: Failure, cause: Option<Cause>) -> bool {
    let (Some(route), Some(upstream)) = (&ctx.route, &ctx.onward.upstream) else { return false };
    let tries = Tries {
        made: ctx.onward.tries,
        idempotent: session.req_header().method.is_idempotent(),
        replayable: !session.as_ref().retry_buffer_truncated(),
    };
    let possible = route.retry.calls_for_another(failure, tries)
        && !ctx.time_left().is_some_and(|left| left.is_zero())
        && (route.retry.same_endpoint() || upstream.has_another(&ctx.onward.tried));
    possible && (costs_nothing(cause) || withdraw(ctx))
}

/// A connection that was refused at once has loaded nobody, so that going elsewhere adds nothing to the load of
/// the upstream: half of the endpoints may be gone, and clients do not notice. One that timed out, or failed
/// in its TLS handshake, has.
fn costs_nothing(cause: Option<Cause>) -> bool {
    matches!(cause, Some(Cause::ConnectionRefused | Cause::DestinationIpUnroutable))
}

fn withdraw(ctx: &RequestCtx) -> bool {
    let Some(upstream) = &ctx.onward.upstream else { return false };
    let paid = upstream.withdraw_retry(Instant::now());
    if !paid {
        ctx.observer.metrics().retry_budget_exhausted(upstream.name());
    }
    paid
}
