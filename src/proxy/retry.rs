//! Another try, or not: the route's policy, the time left, the endpoints left, and the upstream's budget.

use std::time::Instant;

use pingora_proxy::Session;

use super::{RequestCtx, fault::Again};
use crate::resilience::{Failure, Tries};

/// Tries of one request that its endpoints refused to process. An endpoint that refuses everything must not be asked forever.
const UNPROCESSED: u8 = 3;

/// Is the request sent once more, after a fault? A yes has paid for the try.
pub(super) fn after(session: &Session, ctx: &mut RequestCtx, again: Again) -> bool {
    let replayable = !session.as_ref().retry_buffer_truncated();
    match again {
        Again::Never => false,
        Again::Listed { failure, free } => possible(session, ctx, failure) && (free || withdraw(ctx)),
        Again::Once => forgive(ctx),
        Again::Unprocessed => {
            ctx.onward.unprocessed += 1;
            replayable && ctx.onward.unprocessed <= UNPROCESSED && forgive(ctx)
        }
    }
}

/// Is the request sent once more, after this status? A yes has paid for the try.
pub(super) fn after_status(session: &Session, ctx: &RequestCtx, status: u16) -> bool {
    possible(session, ctx, Failure::Status(status)) && withdraw(ctx)
}

fn possible(session: &Session, ctx: &RequestCtx, failure: Failure) -> bool {
    let (Some(route), Some(upstream)) = (&ctx.route, &ctx.onward.upstream) else { return false };
    let tries = Tries {
        made: ctx.onward.tries,
        idempotent: session.req_header().method.is_idempotent(),
        replayable: !session.as_ref().retry_buffer_truncated(),
    };
    route.retry.calls_for_another(failure, tries)
        && has_time(ctx)
        && (route.retry.same_endpoint() || upstream.has_another(&ctx.onward.tried))
}

/// The try that just ended counts for nothing, and the next one may go to the same endpoint at once.
fn forgive(ctx: &mut RequestCtx) -> bool {
    ctx.onward.forgiven = has_time(ctx);
    if ctx.onward.forgiven {
        ctx.onward.stale = true;
        ctx.onward.tries = ctx.onward.tries.saturating_sub(1);
    }
    ctx.onward.forgiven
}

fn has_time(ctx: &RequestCtx) -> bool {
    ctx.time_left().is_none_or(|left| !left.is_zero())
}

fn withdraw(ctx: &RequestCtx) -> bool {
    let Some(upstream) = &ctx.onward.upstream else { return false };
    let paid = upstream.withdraw_retry(Instant::now());
    if !paid {
        ctx.observer.metrics().retry_budget_exhausted(upstream.name());
    }
    paid
}
