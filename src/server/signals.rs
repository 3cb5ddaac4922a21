//! Unix signals, as words.

use std::io;

use tokio::signal::unix::{self, SignalKind, signal};

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM.
    Terminate,
    /// SIGINT, Ctrl-C.
    Interrupt,
    /// SIGHUP. Its default is to kill, which would surprise everyone who knows nginx.
    Reload,
    /// SIGUSR1.
    ReopenLogs,
    /// SIGUSR2.
    Upgrade,
}

/// The signals of this process. Made before anything is bound, so that none is lost.
pub struct Signals {
    terminate: unix::Signal,
    interrupt: unix::Signal,
    reload: unix::Signal,
    reopen: unix::Signal,
    upgrade: unix::Signal,
}

impl Signals {
    /// Takes over the signals. Call it within a runtime.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            reload: signal(SignalKind::hangup())?,
            reopen: signal(SignalKind::user_defined1())?,
            upgrade: signal(SignalKind::user_defined2())?,
        })
    }

    /// The next signal.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::Terminate,
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = self.reload.recv() => Signal::Reload,
            _ = self.reopen.recv() => Signal::ReopenLogs,
            _ = self.upgrade.recv() => Signal::Upgrade,
        }
    }
}
