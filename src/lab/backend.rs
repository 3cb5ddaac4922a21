//! The HTTP backend: HTTP/1.1 and, with prior knowledge, HTTP/2 on one cleartext port.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderValue, Request, Response};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;

use super::{answers, body::Body, faults::Faults, serving::Serving, workers::Workers};

/// What a [`Backend`] is called, where it listens and how it misbehaves.
#[derive(Debug, Clone)]
pub struct BackendOptions {
    /// Sent as `x-backend` with every response.
    pub name: String,
    /// Where to listen; port 0 takes a free one.
    pub address: SocketAddr,
    /// What goes wrong on purpose. Requests for `/health` are spared: they tell what the switch says.
    pub faults: Faults,
    /// How many requests it works on at a time; the others wait. No bound unless one is set.
    pub workers: u32,
}

impl BackendOptions {
    /// A well-behaved backend on a free port of 127.0.0.1.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            address: (Ipv4Addr::LOCALHOST, 0).into(),
            faults: Faults::default(),
            workers: Workers::UNBOUNDED,
        }
    }

    /// Listens here.
    pub fn address(mut self, address: SocketAddr) -> Self {
        self.address = address;
        self
    }

    /// Misbehaves like this.
    pub fn faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// Works on so many requests at a time, at least one. The delay of [`Faults`] is the work.
    pub fn workers(mut self, workers: u32) -> Self {
        self.workers = workers.clamp(1, Workers::UNBOUNDED);
        self
    }
}

/// The HTTP backend of the lab.
#[derive(Debug)]
pub struct Backend;

impl Backend {
    /// Binds and serves until the handle is stopped or dropped.
    ///
    /// # Errors
    /// The address cannot be bound, or the name cannot be the value of a header field.
    pub async fn spawn(options: BackendOptions) -> io::Result<BackendHandle> {
        let header = HeaderValue::from_str(&options.name)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "the name has characters that a header cannot carry"))?;
        let state = Arc::new(State {
            name: options.name,
            header,
            faults: options.faults,
            workers: Workers::new(options.workers),
            healthy: AtomicBool::new(true),
            requests: AtomicU64::new(0),
        });
        let shared = state.clone();
        let serving = Serving::start(options.address, move |stream, stop| connection(stream, shared.clone(), stop)).await?;
        Ok(BackendHandle { addr: serving.addr, state, serving })
    }
}

/// A running [`Backend`]. Dropping it stops the backend without waiting.
#[derive(Debug)]
pub struct BackendHandle {
    /// Where it listens, with the real port.
    pub addr: SocketAddr,
    state: Arc<State>,
    serving: Serving,
}

impl BackendHandle {
    /// The name that it answers with.
    pub fn name(&self) -> &str {
        &self.state.name
    }

    /// Makes `/health` answer 200 (`true`) or 503 (`false`).
    pub fn set_healthy(&self, healthy: bool) {
        self.state.healthy.store(healthy, Ordering::Relaxed);
    }

    /// Lets it work on so many requests at a time from now on, at least one. Call it inside a Tokio runtime.
    pub fn set_workers(&self, workers: u32) {
        self.state.workers.set(workers.clamp(1, Workers::UNBOUNDED));
    }

    /// Requests received so far, those for `/health` not counted.
    pub fn requests(&self) -> u64 {
        self.state.requests.load(Ordering::Relaxed)
    }

    /// Closes the listener, lets work in flight finish for two seconds, then cuts what is left.
    pub async fn stop(self) {
        self.serving.stop().await;
    }
}

/// What all connections of one backend share.
#[derive(Debug)]
pub(super) struct State {
    pub(super) name: String,
    pub(super) header: HeaderValue,
    pub(super) faults: Faults,
    pub(super) workers: Workers,
    pub(super) healthy: AtomicBool,
    pub(super) requests: AtomicU64,
}

/// What an answer needs to know about the connection that it goes out on.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    pub(super) backend: Arc<State>,
    pub(super) local: SocketAddr,
    pub(super) stop: CancellationToken,
    reset: Arc<AtomicBool>,
}

/// The service's way to say "no answer": hyper then drops the connection or resets the stream.
#[derive(Debug, thiserror::Error)]
#[error("reset on purpose")]
pub(super) struct Reset;

async fn connection(stream: TcpStream, backend: Arc<State>, stop: CancellationToken) {
    let Ok(local) = stream.local_addr() else { return };
    let reset = Arc::new(AtomicBool::new(false));
    let socket = Socket { stream, reset: reset.clone() };
    let connection = Connection { backend, local, stop: stop.clone(), reset };
    let service = service_fn(move |request| respond(request, connection.clone()));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(60));
    builder.http2().timer(TokioTimer::new());
    let mut serving = pin!(builder.serve_connection_with_upgrades(TokioIo::new(socket), service));
    tokio::select! {
        // How a connection ends is the client's business; there is nobody to tell.
        _ = &mut serving => return,
        () = stop.cancelled() => serving.as_mut().graceful_shutdown(),
    }
    let _ = serving.await;
}

async fn respond(request: Request<Incoming>, connection: Connection) -> Result<Response<Body>, Reset> {
    let name = connection.backend.header.clone();
    let reset = connection.reset.clone();
    match answers::answer(request, &connection).await {
        Ok(mut response) => {
            response.headers_mut().insert("x-backend", name);
            Ok(response)
        }
        Err(Reset) => {
            reset.store(true, Ordering::Relaxed);
            Err(Reset)
        }
    }
}

/// A TCP stream that can be told to end with a reset instead of an orderly close.
struct Socket {
    stream: TcpStream,
    reset: Arc<AtomicBool>,
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.reset.load(Ordering::Relaxed) {
            // A linger time of zero makes close() discard what is unsent and send RST.
            let _ = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.reset.load(Ordering::Relaxed) {
            // An orderly FIN first would turn the reset into an end of stream.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
