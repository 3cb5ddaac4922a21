//! A connection that leaves HTTP: both sides are joined by the relay of layer 4.

use std::time::Duration;

use bytes::BytesMut;

use super::client::Client;
use crate::{
    exchange::Exchange,
    l4::{End, Relay, Witness},
    tunnel::LINGER,
    types::Who,
    upstream::Fault,
    wire::Stream,
};

/// Joins both sides until they have parted. `first` is what the endpoint has sent of the tunnel already.
pub(super) async fn join(client: impl Client, endpoint: Stream, first: BytesMut, mut exchange: Box<Exchange>) {
    let Some((client, from_client, to_client)) = client.into_tunnel() else {
        // The gate admits an upgrade on such connections alone as become a tunnel.
        return exchange.broke_off(Fault::Internal);
    };
    let mut down = to_client;
    let head = down.len() as u64;
    down.extend_from_slice(&first);
    let relay = Relay::upgraded(client, endpoint, from_client, down, head);
    let mut seen = Seen { exchange: &mut exchange };
    let end = relay.run(&mut seen, patience).await;
    told(&mut exchange, end);
    exchange.finish();
}

/// A tunnel may be silent for as long as both sides like. When one of them has ended, the other has this long to say what is left, and
/// goes on for as long as it says something.
fn patience(ended: Option<Who>) -> Option<Duration> {
    ended.map(|_| LINGER)
}

/// What passes through a tunnel is counted as the bodies of its request.
struct Seen<'a> {
    exchange: &'a mut Exchange,
}

impl Witness for Seen<'_> {
    fn moved(&mut self, received: u64, sent: u64) {
        self.exchange.body_in += received;
        self.exchange.body_out += sent;
        (self.exchange.outcome.bytes_in, self.exchange.outcome.bytes_out) = (self.exchange.body_in, self.exchange.body_out);
    }
    /// The answer that opened the tunnel has said so.
    fn endpoint_is_well(&mut self) {}
    fn endpoint_is_bad(&mut self) {}
}

/// How the tunnel ended, in the words of an exchange.
fn told(exchange: &mut Exchange, end: End) {
    if end.cause.is_none() || end.who == Who::Weir {
        // It ended in order, whoever was the first to say so.
        return;
    }
    let fault = if end.who == Who::Client { Fault::ClientLeft } else { Fault::Closed };
    let _ = exchange.conclude(fault.judge(exchange.stage()));
}
