//! Layer 8: from an accepted socket to checked requests.
//!
//! Our own accept loop instead of Pingora's `Server`: listeners come and go while running, every read has a
//! deadline, PROXY protocol works in cleartext too, and a drain ends when the last request does. A request
//! that the gate has admitted is decided on ([`crate::exchange`]) and then handed to a driver: [`crate::lane`], or
//! the one `HttpProxy` of [`crate::proxy`].

mod accept;
mod connection;
#[cfg(test)]
mod filters_tests;
mod h1;
mod h1_stream;
mod h2;
mod h2_frames;
mod h3;
mod handshake;
mod idle;
mod limit;
mod nudge;
mod pingora_stream;
mod quic;
mod session;
mod stream;
mod tcp;

pub use accept::{Bound, Slot, bind, bind_beside, bind_datagrams};
pub use limit::ConnectionLimit;

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{config::DriverChoice, exchange::Doors, lane::Pool, observe::Observer, proxy::Edge, snapshot::Store};

/// What every connection needs of the process.
pub struct Shared {
    /// The one Pingora proxy of all listeners, with its one pool of upstream connections.
    pub edge: Arc<Edge>,
    /// Who carries requests.
    pub driver: DriverChoice,
    /// Connections to endpoints that wait for their next request, of the direct driver.
    pub pool: Arc<Pool>,
    /// The running configuration.
    pub store: Arc<Store>,
    /// Where outcomes go.
    pub observer: Arc<Observer>,
    /// All connections of the process together.
    pub open: ConnectionLimit,
    /// How many there may be.
    pub max_connections: usize,
    /// Closed together when the process begins to drain.
    pub doors: Doors,
    /// Turns true once, when the process begins to drain.
    pub draining: watch::Receiver<bool>,
    /// Every connection and every HTTP/2 stream, so that a drain knows when it is done.
    pub tasks: TaskTracker,
    /// Cancelled when the grace period is over: what is left then is cut.
    pub cut: CancellationToken,
}

impl Shared {
    /// Runs a connection or a stream, counted for the drain, until it ends or is cut.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        spawn(&self.tasks, self.cut.clone(), task);
    }
}

/// A task of its own for each connection and stream, so that a panic costs that one and nothing else.
fn spawn(tasks: &TaskTracker, cut: CancellationToken, task: impl Future<Output = ()> + Send + 'static) {
    // Boxed: a future held by another is stored twice, and an idle connection should cost little.
    let task = Box::pin(task);
    tasks.spawn(async move {
        tokio::select! {
            biased;
            _ = cut.cancelled() => {}
            _ = task => {}
        }
    });
}

/// Resolves when the switch is on. Never, when nobody holds it any more.
async fn turned(switch: &mut watch::Receiver<bool>) {
    if switch.wait_for(|on| *on).await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_costs_one_connection() {
        let (tasks, cut, limit) = (TaskTracker::new(), CancellationToken::new(), ConnectionLimit::default());
        let place = limit.enter(1);
        spawn(&tasks, cut.clone(), async move {
            let _place = place;
            panic!("a fault of ours");
        });
        tasks.close();
        // The drain does not wait for it, and its place is free again.
        tasks.wait().await;
        assert_eq!(limit.open(), 0);
        let (served, serves) = tokio::sync::oneshot::channel();
        spawn(&tasks, cut, async move { served.send(()).expect("waited for") });
        serves.await.expect("the next connection is served");
    }
}
