//! Both sides, joined.

use std::{
    io,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    flow::{Broken, Flow, Side},
    record::End,
};
use crate::{
    pace::Clock,
    types::{Cause, Phase, Who},
    wire::Stream,
};

/// An endpoint that keeps a connection this long has not dropped it, whatever it has to say.
const PROBATION: Duration = Duration::from_secs(1);

/// Who is told what happens between two sides.
pub trait Witness {
    /// Bytes were passed on, from the client and to it.
    fn moved(&mut self, received: u64, sent: u64);
    /// The endpoint did not just take the connection to drop it.
    fn endpoint_is_well(&mut self);
    /// It did.
    fn endpoint_is_bad(&mut self);
}

/// A client and an endpoint.
pub struct Relay {
    client: Stream,
    endpoint: Stream,
    /// From the client to the endpoint.
    up: Flow,
    /// From the endpoint to the client.
    down: Flow,
    /// Who was the first to end its direction.
    first: Option<Who>,
    /// Which flow comes first: they take turns, since one that never has to wait would keep the other waiting.
    down_first: bool,
    /// It ended in order.
    parted: bool,
}

impl Relay {
    /// Joins them. `first` goes to the endpoint in front of everything; the last `sent` bytes of it are the client's.
    pub(super) fn new(client: Stream, endpoint: Stream, first: Vec<u8>, sent: u64, splice: bool) -> Self {
        let splice = splice && client.is_socket() && endpoint.is_socket();
        let (up, down) = (Flow::new(first, sent, splice), Flow::new(Vec::new(), 0, splice));
        Self { client, endpoint, up, down, first: None, down_first: false, parted: false }
    }

    /// Joins both sides of a connection that has left HTTP. `up` is what was read of the client and not passed on; `down` goes to the
    /// client, its first `uncounted` bytes being no part of what the endpoint says.
    pub fn upgraded(client: Stream, endpoint: Stream, up: Vec<u8>, down: Vec<u8>, uncounted: u64) -> Self {
        let splice = client.is_socket() && endpoint.is_socket();
        let sent = up.len() as u64;
        let said = down.len() as u64 - uncounted;
        let (up, down) = (Flow::new(up, sent, splice), Flow::new(down, said, splice));
        Self { client, endpoint, up, down, first: None, down_first: false, parted: false }
    }

    /// Passes bytes on until both directions have ended, one side breaks, or nothing moves for too long. `patience` says how long that
    /// is, by who was the first to end its direction.
    pub async fn run(mut self, record: &mut impl Witness, patience: impl Fn(Option<Who>) -> Option<Duration>) -> End {
        let (began, mut clock) = (Instant::now(), Clock::default());
        let (mut last, mut well) = (began, false);
        let end = std::future::poll_fn(|cx| {
            let (before, open) = ((self.up.moved(), self.down.moved()), self.first.is_none());
            let end = self.poll(cx);
            let now = (self.up.moved(), self.down.moved());
            if now != before || open != self.first.is_none() {
                // The end of a direction is a sign of life, too: what the other side has to say behind it has its own time.
                last = Instant::now();
                record.moved(now.0 - before.0, now.1 - before.1);
            }
            if end.is_ready() {
                return end;
            }
            let idle = patience(self.first).map(|patience| last + patience);
            if !well && clock.poll(Some(idle.map_or(began + PROBATION, |idle| idle.min(began + PROBATION))), cx) {
                record.endpoint_is_well();
                well = true;
            }
            if well && clock.poll(idle, cx) { Poll::Ready(Ended::Idle) } else { Poll::Pending }
        })
        .await;
        self.part(end, record)
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        self.down_first = !self.down_first;
        let (up, down) = if self.down_first {
            let down = self.poll_down(cx);
            (self.poll_up(cx), down)
        } else {
            let up = self.poll_up(cx);
            (up, self.poll_down(cx))
        };
        if let Poll::Ready(Err(broken)) = up {
            return Poll::Ready(Ended::Broken(broken, Who::Client, Who::Upstream));
        }
        if let Poll::Ready(Err(broken)) = down {
            return Poll::Ready(Ended::Broken(broken, Who::Upstream, Who::Client));
        }
        if self.first.is_none() {
            self.first = match (self.up.has_ended(), self.down.has_ended()) {
                (true, _) => Some(Who::Client),
                (_, true) => Some(Who::Upstream),
                _ => None,
            };
        }
        if up.is_ready() && down.is_ready() { Poll::Ready(Ended::Whole) } else { Poll::Pending }
    }

    fn poll_up(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        self.up.poll(cx, &mut self.client, &mut self.endpoint)
    }
    fn poll_down(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        self.down.poll(cx, &mut self.endpoint, &mut self.client)
    }

    /// What it came to.
    fn part(&mut self, ended: Ended, record: &mut impl Witness) -> End {
        self.parted = true;
        let closed = |who| End { who, phase: Phase::Done, cause: None, reason: None };
        let first = self.first.unwrap_or_default();
        let (broken, from, to) = match ended {
            Ended::Whole => {
                if first == Who::Upstream && self.up.moved() == 0 && self.down.moved() == 0 {
                    record.endpoint_is_bad();
                } else {
                    record.endpoint_is_well();
                }
                return closed(first);
            }
            Ended::Idle => {
                let cause = Some(Cause::ConnectionReadTimeout);
                return End { who: Who::Weir, phase: Phase::Response, cause, reason: Some("idle_timeout") };
            }
            Ended::Broken(broken, from, to) => (broken, from, to),
        };
        let who = if broken.side == Side::From { from } else { to };
        log::debug!("one side of a relay broke: {}", broken.error);
        let had_ended = if who == Who::Client { self.up.has_ended() } else { self.down.has_ended() };
        if who == Who::Upstream && self.down.moved() == 0 && !had_ended {
            record.endpoint_is_bad();
        } else {
            record.endpoint_is_well();
        }
        if had_ended && matches!(broken.error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) {
            // It had said everything, and wanted to hear no more.
            return closed(who);
        }
        self.parted = false;
        End { who, phase: Phase::Response, cause: Some(Cause::ConnectionTerminated), reason: None }
    }
}

impl Drop for Relay {
    /// What was cut or broke must not look complete to either side.
    fn drop(&mut self) {
        if !self.parted {
            self.client.break_off();
            self.endpoint.break_off();
        }
    }
}

/// Why the bytes stopped.
enum Ended {
    /// Both directions came to their end.
    Whole,
    /// Nothing moved for too long.
    Idle,
    /// A flow broke; from whom and to whom it went.
    Broken(Broken, Who, Who),
}
