//! May an endpoint take requests, and if not, why: health checks, circuit breaker and draining, combined.
//!
//! Choosing reads one atomic number, the barrier. Everything else is behind a lock that is taken where the
//! standing may change: by a failure, by the first success after one, by a request to an endpoint whose
//! circuit is not closed, by a health check.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use parking_lot::Mutex;

use super::pool::Counts;
use crate::resilience::{Admission, AdmitsFrom, Breaker, BreakerSettings, BreakerState};

/// What active health checks say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthStatus {
    /// Never checked: taken to be healthy.
    Unknown,
    /// Passed its first check, or `healthy_after` checks in a row after it was unhealthy.
    Healthy,
    /// Failed `unhealthy_after` checks in a row.
    Unhealthy,
}

/// A health status with its reason.
#[derive(Debug, Clone)]
pub struct Health {
    /// The status.
    pub status: HealthStatus,
    /// Why, in a few words: `status 503`, `connection refused`.
    pub reason: Arc<str>,
    /// When it became so.
    pub since: SystemTime,
}

/// What an operator ordered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// It takes requests.
    #[default]
    Enabled,
    /// It takes no new requests; what is in flight finishes.
    Drain,
    /// The same, and it is not part of its upstream: not health-checked, not counted among those that should be available.
    Disabled,
}

/// How an endpoint stands, the gravest first where several hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// An operator took it out of its upstream.
    Disabled,
    /// It was asked to take no new requests.
    Draining,
    /// Health checks say so.
    Unhealthy,
    /// Its circuit is open: it failed, and is left alone.
    Open,
    /// It is tried again, with a few requests.
    HalfOpen,
    /// Nothing is known against it.
    Healthy,
}

impl Condition {
    /// Every condition.
    pub const ALL: [Condition; 6] = [
        Condition::Healthy,
        Condition::Unhealthy,
        Condition::Open,
        Condition::HalfOpen,
        Condition::Draining,
        Condition::Disabled,
    ];

    /// As logs, metrics and the admin API say it.
    pub fn word(self) -> &'static str {
        match self {
            Condition::Disabled => "disabled",
            Condition::Draining => "draining",
            Condition::Unhealthy => "unhealthy",
            Condition::Open => "open",
            Condition::HalfOpen => "half_open",
            Condition::Healthy => "healthy",
        }
    }
}

/// A condition with its reason.
#[derive(Debug, Clone)]
pub struct Situation {
    /// The condition.
    pub condition: Condition,
    /// Why, in a few words.
    pub reason: Arc<str>,
    /// When it became so.
    pub since: SystemTime,
}

/// How often a circuit changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Transitions {
    /// It opened: the endpoint was ejected.
    pub open: u64,
    /// It let probes through.
    pub half_open: u64,
    /// It closed.
    pub closed: u64,
}

/// The barrier of an endpoint that may take requests at any time.
const NONE: u64 = 0;
/// That of one whose circuit is half open with room for a probe: a time that was before anything.
const PROBE: u64 = 1;
/// That of one whose probes are all under way, that is unhealthy, that drains: times that never come.
const NO_ROOM: u64 = u64::MAX - 2;
const UNHEALTHY: u64 = u64::MAX - 1;
const DRAINING: u64 = u64::MAX;

/// The barrier first, next to what else a choice reads.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Standing {
    /// Nanoseconds from `base` to the time from which it may take requests, or one of the words above.
    barrier: AtomicU64,
    /// The circuit is closed and the last result was a success: another one changes nothing.
    quiet: AtomicBool,
    /// Counts transitions of the circuit, so that a late result is known for one.
    epoch: AtomicU32,
    base: Instant,
    detail: Mutex<Detail>,
}

#[derive(Debug)]
pub(super) struct Detail {
    pub(super) health: Health,
    /// Asked for by who found it: it is about to go.
    pub(super) draining: Option<SystemTime>,
    /// What an operator ordered, and since when.
    pub(super) mode: (Mode, SystemTime),
    pub(super) settings: Option<BreakerSettings>,
    breaker: Breaker,
    /// Why and since when the circuit is as it is.
    circuit: (Arc<str>, SystemTime),
    transitions: Transitions,
    /// Is it in service, as far as its pool knows?
    pub(super) member: bool,
    /// What it adds to the counts of its pool.
    counted: Counts,
}

/// A transition of the circuit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Turn {
    Opened { time_out: Duration, reason: Arc<str> },
    HalfOpened,
    Closed,
}

/// What became of a change.
#[derive(Debug)]
pub(super) struct Changed<T> {
    pub(super) result: T,
    /// The epoch after it.
    pub(super) epoch: u32,
    /// The circuit's transition, if there was one.
    pub(super) turn: Option<Turn>,
    pub(super) before: Condition,
    /// How an endpoint in service stands, if that is not as before.
    pub(super) now: Option<Situation>,
}

impl Standing {
    pub(super) fn new(base: Instant) -> Self {
        let now = SystemTime::now();
        let detail = Detail {
            health: Health { status: HealthStatus::Unknown, reason: "not checked".into(), since: now },
            draining: None,
            mode: (Mode::Enabled, now),
            settings: None,
            breaker: Breaker::default(),
            circuit: ("".into(), now),
            transitions: Transitions::default(),
            member: false,
            counted: Counts::default(),
        };
        Self {
            barrier: AtomicU64::new(NONE),
            quiet: AtomicBool::new(true),
            epoch: AtomicU32::new(0),
            base,
            detail: Mutex::new(detail),
        }
    }

    /// The ordinary state: nothing is held against it.
    #[inline]
    pub(super) fn is_clear(&self) -> bool {
        self.barrier.load(Relaxed) == NONE
    }
    /// When it may take requests again, if that is a matter of time only.
    pub(super) fn returns_at(&self) -> Option<Instant> {
        match self.barrier.load(Relaxed) {
            NONE | PROBE | NO_ROOM.. => None,
            time => Some(self.base + Duration::from_nanos(time - PROBE)),
        }
    }
    pub(super) fn is_draining(&self) -> bool {
        self.barrier.load(Relaxed) == DRAINING
    }
    /// `now` is asked for only where it matters: while a time out runs.
    pub(super) fn may_take(&self, now: impl FnOnce() -> Instant) -> bool {
        match self.barrier.load(Relaxed) {
            NONE | PROBE => true,
            NO_ROOM.. => false,
            time => time <= self.nanos(now()),
        }
    }
    fn nanos(&self, now: Instant) -> u64 {
        // Real times come after the words.
        (now.saturating_duration_since(self.base).as_nanos() as u64).saturating_add(PROBE)
    }
    pub(super) fn epoch(&self) -> u32 {
        self.epoch.load(Relaxed)
    }

    /// Changes something and draws the conclusions. `count` is told what the endpoint added to its pool and adds now, and whether it may be
    /// chosen under other conditions than before, under the lock.
    pub(super) fn change<T>(
        &self,
        change: impl FnOnce(&mut Detail) -> T,
        count: impl FnOnce(Counts, Counts, bool),
    ) -> Changed<T> {
        let mut detail = self.detail.lock();
        let stood = detail.condition();
        let phase = std::mem::discriminant(&detail.breaker.state());
        let result = change(&mut detail);
        let turned = std::mem::discriminant(&detail.breaker.state()) != phase;
        if turned {
            self.epoch.fetch_add(1, Relaxed);
        }
        // A circuit that closes since it was switched off has proven nothing.
        let turn = (turned && detail.settings.is_some()).then(|| detail.turn());
        let barrier = self.barrier_of(&detail);
        let moved = self.barrier.swap(barrier, Relaxed) != barrier;
        self.quiet.store(detail.breaker.is_quiet(), Relaxed);
        let after = detail.counts();
        let before = std::mem::replace(&mut detail.counted, after);
        count(before, after, moved);
        let now = (detail.member && detail.condition() != stood).then(|| detail.situation());
        Changed { result, epoch: self.epoch(), turn, before: stood, now }
    }

    fn barrier_of(&self, detail: &Detail) -> u64 {
        if detail.is_closed() {
            return DRAINING;
        }
        if detail.health.status == HealthStatus::Unhealthy {
            return UNHEALTHY;
        }
        match detail.settings.as_ref().map_or(AdmitsFrom::Always, |settings| detail.breaker.admits_from(settings)) {
            AdmitsFrom::Always => NONE,
            AdmitsFrom::ForProbes => PROBE,
            AdmitsFrom::Then(time) => self.nanos(time),
            AdmitsFrom::Never => NO_ROOM,
        }
    }

    /// Would this result change anything? One load for a success in good times.
    #[inline]
    pub(super) fn is_news(&self, ok: bool) -> bool {
        !(ok && self.quiet.load(Relaxed))
    }

    pub(super) fn read<R>(&self, read: impl FnOnce(&Detail) -> R) -> R {
        read(&self.detail.lock())
    }
}

impl Detail {
    /// Was it asked to take no new requests, by whomever?
    fn is_closed(&self) -> bool {
        self.draining.is_some() || self.mode.0 != Mode::Enabled
    }

    /// A request succeeded.
    pub(super) fn succeed(&mut self, now: Instant) {
        if let Some(settings) = &self.settings {
            self.breaker.succeeded(now, settings);
        }
    }

    /// A request or a health check failed. `eject` says whether one more endpoint may be out, and counts it.
    pub(super) fn fail(&mut self, why: &str, now: Instant, eject: impl FnOnce(&BreakerSettings) -> bool) {
        let Some(settings) = &self.settings else { return };
        let before = self.breaker.state();
        let (member, counted) = (self.member, &mut self.counted);
        self.breaker.failed(now, settings, || {
            let room = member && eject(settings);
            counted.ejected += usize::from(room);
            room
        });
        self.circuit = match (before, self.breaker.state()) {
            (BreakerState::Closed { failures }, BreakerState::Open { .. }) => {
                (format!("{} failures in a row, the last one {why}", failures.saturating_add(1)).into(), SystemTime::now())
            }
            (BreakerState::HalfOpen { .. }, BreakerState::Open { .. }) => {
                (format!("it was tried again and failed: {why}").into(), SystemTime::now())
            }
            _ => return,
        };
    }

    /// A request is about to be sent. A probe has its place from now on.
    pub(super) fn admit(&mut self, now: Instant) -> Admission {
        let Some(settings) = self.settings else { return Admission::Pass };
        self.breaker.admit(now, &settings)
    }

    /// A request is about to be sent whom all others have failed.
    pub(super) fn admit_early(&mut self) -> Admission {
        match self.settings {
            Some(settings) if !self.is_closed() && self.health.status != HealthStatus::Unhealthy => {
                self.breaker.admit_early(&settings)
            }
            _ => Admission::Refused,
        }
    }

    pub(super) fn early_ended(&mut self) {
        self.breaker.early_ended();
    }

    pub(super) fn probe_ended(&mut self) {
        self.breaker.probe_ended();
    }

    /// Discovery has found it just now.
    pub(super) fn found(&mut self, now: Instant) {
        self.breaker.found(now);
    }

    /// Health checks say that it is back.
    pub(super) fn recovered(&mut self, now: Instant) {
        self.breaker.recovered(now);
    }

    /// The settings of a new configuration. What a breaker that is off would know is forgotten.
    pub(super) fn configure(&mut self, settings: Option<BreakerSettings>) {
        self.settings = settings;
        if settings.is_none() {
            self.breaker = Breaker::default();
        }
    }

    fn turn(&mut self) -> Turn {
        match self.breaker.state() {
            BreakerState::Open { .. } => {
                self.transitions.open += 1;
                Turn::Opened { time_out: self.breaker.time_out().unwrap_or_default(), reason: self.circuit.0.clone() }
            }
            BreakerState::HalfOpen { .. } => {
                self.transitions.half_open += 1;
                self.circuit.1 = SystemTime::now();
                Turn::HalfOpened
            }
            BreakerState::Closed { .. } => {
                self.transitions.closed += 1;
                self.circuit = ("answers again".into(), SystemTime::now());
                Turn::Closed
            }
        }
    }

    /// Is its circuit anything but closed?
    pub(super) fn is_tripped(&self) -> bool {
        !matches!(self.breaker.state(), BreakerState::Closed { .. })
    }

    fn counts(&self) -> Counts {
        let (member, tripped) = (usize::from(self.member && self.mode.0 != Mode::Disabled), self.is_tripped());
        let out = tripped || self.is_closed() || self.health.status == HealthStatus::Unhealthy;
        Counts { members: member, ejected: member * usize::from(tripped), out: member * usize::from(out) }
    }

    pub(super) fn counted(&self) -> Counts {
        self.counted
    }

    pub(super) fn transitions(&self) -> Transitions {
        self.transitions
    }

    fn condition(&self) -> Condition {
        match (self.mode.0, self.health.status, self.breaker.state()) {
            (Mode::Disabled, ..) => Condition::Disabled,
            _ if self.is_closed() => Condition::Draining,
            (_, HealthStatus::Unhealthy, _) => Condition::Unhealthy,
            (_, _, BreakerState::Open { .. }) => Condition::Open,
            (_, _, BreakerState::HalfOpen { .. }) => Condition::HalfOpen,
            (_, _, BreakerState::Closed { .. }) => Condition::Healthy,
        }
    }

    /// The gravest of what holds.
    pub(super) fn situation(&self) -> Situation {
        let circuit = |condition| Situation { condition, reason: self.circuit.0.clone(), since: self.circuit.1 };
        let health = |condition| Situation { condition, reason: self.health.reason.clone(), since: self.health.since };
        match self.condition() {
            condition @ Condition::Disabled => {
                Situation { condition, reason: "an operator disabled it".into(), since: self.mode.1 }
            }
            condition @ Condition::Draining => match (self.mode, self.draining) {
                ((Mode::Enabled, _), Some(since)) => Situation { condition, reason: "asked to".into(), since },
                ((_, since), _) => Situation { condition, reason: "an operator drains it".into(), since },
            },
            condition @ Condition::Unhealthy => health(condition),
            condition @ (Condition::Open | Condition::HalfOpen) => circuit(condition),
            // Closed again, after the checks had said what they say: then that is the news.
            condition if self.transitions.closed > 0 && self.circuit.1 > self.health.since => circuit(condition),
            condition => health(condition),
        }
    }
}
