//! Connecting to an endpoint.

use std::{io, time::Duration};

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::{TcpStream, UnixStream},
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::Stream;
use crate::{
    tls::in_words,
    types::{Address, Cause},
    upstream::Upstream,
};

/// Why there is no connection.
pub(super) struct Unconnected {
    pub(super) cause: Cause,
    /// What was wrong with TLS, in words.
    pub(super) tls: Option<String>,
}

impl From<Cause> for Unconnected {
    fn from(cause: Cause) -> Self {
        Self { cause, tls: None }
    }
}

/// Opens a connection, TLS included, within the upstream's `connect_timeout`.
pub(super) async fn connect(upstream: &Upstream, address: &Address) -> Result<Stream, Unconnected> {
    let open = open(upstream, address);
    match upstream.spec().connections.connect_timeout.limit() {
        None => open.await,
        Some(limit) => timeout(limit, open).await.unwrap_or_else(|_| Err(Cause::ConnectionTimeout.into())),
    }
}

async fn open(upstream: &Upstream, address: &Address) -> Result<Stream, Unconnected> {
    let stream = match address {
        Address::Tcp(address) => {
            let stream = TcpStream::connect(address).await.map_err(|error| cause(&error))?;
            let _ = stream.set_nodelay(true);
            // Finds out that the other machine has vanished, which silence alone does not tell.
            let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15));
            let _ = SockRef::from(&stream).set_tcp_keepalive(&keepalive);
            Stream::Tcp(stream)
        }
        Address::Unix(path) => Stream::Unix(UnixStream::connect(path).await.map_err(|error| cause(&error))?),
    };
    let Some(tls) = upstream.byte_tls() else { return Ok(stream) };
    let name = match (&tls.name, address) {
        (Some(name), _) => name.clone(),
        (None, Address::Tcp(address)) => address.ip().into(),
        (None, Address::Unix(_)) => return Err(Cause::TlsProtocolError.into()),
    };
    let connected = TlsConnector::from(tls.config.clone()).connect(name, stream).await;
    let unconnected = |error: io::Error| Unconnected { cause: tls_cause(&error), tls: Some(in_words(&error.to_string())) };
    Ok(Stream::Tls(Box::new(connected.map_err(unconnected)?)))
}

fn cause(error: &io::Error) -> Cause {
    match error.kind() {
        io::ErrorKind::TimedOut => Cause::ConnectionTimeout,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Cause::DestinationIpUnroutable,
        io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof => Cause::ConnectionTerminated,
        _ => Cause::ConnectionRefused,
    }
}

fn tls_cause(error: &io::Error) -> Cause {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(_)) => Cause::TlsCertificateError,
        Some(_) => Cause::TlsProtocolError,
        None => cause(error),
    }
}
