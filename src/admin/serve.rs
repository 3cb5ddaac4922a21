//! Connections of the admin listener: HTTP/1.1, few, and none for ever.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::Request};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tower_service::Service;

use super::{AdminState, access::Local, pages};

/// Connections at a time: an operator, a dashboard, a few scrapers and probes. Further ones wait in the backlog.
const CONNECTIONS: usize = 64;
/// For a request's header block, and for the next request on a connection, after which it closes.
const HEADER: Duration = Duration::from_secs(10);
/// Header fields, and bytes of a header block.
const FIELDS: usize = 64;
const HEADER_BYTES: usize = 16 * 1024;
/// The age at which a connection is asked to end, so that readers who never read cannot hold all places.
const AGE: Duration = Duration::from_secs(600);
/// How long a connection that was asked to end may take.
const GRACE: Duration = Duration::from_secs(5);
/// The pause after a failed accept: out of file descriptors, most likely.
const PAUSE: Duration = Duration::from_millis(100);

/// A socket that accepts.
pub trait Accept: Send + 'static {
    /// Its connections.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// The next connection, with the address of our end of it if it has one.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Stream, Option<SocketAddr>)>> + Send;
}

impl Accept for TcpListener {
    type Stream = tokio::net::TcpStream;
    async fn accept(&mut self) -> io::Result<(Self::Stream, Option<SocketAddr>)> {
        let (stream, _) = TcpListener::accept(self).await?;
        let local = stream.local_addr()?;
        Ok((stream, Some(local)))
    }
}

impl Accept for UnixListener {
    type Stream = tokio::net::UnixStream;
    async fn accept(&mut self) -> io::Result<(Self::Stream, Option<SocketAddr>)> {
        let (stream, _) = UnixListener::accept(self).await?;
        Ok((stream, None))
    }
}

/// Serves the admin pages until `shutdown`, then gives open connections five seconds.
pub async fn serve(mut listener: impl Accept, state: Arc<AdminState>, shutdown: impl Future<Output = ()>) {
    let router = pages::router(state.clone());
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let (stop, stopped) = watch::channel(());
    let mut connections = JoinSet::new();
    let accepting = async {
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            while connections.try_join_next().is_some() {}
            match listener.accept().await {
                Ok((stream, local)) => {
                    let connection = connection(stream, router.clone(), Local(local), stopped.clone());
                    connections.spawn(async move {
                        connection.await;
                        drop(place);
                    });
                }
                Err(error) => {
                    log::debug!("admin: accept failed: {error}");
                    sleep(PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        () = accepting => {}
        () = state.live.run(&state) => {}
        () = shutdown => {}
    }
    state.live.feed.close();
    drop(listener);
    drop(stop);
    let _ = timeout(GRACE, async { while connections.join_next().await.is_some() {} }).await;
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    local: Local,
    mut stopped: watch::Receiver<()>,
) {
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let mut request: Request = request.map(Body::new);
        request.extensions_mut().insert(local);
        router.clone().call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER)
        .max_headers(FIELDS)
        .max_buf_size(HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = stopped.changed() => {}
        () = sleep(AGE) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(GRACE, connection).await;
}
