//! Admission: so many requests at a time per upstream, a short queue for the next ones, and a prompt no for the rest.
//!
//! A service that gets more than it can do answers everybody late, then nobody: the queue grows in the place where
//! nobody sees it. Here it has a bound in length and in time, first come, first served, and what is beyond it is told to
//! come back.
//!
//! Counting needs a lock, which all requests of an upstream share, held for a few additions. Nobody pays for it who
//! has not written `limits`.

use std::{
    collections::VecDeque,
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::adaptive::Adaptive;
use crate::types::Span;

/// How many requests an upstream is given at a time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsSpec {
    /// Requests in flight on the endpoints of this upstream together.
    pub max_requests: NonZeroU32,
    /// Requests that wait for their turn.
    pub max_queue: u32,
    /// How long one waits at most; `0s` for as long as the route's `timeout` allows, or 30 s where there is none.
    pub queue_timeout: Span,
    /// Find out how many requests at a time the upstream takes without getting slow; `max_requests` is the most.
    pub adaptive: bool,
}

impl Default for LimitsSpec {
    fn default() -> Self {
        let max_requests = NonZeroU32::MIN.saturating_add(1023);
        Self { max_requests, max_queue: 256, queue_timeout: Span::secs(1), adaptive: false }
    }
}

/// The requests of one upstream: those in flight and those that wait.
#[derive(Debug, Default)]
pub struct Places(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    in_flight: u32,
    /// What holds now: of the configuration that served the last request, or less.
    limit: u32,
    queue: VecDeque<oneshot::Sender<Permit>>,
    adaptive: Option<Adaptive>,
}

/// What becomes of a request that asks to be let in.
#[derive(Debug)]
pub enum Entry {
    /// It is in.
    Admitted(Permit),
    /// It has to wait for its turn. Dropping this gives the turn up.
    Queued(oneshot::Receiver<Permit>),
    /// Neither: there is no place left.
    Refused,
}

impl Places {
    /// Asks for a place.
    pub fn enter(self: &Arc<Self>, limits: &LimitsSpec) -> Entry {
        let mut state = self.0.lock();
        state.apply(limits);
        self.let_in(&mut state);
        if state.in_flight < state.limit && state.queue.is_empty() {
            state.in_flight += 1;
            return Entry::Admitted(Permit(Some(self.clone())));
        }
        let max_queue = limits.max_queue as usize;
        if state.queue.len() >= max_queue {
            // Those who gave up are noticed here, or when it is their turn.
            state.queue.retain(|waiting| !waiting.is_closed());
        }
        if state.queue.len() >= max_queue {
            return Entry::Refused;
        }
        let (turn, waiting) = oneshot::channel();
        state.queue.push_back(turn);
        Entry::Queued(waiting)
    }

    /// Requests in flight and requests that wait, some of which may have given up.
    pub fn load(&self) -> (u32, usize) {
        let state = self.0.lock();
        (state.in_flight, state.queue.len())
    }

    /// Gives free places to those who wait.
    fn let_in(self: &Arc<Self>, state: &mut State) {
        while state.in_flight < state.limit
            && let Some(turn) = state.queue.pop_front()
        {
            match turn.send(Permit(Some(self.clone()))) {
                Ok(()) => state.in_flight += 1,
                // It gave up. The permit must not count out what was never counted in.
                Err(mut unused) => drop(unused.0.take()),
            }
        }
    }
}

impl State {
    fn apply(&mut self, limits: &LimitsSpec) {
        let most = limits.max_requests.get();
        self.limit = if limits.adaptive {
            self.adaptive.get_or_insert_with(Adaptive::default).limit().min(most)
        } else {
            self.adaptive = None;
            most
        };
    }
}

/// A place among the requests in flight, given back on drop.
#[derive(Debug)]
pub struct Permit(Option<Arc<Places>>);

impl Permit {
    /// The endpoint took this long to begin its response.
    pub fn learn(&self, latency: Duration, now: Instant) {
        let Some(places) = &self.0 else { return };
        let mut state = places.0.lock();
        let State { in_flight, adaptive: Some(adaptive), .. } = &mut *state else { return };
        adaptive.learn(latency, *in_flight, now);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some(places) = self.0.take() else { return };
        let mut state = places.0.lock();
        state.in_flight -= 1;
        places.let_in(&mut state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(max_requests: u32, max_queue: u32) -> LimitsSpec {
        LimitsSpec { max_requests: NonZeroU32::new(max_requests).unwrap(), max_queue, ..LimitsSpec::default() }
    }

    #[track_caller]
    fn admitted(entry: Entry) -> Permit {
        match entry {
            Entry::Admitted(permit) => permit,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn queued(entry: Entry) -> oneshot::Receiver<Permit> {
        match entry {
            Entry::Queued(waiting) => waiting,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_first_to_wait_is_the_first_to_get_in() {
        let places = Arc::new(Places::default());
        let limits = limits(2, 2);
        let (one, two) = (admitted(places.enter(&limits)), admitted(places.enter(&limits)));
        let (mut three, mut four) = (queued(places.enter(&limits)), queued(places.enter(&limits)));
        assert!(matches!(places.enter(&limits), Entry::Refused));
        assert_eq!(places.load(), (2, 2));
        drop(one);
        let three = three.try_recv().unwrap();
        assert!(four.try_recv().is_err());
        assert!(matches!(places.enter(&limits), Entry::Queued(_)), "there is room to wait again");
        drop((two, three));
        drop(four.try_recv().unwrap());
        assert_eq!(places.load(), (0, 0), "the one who gave up was passed over");
    }

    #[test]
    fn who_gives_up_takes_no_place() {
        let places = Arc::new(Places::default());
        let limits = limits(1, 2);
        let one = admitted(places.enter(&limits));
        drop((queued(places.enter(&limits)), queued(places.enter(&limits))));
        let mut late = queued(places.enter(&limits));
        drop(one);
        let turn = late.try_recv().unwrap();
        assert_eq!(places.load(), (1, 0));
        drop(turn);
        // One whose turn came as it gave up.
        let one = admitted(places.enter(&limits));
        let unread = queued(places.enter(&limits));
        drop(one);
        assert_eq!(places.load(), (1, 0));
        drop(unread);
        assert_eq!(places.load(), (0, 0));
    }

    #[test]
    fn without_a_queue_nobody_waits() {
        let places = Arc::new(Places::default());
        let _one = admitted(places.enter(&limits(1, 0)));
        assert!(matches!(places.enter(&limits(1, 0)), Entry::Refused));
    }

    #[test]
    fn a_reload_may_change_the_limits_while_requests_are_in_flight() {
        let places = Arc::new(Places::default());
        let one = admitted(places.enter(&limits(1, 9)));
        let mut two = queued(places.enter(&limits(1, 9)));
        let three = admitted(places.enter(&limits(3, 9)));
        let two = two.try_recv().unwrap();
        let mut four = queued(places.enter(&limits(1, 9)));
        drop((one, two));
        assert!(four.try_recv().is_err(), "one is still in flight, which is all there may be now");
        drop(three);
        drop(four.try_recv().unwrap());
        assert_eq!(places.load(), (0, 0));
    }

    #[test]
    fn under_threads_the_limit_holds_and_every_place_comes_back() {
        let places = Arc::new(Places::default());
        let limits = limits(3, 100);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for round in 0..2_000 {
                        let permit = match places.enter(&limits) {
                            Entry::Admitted(permit) => Some(permit),
                            // Every third gives up at once.
                            Entry::Queued(waiting) if round % 3 > 0 => waiting.blocking_recv().ok(),
                            Entry::Queued(_) | Entry::Refused => None,
                        };
                        assert!(places.load().0 <= 3);
                        drop(permit);
                    }
                });
            }
        });
        assert_eq!(places.load().0, 0);
    }
}
