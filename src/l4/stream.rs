//! One side of a connection.

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

/// What is read at once of a stream that has little to say, as of most.
pub(super) const SMALL: usize = 16 * 1024;
/// What is read at once of one that filled the smaller buffer several times in a row.
pub(super) const LARGE: usize = 64 * 1024;

/// Bytes in both directions, over whatever.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// One side of a connection.
pub enum Stream {
    /// TCP.
    Tcp(TcpStream),
    /// A unix socket.
    Unix(UnixStream),
    /// TLS over one of them.
    Tls(Box<dyn Duplex>),
}

impl Stream {
    /// Lets the other end see a failure rather than an end when it is closed next.
    pub(super) fn break_off(&self) {
        if let Stream::Tcp(stream) = self {
            // A linger time of zero turns the close into a reset. Without it the close is an ordinary one.
            let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
        // TLS ends without a close_notify, which says the same.
    }

    /// Can the kernel move bytes from and to it?
    pub(super) fn is_socket(&self) -> bool {
        !matches!(self, Stream::Tls(_))
    }

    /// Does something with the socket once it is readable or writable, again when it turns out not to be.
    pub(super) fn poll_socket(
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

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => match Pin::new(stream).poll_read(cx, buf) {
                // Closed without close_notify, as many do. What is missing then, only the protocol inside can tell.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
                result => result,
            },
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

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        delegate!(self, stream => Pin::new(stream).poll_write(cx, bytes))
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
