//! The accept loop that lab servers share, with a stop that lets work in flight finish for a while.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::{JoinHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;

/// Connections at a time on one lab server. Beyond it new ones wait in the kernel's backlog, which is what a small
/// real server would do too.
const MAX_CONNECTIONS: usize = 4096;

/// How long [`Serving::stop`] lets work in flight go on. Short: nobody depends on a lab server's last answer, but a
/// client in the middle of a response should get it.
const GRACE: Duration = Duration::from_secs(2);

/// A server that runs until it is stopped or dropped.
#[derive(Debug)]
pub(super) struct Serving {
    pub(super) addr: SocketAddr,
    stop: CancellationToken,
    accepting: Option<JoinHandle<()>>,
}

impl Serving {
    /// Binds `address` and serves each connection in a task of its own. The token tells a connection to finish what
    /// it is doing and end.
    pub(super) async fn start<F, C>(address: SocketAddr, serve: F) -> io::Result<Self>
    where
        F: Fn(TcpStream, CancellationToken) -> C + Send + 'static,
        C: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await?;
        let addr = listener.local_addr()?;
        let stop = CancellationToken::new();
        let accepting = Some(tokio::spawn(accept(listener, stop.clone(), serve)));
        Ok(Self { addr, stop, accepting })
    }

    /// Closes the listener, lets work in flight finish for [`GRACE`], then cuts what is left.
    pub(super) async fn stop(mut self) {
        self.stop.cancel();
        if let Some(accepting) = self.accepting.take() {
            // A panic in the loop was reported by the panic hook; stopping is done either way.
            let _ = accepting.await;
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn accept<F, C>(listener: TcpListener, stop: CancellationToken, serve: F)
where
    F: Fn(TcpStream, CancellationToken) -> C,
    C: Future<Output = ()> + Send + 'static,
{
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let next = async {
            // The semaphore is never closed.
            let slot = slots.clone().acquire_owned().await.ok();
            (slot, listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            next = next => next,
        };
        match accepted {
            Ok((stream, _)) => {
                let _ = stream.set_nodelay(true);
                let connection = serve(stream, stop.clone());
                connections.spawn(async move {
                    connection.await;
                    drop(slot);
                });
            }
            // Out of file descriptors, most likely: wait for some to come back rather than spin.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    drop(listener);
    let all_done = async { while connections.join_next().await.is_some() {} };
    // What is left after the grace is aborted when the set drops.
    let _ = tokio::time::timeout(GRACE, all_done).await;
}
