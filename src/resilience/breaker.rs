//! The circuit breaker: an endpoint that keeps failing is left alone for a while, then tried with a few
//! requests.
//!
//! The pattern is Nygard's ("Release It!", 2007); that failures count in a row, that the time out grows and
//! that only a share of the pool may be out at a time is as in Envoy's outlier detection.

use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::types::{At, Code, Ratio, Span};

/// The longest time out, however often an endpoint failed: what comes back is noticed within this time.
const MAX_RECOVERY: Duration = Duration::from_secs(300);

/// An endpoint that was found may not listen yet: a container joins when it has started. For so long nothing is held against it
/// that a start explains.
const STARTING: Duration = Duration::from_secs(10);
/// The time out meanwhile.
const WHILE_STARTING: Duration = Duration::from_secs(1);

/// When an endpoint that fails is left alone, and how it comes back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CircuitBreakerSpec {
    /// Failures in a row (connect errors, resets, timeouts, 5xx, failed health checks) that open the circuit.
    pub failure_threshold: NonZeroU32,
    /// How long no request is sent then. Doubles with each opening that follows soon, up to 5m.
    pub recovery_timeout: Span,
    /// After that, so many requests at a time are let through, and so many successes close the circuit.
    pub half_open_requests: NonZeroU32,
    /// Never more than this share of the endpoints is out at a time; one of several may always be. `0%` leaves
    /// all in.
    pub max_ejected: Ratio,
}

impl Default for CircuitBreakerSpec {
    fn default() -> Self {
        const FIVE: NonZeroU32 = NonZeroU32::new(5).unwrap();
        const THREE: NonZeroU32 = NonZeroU32::new(3).unwrap();
        Self {
            failure_threshold: FIVE,
            recovery_timeout: Span::secs(30),
            half_open_requests: THREE,
            max_ejected: Ratio::percent(50),
        }
    }
}

impl CircuitBreakerSpec {
    /// The compiled form. Problems are reported at `at`, the `circuit_breaker` key.
    pub fn compile(&self, at: &At) -> Option<BreakerSettings> {
        let recovery = self.recovery_timeout.get();
        if recovery.is_zero() {
            at.key("recovery_timeout")
                .problem(Code::BadValue, "`recovery_timeout` must be longer than nothing")
                .hint("write `30s`, or `circuit_breaker: off`");
            return None;
        }
        Some(BreakerSettings {
            failure_threshold: self.failure_threshold,
            recovery,
            half_open_requests: self.half_open_requests,
            max_ejected: self.max_ejected,
        })
    }
}

/// When a [`Breaker`] changes its state.
#[derive(Debug, Clone, Copy)]
pub struct BreakerSettings {
    failure_threshold: NonZeroU32,
    recovery: Duration,
    half_open_requests: NonZeroU32,
    max_ejected: Ratio,
}

impl BreakerSettings {
    /// How many of so many endpoints may be out at a time.
    pub fn may_eject(&self, endpoints: usize) -> usize {
        let share = self.max_ejected.get();
        let at_least = usize::from(endpoints >= 2 && share > 0.0);
        ((endpoints as f64 * share) as usize).max(at_least)
    }
}

/// What a breaker does with requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// Requests pass; so many have failed since the last success.
    Closed {
        /// Failures in a row.
        failures: u32,
    },
    /// No request passes before this time.
    Open {
        /// When the first probe may go.
        until: Instant,
    },
    /// A few requests pass as probes.
    HalfOpen {
        /// Probes under way.
        probes: u32,
        /// Successes so far; a failure ends this state.
        successes: u32,
    },
}

/// May a request pass?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Yes.
    Pass,
    /// Yes, as a probe: [`Breaker::probe_ended`] must be called when it ended, however it did.
    Probe,
    /// Yes, before its time, since all else has failed it: [`Breaker::early_ended`] must be called when it ended.
    Early,
    /// No.
    Refused,
}

/// The breaker of one endpoint.
#[derive(Debug)]
pub struct Breaker {
    state: BreakerState,
    /// The time out of the last opening, until an opening finds that it is long ago.
    last: Option<Duration>,
    /// When it was closed last.
    closed: Option<Instant>,
    /// Until when the endpoint may still be starting; `None` once a request has succeeded.
    starting: Option<Instant>,
    /// Requests under way that were let through before the time out has passed.
    early: u32,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { state: BreakerState::Closed { failures: 0 }, last: None, closed: None, starting: None, early: 0 }
    }
}

impl Breaker {
    /// Its state.
    pub fn state(&self) -> BreakerState {
        self.state
    }

    /// How long it was or is open, if that still counts.
    pub fn time_out(&self) -> Option<Duration> {
        self.last
    }

    /// Would one more success change anything?
    pub fn is_quiet(&self) -> bool {
        self.state == BreakerState::Closed { failures: 0 } && self.starting.is_none()
    }

    /// The endpoint was found just now: it may still be starting.
    pub fn found(&mut self, now: Instant) {
        self.starting = Some(now + STARTING);
    }

    /// A request wants to pass. The first one after the time out finds the breaker half open.
    pub fn admit(&mut self, now: Instant, settings: &BreakerSettings) -> Admission {
        match &mut self.state {
            BreakerState::Closed { .. } => Admission::Pass,
            BreakerState::Open { until } if now < *until => Admission::Refused,
            BreakerState::Open { .. } => {
                self.state = BreakerState::HalfOpen { probes: 1, successes: 0 };
                Admission::Probe
            }
            BreakerState::HalfOpen { probes, .. } if *probes < settings.half_open_requests.get() => {
                *probes += 1;
                Admission::Probe
            }
            BreakerState::HalfOpen { .. } => Admission::Refused,
        }
    }

    /// A request wants to pass whom every other endpoint has failed. While the time out runs a few at a time may: a try that may
    /// succeed is better than an error that is certain, and tells whether the endpoint is back.
    pub fn admit_early(&mut self, settings: &BreakerSettings) -> Admission {
        match self.state {
            BreakerState::Open { .. } if self.early < settings.half_open_requests.get() => {
                self.early += 1;
                Admission::Early
            }
            _ => Admission::Refused,
        }
    }

    /// Would [`Breaker::admit`] let a request pass at some time, without anything else happening before?
    pub fn admits_from(&self, settings: &BreakerSettings) -> AdmitsFrom {
        match self.state {
            BreakerState::Closed { .. } => AdmitsFrom::Always,
            BreakerState::Open { until } => AdmitsFrom::Then(until),
            BreakerState::HalfOpen { probes, .. } if probes < settings.half_open_requests.get() => AdmitsFrom::ForProbes,
            BreakerState::HalfOpen { .. } => AdmitsFrom::Never,
        }
    }

    /// A probe of this half-open state ended, with or without a result.
    pub fn probe_ended(&mut self) {
        if let BreakerState::HalfOpen { probes, .. } = &mut self.state {
            *probes = probes.saturating_sub(1);
        }
    }

    /// One that was let through early ended, with or without a result.
    pub fn early_ended(&mut self) {
        self.early = self.early.saturating_sub(1);
    }

    /// A request failed. `room` tells whether one more endpoint may be out; it is asked only when it matters.
    pub fn failed(&mut self, now: Instant, settings: &BreakerSettings, room: impl FnOnce() -> bool) {
        match &mut self.state {
            BreakerState::Closed { failures } => {
                *failures = failures.saturating_add(1);
                if *failures >= settings.failure_threshold.get() && room() {
                    self.open(now, settings);
                }
            }
            BreakerState::HalfOpen { .. } => self.open(now, settings),
            // A straggler: it says nothing that is not known.
            BreakerState::Open { .. } => {}
        }
    }

    /// A request succeeded.
    pub fn succeeded(&mut self, now: Instant, settings: &BreakerSettings) {
        self.starting = None;
        match &mut self.state {
            BreakerState::Closed { failures } => *failures = 0,
            BreakerState::HalfOpen { successes, .. } => {
                *successes += 1;
                if *successes >= settings.half_open_requests.get() {
                    self.state = BreakerState::Closed { failures: 0 };
                    self.closed = Some(now);
                }
            }
            // A straggler from before, or one sent in panic: the time out stands.
            BreakerState::Open { .. } => {}
        }
    }

    /// Something says that the endpoint is back, such as an answer to a request that was let through early: probes may go at once.
    pub fn recovered(&mut self, now: Instant) {
        if let BreakerState::Open { until } = &mut self.state {
            *until = now.min(*until);
        }
    }

    /// Doubles the time out, unless the last one is forgiven: when it was followed by a stretch at least as
    /// long without opening again. While the endpoint may be starting it is short.
    fn open(&mut self, now: Instant, settings: &BreakerSettings) {
        let forgiven = |last: &Duration| {
            let closed = matches!(self.state, BreakerState::Closed { .. });
            closed && self.closed.is_some_and(|closed| now.saturating_duration_since(closed) >= *last)
        };
        let longest = MAX_RECOVERY.max(settings.recovery);
        let time_out = match self.last.filter(|last| !forgiven(last)) {
            _ if self.starting.is_some_and(|until| now < until) => WHILE_STARTING.min(settings.recovery),
            Some(last) => (last * 2).clamp(settings.recovery, longest),
            None => settings.recovery,
        };
        self.last = Some(time_out);
        self.state = BreakerState::Open { until: now + time_out };
    }
}

/// Since when a breaker lets requests pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdmitsFrom {
    /// It always does.
    Always,
    /// It does now, one as a probe.
    ForProbes,
    /// From this time on.
    Then(Instant),
    /// Not before a probe has ended.
    Never,
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A breaker at a time that the test moves.
    struct Bench {
        breaker: Breaker,
        settings: BreakerSettings,
        now: Instant,
        room: bool,
    }

    impl Bench {
        fn new() -> Self {
            let settings = CircuitBreakerSpec::default().compile(&crate::types::Problems::default().root()).unwrap();
            Self { breaker: Breaker::default(), settings, now: Instant::now(), room: true }
        }
        fn after(&mut self, secs: u32) -> &mut Self {
            self.now += SECOND * secs;
            self
        }
        fn fail(&mut self, times: u32) {
            (0..times).for_each(|_| self.breaker.failed(self.now, &self.settings, || self.room));
        }
        fn succeed(&mut self, times: u32) {
            (0..times).for_each(|_| self.breaker.succeeded(self.now, &self.settings));
        }
        fn admit(&mut self) -> Admission {
            self.breaker.admit(self.now, &self.settings)
        }
        /// For how many seconds it is open; `None` when it is not.
        fn out(&self) -> Option<u64> {
            match self.breaker.state() {
                BreakerState::Open { until } => Some((until - self.now).as_secs()),
                _ => None,
            }
        }
        fn is_closed(&self) -> bool {
            matches!(self.breaker.state(), BreakerState::Closed { .. })
        }
    }

    #[test]
    fn failures_in_a_row_open_it() {
        let mut bench = Bench::new();
        bench.fail(4);
        bench.succeed(1);
        bench.fail(4);
        assert_eq!(bench.admit(), Admission::Pass);
        bench.fail(1);
        assert_eq!((bench.out(), bench.admit()), (Some(30), Admission::Refused));
        bench.after(29);
        assert_eq!(bench.admit(), Admission::Refused);
        bench.fail(9);
        bench.succeed(9);
        assert_eq!(bench.out(), Some(1), "stragglers change nothing");
    }

    #[test]
    fn a_few_probes_at_a_time_close_it() {
        let mut bench = Bench::new();
        bench.fail(5);
        bench.after(30);
        assert_eq!([(); 4].map(|()| bench.admit()), [Admission::Probe, Admission::Probe, Admission::Probe, Admission::Refused]);
        assert_eq!(bench.breaker.admits_from(&bench.settings), AdmitsFrom::Never);
        // One whose client went away leaves its place and no verdict.
        bench.breaker.probe_ended();
        assert_eq!((bench.admit(), bench.admit()), (Admission::Probe, Admission::Refused));
        bench.succeed(2);
        assert!(!bench.is_closed());
        bench.succeed(1);
        assert!(bench.is_closed());
        // The count begins anew.
        bench.fail(4);
        assert!(bench.is_closed());
    }

    #[test]
    fn one_failed_probe_opens_it_for_twice_as_long() {
        let mut bench = Bench::new();
        bench.fail(5);
        for expected in [60, 120, 240, 300, 300] {
            let out = bench.out().unwrap() as u32;
            assert_eq!(bench.after(out).admit(), Admission::Probe);
            bench.succeed(2);
            bench.fail(1);
            assert_eq!(bench.out(), Some(expected));
        }
    }

    #[test]
    fn a_healthy_stretch_is_forgiven_everything_and_a_short_one_nothing() {
        let mut bench = Bench::new();
        bench.fail(5);
        bench.after(30).admit();
        bench.succeed(3);
        bench.after(29).fail(5);
        assert_eq!(bench.out(), Some(60), "29 of 30 seconds are not enough");
        bench.after(60).admit();
        bench.succeed(3);
        bench.after(60).fail(5);
        assert_eq!(bench.out(), Some(30));
    }

    #[test]
    fn one_that_may_be_starting_is_soon_tried_again() {
        let mut bench = Bench::new();
        bench.breaker.found(bench.now);
        bench.after(5).fail(5);
        for _ in 0..5 {
            assert_eq!((bench.out(), bench.admit()), (Some(1), Admission::Refused));
            assert_eq!(bench.after(1).admit(), Admission::Probe);
            bench.fail(1);
        }
        assert_eq!(bench.out(), Some(30), "ten seconds are enough for a start");
        bench.after(30).admit();
        bench.fail(1);
        assert_eq!(bench.out(), Some(60));
    }

    #[test]
    fn one_that_has_served_is_not_starting() {
        let mut bench = Bench::new();
        bench.breaker.found(bench.now);
        assert!(!bench.breaker.is_quiet(), "the first success is news");
        bench.succeed(1);
        assert!(bench.breaker.is_quiet());
        bench.fail(5);
        assert_eq!(bench.out(), Some(30));
        let mut bench = Bench::new();
        bench.settings.recovery = SECOND / 4;
        bench.breaker.found(bench.now);
        bench.fail(5);
        assert_eq!(bench.breaker.time_out(), Some(SECOND / 4), "never longer than it would be otherwise");
    }

    #[test]
    fn no_room_no_opening_until_there_is_some() {
        let mut bench = Bench::new();
        bench.room = false;
        bench.fail(50);
        assert!(bench.is_closed());
        bench.room = true;
        bench.fail(1);
        assert_eq!(bench.out(), Some(30));
        // Who is out already needs no room to stay out.
        bench.room = false;
        bench.after(30).admit();
        bench.fail(1);
        assert_eq!(bench.out(), Some(60));
    }

    #[test]
    fn news_of_recovery_lets_probes_go_at_once() {
        let mut bench = Bench::new();
        bench.fail(5);
        bench.breaker.recovered(bench.now);
        assert_eq!(bench.admit(), Admission::Probe);
        bench.breaker.recovered(bench.now);
        assert!(!bench.is_closed(), "only requests close it");
    }

    #[test]
    fn whom_all_others_failed_is_let_through_early_but_only_so_many() {
        let mut bench = Bench::new();
        let early = |bench: &mut Bench| bench.breaker.admit_early(&bench.settings);
        assert_eq!(early(&mut bench), Admission::Refused, "a closed circuit has no time out to cut");
        bench.fail(5);
        assert_eq!(
            [(); 4].map(|()| early(&mut bench)),
            [Admission::Early, Admission::Early, Admission::Early, Admission::Refused]
        );
        bench.fail(1);
        assert_eq!(bench.out(), Some(30), "the time out stands, and is no longer than it was");
        bench.breaker.early_ended();
        assert_eq!((early(&mut bench), early(&mut bench)), (Admission::Early, Admission::Refused));
    }

    #[test]
    fn the_share_that_may_be_out() {
        let may = |share: u8, endpoints| {
            let spec = CircuitBreakerSpec { max_ejected: Ratio::percent(share), ..Default::default() };
            spec.compile(&crate::types::Problems::default().root()).unwrap().may_eject(endpoints)
        };
        assert_eq!([0, 1, 2, 3, 4, 5].map(|endpoints| may(50, endpoints)), [0, 0, 1, 1, 2, 2]);
        assert_eq!((may(10, 5), may(0, 5), may(100, 1), may(100, 5)), (1, 0, 1, 5));
    }

    #[test]
    fn a_long_recovery_is_not_cut() {
        let spec = CircuitBreakerSpec { recovery_timeout: Span::secs(600), ..Default::default() };
        let mut bench = Bench::new();
        bench.settings = spec.compile(&crate::types::Problems::default().root()).unwrap();
        bench.fail(5);
        bench.after(600).admit();
        bench.fail(1);
        assert_eq!(bench.out(), Some(600));
    }
}
