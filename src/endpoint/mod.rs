//! Layer 1: one address that requests are sent to, and what was learned about it.
//!
//! An [`Endpoint`] is identified by its upstream and address. It lives outside the snapshot, in the
//! [`EndpointRegistry`], so what is known about it (health, load, latency) survives a reload.

mod ewma;
mod in_flight;
mod latency;
mod pool;
mod priority;
mod ramp;
mod registry;
mod spread;
mod standing;
mod state;
#[cfg(test)]
mod tests;
mod witness;

use std::{
    fmt,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

pub use in_flight::InFlight;
pub use pool::Pool;
pub use priority::{Capacity, OVERPROVISIONING, shares};
pub use registry::{Discovered, EndpointRegistry, Orders};
pub use spread::{Counted, Spread};
pub use standing::{Condition, Health, HealthStatus, Mode, Situation, Transitions};
pub use state::{AttemptResult, EndpointStats};
pub use witness::{Change, Witness};

use parking_lot::Mutex;

use self::{
    ramp::Ramp,
    standing::{Changed, Detail, Standing, Turn},
    witness::Witnessed,
};
use crate::{
    resilience::{Admission, BreakerSettings},
    types::{Address, Name},
};

/// Effective weights are in parts of this, so that a tenth of a weight of 1 is more than nothing. A power of two:
/// floating-point numbers scaled by it round as before.
pub const WEIGHT_SCALE: u32 = 128;

/// What a configuration says about each endpoint of an upstream.
#[derive(Debug, Clone, Copy, Default)]
pub struct EndpointSettings {
    /// When its circuit opens; `None` for never.
    pub breaker: Option<BreakerSettings>,
    /// How long one that is new or back takes to get its full share.
    pub slow_start: Option<Duration>,
}

/// Where an endpoint stands among those of its upstream. Another place makes it another endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Place {
    /// Its group: 0 is used first.
    pub priority: u8,
    /// Its availability zone.
    pub zone: Option<Name>,
}

/// One address of one upstream.
///
/// In the order of the fields: what is read of every endpoint at a choice lies together, which counts in pools
/// that do not fit the cache.
#[repr(C)]
pub struct Endpoint {
    weight: AtomicU32,
    ramp: Ramp,
    standing: Standing,
    state: state::State,
    pool: Arc<Pool>,
    changes: Arc<AtomicU64>,
    upstream: Name,
    address: Address,
    label: Arc<str>,
    place: Place,
    weights: Mutex<Weights>,
}

/// Where the weight comes from.
#[derive(Debug)]
struct Weights {
    given: u32,
    ordered: Option<NonZeroU32>,
}

impl Endpoint {
    /// An endpoint nothing is known about yet: taken to be healthy, with nothing in flight.
    /// A weight of 0 counts as 1 (zero weights panic inside Pingora).
    pub fn new(upstream: Name, address: Address, weight: u32, place: Place) -> Self {
        let pool = Arc::new(Pool::new(upstream.clone(), Witnessed::default()));
        Self::in_pool(upstream, address, weight, place, pool, Arc::default())
    }
    fn in_pool(upstream: Name, address: Address, weight: u32, place: Place, pool: Arc<Pool>, changes: Arc<AtomicU64>) -> Self {
        let (label, start) = (address.to_string().into(), Instant::now());
        let weights = Mutex::new(Weights { given: weight.max(1), ordered: None });
        let weight = AtomicU32::new(weight.max(1));
        let (state, standing, ramp) = (state::State::default(), Standing::new(start), Ramp::new(start));
        Self { upstream, address, label, place, weight, state, standing, ramp, pool, changes, weights }
    }
    /// The upstream it belongs to.
    pub fn upstream(&self) -> &Name {
        &self.upstream
    }
    /// Where to connect.
    pub fn address(&self) -> &Address {
        &self.address
    }
    /// The address as logs, metrics and the admin API show it.
    pub fn label(&self) -> &Arc<str> {
        &self.label
    }
    /// Its place among the endpoints of its upstream.
    pub fn place(&self) -> &Place {
        &self.place
    }
    /// Its group: 0 is used first.
    pub fn priority(&self) -> u8 {
        self.place.priority
    }
    /// The availability zone that the configuration names.
    pub fn zone(&self) -> Option<&str> {
        self.place.zone.as_deref()
    }
    /// Its share of the traffic relative to the others, at least 1.
    pub fn weight(&self) -> u32 {
        self.weight.load(Relaxed)
    }
    /// Changes the weight that the configuration or discovery gives it (at least 1).
    pub fn set_weight(&self, weight: u32) {
        self.weigh(|weights| weights.given = weight.max(1));
    }
    /// An operator's weight, which counts instead of the given one until it is taken back.
    pub fn order_weight(&self, weight: Option<NonZeroU32>) {
        self.weigh(|weights| weights.ordered = weight);
    }
    fn weigh(&self, change: impl FnOnce(&mut Weights)) {
        let mut weights = self.weights.lock();
        change(&mut weights);
        let weight = weights.ordered.map_or(weights.given, NonZeroU32::get);
        if self.weight.swap(weight, Relaxed) != weight {
            self.changes.fetch_add(1, Relaxed);
        }
    }
    /// Counts changes of weight of all endpoints of the same registry: what was derived from weights is
    /// still good while this stays the same.
    pub fn changes(&self) -> u64 {
        self.changes.load(Relaxed)
    }
    /// Requests (or layer-4 connections) in flight.
    pub fn in_flight(&self) -> u32 {
        self.state.in_flight()
    }
    /// Counts a request in until the guard drops, whatever the state of the endpoint.
    pub fn begin(self: &Arc<Self>) -> InFlight {
        InFlight::new(self.clone(), self.standing.epoch(), Admission::Pass)
    }
    /// The same for a request that was balanced: to an endpoint whose circuit is not closed it goes as a
    /// probe, if there is room for one. `None` when there is not, unless the pool panics.
    pub fn enter(self: &Arc<Self>) -> Option<InFlight> {
        if self.standing.is_clear() {
            return Some(self.begin());
        }
        let now = Instant::now();
        let (admission, epoch) = self.change(|detail| detail.admit(now));
        match admission {
            Admission::Refused if self.pool.is_panicking() => Some(InFlight::new(self.clone(), epoch, Admission::Pass)),
            Admission::Refused => None,
            admission => Some(InFlight::new(self.clone(), epoch, admission)),
        }
    }
    /// The same for a request whom all others have failed, to an endpoint that would be left alone for some time yet: its circuit is
    /// open, and nothing else is held against it. `None` when that is not so, or when enough others do the same.
    pub fn enter_early(self: &Arc<Self>) -> Option<InFlight> {
        let (admission, epoch) = self.change(Detail::admit_early);
        (admission == Admission::Early).then(|| InFlight::new(self.clone(), epoch, admission))
    }
    /// May any request be sent to it at any time? True in the ordinary state, at the cost of one load;
    /// otherwise [`Endpoint::may_take`] tells.
    #[inline]
    pub fn is_clear(&self) -> bool {
        self.standing.is_clear()
    }
    /// May it be chosen now: is it healthy, not draining, and its circuit closed or in need of a probe?
    pub fn may_take(&self, now: Instant) -> bool {
        self.standing.may_take(|| now)
    }
    /// The same, where the time is read only if the answer depends on it.
    pub fn may_take_by(&self, now: impl FnOnce() -> Instant) -> bool {
        self.standing.may_take(now)
    }
    /// May it be chosen, in a pool that panics or not? The one place that says so: a pool that panics overrules health and circuits, and
    /// never a drain. The time is read only if the answer depends on it.
    pub fn is_available(&self, panicking: bool, now: impl FnOnce() -> Instant) -> bool {
        self.is_clear() || if panicking { !self.is_draining() } else { self.may_take_by(now) }
    }
    /// When it may be chosen again, where it only has to wait.
    pub fn returns_at(&self) -> Option<Instant> {
        self.standing.returns_at()
    }
    /// Was it asked to take no new requests?
    pub fn is_draining(&self) -> bool {
        self.standing.is_draining()
    }
    /// Asks it to take no new requests, or to take them again. Not even a pool that panics overrules that.
    pub fn set_draining(&self, draining: bool) {
        self.change(|detail| match (draining, detail.draining) {
            (true, None) => detail.draining = Some(SystemTime::now()),
            (false, _) => detail.draining = None,
            (true, Some(_)) => {}
        });
    }
    /// What an operator orders. Not even a pool that panics overrules that. True when it changed.
    pub fn set_mode(&self, mode: Mode) -> bool {
        let change = |detail: &mut standing::Detail| {
            let changed = detail.mode.0 != mode;
            if changed {
                detail.mode = (mode, SystemTime::now());
            }
            changed
        };
        self.change(change).0
    }
    /// What an operator ordered last.
    pub fn mode(&self) -> Mode {
        self.standing.read(|detail| detail.mode.0)
    }
    /// The pool it is counted in.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }
    /// Is it new or back, and has less than its full share yet? One load.
    #[inline]
    pub fn is_ramping(&self) -> bool {
        self.ramp.is_ramping()
    }
    /// The share of its weight that counts now: 1 but for a slow start.
    pub fn ramp_share(&self, now: Instant) -> f64 {
        self.ramp.share(now)
    }
    /// The weight that counts now, in parts of [`WEIGHT_SCALE`] and never 0: all of it but for a slow start.
    pub fn effective_weight(&self, now: Instant) -> u32 {
        let whole = self.weight() * WEIGHT_SCALE;
        if self.is_ramping() { ((f64::from(whole) * self.ramp_share(now)) as u32).max(1) } else { whole }
    }
    /// As far as health checks know: is it well?
    pub fn is_healthy(&self) -> bool {
        self.standing.read(|detail| detail.health.status != HealthStatus::Unhealthy)
    }
    /// What health checks know, why, and since when.
    pub fn health(&self) -> Health {
        self.standing.read(|detail| detail.health.clone())
    }
    /// How it stands, all things considered, why, and since when.
    pub fn situation(&self) -> Situation {
        self.standing.read(Detail::situation)
    }
    /// How often its circuit changed.
    pub fn transitions(&self) -> Transitions {
        self.standing.read(Detail::transitions)
    }
    /// Records a verdict of the health checks. True when the status changed. One that is back is tried at
    /// once if its circuit is open, and starts slowly.
    pub fn set_health(&self, status: HealthStatus, reason: impl Into<Arc<str>>) -> bool {
        let (reason, now) = (reason.into(), Instant::now());
        self.change(|detail| {
            let (before, changed) = (detail.health.status, detail.health.status != status);
            if !changed {
                detail.health.reason = reason;
                return false;
            }
            detail.health = Health { status, reason, since: SystemTime::now() };
            if before == HealthStatus::Unhealthy {
                detail.recovered(now);
                self.ramp.start(now);
            }
            true
        })
        .0
    }
    /// A health check failed, which the circuit breaker takes for a failure like any other. One that passed
    /// proves no more than that, so it is not told: requests may fail all the same.
    pub fn check_failed(&self, now: Instant) {
        self.change(|detail| self.fail(detail, "a health check", now));
    }
    /// Learns from an attempt that finished `now`. Whoever has its guard calls [`InFlight::record`].
    pub fn record_at(&self, result: AttemptResult, now: Instant) {
        self.learn(result, None, false, now);
    }
    /// Learns from an attempt that finished just now.
    pub fn record(&self, result: AttemptResult) {
        self.record_at(result, Instant::now());
    }
    /// `epoch` is that of the attempt's beginning, if it is known.
    fn learn(&self, result: AttemptResult, epoch: Option<u32>, early: bool, now: Instant) {
        self.state.record(result, now);
        if !self.standing.is_news(result.ok) {
            return;
        }
        self.change(|detail| {
            if epoch.is_some_and(|epoch| epoch != self.standing.epoch()) {
                return;
            }
            match (result.ok, result.first_byte) {
                (true, _) if early => detail.recovered(now),
                (true, _) => detail.succeed(now),
                (false, Some(_)) => self.fail(detail, "a server error", now),
                (false, None) => self.fail(detail, "without an answer", now),
            }
        });
    }
    fn fail(&self, detail: &mut Detail, why: &'static str, now: Instant) {
        detail.fail(why, now, |settings| self.pool.eject(|members| settings.may_eject(members)));
    }
    fn probe_ended(&self, epoch: u32) {
        self.change(|detail| {
            if epoch == self.standing.epoch() {
                detail.probe_ended();
            }
        });
    }
    fn early_ended(&self) {
        self.change(Detail::early_ended);
    }
    /// Discovery has found it just now: it may still be starting, for which its circuit makes allowances.
    pub fn found(&self, now: Instant) {
        self.change(|detail| detail.found(now));
    }
    /// It is in service from now on, and starts slowly if it was not and `joins` others.
    fn join(&self, settings: EndpointSettings, joins: bool) {
        self.ramp.set_window(settings.slow_start);
        self.change(|detail| {
            detail.configure(settings.breaker);
            if !std::mem::replace(&mut detail.member, true) && joins {
                self.ramp.start(Instant::now());
            }
        });
    }
    /// It is in service no more.
    fn leave(&self) {
        self.change(|detail| detail.member = false);
    }
    /// Everything that may change the endpoint's standing passes here: its pool hears of it, and the log of a
    /// transition of its circuit. Returns the epoch that follows, too.
    fn change<T>(&self, change: impl FnOnce(&mut Detail) -> T) -> (T, u32) {
        let Changed { result, epoch, turn, before, now } =
            self.standing.change(change, |before, after, moved| self.pool.count(self.priority(), before, after, moved));
        if let Some(now) = now {
            self.pool.witnessed.tell(&Change::Endpoint { upstream: &self.upstream, endpoint: &self.label, before, now });
        }
        match turn {
            None => {}
            Some(Turn::Opened { time_out, reason }) => {
                log::warn!(
                    "upstream {}: circuit opened for endpoint {}: {reason}; next probe in {time_out:?}",
                    self.upstream,
                    self.label
                );
            }
            Some(Turn::HalfOpened) => {
                log::info!("upstream {}: circuit half-open for endpoint {}: probing", self.upstream, self.label)
            }
            Some(Turn::Closed) => {
                log::info!("upstream {}: circuit closed for endpoint {}: the probes succeeded", self.upstream, self.label);
                self.ramp.start(Instant::now());
            }
        }
        (result, epoch)
    }
    /// The moving average of the time to the response header, in microseconds; 0 when nothing is known.
    pub fn average_micros(&self, now: Instant) -> f64 {
        self.state.average_micros(now)
    }
    /// The same, where a value above the average replaces it.
    pub fn peak_micros(&self, now: Instant) -> f64 {
        self.state.peak_micros(now)
    }
    /// How long a latency counts in the moving averages.
    pub fn set_decay(&self, decay: Duration) {
        self.state.set_decay(decay);
    }
    /// The current run of health checks: so many passes (positive) or failures (negative) in a row. It is
    /// kept here so that a reload does not start the counting anew.
    pub fn streak(&self) -> i32 {
        self.state.streak()
    }
    /// Records the current run of health checks.
    pub fn set_streak(&self, streak: i32) {
        self.state.set_streak(streak);
    }
    /// Lets latencies that are no longer recent be forgotten. To be called every few seconds.
    pub fn tick(&self, now: Instant) {
        self.state.tick(now);
    }
    /// Counters and latencies so far.
    pub fn stats(&self) -> EndpointStats {
        self.state.stats()
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        // The upstream is gone or the process ends, else it would have left before.
        self.pool.forget(self.priority(), self.standing.read(Detail::counted));
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("upstream", &self.upstream)
            .field("address", &self.label)
            .field("weight", &self.weight())
            .finish()
    }
}
