//! How long an exchange may wait, as the proxy's phases say it and the driver of the client's connection keeps it.
//!
//! Pingora times each read from an endpoint, so a header that drips outlasts every timeout, and one value must do for the header
//! and the body. But it reads from the client all the while, for going away: a driver that asks [`Watch::poll`] there, and fails
//! the read when a limit has passed, ends the exchange at the right moment. Which limit it was, the proxy reads from
//! [`Deadlines::take_passed`].

use std::{
    sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed},
    task::Context,
    time::Duration,
};

use tokio::time::Instant;

use super::{Clock, Pace};

/// What an exchange must not take longer than.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// The route's `timeout`, for the whole.
    Exchange,
    /// The time that an endpoint has for its response header.
    Answer,
    /// Silence in the response: nothing comes from the endpoint.
    Silence,
    /// The client takes nothing of the response.
    Unread,
}

/// The limits of one exchange.
#[derive(Debug)]
pub struct Deadlines {
    since: Instant,
    /// In microseconds from `since`, as is `answer`; [`NONE`] for no limit.
    exchange: AtomicU64,
    answer: AtomicU64,
    /// In microseconds.
    silence: AtomicU64,
    /// Counts what has moved since the response began.
    moves: AtomicU32,
    /// The limit that has passed, plus one.
    passed: AtomicU8,
    unwatched: bool,
}

const NONE: u64 = u64::MAX;

impl Default for Deadlines {
    fn default() -> Self {
        let none = || AtomicU64::new(NONE);
        Self {
            since: Instant::now(),
            exchange: none(),
            answer: none(),
            silence: none(),
            moves: AtomicU32::new(0),
            passed: AtomicU8::new(0),
            unwatched: false,
        }
    }
}

impl Deadlines {
    /// Those of an exchange that no driver watches, since it is for no client.
    pub(super) fn unwatched() -> Self {
        Self { unwatched: true, ..Self::default() }
    }
    /// Does a driver keep them? If not, only Pingora's own timeouts hold.
    pub fn is_watched(&self) -> bool {
        !self.unwatched
    }
    /// When the whole exchange must be over.
    pub fn set_exchange(&self, deadline: Option<std::time::Instant>) {
        self.exchange.store(self.micros(deadline), Relaxed);
    }
    /// When the response header must be there.
    pub fn set_answer(&self, deadline: Option<std::time::Instant>) {
        self.answer.store(self.micros(deadline), Relaxed);
    }
    /// How long nothing may move, from the endpoint or to the client. Counted from the first time that the client is read from after
    /// a move, so that the time in which a slow client is written to does not count.
    pub fn set_silence(&self, limit: Option<Duration>) {
        self.silence.store(limit.map_or(NONE, |limit| limit.as_micros() as u64), Relaxed);
    }
    /// A piece of a body came.
    pub fn moved(&self) {
        self.moves.fetch_add(1, Relaxed);
    }
    /// From now on nothing is limited.
    pub fn clear(&self) {
        for limit in [&self.exchange, &self.answer, &self.silence] {
            limit.store(NONE, Relaxed);
        }
    }
    /// Has a limit ended the exchange, or the attempt?
    pub fn has_passed(&self) -> bool {
        self.passed.load(Relaxed) != 0
    }
    /// The limit that has ended the exchange, or the attempt. Asking takes it back.
    pub fn take_passed(&self) -> Option<Limit> {
        match self.passed.swap(0, Relaxed) {
            0 => None,
            1 => Some(Limit::Exchange),
            2 => Some(Limit::Answer),
            3 => Some(Limit::Silence),
            _ => Some(Limit::Unread),
        }
    }
    /// This limit has passed.
    pub(super) fn pass(&self, limit: Limit) {
        self.passed.store(1 + limit as u8, Relaxed);
    }
    /// How long nothing may move.
    pub fn silence(&self) -> Option<Duration> {
        let micros = self.silence.load(Relaxed);
        (micros != NONE).then(|| Duration::from_micros(micros))
    }

    fn micros(&self, deadline: Option<std::time::Instant>) -> u64 {
        deadline.map_or(NONE, |deadline| Instant::from_std(deadline).saturating_duration_since(self.since).as_micros() as u64)
    }
    fn at(&self, limit: &AtomicU64) -> Option<Instant> {
        let micros = limit.load(Relaxed);
        (micros != NONE).then(|| self.since + Duration::from_micros(micros))
    }
}

/// The driver's side: one per connection or stream.
#[derive(Debug, Default)]
pub struct Watch {
    clock: Clock,
    /// What had moved when the silence began, what the client had not taken, and when that was.
    quiet: Option<(u32, usize, Instant)>,
}

impl Watch {
    /// Another exchange begins.
    pub fn renew(&mut self) {
        self.quiet = None;
    }

    /// The limit that has passed, which the exchange is told. If none has, the reader is woken when one does.
    pub fn poll(&mut self, pace: &Pace, cx: &mut Context<'_>) -> Option<Limit> {
        let deadlines = &pace.deadlines;
        let (exchange, answer) = (deadlines.at(&deadlines.exchange), deadlines.at(&deadlines.answer));
        let limits = [exchange.map(|at| (at, Limit::Exchange)), answer.map(|at| (at, Limit::Answer)), self.quiet(pace)];
        let limits = limits.into_iter().flatten();
        let (deadline, limit) = limits.min_by_key(|(deadline, _)| *deadline)?;
        self.clock.poll(Some(deadline), cx).then(|| {
            deadlines.pass(limit);
            limit
        })
    }

    /// When there has been silence for too long, and whose it is.
    fn quiet(&mut self, pace: &Pace) -> Option<(Instant, Limit)> {
        let micros = pace.deadlines.silence.load(Relaxed);
        if micros == NONE {
            self.quiet = None;
            return None;
        }
        let (moves, unsent) = (pace.deadlines.moves.load(Relaxed), pace.window.unsent());
        let since = match self.quiet {
            Some((seen, left, since)) if (seen, left) == (moves, unsent) => since,
            _ => Instant::now(),
        };
        self.quiet = Some((moves, unsent, since));
        // What the client has not taken may keep the endpoint from sending.
        let limit = if unsent == 0 { Limit::Silence } else { Limit::Unread };
        Some((since + Duration::from_micros(micros), limit))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        task::{Poll, Waker},
    };

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn in_seconds(seconds: u32) -> Option<std::time::Instant> {
        Some((Instant::now() + SECOND * seconds).into_std())
    }

    /// Waits until a limit passes, and returns it with the seconds that took.
    async fn passes(watch: &mut Watch, pace: &Pace) -> (Option<Limit>, u64) {
        let began = Instant::now();
        let limit = poll_fn(|cx| watch.poll(pace, cx).map_or(Poll::Pending, Poll::Ready)).await;
        assert_eq!(pace.deadlines.take_passed(), Some(limit));
        (pace.deadlines.take_passed().or(Some(limit)), began.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn the_nearest_limit_passes_first_and_none_does_without_one() {
        let (mut watch, pace) = (Watch::default(), Pace::alone());
        let deadlines = &pace.deadlines;
        let cx = &mut Context::from_waker(Waker::noop());
        assert_eq!(watch.poll(&pace, cx), None);
        tokio::time::advance(SECOND * 1000).await;
        assert_eq!(watch.poll(&pace, cx), None);
        deadlines.set_exchange(in_seconds(9));
        deadlines.set_answer(in_seconds(5));
        assert_eq!(passes(&mut watch, &pace).await, (Some(Limit::Answer), 5));
        deadlines.set_answer(None);
        assert_eq!(passes(&mut watch, &pace).await, (Some(Limit::Exchange), 4));
        deadlines.set_exchange(in_seconds(3600));
        assert_eq!(watch.poll(&pace, cx), None);
        deadlines.set_answer(in_seconds(1));
        assert_eq!(passes(&mut watch, &pace).await, (Some(Limit::Answer), 1), "set nearer while it waits");
        deadlines.clear();
        assert_eq!((watch.poll(&pace, cx), deadlines.take_passed()), (None, None));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_counted_from_the_last_move_and_only_while_somebody_waits() {
        let (mut watch, pace) = (Watch::default(), Pace::alone());
        let deadlines = &pace.deadlines;
        let cx = &mut Context::from_waker(Waker::noop());
        deadlines.set_silence(Some(SECOND * 30));
        for _ in 0..10 {
            assert_eq!(watch.poll(&pace, cx), None);
            tokio::time::advance(SECOND * 29).await;
            assert_eq!(watch.poll(&pace, cx), None);
            deadlines.moved();
        }
        // The client was written to for a minute, in which nobody read from it.
        tokio::time::advance(SECOND * 60).await;
        assert_eq!(passes(&mut watch, &pace).await, (Some(Limit::Silence), 30));
        watch.renew();
        assert_eq!(passes(&mut watch, &pace).await, (Some(Limit::Silence), 30), "anew for the next exchange");
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_is_not_silent_while_its_client_takes_nothing() {
        let (mut watch, pace) = (Watch::default(), Pace::alone());
        let cx = &mut Context::from_waker(Waker::noop());
        pace.deadlines.set_silence(Some(SECOND * 30));
        pace.window.passed(1000);
        for _ in 0..5 {
            assert_eq!(watch.poll(&pace, cx), None);
            tokio::time::advance(SECOND * 29).await;
            pace.window.taken(100);
        }
        assert_eq!(passes(&mut watch, &pace).await, (Some(Limit::Unread), 30));
        pace.window.taken(1000);
        assert_eq!(passes(&mut watch, &pace).await, (Some(Limit::Silence), 30));
    }
}
