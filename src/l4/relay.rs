//! Both sides, joined.

use std::{
    io,
    pin::pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep};

use super::{
    flow::{Broken, Flow, Side},
    record::{End, Record},
};
use crate::{
    types::{Cause, Phase, Who},
    wire::Stream,
};

/// An endpoint that keeps a connection this long has not dropped it, whatever it has to say.
const PROBATION: Duration = Duration::from_secs(1);

/// A client and an endpoint.
pub(super) struct Relay {
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

    /// Passes bytes on until both directions have ended, one side breaks, or nothing moves for too long.
    pub(super) async fn run(mut self, record: &mut Record, idle: Option<Duration>) -> End {
        let end = {
            let mut watch = pin!(sleep(idle.map_or(PROBATION, |idle| idle.min(PROBATION))));
            let (mut last, mut watching) = (Instant::now(), true);
            std::future::poll_fn(|cx| {
                let before = (self.up.moved(), self.down.moved());
                let end = self.poll(cx);
                let now = (self.up.moved(), self.down.moved());
                if now != before {
                    last = Instant::now();
                    record.moved(now.0 - before.0, now.1 - before.1);
                }
                if end.is_ready() {
                    return end;
                }
                while watching && watch.as_mut().poll(cx).is_ready() {
                    record.endpoint_is_well();
                    match idle {
                        None => watching = false,
                        Some(idle) if last.elapsed() >= idle => return Poll::Ready(Ended::Idle),
                        Some(idle) => Sleep::reset(watch.as_mut(), last + idle),
                    }
                }
                Poll::Pending
            })
            .await
        };
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
    fn part(&mut self, ended: Ended, record: &mut Record) -> End {
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
        log::debug!("a connection to {} broke: {}", record.listener(), broken.error);
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
