//! Bytes without a protocol: a client, and an endpoint whose side of each connection the test holds in its hands.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::within;

/// One side of a TCP connection.
#[derive(Debug)]
pub struct TcpClient {
    pub stream: TcpStream,
}

impl TcpClient {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = within("a TCP connection", TcpStream::connect(address)).await.expect("connect");
        stream.set_nodelay(true).expect("an option");
        Self { stream }
    }
    /// Sends all of it.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        within("bytes to be sent", self.stream.write_all(bytes.as_ref())).await.expect("sent");
    }
    /// Ends the sending direction.
    pub async fn finish(&mut self) {
        within("the end to be sent", self.stream.shutdown()).await.expect("shut down");
    }
    /// Reads so many bytes.
    pub async fn read(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        within("bytes", self.stream.read_exact(&mut bytes)).await.expect("as many bytes");
        bytes
    }
    /// Reads text of this length.
    pub async fn text(&mut self, count: usize) -> String {
        String::from_utf8(self.read(count).await).expect("text")
    }
    /// Reads to the orderly end.
    pub async fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        within("the end", self.stream.read_to_end(&mut bytes)).await.expect("an orderly end");
        bytes
    }
    /// Did the other side reset the connection, with nothing in front?
    pub async fn is_reset(&mut self) -> bool {
        let read = within("the end", self.stream.read(&mut [0; 1])).await;
        matches!(read, Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset)
    }
    /// Resets the connection.
    pub fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(std::time::Duration::ZERO)).expect("an option");
    }
}

/// An endpoint that accepts when the test says so.
#[derive(Debug)]
pub struct TcpOrigin {
    pub addr: SocketAddr,
    listener: TcpListener,
}

impl TcpOrigin {
    /// On a port that the kernel chooses.
    pub async fn bind() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bind");
        Self { addr: listener.local_addr().expect("an address"), listener }
    }
    /// The next connection.
    pub async fn accept(&self) -> TcpClient {
        let (stream, _) = within("a connection to the endpoint", self.listener.accept()).await.expect("accept");
        stream.set_nodelay(true).expect("an option");
        TcpClient { stream }
    }
}
