//! A socket, TCP or unix, with bytes that were read ahead and put back; and what collects small writes to one.

use std::{
    io::{self, IoSlice},
    net::{Ipv6Addr, SocketAddr},
    os::fd::{AsFd, BorrowedFd},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use socket2::{Domain, SockRef, Socket as RawSocket, TcpKeepalive, Type};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};

use super::Stream;

/// A socket that is to be bound to this address. `[::]` takes IPv4 too, as on every other edge; a specific address does not.
///
/// # Errors
/// When the system refuses it.
pub fn unbound(address: SocketAddr, kind: Type) -> io::Result<RawSocket> {
    let socket = RawSocket::new(Domain::for_address(address), kind, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(address.ip() != Ipv6Addr::UNSPECIFIED)?;
    }
    Ok(socket)
}

/// A connected socket. Bytes in front of it (what came behind a PROXY protocol header) are read first.
#[derive(Debug)]
pub struct Socket {
    unread: BytesMut,
    /// Bytes that the kernel has taken.
    sent: u64,
    inner: Inner,
}

#[derive(Debug)]
enum Inner {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl From<TcpStream> for Socket {
    fn from(stream: TcpStream) -> Self {
        Self { unread: BytesMut::new(), sent: 0, inner: Inner::Tcp(stream) }
    }
}

impl From<UnixStream> for Socket {
    fn from(stream: UnixStream) -> Self {
        Self { unread: BytesMut::new(), sent: 0, inner: Inner::Unix(stream) }
    }
}

impl Socket {
    /// The address on which it was accepted, if it has one.
    pub fn local_address(&self) -> Option<SocketAddr> {
        match &self.inner {
            Inner::Tcp(stream) => stream.local_addr().ok(),
            Inner::Unix(_) => None,
        }
    }

    /// How many bytes the kernel has taken so far: what it takes is what the other side gets on with.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// The socket itself, and the bytes that were put back.
    pub fn into_parts(self) -> (Stream, BytesMut) {
        let stream = match self.inner {
            Inner::Tcp(stream) => stream.into(),
            Inner::Unix(stream) => stream.into(),
        };
        (stream, self.unread)
    }

    /// Puts bytes back in front of what the socket still holds.
    pub fn unread(&mut self, bytes: BytesMut) {
        debug_assert!(self.unread.is_empty());
        self.unread = bytes;
    }

    /// Reads more into the buffer, ignoring what was put back. 0 at the end of the stream.
    pub async fn read_more(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        match &mut self.inner {
            Inner::Tcp(stream) => stream.read_buf(buffer).await,
            Inner::Unix(stream) => stream.read_buf(buffer).await,
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.inner {
            Inner::Tcp(stream) => stream.as_fd(),
            Inner::Unix(stream) => stream.as_fd(),
        }
    }
}

/// The options of every TCP socket, accepted or dialled. What cannot be set shows in the first read: the connection is gone.
pub fn set_options(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    // Finds out within two minutes that the other machine has vanished, which silence alone does not tell.
    let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15)).with_retries(3);
    let _ = SockRef::from(stream).set_tcp_keepalive(&keepalive);
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.unread.is_empty() {
            let taken = self.unread.len().min(buf.remaining());
            buf.put_slice(&self.unread[..taken]);
            self.unread.advance(taken);
            if self.unread.is_empty() {
                self.unread = BytesMut::new();
            }
            return Poll::Ready(Ok(()));
        }
        match &mut self.inner {
            Inner::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Inner::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

macro_rules! delegate_write {
    ($self:ident, $stream:ident => $call:expr) => {
        match &mut $self.inner {
            Inner::Tcp($stream) => $call,
            Inner::Unix($stream) => $call,
        }
    };
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let count = ready!(delegate_write!(self, stream => Pin::new(stream).poll_write(cx, buf)))?;
        self.sent += count as u64;
        Poll::Ready(Ok(count))
    }
    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let count = ready!(delegate_write!(self, stream => Pin::new(stream).poll_write_vectored(cx, bufs)))?;
        self.sent += count as u64;
        Poll::Ready(Ok(count))
    }
    fn is_write_vectored(&self) -> bool {
        true
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate_write!(self, stream => Pin::new(stream).poll_flush(cx))
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate_write!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}

/// Collects small writes (header, chunk size, chunk) into one segment or TLS record, until a flush.
#[derive(Debug, Default)]
pub struct WriteBuffer(BytesMut);

impl WriteBuffer {
    /// One TLS record's worth. Larger writes go straight through.
    const CAPACITY: usize = 16 * 1024;

    /// Pieces that go out in one call, what was waiting included. A chunk is three: its size, its bytes, its end.
    const PIECES: usize = 8;

    /// Takes the bytes of these or the first of them. What was waiting goes out first when both do not fit.
    pub fn poll_write<W: AsyncWrite + Unpin>(
        &mut self,
        to: &mut W,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        if self.0.len() + length > Self::CAPACITY {
            if length >= Self::CAPACITY {
                return self.poll_write_through(to, cx, pieces);
            }
            ready!(self.poll_drain(to, cx))?;
        }
        if self.0.capacity() == 0 && length > Self::CAPACITY / 4 {
            // More is likely to come, and growing by doubling would end above what is ever needed.
            self.0.reserve(Self::CAPACITY);
        }
        pieces.iter().for_each(|piece| self.0.extend_from_slice(piece));
        Poll::Ready(Ok(length))
    }

    /// Writes what was waiting and these in one call: a header that goes ahead of its body costs a call, a segment, and a record.
    fn poll_write_through<W: AsyncWrite + Unpin>(
        &mut self,
        to: &mut W,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        while !self.0.is_empty() {
            let mut all = [IoSlice::new(&self.0); Self::PIECES];
            let count = pieces.len().min(Self::PIECES - 1);
            all[1..=count].copy_from_slice(&pieces[..count]);
            let written = ready!(Pin::new(&mut *to).poll_write_vectored(cx, &all[..=count]))?;
            let waiting = self.0.len();
            self.written(written.min(waiting))?;
            if written > waiting {
                return Poll::Ready(Ok(written - waiting));
            }
        }
        Pin::new(to).poll_write_vectored(cx, pieces)
    }

    /// Writes out everything that waits, without flushing what is below.
    pub fn poll_drain<W: AsyncWrite + Unpin>(&mut self, to: &mut W, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.0.is_empty() {
            let written = ready!(Pin::new(&mut *to).poll_write(cx, &self.0))?;
            self.written(written)?;
        }
        Poll::Ready(Ok(()))
    }

    /// So many of the bytes that wait are out.
    fn written(&mut self, count: usize) -> io::Result<()> {
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.0.advance(count);
        // An idle connection holds no buffer.
        if self.0.is_empty() {
            self.0 = BytesMut::new();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// Takes at most so many bytes in a call.
    struct Taking {
        most: usize,
        calls: Vec<Vec<u8>>,
    }

    impl AsyncWrite for Taking {
        fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
        }
        fn poll_write_vectored(mut self: Pin<&mut Self>, _: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
            let call: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().copied()).take(self.most).collect();
            let count = call.len();
            self.calls.push(call);
            Poll::Ready(Ok(count))
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// The calls that these writes, each of several pieces, and a flush at the end become.
    fn calls(most: usize, writes: &[&[&[u8]]]) -> Vec<Vec<u8>> {
        let (mut to, mut buffer) = (Taking { most, calls: Vec::new() }, WriteBuffer::default());
        let cx = &mut Context::from_waker(Waker::noop());
        for pieces in writes {
            let mut slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
            let mut left = &mut slices[..];
            while !left.is_empty() {
                let Poll::Ready(Ok(count)) = buffer.poll_write(&mut to, cx, left) else { panic!("it takes bytes") };
                IoSlice::advance_slices(&mut left, count);
            }
        }
        assert!(matches!(buffer.poll_drain(&mut to, cx), Poll::Ready(Ok(()))));
        assert_eq!(buffer.0.capacity(), 0, "an idle connection holds no buffer");
        to.calls
    }

    #[test]
    fn small_writes_go_out_together() {
        assert_eq!(calls(usize::MAX, &[&[b"head"], &[b"5\r\n", b"small", b"\r\n"]]), [b"head5\r\nsmall\r\n"]);
        let half = [1; 10_000];
        let twice = calls(usize::MAX, &[&[&half], &[&half]]);
        assert_eq!(twice, [half, half], "what does not fit beside it waits for its own turn");
    }

    #[test]
    fn a_large_write_takes_along_what_was_waiting() {
        let body = [7; 100_000];
        let whole = [&b"head"[..], &body].concat();
        assert_eq!(calls(usize::MAX, &[&[b"head"], &[&body]]), [&whole[..]]);
        let chunk = calls(usize::MAX, &[&[b"head"], &[b"186A0\r\n", &body, b"\r\n"]]);
        assert_eq!(chunk, [[&b"head186A0\r\n"[..], &body, b"\r\n"].concat()]);
        assert_eq!(calls(usize::MAX, &[&[&body]]), [body]);
        for most in [1, 3, 4, 5, 16_384, 99_999] {
            assert_eq!(calls(most, &[&[b"head"], &[&body]]).concat(), whole, "{most} at a time");
        }
        let pieces: Vec<&[u8]> = body.chunks(5_000).collect();
        assert_eq!(calls(usize::MAX, &[&[b"head"], &pieces]).concat(), whole, "more pieces than fit into a call");
    }
}
