//! What is going on now: rates and percentiles of the last seconds, fifteen minutes of history, and the feed that
//! tells subscribers.
//!
//! Counters only grow, so a rate needs two readings of them. A [`Live`] keeps two, taken 5 s apart: what it shows
//! covers the last 5 to 10 seconds. Nothing here runs on the path of a request.

mod feed;
mod history;
mod moment;
mod process;
mod rates;
mod reading;

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use parking_lot::Mutex;

pub(in crate::admin) use feed::{Feed, Full, Subscription, frame};
pub(in crate::admin) use history::{History, INTERVAL, Sample};
pub(in crate::admin) use moment::{Moment, RouteMoment};
pub(in crate::admin) use process::Process;
pub(in crate::admin) use rates::Rates;

use self::reading::Reading;
use super::{AdminState, api};

/// How often subscribers get a snapshot.
const TICK: Duration = Duration::from_secs(1);

/// The readings, the history and the feed of one admin listener.
pub(in crate::admin) struct Live {
    pub(in crate::admin) started: SystemTime,
    readings: Mutex<Readings>,
    history: Mutex<History>,
    pub(in crate::admin) feed: Feed,
}

/// The last two readings: `newer` is at most an interval old, `older` at most two.
struct Readings {
    older: Arc<Reading>,
    newer: Arc<Reading>,
}

impl Default for Live {
    fn default() -> Self {
        let nothing = Arc::new(Reading::nothing(Instant::now()));
        Self {
            started: SystemTime::now(),
            readings: Mutex::new(Readings { older: nothing.clone(), newer: nothing }),
            history: Mutex::default(),
            feed: Feed::default(),
        }
    }
}

impl Live {
    /// What is going on now, over the last 5 to 10 seconds.
    pub(in crate::admin) fn moment(&self, state: &AdminState) -> Moment {
        let upstreams = state.state.upstreams();
        let now = Reading::take(state, &upstreams);
        let older = self.readings.lock().older.clone();
        Moment::between(&older, &now, upstreams)
    }

    /// The history, the oldest first.
    pub(in crate::admin) fn history(&self) -> Vec<Sample> {
        self.history.lock().samples()
    }

    /// Takes a reading for the history, and makes it the one that rates are counted from next.
    fn sample(&self, state: &AdminState) -> Sample {
        let upstreams = state.state.upstreams();
        let now = Arc::new(Reading::take(state, &upstreams));
        let before = {
            let mut readings = self.readings.lock();
            let before = std::mem::replace(&mut readings.newer, now.clone());
            readings.older = before.clone();
            before
        };
        let sample = Sample::new(state, &Moment::between(&before, &now, upstreams));
        self.history.lock().add(sample.clone());
        sample
    }

    /// Keeps the history, and tells subscribers once a second while there are any. Runs until it is dropped.
    pub(in crate::admin) async fn run(&self, state: &AdminState) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        ticks.tick().await;
        let mut sampled = Instant::now();
        loop {
            ticks.tick().await;
            if sampled.elapsed() + TICK / 2 >= INTERVAL {
                sampled = Instant::now();
                let sample = self.sample(state);
                self.feed.send(|| frame("sample", None, &sample));
            }
            self.feed.send(|| frame("snapshot", None, &api::Snapshot::read(state)));
        }
    }
}
