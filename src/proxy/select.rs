//! The endpoint of an attempt.

use std::{sync::Arc, time::Instant};

use pingora_core::{Result, upstreams::peer::HttpPeer};
use pingora_http::RequestHeader;

use super::{RequestCtx, ctx::Attempting, request};
use crate::{
    route::Action,
    types::{Cause, Phase, Reply, Who},
    upstream::{self, Upstream},
};

/// Chooses an endpoint that this request has not tried, and how to connect to it.
pub(super) fn peer(request: &RequestHeader, ctx: &mut RequestCtx) -> Result<Box<HttpPeer>> {
    ctx.outcome.phase = Phase::Select;
    let left = ctx.time_left();
    if left.is_some_and(|left| left.is_zero()) {
        return Err(ctx.decide(Reply::status(504), Cause::HttpResponseTimeout, "timeout", Who::Weir));
    }
    let Some(upstream) = upstream(ctx) else {
        return Err(ctx.decide(Reply::status(500), Cause::ProxyInternalError, "no_upstream", Who::Weir));
    };
    let head = request::head(request, ctx);
    let key = upstream.key(&head, &ctx.client);
    let Some(guard) = upstream.take(&key, &ctx.tried) else {
        return Err(ctx.decide(unavailable(), Cause::DestinationUnavailable, "no_endpoint", Who::Weir));
    };
    let mut peer = upstream.peer(guard.endpoint(), left);
    if let (Some(_), Some(link)) = (ctx.arrival.admitted.upgrade, &ctx.arrival.link)
        && let Some(patience) = upstream::for_tunnel(&mut peer)
    {
        link.agree_within(patience);
    }
    ctx.tried.push(guard.endpoint().clone());
    // The attempt before this one ends here.
    ctx.attempt = Some(Attempting { guard, started: Instant::now(), connected: None, reused: false, recorded: false });
    ctx.outcome.phase = Phase::Connect;
    Ok(peer)
}

/// The upstream of the request's route.
pub(super) fn upstream(ctx: &RequestCtx) -> Option<Arc<Upstream>> {
    match &ctx.route.as_ref()?.action {
        Action::Upstream(upstream) => Some(upstream.clone()),
        Action::Redirect(_) | Action::Respond(_) => None,
    }
}

/// 503 with the shortest sensible wait.
fn unavailable() -> Reply {
    Reply::status(503).with(http::header::RETRY_AFTER, http::HeaderValue::from_static("1"))
}

/// A connection is there.
pub(super) fn connected(ctx: &mut RequestCtx, reused: bool) {
    ctx.outcome.phase = Phase::Request;
    let Some(attempt) = &mut ctx.attempt else { return };
    let took = attempt.started.elapsed();
    attempt.reused = reused;
    attempt.connected = Some(took);
    ctx.outcome.times.connect = if reused { std::time::Duration::ZERO } else { took };
}
