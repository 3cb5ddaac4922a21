//! What happens to a running edge from outside: signals, and the drain that ends it.

use sd_notify::NotifyState;

use super::{RunningServer, Signal, Signals};
use crate::admin::{Commands, Guard};

/// Serves until a signal or the admin API ends it. True when nothing in flight had to be cut.
///
/// SIGTERM and SIGINT drain; a second one cuts what is left. After a drain that the admin API began, the first signal
/// is the supervisor's own stop and not impatience. SIGUSR1 reopens the access log, while draining too. SIGHUP never
/// ends the process.
pub async fn run(server: RunningServer, signals: &mut Signals) -> bool {
    tell_supervisor(&[NotifyState::Ready]);
    let by_signal = tokio::select! {
        () = end_asked_for(&server, signals) => true,
        () = server.exit_requested() => false,
    };
    match server.control().successor() {
        Some(process) => tell_supervisor(&[NotifyState::MainPid(process)]),
        None => tell_supervisor(&[NotifyState::Stopping]),
    }
    log::info!("draining: no new connections, requests in flight may finish");
    let hurry = async {
        if !by_signal {
            end_asked_for(&server, signals).await;
        }
        end_asked_for(&server, signals).await;
    };
    server.stop_unless(server.grace(), hurry).await
}

/// Tells systemd how the process does, if that started it as a service of type `notify`.
fn tell_supervisor(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        log::warn!("systemd cannot be told how this process does: {error}");
    }
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
            Signal::Upgrade => {
                let control = server.control().clone();
                tokio::spawn(async move { control.upgrade().await });
            }
            Signal::Reload => {
                log::info!("SIGHUP: reading the configuration again");
                let control = server.control().clone();
                // Another signal may come meanwhile. How it ends is logged by whoever does it.
                tokio::spawn(async move {
                    let began = NotifyState::monotonic_usec_now();
                    tell_supervisor(&began.map_or_else(|_| vec![], |began| vec![NotifyState::Reloading, began]));
                    let _ = control.reload(Guard::default()).await;
                    tell_supervisor(&[NotifyState::Ready]);
                });
            }
        }
    }
}
