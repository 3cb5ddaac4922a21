//! How long a client may take nothing of what is written to it.

use std::{pin::Pin, task::Context, time::Duration};

use tokio::time::{Instant, Sleep, sleep_until};

/// The patience of one connection.
#[derive(Debug)]
pub struct Patience {
    limit: Option<Duration>,
    /// Of a write that had to wait, until all is out.
    waiting: Option<Box<Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    /// What had been taken at that moment, and nothing since.
    taken: u64,
    since: Instant,
    /// Left running while bytes move, and set anew only when it rings, which spares a slow reader the timer's lock.
    timer: Pin<Box<Sleep>>,
}

impl Patience {
    /// `None` for one without an end.
    pub fn new(limit: Option<Duration>) -> Self {
        Self { limit, waiting: None }
    }

    /// A write has to wait, with so many bytes taken so far. Has it been so for too long? If not, the writer is woken when it has.
    pub fn poll_over(&mut self, cx: &mut Context<'_>, taken: u64) -> bool {
        let Some(limit) = self.limit else { return false };
        let now = Instant::now();
        let waiting = self
            .waiting
            .get_or_insert_with(|| Box::new(Waiting { taken, since: now, timer: Box::pin(sleep_until(now + limit)) }));
        if waiting.taken != taken {
            (waiting.taken, waiting.since) = (taken, now);
        }
        let deadline = waiting.since + limit;
        while waiting.timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return true;
            }
            waiting.timer.as_mut().reset(deadline);
        }
        false
    }

    /// Nothing waits any more.
    pub fn calm(&mut self) {
        self.waiting = None;
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{Future, poll_fn},
        task::{Poll, Waker},
    };

    use super::*;

    /// Waits until a client is given up of whom so much was taken after so many seconds, and returns how many passed.
    async fn given_up(limit: Option<u64>, taken: impl Fn(u64) -> u64) -> u64 {
        let mut patience = Patience::new(limit.map(Duration::from_secs));
        let began = Instant::now();
        let over = |cx: &mut Context<'_>| match patience.poll_over(cx, taken(began.elapsed().as_secs())) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        };
        poll_fn(over).await;
        began.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_given_up_and_who_takes_little_is_not() {
        assert_eq!(given_up(Some(30), |_| 5).await, 30);
        assert_eq!(given_up(Some(30), |seconds| (seconds / 20).min(10)).await, 240, "thirty after the last look that found more");
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(Box::pin(given_up(None, |_| 0)).as_mut().poll(cx).is_pending());
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_after_a_calm_begins_anew() {
        let mut patience = Patience::new(Some(Duration::from_secs(30)));
        let cx = &mut Context::from_waker(Waker::noop());
        for _ in 0..3 {
            assert!(!patience.poll_over(cx, 5));
            tokio::time::advance(Duration::from_secs(31)).await;
            patience.calm();
        }
    }
}
