//! Connections to endpoints, as Pingora gets them.
//!
//! They are dialled as all others are ([`crate::wire`]). The pool of HTTP/1 connections is Pingora's. HTTP/2 is ours from the handshake
//! on ([`super::h2_pool`]): Pingora's own passes no interim responses on, takes "not processed" for a failure, and lets what a client
//! does not read pile up. And what is read from an HTTP/1 connection is read at the pace of the client ([`super::paced`]).
//!
//! Pingora hands over the choice of a connection where a peer asks for a protocol that it does not know itself.

use std::{any::Any, time::Duration};

use async_trait::async_trait;
use pingora_core::{
    Error, ErrorType, Result,
    connectors::http::custom::{Connection, Connector},
    protocols::{ALPN, tls::CustomALPN},
    upstreams::peer::{HttpPeer, Peer},
};

use super::{
    h2_exchange::H2Exchange,
    h2_pool::{Key, Pool},
    hold::Held,
    paced::Paced,
    peer::{self, Way},
};
use crate::{
    pace::Pace,
    wire::{Hindrance, Unconnected, dial},
};

/// Makes connections to endpoints.
#[derive(Default)]
pub struct EndpointConnector {
    pool: Pool,
}

impl EndpointConnector {
    /// One with an empty pool.
    pub fn new() -> Self {
        Self::default()
    }
}

/// Has the connections to this peer made by [`EndpointConnector`].
pub fn connect_by_us(peer: &mut HttpPeer) {
    let protocol = match peer.options.alpn {
        ALPN::H2 => &b"weir-h2c"[..],
        ALPN::H2H1 => b"weir-h2",
        ALPN::H1 | ALPN::Custom(_) => b"weir-h1",
    };
    peer.options.alpn = ALPN::Custom(CustomALPN::new(protocol.to_vec()));
}

/// The protocols that the endpoint may choose from: see [`connect_by_us`].
fn offered(peer: &HttpPeer) -> ALPN {
    match &peer.options.alpn {
        ALPN::Custom(protocol) if protocol.protocol() == b"weir-h2c" => ALPN::H2,
        ALPN::Custom(protocol) if protocol.protocol() == b"weir-h2" => ALPN::H2H1,
        _ => ALPN::H1,
    }
}

/// A peer as we have made it. Pingora is generic over what a peer is, and Weir uses one kind alone.
fn http_peer<P: Peer + 'static>(peer: &P) -> Result<&HttpPeer> {
    let peer: &dyn Any = peer;
    peer.downcast_ref().ok_or_else(|| Error::explain(ErrorType::InternalError, "a peer of another kind"))
}

/// As Pingora says it. The cause is kept: see [`super::unconnected`].
fn refusal(unconnected: Unconnected, peer: &HttpPeer) -> Box<Error> {
    let etype = match unconnected.hindrance {
        Hindrance::Timeout => ErrorType::ConnectTimedout,
        Hindrance::Refused => ErrorType::ConnectRefused,
        Hindrance::Unroutable => ErrorType::ConnectNoRoute,
        Hindrance::Closed => ErrorType::ConnectionClosed,
        Hindrance::Tls => ErrorType::TLSHandshakeFailure,
        Hindrance::Certificate => ErrorType::InvalidCert,
    };
    Error::because(etype, format!("connecting to {peer}"), unconnected)
}

#[async_trait]
impl Connector for EndpointConnector {
    type Session = H2Exchange;

    async fn reused_http_session<P: Peer + Send + Sync + 'static>(&self, peer: &P) -> Option<H2Exchange> {
        let pace = Pace::current().unwrap_or_else(Pace::unpaced);
        // Each attempt begins with this question.
        pace.window.restart();
        pace.upload.end();
        let peer = http_peer(peer).ok()?;
        if offered(peer) == ALPN::H1 {
            return None;
        }
        let stream = self.pool.stream(Key::of(peer, &pace)).await?;
        Some(H2Exchange::new(stream, pace))
    }

    async fn get_http_session<P: Peer + Send + Sync + 'static>(&self, peer: &P) -> Result<(Connection<H2Exchange>, bool)> {
        let peer = http_peer(peer)?;
        let (offered, way) = (offered(peer), Way::of(peer));
        let address = peer::address(peer).ok_or_else(|| Error::explain(ErrorType::InternalError, "a peer without an address"))?;
        let tls = way.tls(&offered);
        if peer.is_tls() != tls.is_some() {
            // Never in cleartext what is meant for TLS.
            return Error::e_explain(ErrorType::InternalError, "a peer that has lost its TLS");
        }
        let dialled = dial(&address, tls, peer.options.total_connection_timeout).await;
        let stream = dialled.map_err(|unconnected| refusal(unconnected, peer))?;
        let speaks_h2 = match stream.alpn() {
            Some(chosen) => chosen == b"h2",
            // In cleartext nothing is negotiated: the file says what is spoken there.
            None => !peer.is_tls() && offered == ALPN::H2,
        };
        if !speaks_h2 {
            return Ok((
                Connection::Stream(match way.hold {
                    // The connection of a tunnel is paced by its own two ends.
                    Some(hold) => Box::new(Held::new(stream, hold)),
                    None => Box::new(Paced::new(stream)),
                }),
                false,
            ));
        }
        let pace = Pace::current().unwrap_or_else(Pace::unpaced);
        let stream = self.pool.connect(Key::of(peer, &pace), stream, peer).await?;
        Ok((Connection::Session(H2Exchange::new(stream, pace)), false))
    }

    async fn release_http_session<P: Peer + Send + Sync + 'static>(
        &self,
        exchange: H2Exchange,
        _: &P,
        _idle_timeout: Option<Duration>,
    ) {
        // The connection is in the pool all the while; an exchange that is not complete is reset when it is dropped.
        drop(exchange);
    }
}
