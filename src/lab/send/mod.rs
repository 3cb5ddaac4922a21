//! The lab's client: sends one request or many, over HTTP/1.1, HTTP/2 or bare TCP.
//!
//! It measures what a person wants to know while trying things out. For load there is [`load`](super::load): here each client sends its
//! next request when the last one is answered, so a slow server is asked less.

mod connection;
mod tally;
mod tls;

use std::{io, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Uri, Version};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{Instant, timeout},
};

pub(super) use connection::Connection;
pub use tally::Tally;
pub use tls::Trust;

/// The most of one response that is kept to be printed. More is an error: a terminal is the wrong place for it.
const MAX_SHOWN: usize = 64 << 20;

/// An HTTP request to send, once or often.
#[derive(Debug, Clone)]
pub struct HttpRequest {
    /// The method.
    pub method: Method,
    /// An absolute `http` or `https` URL.
    pub uri: Uri,
    /// Header fields; `host` is added when it is not among them.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// How requests get there.
#[derive(Debug, Clone)]
pub struct Transport {
    /// Connect here (`host:port`) instead of where the URL says; the URL still names the host and the TLS server.
    pub address: Option<String>,
    /// Speak HTTP/2 even without TLS, and nothing else with TLS.
    pub http2_only: bool,
    /// How far to trust TLS servers.
    pub trust: Trust,
    /// For each request, connecting included.
    pub timeout: Duration,
}

impl Default for Transport {
    fn default() -> Self {
        Self { address: None, http2_only: false, trust: Trust::System, timeout: Duration::from_secs(30) }
    }
}

/// A whole response.
#[derive(Debug, Clone)]
pub struct HttpResponse {
    /// The protocol that was spoken.
    pub version: Version,
    /// The status.
    pub status: StatusCode,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The URL names no host or another scheme.
    #[error("{0}")]
    Url(String),
    /// No connection.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// Where to.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// No TLS on the connection.
    #[error("TLS with {name}: {source}")]
    Tls {
        /// The server's name.
        name: String,
        /// What rustls or the system said.
        source: io::Error,
    },
    /// The file or the store of trusted authorities cannot be used.
    #[error("trusted certificates: {0}")]
    Trust(String),
    /// The connection broke, or what came was no HTTP.
    #[error("no complete response: {0}")]
    Http(#[from] hyper::Error),
    /// Reading or writing bytes failed.
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    /// The response is too large to show.
    #[error("the response is larger than 64 MiB")]
    TooLarge,
    /// Time ran out.
    #[error("no response within {0:?}")]
    Timeout(Duration),
}

impl SendError {
    /// One word for it, to count by.
    pub fn word(&self) -> &'static str {
        match self {
            SendError::Url(_) => "url",
            SendError::Connect { .. } => "connect",
            SendError::Tls { .. } | SendError::Trust(_) => "tls",
            SendError::Http(_) | SendError::Io(_) => "broken",
            SendError::TooLarge => "too_large",
            SendError::Timeout(_) => "timeout",
        }
    }
}

/// Sends one request and returns its whole response, whatever its status.
///
/// # Errors
/// There is no complete response.
pub async fn one(request: &HttpRequest, transport: &Transport) -> Result<HttpResponse, SendError> {
    let exchange = async {
        let mut connection = Connection::open(&request.uri, transport).await?;
        connection.exchange(request).await
    };
    timeout(transport.timeout, exchange).await.map_err(|_| SendError::Timeout(transport.timeout))?
}

/// Sends `requests` requests from each of `clients` clients at a time, each on a connection that it keeps.
pub async fn many(request: &HttpRequest, transport: &Transport, clients: usize, requests: usize) -> Tally {
    crowd(clients, || client(request.clone(), transport.clone(), requests)).await
}

/// Sends `text` over TCP, ends the sending direction and returns what came back until the other side closed.
///
/// # Errors
/// The connection failed, or what came back is larger than 64 MiB.
pub async fn tcp(text: &str, address: &str, patience: Duration) -> Result<Vec<u8>, SendError> {
    timeout(patience, tcp_exchange(text, address)).await.map_err(|_| SendError::Timeout(patience))?
}

/// The same from many clients, each time on a new connection.
pub async fn tcp_many(text: &str, address: &str, patience: Duration, clients: usize, requests: usize) -> Tally {
    crowd(clients, || tcp_client(text.to_owned(), address.to_owned(), patience, requests)).await
}

async fn crowd<C: Future<Output = Tally> + Send + 'static>(clients: usize, client: impl Fn() -> C) -> Tally {
    let started = Instant::now();
    let mut running: JoinSet<Tally> = (0..clients).map(|_| client()).collect();
    let mut total = Tally::default();
    while let Some(tally) = running.join_next().await {
        // A client that panicked was reported by the panic hook; the others' numbers stand.
        total.merge(tally.unwrap_or_default());
    }
    total.elapsed = started.elapsed();
    total
}

async fn client(request: HttpRequest, transport: Transport, requests: usize) -> Tally {
    let mut tally = Tally::default();
    let mut kept: Option<Connection> = None;
    for _ in 0..requests {
        let started = Instant::now();
        let exchange = async {
            let mut connection = match kept.take().filter(Connection::is_usable) {
                Some(connection) => connection,
                None => Connection::open(&request.uri, &transport).await?,
            };
            let response = connection.exchange_discarding(&request).await?;
            Ok((connection, response))
        };
        let outcome = timeout(transport.timeout, exchange).await.unwrap_or(Err(SendError::Timeout(transport.timeout)));
        match outcome {
            Ok((connection, (status, backend))) => {
                kept = Some(connection);
                tally.response(status, backend.as_deref(), started.elapsed());
            }
            Err(error) => tally.error(&error),
        }
    }
    tally
}

async fn tcp_client(text: String, address: String, patience: Duration, requests: usize) -> Tally {
    let mut tally = Tally::default();
    for _ in 0..requests {
        let started = Instant::now();
        match tcp(&text, &address, patience).await {
            Ok(_) => tally.answer(started.elapsed()),
            Err(error) => tally.error(&error),
        }
    }
    tally
}

async fn tcp_exchange(text: &str, address: &str) -> Result<Vec<u8>, SendError> {
    let connected = TcpStream::connect(address).await;
    let mut stream = connected.map_err(|source| SendError::Connect { address: address.to_owned(), source })?;
    let (mut reader, mut writer) = stream.split();
    let writing = async {
        writer.write_all(text.as_bytes()).await?;
        writer.shutdown().await
    };
    let mut answer = Vec::new();
    let reading = async {
        // One byte more than allowed tells a full answer from one that is cut.
        (&mut reader).take(MAX_SHOWN as u64 + 1).read_to_end(&mut answer).await
    };
    // Both at once: a server that echoes a long text fills both directions.
    tokio::try_join!(writing, reading)?;
    if answer.len() > MAX_SHOWN { Err(SendError::TooLarge) } else { Ok(answer) }
}
