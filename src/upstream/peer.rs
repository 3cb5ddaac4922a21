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
    protocols::l4::socket::SocketAddr,
    upstreams::peer::{ALPN, HttpPeer},
};
use pingora_http::ResponseHeader;

use super::{
    Protocol, UpstreamSpec,
    hold::{Hold, Shared},
    tls::UpstreamTls,
};
use crate::{
    discovery::socket_address,
    endpoint::Endpoint,
    tunnel::Tunnel,
    types::{Address, Name},
    wire::ClientTls,
};

/// Zero would mean that no time is left, and a timer of zero may or may not let a ready read pass.
const LEAST_TIMEOUT: Duration = Duration::from_millis(1);

/// What a connection is made with beside what a peer has a place for.
///
/// A peer is Pingora's type, and holds a value of any type in one place only: the hook that makes user data for connections through a
/// CONNECT proxy, of which Weir has none. That is where it is kept ([`Way::put`]), and found again ([`Way::of`]).
#[derive(Clone, Default)]
pub(super) struct Way {
    tls: Option<Arc<UpstreamTls>>,
    /// Of a tunnel: see [`Hold`].
    pub(super) hold: Option<Arc<Shared>>,
}

impl Way {
    fn put(self, peer: &mut HttpPeer) {
        peer.options.proxy_digest_user_data_hook = Some(Arc::new(move |_, _| Some(Box::new(self.clone()))));
    }

    /// What was put into this peer.
    pub(super) fn of(peer: &HttpPeer) -> Self {
        let way = peer.options.proxy_digest_user_data_hook.as_ref().and_then(|hook| {
            let (request, ()) = http::Request::new(()).into_parts();
            hook(&request, &ResponseHeader::build(200, None).ok()?)?.downcast().ok()
        });
        way.map(|way| *way).unwrap_or_default()
    }

    /// How TLS is spoken, if it is, where these protocols are offered.
    pub(super) fn tls(&self, offered: &ALPN) -> Option<&ClientTls> {
        let tls = self.tls.as_deref()?;
        Some(if *offered == ALPN::H1 { &tls.http1 } else { &tls.offered })
    }
}

/// Where the endpoint is.
pub(super) fn address(peer: &HttpPeer) -> Option<Address> {
    match &peer._address {
        SocketAddr::Inet(address) => Some(Address::Tcp(*address)),
        SocketAddr::Unix(address) => address.as_pathname().map(|path| Address::Unix(path.to_owned())),
    }
}

/// Everything about connecting that is the same for all endpoints of an upstream.
#[derive(Debug)]
pub(super) struct Template {
    peer: HttpPeer,
    response_timeout: Option<Duration>,
}

impl Template {
    pub(super) fn new(name: &Name, spec: &UpstreamSpec, tls: Option<&Arc<UpstreamTls>>) -> Self {
        let connections = &spec.connections;
        let sni = spec.tls.as_ref().and_then(|tls| tls.sni.clone());
        let mut peer = HttpPeer::new((Ipv4Addr::UNSPECIFIED, 0), tls.is_some(), sni.unwrap_or_default());
        let options = &mut peer.options;
        options.total_connection_timeout = connections.connect_timeout.limit();
        options.idle_timeout = connections.idle_timeout.limit();
        options.alpn = match connections.protocol {
            Protocol::H1 => ALPN::H1,
            Protocol::H2 => ALPN::H2H1,
            Protocol::H2c => ALPN::H2,
        };
        peer.group_key = group_key(name, connections.protocol, tls.map(|tls| tls.digest));
        if let Some(tls) = tls {
            Way { tls: Some(tls.clone()), hold: None }.put(&mut peer);
        }
        Self { peer, response_timeout: connections.response_timeout.limit() }
    }

    pub(super) fn peer(&self, endpoint: &Endpoint, left: Option<Duration>) -> Box<HttpPeer> {
        let mut peer = Box::new(self.peer.clone());
        if let Some(address) = socket_address(endpoint.address()) {
            peer._address = address;
        }
        let within = |timeout: Option<Duration>| timeout.into_iter().chain(left).min().map(|timeout| timeout.max(LEAST_TIMEOUT));
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
    Way { hold: Some(hold.shared()), ..Way::of(peer) }.put(peer);
    peer.group_key ^= hold.number();
    Some(hold)
}

/// Keeps connections of unlike upstreams apart in the pool.
///
/// Pingora's own key for reuse covers the address and the name alone of what is here. A connection that was verified against one CA
/// must not serve an upstream that trusts another. The upstream's name is in it, too: so timeouts, and what an endpoint knows of a
/// connection, are never those of another upstream.
fn group_key(name: &Name, protocol: Protocol, tls: Option<u64>) -> u64 {
    let mut digest = DefaultHasher::new();
    (name, protocol as u8, tls).hash(&mut digest);
    digest.finish()
}
