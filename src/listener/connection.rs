//! One accepted connection, up to the protocol that it speaks.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bytes::BytesMut;
use tokio::{io::AsyncWriteExt, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{Door, Shared, h1, h2, socket::Socket, transport::Transport};
use crate::{
    gate::{self, Admitted, Glimpse, Head, Limits, Refusal},
    observe::{Layer, Outcome, Times},
    proxy_protocol::{self, Parsed},
    snapshot::Listener,
    tls,
    types::{Phase, Scheme, TlsClient, Who},
};

/// The facts of a connection that every request on it shares.
#[derive(Debug)]
pub struct Connection {
    /// The listener that accepted it, as it was configured then.
    pub listener: Arc<Listener>,
    /// The peer's address, or what a trusted PROXY header says; unspecified for unix sockets.
    pub peer: IpAddr,
    /// The peer's port.
    pub port: u16,
    /// TLS facts.
    pub tls: Option<Arc<TlsClient>>,
    /// What it came in by.
    pub door: Arc<Door>,
    /// See [`Shared::cut`].
    pub cut: CancellationToken,
}

impl Connection {
    /// The scheme of this connection itself.
    pub fn scheme(&self) -> Scheme {
        if self.tls.is_some() { Scheme::Https } else { Scheme::Http }
    }

    /// May another request follow? Not during a drain, and not when the listener was configured anew: the response then
    /// says that the connection closes.
    pub fn stays_open(&self) -> bool {
        self.door.is_open()
    }

    /// Is the grace period of a drain over, so that what ends now was ended by us?
    pub fn is_cut(&self) -> bool {
        self.cut.is_cancelled()
    }

    /// The bounds of a request head on this listener.
    pub fn head_limits(&self) -> Limits {
        Limits::new(self.listener.http.max_header_bytes.get(), self.listener.http.max_header_count.get())
    }

    /// What the gate says of an HTTP/1 head on this listener.
    pub fn admit_h1(&self, head: &Head<'_>) -> Result<Admitted, Refusal> {
        let admitted = gate::admit_h1(head, self.tls.is_some())?;
        self.listener.http.underscore_fields.judge(&admitted).map(|()| admitted)
    }

    /// What the gate says of an HTTP/2 head on this listener.
    pub fn admit_h2(&self, head: &http::request::Parts) -> Result<Admitted, Refusal> {
        self.head_limits().check(head)?;
        let admitted = gate::admit_h2(head)?;
        self.listener.http.underscore_fields.judge(&admitted).map(|()| admitted)
    }

    /// The outcome of something that ended at the gate: what is known of it so far.
    pub fn refused(&self, generation: u64, began: Began, refusal: Refusal, read: Glimpse) -> Outcome {
        Outcome {
            layer: Layer::Http,
            started: began.time,
            request_id: crate::proxy::new_request_id(),
            trace: None,
            client: self.peer,
            client_port: self.port,
            listener: self.listener.name.clone(),
            tls: self.tls.clone(),
            http: read.http,
            method: read.method,
            host: read.host,
            path: read.path,
            route: None,
            upstream: None,
            attempts: Vec::new(),
            status: refusal.status(),
            bytes_in: 0,
            bytes_out: 0,
            times: Times { total: began.at.elapsed(), ..Times::default() },
            who: Who::Client,
            phase: Phase::Admit,
            cause: Some(refusal.cause()),
            reason: Some(refusal.reason()),
            generation,
            user_agent: read.user_agent,
            referer: read.referer,
            cache: None,
        }
    }
}

/// Serves an accepted socket until it closes.
pub(super) async fn serve(
    mut socket: Socket,
    peer: Option<SocketAddr>,
    listener: Arc<Listener>,
    door: Arc<Door>,
    shared: Arc<Shared>,
) {
    let (mut ip, mut port) = address(peer);
    let header_timeout = listener.http.header_timeout.get();
    match proxied(&mut socket, ip, &listener, &shared).await {
        None => return,
        Some(None) => {}
        Some(Some(Proxied { source, .. })) => (ip, port) = (source.ip().to_canonical(), source.port()),
    }
    let _open = shared.observer.metrics().connection(&listener.name);
    let (transport, tls, h2) = match &listener.tls {
        None => (Transport::plain(socket), None, false),
        Some(server) => match Box::pin(timeout(header_timeout, server.accept(socket))).await {
            Ok(Ok((stream, client))) => {
                shared.observer.metrics().handshake(&listener.name, client.version, "ok", tls::resumed(&stream));
                let h2 = tls::speaks_h2(&stream);
                (Transport::tls(stream), Some(Arc::new(client)), h2)
            }
            Ok(Err(refusal)) => {
                shared.observer.metrics().handshake(&listener.name, "", refusal.error.reason(), false);
                log::debug!("TLS handshake with {ip} failed: {}", refusal.error);
                if let Some(mut socket) = refusal.cleartext {
                    refuse_cleartext(&mut socket).await;
                }
                return;
            }
            Err(_) => {
                shared.observer.metrics().handshake(&listener.name, "", "timeout", false);
                return;
            }
        },
    };
    let connection = Arc::new(Connection { listener, peer: ip, port, tls, door, cut: shared.cut.clone() });
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
pub(super) async fn proxied(socket: &mut Socket, peer: IpAddr, listener: &Listener, shared: &Shared) -> Option<Option<Proxied>> {
    // Required from the listed peers, refused from all others: to those it is simply not what is spoken here.
    if listener.proxy_protocol.as_ref().is_none_or(|from| !from.contains(peer)) {
        return Some(None);
    }
    match timeout(listener.http.header_timeout.get(), read_proxy_header(socket)).await {
        Ok(Ok(proxied)) => Some(proxied),
        Ok(Err(error)) => {
            shared.observer.metrics().rejected("bad_proxy_header");
            log::debug!("PROXY header from {peer} refused: {error}");
            None
        }
        Err(_) => None,
    }
}

/// Reads the PROXY header that must come first. `None` for LOCAL and UNKNOWN: the connection speaks for itself.
async fn read_proxy_header(socket: &mut Socket) -> io::Result<Option<Proxied>> {
    let mut buffer = BytesMut::with_capacity(256);
    loop {
        match proxy_protocol::parse(&buffer).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))? {
            Parsed::Done { consumed, source, destination, .. } => {
                let rest = buffer.split_off(consumed);
                socket.unread(rest);
                return Ok(source.map(|source| Proxied { source, destination }));
            }
            Parsed::Incomplete { .. } => {
                if socket.read_more(&mut buffer).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
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

/// When a request began, on both clocks, read once.
#[derive(Debug, Clone, Copy)]
pub struct Began {
    /// For measuring.
    pub at: Instant,
    /// For telling.
    pub time: SystemTime,
}

impl Began {
    /// Now.
    pub fn now() -> Self {
        Self { at: Instant::now(), time: SystemTime::now() }
    }
}
