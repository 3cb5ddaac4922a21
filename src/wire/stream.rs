//! One side of a connection, whatever carries it.

use std::{
    fmt, io,
    os::fd::{AsFd, BorrowedFd},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::{TlsStream, client, server};

use super::Socket;

/// One side of a connection: a client that was accepted, or an endpoint that was dialled.
///
/// A peer that closes TCP without TLS' close_notify is read as [`io::ErrorKind::UnexpectedEof`]: whether something is missing then,
/// only the protocol inside can tell.
pub enum Stream {
    /// TCP.
    Tcp(TcpStream),
    /// A unix socket.
    Unix(UnixStream),
    /// TLS over one of them.
    Tls(Box<TlsStream<Socket>>),
}

impl Stream {
    /// The protocol that was agreed on in the TLS handshake, if one was.
    pub fn alpn(&self) -> Option<&[u8]> {
        match self {
            Stream::Tls(stream) => stream.get_ref().1.alpn_protocol(),
            Stream::Tcp(_) | Stream::Unix(_) => None,
        }
    }

    /// Lets the other end see a failure rather than an end when it is closed next.
    pub fn break_off(&self) {
        if let Stream::Tcp(stream) = self {
            reset_on_close(stream);
        }
        // TLS ends without a close_notify, which says the same.
    }

    /// Can the kernel move bytes from and to it?
    pub fn is_socket(&self) -> bool {
        !matches!(self, Stream::Tls(_))
    }

    /// Does something with the socket once it is readable or writable, again when it turns out not to be. Not for TLS, whose bytes are
    /// not those of the socket.
    pub fn poll_socket(
        &self,
        cx: &mut Context<'_>,
        interest: Interest,
        mut act: impl FnMut(BorrowedFd<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_ready(cx, interest))?;
            let result = match self {
                Stream::Tcp(stream) => stream.try_io(interest, || act(stream.as_fd())),
                Stream::Unix(stream) => stream.try_io(interest, || act(stream.as_fd())),
                Stream::Tls(_) => Err(io::ErrorKind::Unsupported.into()),
            };
            match result {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn poll_ready(&self, cx: &mut Context<'_>, interest: Interest) -> Poll<io::Result<()>> {
        match (self, interest.is_readable()) {
            (Stream::Tcp(stream), true) => stream.poll_read_ready(cx),
            (Stream::Tcp(stream), false) => stream.poll_write_ready(cx),
            (Stream::Unix(stream), true) => stream.poll_read_ready(cx),
            (Stream::Unix(stream), false) => stream.poll_write_ready(cx),
            (Stream::Tls(_), _) => Poll::Ready(Ok(())),
        }
    }
}

/// A linger time of zero turns the close into a reset. Where that cannot be set the close is an ordinary one.
pub(super) fn reset_on_close(socket: &impl AsFd) {
    let _ = socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO));
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Self {
        Stream::Tcp(stream)
    }
}

impl From<UnixStream> for Stream {
    fn from(stream: UnixStream) -> Self {
        Stream::Unix(stream)
    }
}

impl From<client::TlsStream<Socket>> for Stream {
    fn from(stream: client::TlsStream<Socket>) -> Self {
        Stream::Tls(Box::new(stream.into()))
    }
}

impl From<server::TlsStream<Socket>> for Stream {
    fn from(stream: server::TlsStream<Socket>) -> Self {
        Stream::Tls(Box::new(stream.into()))
    }
}

/// The socket, also under TLS.
impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Stream::Tcp(stream) => stream.as_fd(),
            Stream::Unix(stream) => stream.as_fd(),
            Stream::Tls(stream) => stream.get_ref().0.as_fd(),
        }
    }
}

macro_rules! delegate {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Stream::Tcp($stream) => $call,
            Stream::Unix($stream) => $call,
            Stream::Tls($stream) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        delegate!(self, stream => Pin::new(stream).poll_write(cx, bytes))
    }
    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, pieces: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        delegate!(self, stream => Pin::new(stream).poll_write_vectored(cx, pieces))
    }
    fn is_write_vectored(&self) -> bool {
        true
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => Pin::new(stream).poll_flush(cx))
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stream::Tcp(_) => "Tcp",
            Stream::Unix(_) => "Unix",
            Stream::Tls(_) => "Tls",
        })
    }
}
