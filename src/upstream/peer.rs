//! The one file that names `HttpPeer` options.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use pingora_core::{
    protocols::TcpKeepalive,
    upstreams::peer::{ALPN, HttpPeer},
};

use super::{Protocol, UpstreamSpec, hold::Hold, tls::UpstreamTls};
use crate::{
    discovery::socket_address,
    endpoint::Endpoint,
    tunnel::Tunnel,
    types::{Address, Name},
};

/// Streams at a time on one HTTP/2 connection; more requests open another. 100 is what RFC 9113 (section
/// 6.5.2) asks servers to allow at least.
const MAX_H2_STREAMS: usize = 100;
/// What an endpoint may send ahead of a slow client, per stream: enough for 160 Mbit/s over 50 ms, where
/// Pingora's default would let each stream hold 8 MiB of memory.
const H2_STREAM_WINDOW: u32 = 1 << 20;
/// The same for all streams of a connection together.
const H2_CONNECTION_WINDOW: u32 = 8 << 20;
/// Zero would mean that no time is left, and a timer of zero may or may not let a ready read pass.
const LEAST_TIMEOUT: Duration = Duration::from_millis(1);

/// Everything about connecting that is the same for all endpoints of an upstream.
#[derive(Debug)]
pub(super) struct Template {
    peer: HttpPeer,
    response_timeout: Option<Duration>,
    sni_is_address: bool,
}

impl Template {
    pub(super) fn new(name: &Name, spec: &UpstreamSpec, tls: Option<&UpstreamTls>) -> Self {
        let connections = &spec.connections;
        let sni = tls.and_then(|tls| tls.sni.clone());
        let sni_is_address = tls.is_some() && sni.is_none();
        let mut peer = HttpPeer::new((Ipv4Addr::UNSPECIFIED, 0), tls.is_some(), sni.unwrap_or_default());
        let options = &mut peer.options;
        options.connection_timeout = connections.connect_timeout.limit();
        options.total_connection_timeout = connections.connect_timeout.limit();
        options.idle_timeout = connections.idle_timeout.limit();
        options.alpn = match connections.protocol {
            Protocol::H1 => ALPN::H1,
            Protocol::H2 => ALPN::H2H1,
            Protocol::H2c => ALPN::H2,
        };
        if connections.protocol != Protocol::H1 {
            options.max_h2_streams = MAX_H2_STREAMS;
            options.h2_stream_window_size = Some(H2_STREAM_WINDOW);
            options.h2_connection_window_size = Some(H2_CONNECTION_WINDOW);
        }
        if let Some(tls) = tls {
            options.verify_cert = tls.verify;
            options.verify_hostname = tls.verify;
            options.ca = tls.ca.clone();
            peer.client_cert_key = tls.client.clone();
        }
        peer.group_key = group_key(name, connections.protocol, tls);
        Self { peer, response_timeout: connections.response_timeout.limit(), sni_is_address }
    }

    pub(super) fn peer(&self, endpoint: &Endpoint, left: Option<Duration>) -> Box<HttpPeer> {
        let mut peer = Box::new(self.peer.clone());
        if let Some(address) = socket_address(endpoint.address()) {
            peer._address = address;
        }
        if let Address::Tcp(address) = endpoint.address() {
            peer.options.tcp_keepalive = Some(keepalive());
            // rustls refuses an empty name; given an IP address it sends none and verifies the address.
            if self.sni_is_address {
                peer.sni = address.ip().to_string();
            }
        }
        let within = |timeout: Option<Duration>| timeout.into_iter().chain(left).min().map(|timeout| timeout.max(LEAST_TIMEOUT));
        peer.options.connection_timeout = within(peer.options.connection_timeout);
        peer.options.total_connection_timeout = within(peer.options.total_connection_timeout);
        let timeout = within(self.response_timeout);
        peer.options.read_timeout = timeout;
        peer.options.write_timeout = timeout;
        peer
    }
}

/// Pingora's timeout for reads of the response does not hold: it is kept where the client is read from (see [`crate::pace::Deadlines`]),
/// which knows when the request is whole, tells the header from the body, and does not take a slow client for a silent endpoint.
pub fn wait_for_answer(peer: &mut HttpPeer) {
    peer.options.read_timeout = None;
}

/// Makes a peer whose connection is opened for it and closed behind it, since one from the pool may be closed like the last one.
/// HTTP/2 is left alone: a closed connection leaves its pool at once.
pub fn open_anew(peer: &mut HttpPeer) {
    static NUMBERS: AtomicU64 = AtomicU64::new(1);
    if peer.options.alpn == ALPN::H1 {
        // An odd multiple spreads the numbers over all bits, so that they meet no other key.
        peer.group_key ^= NUMBERS.fetch_add(1, Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        peer.options.idle_timeout = Some(LEAST_TIMEOUT);
    }
}

/// Makes a peer one for a tunnel, which may be silent for as long as both sides like.
///
/// HTTP/2 upstream has no upgrades (RFC 9113 section 8.6): over TLS, where the endpoint lets choose, HTTP/1 is offered alone.
pub fn for_tunnel(peer: &mut HttpPeer) {
    if peer.is_tls() {
        peer.options.alpn = ALPN::H1;
    }
    peer.options.write_timeout = None;
    peer.options.read_timeout = None;
}

/// Gives a peer for a tunnel a connection of its own, on which the answer waits for the end of the request (see [`Hold`]), and
/// which is the endpoint's end of the tunnel.
/// HTTP/2 in cleartext, which has no such tunnels, is left alone.
pub fn hold_answer(peer: &mut HttpPeer, tunnel: &Arc<Tunnel>) -> Option<Hold> {
    let hold = (peer.options.alpn == ALPN::H1).then(|| Hold::new(tunnel.clone()))?;
    peer.options.custom_l4 = Some(hold.connector());
    peer.group_key ^= hold.number();
    Some(hold)
}

/// Finds out within 90 s that the other machine has vanished, before a request does.
pub(super) fn keepalive() -> TcpKeepalive {
    TcpKeepalive {
        idle: Duration::from_secs(60),
        interval: Duration::from_secs(10),
        count: 3,
        // The system's default: an unacknowledged request is `response_timeout`'s business.
        user_timeout: Duration::ZERO,
    }
}

/// Keeps connections of unlike upstreams apart in the pool.
///
/// Pingora's own key for reuse covers the address, SNI, verification and the serial number of the client
/// certificate, but not the CA or ALPN; and serial numbers are unique per issuer only. A connection that
/// was verified against one CA must not serve an upstream that trusts another. The upstream's name is in
/// it, too: so timeouts, and what an endpoint knows of a connection, are never those of another upstream.
fn group_key(name: &Name, protocol: Protocol, tls: Option<&UpstreamTls>) -> u64 {
    let mut digest = DefaultHasher::new();
    name.hash(&mut digest);
    (protocol as u8).hash(&mut digest);
    if let Some(tls) = tls {
        (&tls.sni, tls.verify).hash(&mut digest);
        for certificate in tls.ca.iter().flat_map(|ca| ca.iter()) {
            certificate.borrow_raw_cert().hash(&mut digest);
        }
        if let Some(client) = &tls.client {
            client.leaf().borrow_raw_cert().hash(&mut digest);
            client.intermediates().iter().for_each(|certificate| certificate.borrow_raw_cert().hash(&mut digest));
            client.key().hash(&mut digest);
        }
    }
    digest.finish()
}
