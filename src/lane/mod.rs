//! Layer 7: the direct driver. Clients, HTTP/1 endpoints, and nothing between their sockets but the [`Exchange`] that says what comes
//! next.
//!
//! | file | owns |
//! |---|---|
//! | `client` | what is needed of a client, whichever version it speaks |
//! | `h1` | a client of HTTP/1: its connection, and what it has not taken |
//! | `multiplexed` | a client of HTTP/2 or HTTP/3: its stream |
//! | `stream`, `h2`, `h3` | such a stream, and one of each version |
//! | `head`, `body` | HTTP/1 as bytes |
//! | `forward` | attempt after attempt |
//! | `run` | one attempt: both directions at the pace of the slower side |
//! | `own` | answers of Weir's own |
//! | `upgrade` | what becomes of a connection that leaves HTTP |
//! | `pool` | connections to endpoints that wait for their next request |
//! | `scratch` | the buffer of each thread, so that no connection holds one |
//!
//! What it does not take goes to [`crate::proxy`]: endpoints of HTTP/2, and what the cache is to store.

mod body;
mod client;
mod forward;
mod h1;
mod h2;
mod h3;
mod head;
mod multiplexed;
mod own;
mod pool;
mod run;
mod scratch;
mod stream;
mod upgrade;

use std::sync::Arc;

use http::request::Parts;

pub use h1::H1Client;
pub use h2::H2Stream;
pub use h3::H3Stream;
pub use multiplexed::{ARRIVAL, StreamClient};
pub use pool::Pool;
pub use stream::RequestStream;

use self::{
    client::{After, Client},
    forward::Forwarded,
};
use crate::{
    exchange::{Decision, Exchange},
    gate::Spelling,
    types::{Driver, give_back},
    upstream::Protocol,
};

/// A request that was decided on, and its client.
pub struct Arrival<C> {
    /// The client.
    pub client: C,
    /// What is known of the request.
    pub exchange: Box<Exchange>,
    /// Its head as policy has left it.
    pub request: Parts,
    /// How its field names were spelt.
    pub spelling: Spelling,
}

/// Does this driver serve such a request? A request that a stored response answers is told so in its decision.
pub fn takes(exchange: &Exchange, request: &Parts, decision: &mut Decision) -> bool {
    if !matches!(decision, Decision::Forward) {
        return true;
    }
    if exchange.keeping.policy.is_none() {
        return exchange.upstream().is_some_and(|upstream| upstream.spec().connections.protocol == Protocol::H1);
    }
    match exchange.fresh(request) {
        Some(fresh) => *decision = Decision::Fresh(Box::new(fresh)),
        // What is stored, validated or waited for is Pingora's.
        None => return false,
    }
    true
}

/// Serves a request. Returns its client, when another request may follow.
#[expect(clippy::manual_async_fn, reason = "an async fn would hold its argument twice")]
pub fn serve<C: Client>(mut arrival: Arrival<C>, decision: Decision, pool: &Arc<Pool>) -> impl Future<Output = Option<C>> + Send {
    async move {
        arrival.exchange.outcome.driver = Some(Driver::Lane);
        arrival.client.begin(&arrival.exchange);
        // Boxed, as all that not every request needs: what one needs is allocated for it.
        let after = match decision {
            Decision::Answer(answer) => Box::pin(own::answer(&mut arrival, *answer)).await,
            Decision::Fresh(fresh) => Box::pin(own::stored(&mut arrival, *fresh)).await,
            Decision::Forward => match forward::forward(&mut arrival, pool).await {
                Forwarded::Over(after) => after,
                Forwarded::Tunnel(endpoint, first) => {
                    Box::pin(upgrade::join(arrival.client, endpoint, first, arrival.exchange)).await;
                    return None;
                }
            },
        };
        let Arrival { client, mut exchange, request, .. } = arrival;
        own::count(&client, &mut exchange);
        exchange.finish();
        drop(exchange);
        give_back(request.headers);
        if after == After::Open && client.is_read() {
            return Some(client);
        }
        Box::pin(client.end(after)).await
    }
}
