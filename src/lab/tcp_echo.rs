//! The layer-4 backend: bytes come back as they came.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{faults::Faults, serving::Serving};

/// Where a [`TcpEcho`] listens, what it says first and how it misbehaves.
#[derive(Debug, Clone)]
pub struct TcpEchoOptions {
    /// Where to listen; port 0 takes a free one.
    pub address: SocketAddr,
    /// Sent to each client before anything is echoed.
    pub greeting: String,
    /// The delay is before each echo; a connection that is chosen to fail is reset before its greeting.
    pub faults: Faults,
}

impl Default for TcpEchoOptions {
    /// On a free port of 127.0.0.1, silent and well-behaved.
    fn default() -> Self {
        Self { address: (Ipv4Addr::LOCALHOST, 0).into(), greeting: String::new(), faults: Faults::default() }
    }
}

/// The TCP echo server of the lab.
#[derive(Debug)]
pub struct TcpEcho;

impl TcpEcho {
    /// Binds and serves until the handle is stopped or dropped.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn spawn(options: TcpEchoOptions) -> io::Result<TcpEchoHandle> {
        let address = options.address;
        let options = Arc::new(options);
        let serving = Serving::start(address, move |stream, stop| {
            let options = options.clone();
            async move {
                tokio::select! {
                    // How a connection ends is the client's business.
                    _ = echo(stream, &options) => {}
                    () = stop.cancelled() => {}
                }
            }
        })
        .await?;
        Ok(TcpEchoHandle { addr: serving.addr, serving })
    }
}

/// A running [`TcpEcho`]. Dropping it stops the server without waiting.
#[derive(Debug)]
pub struct TcpEchoHandle {
    /// Where it listens, with the real port.
    pub addr: SocketAddr,
    serving: Serving,
}

impl TcpEchoHandle {
    /// Closes the listener and its connections.
    pub async fn stop(self) {
        self.serving.stop().await;
    }
}

/// Echoes until the client has sent everything, then closes in order: a client that half-closes gets all of its bytes back.
async fn echo(mut stream: TcpStream, options: &TcpEchoOptions) -> io::Result<()> {
    let failure = options.faults.strike(&mut rand::rng());
    if failure.is_some() {
        // A linger time of zero turns the close into a reset.
        return socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    }
    stream.write_all(options.greeting.as_bytes()).await?;
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return stream.shutdown().await;
        }
        let wait = options.faults.wait(&mut rand::rng());
        tokio::time::sleep(wait).await;
        stream.write_all(&buffer[..count]).await?;
    }
}
