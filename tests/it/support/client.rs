//! A client that sends exactly the bytes it is given.

use std::{io, net::SocketAddr, time::Duration};

use futures_util::FutureExt;
use rustls::pki_types::CertificateDer;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpSocket, TcpStream},
};
use tokio_rustls::TlsConnector;

use super::{BoxStream, certs::Tls, wire::RawResponse, wire::Wire, within};

/// One connection.
pub struct RawClient {
    wire: Wire<BoxStream>,
    socket: socket2::Socket,
    local: SocketAddr,
    alpn: Option<String>,
    certificate: Option<CertificateDer<'static>>,
}

/// What TLS settled, where there is TLS.
pub struct Secured {
    pub stream: BoxStream,
    pub alpn: Option<String>,
    pub certificate: Option<CertificateDer<'static>>,
}

/// The TLS handshake of a client.
pub async fn secure(stream: TcpStream, tls: &Tls) -> io::Result<Secured> {
    let handshake = TlsConnector::from(tls.config()).connect(tls.server_name(), stream);
    let stream = within("the TLS handshake", handshake).await?;
    let session = stream.get_ref().1;
    let alpn = session.alpn_protocol().map(|protocol| String::from_utf8_lossy(protocol).into_owned());
    let certificate = session.peer_certificates().and_then(|chain| chain.first()).map(|leaf| leaf.clone().into_owned());
    Ok(Secured { stream: Box::new(stream), alpn, certificate })
}

pub(super) async fn tcp(address: SocketAddr) -> TcpStream {
    let stream = within(&format!("a connection to {address}"), TcpStream::connect(address)).await;
    let stream = stream.unwrap_or_else(|error| panic!("connecting to {address}: {error}"));
    stream.set_nodelay(true).expect("nodelay");
    stream
}

impl RawClient {
    fn handle(tcp: &TcpStream) -> io::Result<(socket2::Socket, SocketAddr)> {
        Ok((socket2::SockRef::from(tcp).try_clone()?, tcp.local_addr()?))
    }

    fn plain(stream: TcpStream) -> Self {
        let (socket, local) = Self::handle(&stream).expect("a socket");
        Self { wire: Wire::new(Box::new(stream)), socket, local, alpn: None, certificate: None }
    }

    /// Connects over TCP.
    pub async fn connect(address: SocketAddr) -> Self {
        Self::plain(tcp(address).await)
    }

    /// Connects over TCP from another loopback address, as in `127.0.0.7`.
    pub async fn connect_from(local: &str, address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::new(local.parse().expect("an IP address"), 0)).expect("bind");
        let stream = within(&format!("a connection to {address}"), socket.connect(address)).await.expect("connect");
        stream.set_nodelay(true).expect("nodelay");
        Self::plain(stream)
    }

    /// Connects over TLS.
    pub async fn connect_tls(address: SocketAddr, tls: &Tls) -> Self {
        Self::try_connect_tls(address, tls).await.unwrap_or_else(|error| panic!("TLS with {address}: {error}"))
    }

    /// Connects over TLS, or says why the handshake failed.
    pub async fn try_connect_tls(address: SocketAddr, tls: &Tls) -> io::Result<Self> {
        let stream = tcp(address).await;
        let (socket, local) = Self::handle(&stream)?;
        let Secured { stream, alpn, certificate } = secure(stream, tls).await?;
        Ok(Self { wire: Wire::new(stream), socket, local, alpn, certificate })
    }

    /// The address that the other side sees.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }
    /// The protocol that TLS settled on.
    pub fn alpn(&self) -> Option<&str> {
        self.alpn.as_deref()
    }
    /// The server's certificate.
    pub fn certificate(&self) -> Option<&CertificateDer<'static>> {
        self.certificate.as_ref()
    }

    /// Sends these bytes.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.unwrap_or_else(|error| panic!("sending: {error}"));
    }

    /// Sends these bytes; an error when the other side is gone.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        let sending = async {
            self.wire.stream.write_all(bytes.as_ref()).await?;
            self.wire.stream.flush().await
        };
        within("bytes to be taken", sending).await
    }

    /// Sends each piece as a segment of its own once `ready` has resolved for it: a slow client, paced by the test.
    pub async fn send_slowly<B: AsRef<[u8]>>(&mut self, pieces: impl IntoIterator<Item = B>, mut ready: impl AsyncFnMut(usize)) {
        for (index, piece) in pieces.into_iter().enumerate() {
            ready(index).await;
            self.send(piece).await;
        }
    }

    /// Sends a GET with this path and host and reads the response.
    pub async fn get(&mut self, host: &str, path: &str) -> RawResponse {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n")).await;
        self.read_response().await
    }

    /// Sends these bytes and reads the response.
    pub async fn exchange(&mut self, bytes: impl AsRef<[u8]>) -> RawResponse {
        self.send(bytes).await;
        self.read_response().await
    }

    /// The next response, interim ones skipped and noted in it.
    pub async fn read_response(&mut self) -> RawResponse {
        self.response(false).await
    }

    /// The next response, which is one to HEAD and has no body.
    pub async fn read_head_response(&mut self) -> RawResponse {
        self.response(true).await
    }

    async fn response(&mut self, head_request: bool) -> RawResponse {
        match self.try_response(head_request).await {
            Ok(Some(response)) => response,
            Ok(None) => panic!("the connection was closed instead of a response"),
            Err(error) => panic!("reading a response: {error}"),
        }
    }

    /// The next response; `None` when the connection was closed in order instead.
    pub async fn try_read_response(&mut self) -> io::Result<Option<RawResponse>> {
        self.try_response(false).await
    }

    async fn try_response(&mut self, head_request: bool) -> io::Result<Option<RawResponse>> {
        within("a response", self.wire.response(head_request)).await
    }

    /// The next header block alone: its first line and fields. The body stays to be read with [`RawClient::read_bytes`].
    pub async fn read_head(&mut self) -> super::wire::Head {
        within("a header block", self.wire.head()).await.expect("a header block").expect("a header block, not a close")
    }

    /// Exactly this many bytes.
    pub async fn read_bytes(&mut self, count: usize) -> Vec<u8> {
        within(&format!("{count} bytes"), self.wire.exactly(count)).await.expect("bytes")
    }

    /// Everything until the other side closes in order.
    pub async fn read_to_close(&mut self) -> Vec<u8> {
        within("the connection to be closed", self.wire.rest())
            .await
            .unwrap_or_else(|error| panic!("reading to the close: {error}"))
    }

    /// Everything until the connection ends, and whether it ended in order rather than by a reset.
    pub async fn read_to_end(&mut self) -> (Vec<u8>, bool) {
        match within("the connection to end", self.wire.rest()).await {
            Ok(bytes) => (bytes, true),
            Err(_) => (self.wire.pending().to_vec(), false),
        }
    }

    /// What is there next, at least a byte; empty when the connection has ended.
    pub async fn read_some(&mut self) -> Vec<u8> {
        if self.wire.pending().is_empty() {
            let _ = within("bytes", self.wire.fill()).await;
        }
        self.wire.take_pending()
    }

    /// Waits for the end of the connection: true once it is closed or reset, false when bytes come instead.
    pub async fn is_closed(&mut self) -> bool {
        if !self.wire.pending().is_empty() {
            return false;
        }
        matches!(within("the connection to be closed", self.wire.fill()).await, Ok(0) | Err(_))
    }

    /// True when the connection was reset, rather than closed in order, before any byte.
    pub async fn is_reset(&mut self) -> bool {
        let read = within("the connection to be reset", self.wire.fill()).await;
        read.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset)
    }

    /// True when at this moment nothing says that the connection has ended.
    pub fn is_open_now(&mut self) -> bool {
        !matches!(self.wire.fill().now_or_never(), Some(Ok(0) | Err(_)))
    }

    /// Ends the sending direction; responses can still be read.
    pub async fn half_close(&mut self) {
        within("the half-close", self.wire.stream.shutdown()).await.expect("shutdown");
    }

    /// Ends the connection with a reset.
    pub fn reset(self) {
        self.socket.set_linger(Some(Duration::ZERO)).expect("linger");
    }

    /// Takes no more than this many bytes into the kernel's receive buffer: a client that reads slowly.
    pub fn small_receive_buffer(&self, bytes: usize) {
        self.socket.set_recv_buffer_size(bytes).expect("SO_RCVBUF");
    }
}
