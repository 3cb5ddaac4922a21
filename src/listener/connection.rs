//! One accepted connection, up to the protocol that it speaks.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::BytesMut;
use log::Level;
use tokio::{io::AsyncWriteExt, time::timeout};

use super::{
    Shared, h1, h2,
    handshake::{self, Peer},
};
use crate::{
    exchange::{Connection, Door},
    gate::hop,
    observe::process_log::{self, Notice},
    proxy_protocol::{self, BadProxyHeader, Parsed},
    snapshot::Listener,
    tls,
    wire::{Socket, Transport},
};

/// Serves an accepted socket until it closes.
pub(super) async fn serve(
    mut socket: Socket,
    peer: Option<SocketAddr>,
    listener: Arc<Listener>,
    door: Arc<Door>,
    shared: Arc<Shared>,
) {
    let (mut ip, mut port) = address(peer);
    match proxied(&mut socket, Peer(ip, port), &listener, &shared).await {
        None => return,
        Some(None) => {}
        Some(Some(Proxied { source, .. })) => (ip, port) = (source.ip().to_canonical(), source.port()),
    }
    let _open = shared.observer.metrics().connection(&listener.name);
    let (transport, tls, h2) = match &listener.tls {
        None => (Transport::plain(socket), None, false),
        Some(server) => match Box::pin(handshake::accept(server, socket, Peer(ip, port), &listener, &shared)).await {
            Ok((stream, client)) => {
                let h2 = tls::speaks_h2(&stream);
                (Transport::tls(stream), Some(Arc::new(client)), h2)
            }
            Err(cleartext) => {
                if let Some(mut socket) = cleartext {
                    refuse_cleartext(&mut socket).await;
                }
                return;
            }
        },
    };
    let connection =
        Arc::new(Connection { listener, peer: ip, port, told: hop::Peer::told(ip), tls, door, cut: shared.cut.clone() });
    if h2 {
        // Boxed, as what is rare: the future of an idle HTTP/1 connection has no room for it.
        Box::pin(h2::serve(transport, BytesMut::new(), connection, shared)).await;
    } else {
        h1::serve(transport, connection, shared).await;
    }
}

/// Address and port of a peer; unspecified on unix sockets.
pub(super) fn address(peer: Option<SocketAddr>) -> (IpAddr, u16) {
    match peer {
        Some(peer) => (peer.ip().to_canonical(), peer.port()),
        None => (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
    }
}

/// What a PROXY header says.
pub(super) struct Proxied {
    /// Who connected to the load balancer in front.
    pub(super) source: SocketAddr,
    /// Where they connected to.
    pub(super) destination: Option<SocketAddr>,
}

/// Reads the PROXY header of a peer that must send one. `None` when the connection is refused, which is told;
/// `Some(None)` when it speaks for itself.
pub(super) async fn proxied(socket: &mut Socket, peer: Peer, listener: &Listener, shared: &Shared) -> Option<Option<Proxied>> {
    // Required from the listed peers, refused from all others: to those it is simply not what is spoken here.
    if listener.proxy_protocol.as_ref().is_none_or(|from| !from.contains(peer.0)) {
        return Some(None);
    }
    let mut read = BytesMut::with_capacity(256);
    let patience = listener.http.header_timeout.get();
    let fault = match timeout(patience, read_proxy_header(socket, &mut read)).await {
        Ok(Ok(proxied)) => return Some(proxied),
        Ok(Err(fault)) => fault,
        Err(_) => ProxyFault::Late(patience),
    };
    shared.observer.metrics().rejected("bad_proxy_header");
    // Load balancers check whether a port is open by connecting to it, no more.
    if !(matches!(fault, ProxyFault::Closed) && read.is_empty()) {
        tell_proxy_fault(&fault, peer, listener);
    }
    None
}

/// Why there is no PROXY header.
#[derive(Debug, thiserror::Error)]
enum ProxyFault {
    #[error("PROXY header missing")]
    Missing,
    #[error("PROXY header malformed: {0}")]
    Malformed(BadProxyHeader),
    #[error("PROXY header incomplete: the connection was closed")]
    Closed,
    #[error("PROXY header timed out: not complete after {0:?}")]
    Late(Duration),
}

impl ProxyFault {
    fn kind(&self) -> &'static str {
        match self {
            ProxyFault::Missing => "proxy_header_missing",
            ProxyFault::Malformed(_) => "proxy_header_malformed",
            ProxyFault::Closed => "proxy_header_incomplete",
            ProxyFault::Late(_) => "proxy_header_timeout",
        }
    }
    fn reason(&self) -> &'static str {
        match self {
            ProxyFault::Missing => BadProxyHeader::NotProxy.reason(),
            ProxyFault::Malformed(fault) => fault.reason(),
            ProxyFault::Closed => "closed",
            ProxyFault::Late(_) => "timeout",
        }
    }
}

fn tell_proxy_fault(fault: &ProxyFault, peer: Peer, listener: &Listener) {
    // The peers are the operator's own load balancers: something is configured wrongly.
    let notice = Notice { level: Level::Warn, target: module_path!(), kind: fault.kind(), about: &listener.name };
    notice.tell(|| {
        let peer = peer.text();
        let message =
            format!("{fault}, on listener {} from {peer}: `proxy_protocol.from` requires one of this peer", listener.name);
        let facts = [("listener", listener.name.as_str().into()), ("client", peer.into()), ("reason", fault.reason().into())];
        (message, process_log::facts(facts))
    });
}

/// Reads the PROXY header that must come first. `None` for LOCAL and UNKNOWN: the connection speaks for itself.
async fn read_proxy_header(socket: &mut Socket, buffer: &mut BytesMut) -> Result<Option<Proxied>, ProxyFault> {
    loop {
        match proxy_protocol::parse(buffer) {
            Ok(Parsed::Done { consumed, source, destination, .. }) => {
                let rest = buffer.split_off(consumed);
                socket.unread(rest);
                return Ok(source.map(|source| Proxied { source, destination }));
            }
            Ok(Parsed::Incomplete { .. }) => {
                if socket.read_more(buffer).await.unwrap_or(0) == 0 {
                    return Err(ProxyFault::Closed);
                }
            }
            Err(BadProxyHeader::NotProxy) => return Err(ProxyFault::Missing),
            Err(fault) => return Err(ProxyFault::Malformed(fault)),
        }
    }
}

/// Tells a client that spoke cleartext HTTP to a TLS port what is wrong, briefly.
async fn refuse_cleartext(socket: &mut Socket) {
    const ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 47\r\ncache-control: no-store\r\nconnection: close\r\n\r\nThis port speaks HTTPS, and this was not HTTPS.";
    let answer = async {
        socket.write_all(ANSWER).await?;
        socket.shutdown().await?;
        // Closing with unread bytes would reset the connection and destroy the answer.
        let mut rest = BytesMut::with_capacity(4096);
        while rest.len() < 64 * 1024 && socket.read_more(&mut rest).await? > 0 {}
        io::Result::Ok(())
    };
    let _ = timeout(Duration::from_secs(1), answer).await;
}
