//! How long a connection may serve nothing.

use std::{task::Context, time::Duration};

use tokio::time::Instant;

use crate::pace::Clock;

/// When a connection that serves nothing has been idle for too long.
pub(super) struct Idleness {
    patience: Duration,
    since: Option<Instant>,
    clock: Clock,
}

impl Idleness {
    pub(super) fn new(patience: Duration) -> Self {
        Self { patience, since: None, clock: Clock::default() }
    }

    /// Has it been idle for that long? If not, the task is woken when it has.
    pub(super) fn poll(&mut self, is_idle: bool, cx: &mut Context<'_>) -> bool {
        if !is_idle {
            self.since = None;
            return false;
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        let over = self.clock.poll(Some(since + self.patience), cx);
        if over {
            self.since = None;
        }
        over
    }
}
