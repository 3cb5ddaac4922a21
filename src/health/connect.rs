//! Opening the connection that a probe speaks on.

use std::{fmt, io, sync::Arc};

use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
};

use crate::{tls::in_words, types::Address};

/// How checks speak TLS: as requests do.
#[derive(Clone)]
pub struct ProbeTls {
    /// Trust, client certificate, verification.
    pub config: Arc<rustls::ClientConfig>,
    /// The name to ask for and to verify; an endpoint's IP address when there is none.
    pub name: Option<ServerName<'static>>,
}

impl fmt::Debug for ProbeTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProbeTls").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A stream of any kind.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// How to reach endpoints: as requests do.
#[derive(Debug, Clone, Default)]
pub struct Dial {
    /// Over TLS; whether HTTP/2 is spoken is then agreed with ALPN.
    pub tls: Option<ProbeTls>,
    /// Without TLS: HTTP/2, with prior knowledge.
    pub h2c: bool,
}

impl Dial {
    /// May HTTP/2 be spoken? Over TLS that is what ALPN offers.
    pub(super) fn http2(&self) -> bool {
        self.tls.as_ref().map_or(self.h2c, |tls| tls.config.alpn_protocols.iter().any(|protocol| protocol == b"h2"))
    }
}

/// Connects; true for a connection on which HTTP/2 is spoken.
pub(super) async fn connect(address: &Address, dial: &Dial) -> Result<(Box<dyn Stream>, bool), String> {
    let stream: Box<dyn Stream> = match address {
        Address::Tcp(address) => Box::new(TcpStream::connect(address).await.map_err(reason)?),
        Address::Unix(path) => Box::new(UnixStream::connect(path).await.map_err(reason)?),
    };
    let Some(tls) = &dial.tls else { return Ok((stream, dial.h2c)) };
    let name = match (&tls.name, address) {
        (Some(name), _) => name.clone(),
        (None, Address::Tcp(address)) => address.ip().into(),
        (None, Address::Unix(_)) => return Err("TLS over a unix socket needs `sni`".into()),
    };
    let stream = tokio_rustls::TlsConnector::from(tls.config.clone()).connect(name, stream).await;
    let stream = stream.map_err(|error| format!("TLS handshake failed: {}", in_words(&error.to_string())))?;
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    Ok((Box::new(stream), http2))
}

/// An I/O error in a few words, without an errno.
pub(super) fn reason(error: io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such socket".into(),
        io::ErrorKind::UnexpectedEof => "the connection was closed early".into(),
        // `invalid peer certificate: ...` and the like, which rustls words itself.
        io::ErrorKind::InvalidData => error.to_string(),
        kind => kind.to_string(),
    }
}
