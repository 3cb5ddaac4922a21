//! A reload on probation: watched for a while, and taken back by itself if the edge does worse than before.
//!
//! Compared are the share of requests that failed (5xx, or no route) and the 95th percentile of their duration, over the
//! minute before the reload and since. The bounds are wide: what they catch is a broken configuration, not a bad day.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::Control;
use crate::{
    admin::{Commands, Probation},
    observe::Pulse,
};

/// How often things are looked at.
pub(super) const EVERY: Duration = Duration::from_secs(1);
/// How far back "before" reaches.
const BEFORE: usize = 60;

/// Fewer requests say nothing.
const FEWEST: u64 = 20;
/// A share of failures is worse when it is larger by this factor and by this much.
const FAILURES_TIMES: f64 = 2.0;
const FAILURES_MORE: f64 = 0.05;
/// So is a duration.
const SLOWER_TIMES: u32 = 2;
const SLOWER_BY: Duration = Duration::from_millis(50);

/// The last minute of the edge's pulse: 60 samples of some 200 bytes.
#[derive(Default)]
pub(super) struct History(Mutex<VecDeque<Pulse>>);

impl History {
    /// One more sample, each second.
    pub(super) fn add(&self, pulse: Pulse) {
        let mut samples = self.0.lock();
        if samples.len() > BEFORE {
            samples.pop_front();
        }
        samples.push_back(pulse);
    }

    /// What came in the last minute, up to now.
    pub(super) fn window(&self, now: &Pulse) -> Pulse {
        let oldest = self.0.lock().front().cloned().unwrap_or_default();
        now.since(&oldest)
    }
}

/// What got worse, in words; `None` when nothing did, or too little is known.
fn worse(before: &Pulse, after: &Pulse) -> Option<String> {
    if after.requests < FEWEST {
        return None;
    }
    let (was, is) = (before.failure_share(), after.failure_share());
    if is > was * FAILURES_TIMES && is > was + FAILURES_MORE {
        return Some(format!("{:.1} % of {} requests failed, {:.1} % before", is * 100.0, after.requests, was * 100.0));
    }
    if before.requests < FEWEST {
        return None;
    }
    let was = before.quantile(0.95)?;
    match after.quantile(0.95) {
        Some(is) if is > was * SLOWER_TIMES && is > was + SLOWER_BY => {
            Some(format!("the 95th percentile of the duration rose from {was:?} to {is:?}"))
        }
        None => Some(format!("the 95th percentile of the duration rose from {was:?} beyond ten seconds")),
        Some(_) => None,
    }
}

impl Control {
    pub(super) fn is_on_probation(&self) -> bool {
        matches!(self.status.lock().running.probation, Some(Probation::Running { .. }))
    }

    /// Watches this generation from now on, and goes back to the configuration before if it does worse.
    pub(super) fn begin_probation(&self, generation: u64, before: Pulse, span: Duration) {
        let Some(me) = self.me.upgrade() else { return };
        let begun = Probation::Running { generation, seconds_left: span.as_secs() };
        self.tell_probation(&begun);
        self.status.lock().running.probation = Some(begun);
        tokio::spawn(async move {
            let mut stopping = me.switches.stopping.subscribe();
            tokio::select! {
                () = run(me.clone(), generation, before, span) => {}
                _ = stopping.wait_for(|stopping| *stopping) => {}
            }
        });
    }

    /// How the probation of a generation goes. False when it is over: another one began or something ended it.
    pub(super) fn probation_goes_on(&self, generation: u64, seconds_left: u64) -> bool {
        let mut status = self.status.lock();
        let running = status.running.generation;
        match &mut status.running.probation {
            Some(Probation::Running { generation: watched, seconds_left: left }) if *watched == generation => {
                *left = seconds_left;
                // Runtime changes and discovered routes make generations too; only another configuration ends it.
                running >= generation
            }
            _ => false,
        }
    }

    /// The configuration that runs has proven itself.
    pub(super) async fn passed(&self, generation: u64) {
        let writer = self.writer.lock().await;
        self.end_probation(Probation::Passed { generation });
        self.keep_last_good(&writer.base).await;
    }

    /// Ends the probation that is running.
    pub(super) fn end_probation(&self, end: Probation) {
        self.tell_probation(&end);
        self.status.lock().running.probation = Some(end);
    }
}

/// Watches the generation that was just published, for `span`.
pub(super) async fn run(control: Arc<Control>, generation: u64, before: Pulse, span: Duration) {
    let metrics = control.shared().observer.metrics().clone();
    let (start, end) = (metrics.pulse(), Instant::now() + span);
    loop {
        tokio::time::sleep_until((Instant::now() + EVERY).min(end)).await;
        let left = end.saturating_duration_since(Instant::now());
        if !control.probation_goes_on(generation, left.as_secs()) {
            return;
        }
        let after = metrics.pulse().since(&start);
        if let Some(reason) = worse(&before, &after) {
            log::error!("generation {generation} is taken back: {reason}");
            let end = match control.rollback().await {
                Ok(_) => Probation::RolledBack { generation, reason },
                Err(refused) => Probation::Ended { generation, reason: format!("{reason}, but going back failed: {refused}") },
            };
            return control.end_probation(end);
        }
        if left.is_zero() {
            log::info!("generation {generation} has passed its probation, with {} requests", after.requests);
            return control.passed(generation).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pulse(requests: u64, failures: u64, millis: u64) -> Pulse {
        Pulse::of(requests, failures, Duration::from_millis(millis))
    }

    #[test]
    fn what_is_worse_is_said() {
        let good = pulse(1000, 10, 20);
        for (after, expected) in [
            (pulse(100, 20, 20), Some("20.0 % of 100 requests failed, 1.0 % before")),
            (pulse(100, 0, 200), Some("the 95th percentile of the duration rose from 25ms to 250ms")),
            (pulse(100, 0, 60_000), Some("the 95th percentile of the duration rose from 25ms beyond ten seconds")),
            (pulse(100, 5, 20), None),
            (pulse(100, 0, 60), None),
            (pulse(19, 19, 20), None),
        ] {
            assert_eq!(worse(&good, &after).as_deref(), expected, "{after:?}");
        }
    }

    #[test]
    fn what_was_bad_before_is_no_reason_to_go_back() {
        let bad = pulse(1000, 400, 400);
        assert_eq!(worse(&bad, &pulse(100, 45, 450)), None);
        assert_eq!(worse(&Pulse::default(), &pulse(100, 0, 5_000)), None, "nothing to compare durations with");
        assert!(worse(&Pulse::default(), &pulse(100, 50, 1)).is_some());
    }

    #[test]
    fn the_window_is_a_minute() {
        let history = History::default();
        assert_eq!(history.window(&pulse(7, 0, 1)).requests, 7);
        for second in 0..1000 {
            history.add(pulse(second, 0, 1));
        }
        assert_eq!(history.window(&pulse(1000, 0, 1)).requests, 61);
    }
}
