//! A socket as it was accepted: TCP or unix, with bytes that were read ahead and put back.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};

use crate::l4::Stream;

/// An accepted connection. Bytes in front of it (what came behind a PROXY protocol header) are read first.
#[derive(Debug)]
pub struct Socket {
    unread: BytesMut,
    inner: Inner,
}

#[derive(Debug)]
enum Inner {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl From<TcpStream> for Socket {
    fn from(stream: TcpStream) -> Self {
        Self { unread: BytesMut::new(), inner: Inner::Tcp(stream) }
    }
}

impl From<UnixStream> for Socket {
    fn from(stream: UnixStream) -> Self {
        Self { unread: BytesMut::new(), inner: Inner::Unix(stream) }
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
        match &mut $self.get_mut().inner {
            Inner::Tcp($stream) => $call,
            Inner::Unix($stream) => $call,
        }
    };
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        delegate_write!(self, stream => Pin::new(stream).poll_write(cx, buf))
    }
    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        delegate_write!(self, stream => Pin::new(stream).poll_write_vectored(cx, bufs))
    }
    fn is_write_vectored(&self) -> bool {
        true
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate_write!(self, stream => Pin::new(stream).poll_flush(cx))
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate_write!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}

/// Collects small writes (header, chunk size, chunk) into one segment or TLS record, until a flush.
#[derive(Debug, Default)]
pub struct WriteBuffer(BytesMut);

impl WriteBuffer {
    /// One TLS record's worth. Larger writes go straight through.
    const CAPACITY: usize = 16 * 1024;

    /// Takes the bytes, writing out what was waiting when both do not fit.
    pub fn poll_write<W: AsyncWrite + Unpin>(
        &mut self,
        to: &mut W,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.0.len() + bytes.len() > Self::CAPACITY {
            ready!(self.poll_drain(to, cx))?;
            if bytes.len() >= Self::CAPACITY {
                return Pin::new(to).poll_write(cx, bytes);
            }
        }
        self.0.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    /// Writes out everything that waits, without flushing what is below.
    pub fn poll_drain<W: AsyncWrite + Unpin>(&mut self, to: &mut W, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.0.is_empty() {
            let written = ready!(Pin::new(&mut *to).poll_write(cx, &self.0))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.0.advance(written);
        }
        // An idle connection holds no buffer.
        if self.0.capacity() > 0 {
            self.0 = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}
