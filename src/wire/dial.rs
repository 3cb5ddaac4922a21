//! Opening a connection to an endpoint.

use std::{fmt, io, sync::Arc, time::Duration};

use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    net::{TcpStream, UnixStream},
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::{Socket, Stream, set_options};
use crate::{
    tls::in_words,
    types::{Address, Cause},
};

/// How TLS is spoken to endpoints.
#[derive(Clone)]
pub struct ClientTls {
    /// Trust, client certificate, verification, and the protocols that are offered (ALPN).
    pub config: Arc<ClientConfig>,
    /// The name to ask for and to verify; an endpoint's IP address when there is none.
    pub name: Option<ServerName<'static>>,
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Why there is no connection. Its text is for logs and for the reason of a failed health check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unconnected {
    /// What stood in the way.
    pub hindrance: Hindrance,
    /// What was wrong with TLS, in words.
    pub tls: Option<String>,
    /// What the system said of the socket, where it was the socket.
    pub socket: Option<io::ErrorKind>,
}

/// What stood in the way of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hindrance {
    /// It was not there in time, TLS included.
    Timeout,
    /// The endpoint, or this system, refused it.
    Refused,
    /// There is no way to the address.
    Unroutable,
    /// The endpoint closed it at once.
    Closed,
    /// The TLS handshake failed.
    Tls,
    /// The endpoint's certificate did not verify.
    Certificate,
}

impl Hindrance {
    /// The word of RFC 9209 for it.
    pub const fn cause(self) -> Cause {
        match self {
            Self::Timeout => Cause::ConnectionTimeout,
            Self::Refused => Cause::ConnectionRefused,
            Self::Unroutable => Cause::DestinationIpUnroutable,
            Self::Closed => Cause::ConnectionTerminated,
            Self::Tls => Cause::TlsProtocolError,
            Self::Certificate => Cause::TlsCertificateError,
        }
    }
}

impl Unconnected {
    fn timeout() -> Self {
        Self { hindrance: Hindrance::Timeout, tls: None, socket: None }
    }

    /// The socket could not be connected.
    fn socket(error: &io::Error) -> Self {
        let hindrance = match error.kind() {
            io::ErrorKind::TimedOut => Hindrance::Timeout,
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Hindrance::Unroutable,
            io::ErrorKind::ConnectionReset => Hindrance::Closed,
            _ => Hindrance::Refused,
        };
        Self { hindrance, tls: None, socket: Some(error.kind()) }
    }

    /// The handshake failed on a connected socket. One that the endpoint breaks off has failed like any other.
    fn handshake(error: &io::Error) -> Self {
        let hindrance = match error.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(rustls::Error::InvalidCertificate(_)) => Hindrance::Certificate,
            _ => Hindrance::Tls,
        };
        Self { hindrance, tls: Some(in_words(&error.to_string())), socket: None }
    }

    /// There is nothing to verify a certificate by. Listed endpoints are checked when the configuration is compiled.
    fn nameless() -> Self {
        Self { hindrance: Hindrance::Tls, tls: Some("TLS over a unix socket needs `sni`".to_owned()), socket: None }
    }
}

impl fmt::Display for Unconnected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.tls, self.socket) {
            (Some(tls), _) => write!(f, "TLS handshake failed: {tls}"),
            (None, Some(io::ErrorKind::NotFound)) => f.write_str("no such socket"),
            (None, Some(kind)) => kind.fmt(f),
            (None, None) => f.write_str("connecting timed out"),
        }
    }
}

impl std::error::Error for Unconnected {}

/// Opens a connection within `patience`, or within what the system allows. With `tls` that includes the handshake; what was agreed
/// on there says [`Stream::alpn`].
pub async fn dial(address: &Address, tls: Option<&ClientTls>, patience: Option<Duration>) -> Result<Stream, Unconnected> {
    let open = open(address, tls);
    match patience {
        None => open.await,
        Some(limit) => timeout(limit, open).await.unwrap_or_else(|_| Err(Unconnected::timeout())),
    }
}

async fn open(address: &Address, tls: Option<&ClientTls>) -> Result<Stream, Unconnected> {
    let Some(tls) = tls else { return Ok(socket(address).await?.into_parts().0) };
    let name = match (&tls.name, address) {
        (Some(name), _) => name.clone(),
        (None, Address::Tcp(address)) => address.ip().into(),
        (None, Address::Unix(_)) => return Err(Unconnected::nameless()),
    };
    let connected = TlsConnector::from(tls.config.clone()).connect(name, socket(address).await?).await;
    connected.map(Stream::from).map_err(|error| Unconnected::handshake(&error))
}

async fn socket(address: &Address) -> Result<Socket, Unconnected> {
    let socket = match address {
        Address::Tcp(address) => TcpStream::connect(address).await.map(|stream| {
            set_options(&stream);
            stream.into()
        }),
        Address::Unix(path) => UnixStream::connect(path).await.map(Socket::from),
    };
    socket.map_err(|error| Unconnected::socket(&error))
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, os::fd::AsFd};

    use rustls::{RootCertStore, ServerConfig};
    use socket2::SockRef;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };
    use tokio_rustls::TlsAcceptor;

    use super::*;

    fn trusting(certificate: Option<&rcgen::Certificate>, offered: &[&[u8]]) -> ClientTls {
        let mut roots = RootCertStore::empty();
        certificate.into_iter().for_each(|certificate| roots.add(certificate.der().clone()).unwrap());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = offered.iter().map(|protocol| protocol.to_vec()).collect();
        ClientTls { config: config.into(), name: None }
    }

    fn trusting_nobody() -> ClientTls {
        trusting(None, &[])
    }

    async fn listen() -> (TcpListener, Address) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap());
        (listener, address)
    }

    /// A server with a certificate for 127.0.0.1 that speaks HTTP/2 and HTTP/1.1, for one connection.
    async fn serve() -> (rcgen::Certificate, Address) {
        let rcgen::CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let builder = builder.with_no_client_auth();
        let key = signing_key.serialize_der().try_into().unwrap();
        let mut config = builder.with_single_cert(vec![cert.der().clone()], key).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let (listener, address) = listen().await;
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            if let Ok(mut stream) = TlsAcceptor::from(Arc::new(config)).accept(stream).await {
                let _ = stream.read(&mut [0]).await;
            }
        });
        (cert, address)
    }

    async fn failed(address: &Address, tls: Option<&ClientTls>) -> (Hindrance, String) {
        let unconnected = dial(address, tls, Some(Duration::from_secs(10))).await.unwrap_err();
        (unconnected.hindrance, unconnected.to_string())
    }

    #[tokio::test]
    async fn both_sides_choose_the_protocol() {
        for (offered, agreed) in
            [(&[&b"h2"[..], b"http/1.1"][..], Some(&b"h2"[..])), (&[&b"http/1.1"[..]], Some(b"http/1.1")), (&[], None)]
        {
            let (certificate, address) = serve().await;
            let stream = dial(&address, Some(&trusting(Some(&certificate), offered)), None).await.unwrap();
            assert_eq!(stream.alpn(), agreed);
            assert!(!stream.is_socket());
        }
    }

    #[tokio::test]
    async fn a_dialled_socket_has_the_options_of_all() {
        let (_listener, address) = listen().await;
        let stream = dial(&address, None, None).await.unwrap();
        let fd = stream.as_fd();
        let socket = SockRef::from(&fd);
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(60));
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(15));
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
    }

    #[tokio::test]
    async fn what_stands_in_the_way_has_a_name() {
        let (listener, address) = listen().await;
        drop(listener);
        assert_eq!(failed(&address, None).await, (Hindrance::Refused, "connection refused".to_owned()));
        let nowhere = Address::Unix("/nowhere/api.sock".into());
        assert_eq!(failed(&nowhere, None).await, (Hindrance::Refused, "no such socket".to_owned()));
        let nameless = failed(&nowhere, Some(&trusting_nobody())).await;
        assert_eq!(nameless, (Hindrance::Tls, "TLS handshake failed: TLS over a unix socket needs `sni`".to_owned()));

        let (_, address) = serve().await;
        let untrusted = failed(&address, Some(&trusting_nobody())).await;
        assert_eq!(untrusted, (Hindrance::Certificate, "TLS handshake failed: invalid certificate: unknown issuer".to_owned()));

        let (listener, address) = listen().await;
        tokio::spawn(async move { listener.accept().await.map(drop) });
        let (hindrance, words) = failed(&address, Some(&trusting_nobody())).await;
        assert_eq!(hindrance, Hindrance::Tls, "{words}");
    }

    #[tokio::test]
    async fn an_end_without_close_notify_is_no_ordinary_end() {
        let (certificate, address) = serve().await;
        let mut stream = dial(&address, Some(&trusting(Some(&certificate), &[])), None).await.unwrap();
        // The server reads this, and drops the connection.
        stream.write_all(b"x").await.unwrap();
        stream.flush().await.unwrap();
        assert_eq!(stream.read(&mut [0]).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test(start_paused = true)]
    async fn the_handshake_is_within_the_patience() {
        // Nobody accepts; the system has connected all the same.
        let (_listener, address) = listen().await;
        let (hindrance, words) = failed(&address, Some(&trusting_nobody())).await;
        assert_eq!((hindrance, &*words), (Hindrance::Timeout, "connecting timed out"));
    }
}
