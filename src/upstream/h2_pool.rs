//! HTTP/2 connections to endpoints, shared by the requests that go there.

use std::{
    collections::HashMap,
    os::fd::{AsFd, AsRawFd},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use h2::client::{self, SendRequest};
use parking_lot::Mutex;
use pingora_core::{
    Error, ErrorType, OrErr, Result,
    protocols::UniqueIDType,
    upstreams::peer::{HttpPeer, Peer},
};
use tokio::sync::Notify;

use crate::{pace::Pace, wire};

/// Streams at a time on one connection; more requests open another. 100 is what RFC 9113 (section 6.5.2) asks servers to allow
/// at least.
const MAX_STREAMS: usize = 100;

/// What an endpoint may send of one response ahead of its client. It is given back as the client takes the bytes, so that it is all that
/// a response holds; with what the library and TLS keep beside, that is less than 64 KiB. It is also what bounds a single download from
/// an endpoint far away: 32 KiB for each round trip.
const LARGE_WINDOW: u32 = 32 * 1024;

/// The same for the responses of a client that has many at a time on one connection: with 8 large ones, 100 of them hold less than 1 MiB.
/// A window belongs to a connection's settings, so that these have connections of their own.
const SMALL_WINDOW: u32 = 5 * 1024;

/// For all streams of a connection together: all that they may hold, lest clients that read nothing stop those that read.
const CONNECTION_WINDOW: u32 = MAX_STREAMS as u32 * LARGE_WINDOW;

/// How long a connection may take to say what is left to say when it is given up.
const FAREWELL: Duration = Duration::from_secs(1);

/// What the library keeps of a request body that the endpoint's window has no room for.
const SEND_BUFFER: usize = 64 * 1024;

/// Fields of one response head or of trailers. More than HTTP/1 lets through: names and values, and 32 bytes for each (RFC 9113 section 6.5.2).
const HEADER_LIST: u32 = 256 * 1024;

/// Which connections may serve a request: those to the same place, verified in the same way, with the same window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    peer: u64,
    large: bool,
}

impl Key {
    pub(super) fn of(peer: &HttpPeer, pace: &Pace) -> Self {
        Self { peer: peer.reuse_hash(), large: pace.window.is_large() }
    }
}

/// The connections of all upstreams.
#[derive(Debug, Default)]
pub(super) struct Pool(Arc<Mutex<HashMap<Key, Vec<Arc<Connection>>>>>);

#[derive(Debug)]
struct Connection {
    requests: SendRequest<Bytes>,
    streams: AtomicUsize,
    /// No request that comes now can be served by it.
    closed: AtomicBool,
    /// The last stream is over.
    idle: Notify,
    id: UniqueIDType,
    secure: bool,
}

impl Connection {
    fn has_room(&self) -> bool {
        let most = MAX_STREAMS.min(self.requests.current_max_send_streams());
        !self.closed.load(Relaxed) && self.streams.load(Relaxed) < most
    }
}

/// The right to one stream of a connection.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) requests: SendRequest<Bytes>,
    connection: Arc<Connection>,
}

impl Stream {
    /// Counts it; the caller holds the lock of the pool, or the connection is new.
    fn count(connection: &Arc<Connection>) -> Arc<Connection> {
        connection.streams.fetch_add(1, Relaxed);
        connection.clone()
    }

    /// Resolves when the request may be sent.
    async fn open(connection: Arc<Connection>) -> std::result::Result<Self, h2::Error> {
        let mut stream = Self { requests: connection.requests.clone(), connection };
        std::future::poll_fn(|cx| stream.requests.poll_ready(cx)).await?;
        Ok(stream)
    }

    pub(super) fn id(&self) -> UniqueIDType {
        self.connection.id
    }
    pub(super) fn is_secure(&self) -> bool {
        self.connection.secure
    }
    /// No other request is to be sent on this connection.
    pub(super) fn retire(&self) {
        self.connection.closed.store(true, Relaxed);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.connection.streams.fetch_sub(1, Relaxed) == 1 {
            self.connection.idle.notify_one();
        }
    }
}

impl Pool {
    /// A stream on a connection that is there.
    pub(super) async fn stream(&self, key: Key) -> Option<Stream> {
        loop {
            let connection = {
                let pool = self.0.lock();
                let found = pool.get(&key)?.iter().find(|connection| connection.has_room())?;
                Stream::count(found)
            };
            // One that turns out to be going away (GOAWAY, closed) is no failure of the request.
            let retired = connection.clone();
            match Stream::open(connection).await {
                Ok(stream) => return Some(stream),
                Err(_) => retired.closed.store(true, Relaxed),
            }
        }
    }

    /// A stream on a new connection, which others will share.
    pub(super) async fn connect(&self, key: Key, stream: wire::Stream, peer: &HttpPeer) -> Result<Stream> {
        let id = stream.as_fd().as_raw_fd();
        let handshake = client::Builder::new()
            .enable_push(false)
            .initial_max_send_streams(MAX_STREAMS)
            // For pushes, of which there are none.
            .max_concurrent_streams(1)
            .initial_window_size(if key.large { LARGE_WINDOW } else { SMALL_WINDOW })
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buffer_size(SEND_BUFFER)
            .max_header_list_size(HEADER_LIST)
            .handshake::<_, Bytes>(stream);
        let (requests, driver) = handshake.await.or_err(ErrorType::HandshakeError, "during the HTTP/2 handshake")?;
        let connection = Arc::new(Connection {
            requests,
            streams: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            idle: Notify::new(),
            id,
            secure: peer.is_tls(),
        });
        let counted = Stream::count(&connection);
        self.0.lock().entry(key).or_default().push(connection.clone());
        tokio::spawn(drive(driver, connection, key, self.0.clone(), peer.idle_timeout()));
        Stream::open(counted).await.map_err(|error| Error::because(ErrorType::H2Error, "opening the first stream", error))
    }
}

/// Keeps a connection going until it closes or has been idle for too long, and takes it out of the pool then.
async fn drive(
    mut driver: client::Connection<wire::Stream, Bytes>,
    connection: Arc<Connection>,
    key: Key,
    pool: Arc<Mutex<HashMap<Key, Vec<Arc<Connection>>>>>,
    patience: Option<Duration>,
) {
    let idle = async {
        loop {
            while connection.streams.load(Relaxed) != 0 {
                connection.idle.notified().await;
            }
            if connection.closed.load(Relaxed) {
                return;
            }
            let Some(patience) = patience else {
                connection.idle.notified().await;
                continue;
            };
            // A stream that came and went in between has left its mark.
            let again = tokio::time::timeout(patience, connection.idle.notified()).await.is_ok();
            let pool = pool.lock();
            if !again && connection.streams.load(Relaxed) == 0 {
                // Under the lock of the pool, where streams are counted: nobody can have it any more.
                connection.closed.store(true, Relaxed);
                drop(pool);
                return;
            }
        }
    };
    let closed = tokio::select! {
        closed = &mut driver => Some(closed),
        () = idle => None,
    };
    connection.closed.store(true, Relaxed);
    {
        let mut pool = pool.lock();
        if let Some(connections) = pool.get_mut(&key) {
            connections.retain(|other| !Arc::ptr_eq(other, &connection));
            if connections.is_empty() {
                pool.remove(&key);
            }
        }
    }
    drop(connection);
    match closed {
        Some(Ok(())) => {}
        Some(Err(error)) => log::debug!("an HTTP/2 connection to an endpoint closed: {error}"),
        // Without anybody who could send a request, the library says what is left to say, GOAWAY at last, and closes.
        None => drop(tokio::time::timeout(FAREWELL, driver).await),
    }
}
