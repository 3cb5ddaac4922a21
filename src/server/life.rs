//! What happens to a running edge from outside: signals, and the drain that ends it.

use super::{RunningServer, Signal, Signals};
use crate::admin::{Commands, Guard};

/// Serves until a signal or the admin API ends it. True when nothing in flight had to be cut.
///
/// SIGTERM and SIGINT drain; a second one cuts what is left. After a drain that the admin API began, the first signal
/// is the supervisor's own stop and not impatience. SIGUSR1 reopens the access log, while draining too. SIGHUP never
/// ends the process.
pub async fn run(server: RunningServer, signals: &mut Signals) -> bool {
    let by_signal = tokio::select! {
        () = end_asked_for(&server, signals) => true,
        () = server.exit_requested() => false,
    };
    log::info!("draining: no new connections, requests in flight may finish");
    let hurry = async {
        if !by_signal {
            end_asked_for(&server, signals).await;
        }
        end_asked_for(&server, signals).await;
    };
    server.stop_unless(server.grace(), hurry).await
}

/// Resolves at the next signal that asks for the end, and does what signals before it ask for.
async fn end_asked_for(server: &RunningServer, signals: &mut Signals) {
    loop {
        match signals.next().await {
            Signal::Terminate | Signal::Interrupt => return,
            Signal::ReopenLogs => {
                log::info!("reopening the access log");
                server.observer().reopen();
            }
            Signal::Reload => {
                log::info!("SIGHUP: reading the configuration again");
                let control = server.control().clone();
                // Another signal may come meanwhile. How it ends is logged by whoever does it.
                tokio::spawn(async move { control.reload(Guard::default()).await });
            }
        }
    }
}
