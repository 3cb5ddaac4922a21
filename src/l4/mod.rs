//! Layer 7: connections that are passed on as bytes.
//!
//! A connection comes in as an [`Arrival`]: accepted, its PROXY header read, its TLS terminated where that was asked for.
//! Here it gets an endpoint of the same upstreams that serve HTTP, and both sides are joined until they part. The
//! endpoint's circuit breaker hears of it when connecting fails, and when an endpoint takes a connection only to
//! drop it.
//!
//! What is decided here, and why:
//! - **Half-closing is passed on.** The end of one direction leaves the other open, as in `nc -N` and many older protocols.
//! - **What breaks off is broken off.** A side that is reset, and a client that got no endpoint, see a reset and not an
//!   end: a truncated stream must not look complete.
//! - **Another endpoint is tried only while connecting**: no byte has been sent then, so nothing can happen twice.
//! - **An idle connection holds no buffer.** Bytes pass through one buffer for each thread; a connection keeps only what
//!   its receiver did not take at once, at most `flow::LARGE` bytes in each direction.

mod flow;
mod hello;
mod open;
mod pipe;
mod record;
mod relay;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use bytes::BytesMut;
use tokio_util::sync::CancellationToken;

use crate::{
    observe::Observer,
    snapshot::{Listener, Tcp},
    types::{RequestId, TlsClient},
    wire::Stream,
};
pub use record::End;
use record::Record;
pub use relay::{Relay, Witness};

/// A connection that wants to be passed on.
pub struct Arrival {
    /// The client's side.
    pub client: Stream,
    /// What was read of it already, beyond a PROXY header.
    pub ahead: BytesMut,
    /// Who the client is; unspecified on a unix socket.
    pub ip: IpAddr,
    /// The client's port.
    pub port: u16,
    /// Where the client connected to, if that has an address.
    pub destination: Option<SocketAddr>,
    /// What its TLS handshake told, where TLS ends here.
    pub tls: Option<Arc<TlsClient>>,
    /// The listener, as it was configured then.
    pub listener: Arc<Listener>,
    /// The generation of that configuration.
    pub generation: u64,
    /// Names the connection in the log.
    pub id: RequestId,
    /// Who is told how it went.
    pub observer: Arc<Observer>,
    /// Cancelled when the grace period of a drain is over.
    pub cut: CancellationToken,
}

/// Serves a connection until both sides have parted.
pub async fn serve(arrival: Arrival) {
    let listener = arrival.listener.clone();
    let Some(tcp) = &listener.tcp else { return };
    // Boxed and gone before the bytes flow: an open connection should cost little.
    let Some((mut record, relay)) = Box::pin(open(arrival, tcp)).await else { return };
    let end = relay.run(&mut *record, |_| tcp.idle_timeout).await;
    record.end(end);
}

async fn open(arrival: Arrival, tcp: &Tcp) -> Option<(Box<Record>, relay::Relay)> {
    let Arrival { mut client, mut ahead, .. } = arrival;
    let source = (arrival.ip, arrival.port);
    let addresses = arrival.destination.map(|destination| (source.into(), destination));
    let mut record = Box::new(Record::new(
        arrival.listener,
        source,
        arrival.tls,
        arrival.generation,
        arrival.id,
        arrival.observer,
        arrival.cut,
    ));
    let upstream = match open::destination(&mut client, &mut ahead, &tcp.destination, &mut record).await {
        Ok(upstream) => upstream,
        Err(end) => {
            record.end(end);
            return None;
        }
    };
    let endpoint = match open::endpoint(&upstream, &mut record).await {
        Ok(endpoint) => endpoint,
        Err(end) => {
            record.end(end);
            client.break_off();
            return None;
        }
    };
    let mut first = tcp.send_proxy_protocol.map(|version| crate::proxy_protocol::write(version, addresses)).unwrap_or_default();
    first.extend_from_slice(&ahead);
    let relay = relay::Relay::new(client, endpoint, first, ahead.len() as u64, tcp.splice);
    Some((record, relay))
}
