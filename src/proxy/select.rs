//! The endpoint of an attempt, as a peer of Pingora's.

use http::request::Parts;
use pingora_core::{Error, ErrorType, Result, upstreams::peer::HttpPeer};

use super::RequestCtx;
use crate::{
    exchange::Answer,
    types::{Cause, Reply},
    upstream,
};

/// Begins an attempt, and says how to connect to its endpoint.
pub(super) async fn peer(request: &Parts, ctx: &mut RequestCtx) -> Result<Box<HttpPeer>> {
    ctx.hold = None;
    if let Err(stopped) = ctx.next_attempt(request).await {
        return Err(match stopped {
            Some(answer) => ctx.decide(answer),
            // The verdict on the attempt before stands.
            None => Error::explain(ErrorType::ConnectError, "no endpoint for another try").into_up(),
        });
    }
    let (Some(upstream), Some(attempt)) = (ctx.upstream(), &ctx.attempt) else {
        return Err(ctx.decide(Answer::weir(Reply::status(500), Cause::ProxyInternalError, "no_upstream")));
    };
    let mut peer = upstream.peer(attempt.guard.endpoint(), ctx.attempt_limit());
    let anew = attempt.anew;
    let hold = match ctx.tunnel() {
        Some(tunnel) => {
            upstream::for_tunnel(&mut peer);
            upstream::hold_answer(&mut peer, tunnel)
        }
        None => {
            if ctx.deadlines().is_watched() {
                upstream::wait_for_answer(&mut peer);
            }
            None
        }
    };
    if anew {
        upstream::open_anew(&mut peer);
    }
    upstream::connect_by_us(&mut peer);
    let deadlines = ctx.deadlines();
    deadlines.clear();
    deadlines.set_exchange(ctx.deadline);
    ctx.hold = hold;
    Ok(peer)
}
