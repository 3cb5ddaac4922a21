//! Layer 7: what happens to a running edge from outside: signals, and the drain that ends it.

mod signals;

use std::time::Duration;

pub use signals::{Signal, Signals};

use crate::server::RunningServer;

/// Serves until a signal or the admin API ends it. True when nothing in flight had to be cut.
///
/// SIGTERM and SIGINT drain; a second SIGINT (or SIGTERM) cuts what is left. SIGUSR1 reopens the access log.
/// SIGHUP never ends the process.
pub async fn run(server: RunningServer, signals: &mut Signals) -> bool {
    loop {
        let signal = tokio::select! {
            signal = signals.next() => signal,
            _ = server.exit_requested() => break,
        };
        match signal {
            Signal::Terminate | Signal::Interrupt => break,
            Signal::ReopenLogs => {
                log::info!("reopening the access log");
                server.observer().reopen();
            }
            Signal::Reload => {
                log::warn!("SIGHUP: this version takes a new configuration by a restart only; still serving the old one")
            }
        }
    }
    log::info!("draining: no new connections, requests in flight may finish");
    server.drain();
    let impatient = tokio::select! {
        _ = tokio::time::timeout(server.grace(), server.drained()) => false,
        _ = ends(signals) => true,
    };
    if impatient {
        log::warn!("a second signal: cutting what is left");
    }
    server.stop_within(Duration::ZERO).await
}

/// Resolves at the next signal that asks for the end.
async fn ends(signals: &mut Signals) {
    while !matches!(signals.next().await, Signal::Terminate | Signal::Interrupt) {}
}
