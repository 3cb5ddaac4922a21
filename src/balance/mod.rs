//! Layer 2: which endpoint takes a request.
//!
//! A strategy is one file: its Spec, its [`Strategy`], its source. `pingora_load_balancing` asks
//! [`Selection`] (our `BackendSelection`) for candidates in order of preference; `LoadBalancer::select_with`
//! skips those that may not take this request.

mod consistent_hash;
mod derived;
mod groups;
mod hash;
mod ip_hash;
mod key;
mod least_connections;
mod least_response_time;
mod load;
mod locality;
mod maglev;
mod peak_ewma;
mod power_of_two;
mod random;
mod round_robin;
mod selection;
mod sticky;

use std::{
    cell::OnceCell,
    fmt::Debug,
    sync::Arc,
    time::{Duration, Instant},
};

pub use key::{Key, SelectionKey};
pub use selection::{Candidates, Current, Selection, SelectionConfig};
pub use sticky::{RandomKey, Sticky, StickyId, StickySpec};

use crate::{
    endpoint::{Endpoint, WEIGHT_SCALE},
    registry,
};

registry! {
    /// How an endpoint is chosen among those that may take the request.
    pub enum StrategySpec {
        /// In turn, smoothly by weight.
        RoundRobin(round_robin::RoundRobinSpec) = "round_robin",
        /// The same as `round_robin`.
        WeightedRoundRobin(round_robin::RoundRobinSpec) = "weighted_round_robin",
        /// At random, by weight.
        Random(random::RandomSpec) = "random",
        /// The fewest requests in flight per weight.
        LeastConnections(least_connections::LeastConnectionsSpec) = "least_connections",
        /// The lowest average latency times requests in flight, per weight.
        LeastResponseTime(least_response_time::LeastResponseTimeSpec) = "least_response_time",
        /// Two at random, the less loaded.
        PowerOfTwo(power_of_two::PowerOfTwoSpec) = "power_of_two",
        /// Two at random, the lower peak latency times requests in flight.
        PeakEwma(peak_ewma::PeakEwmaSpec) = "peak_ewma",
        /// By the client's address, stable when other endpoints leave.
        IpHash(ip_hash::IpHashSpec) = "ip_hash",
        /// By a part of the request, on a ring, with bounded load.
        ConsistentHash(consistent_hash::ConsistentHashSpec) = "consistent_hash",
        /// By a part of the request, with one look into a table.
        Maglev(maglev::MaglevSpec) = "maglev",
    }
}

impl Default for StrategySpec {
    fn default() -> Self {
        StrategySpec::RoundRobin(Default::default())
    }
}

impl StrategySpec {
    /// The strategy over these endpoints. Rebuilt whenever the set changes; weights and health are read
    /// at each choice.
    pub fn build(&self, endpoints: &[Arc<Endpoint>]) -> Box<dyn Strategy> {
        match self {
            StrategySpec::RoundRobin(spec) | StrategySpec::WeightedRoundRobin(spec) => spec.build(endpoints),
            StrategySpec::Random(spec) => spec.build(endpoints),
            StrategySpec::LeastConnections(spec) => spec.build(endpoints),
            StrategySpec::LeastResponseTime(spec) => spec.build(endpoints),
            StrategySpec::PowerOfTwo(spec) => spec.build(endpoints),
            StrategySpec::PeakEwma(spec) => spec.build(endpoints),
            StrategySpec::IpHash(spec) => spec.build(endpoints),
            StrategySpec::ConsistentHash(spec) => spec.build(endpoints),
            StrategySpec::Maglev(spec) => spec.build(endpoints),
        }
    }

    /// Does it draw lots, so that the next choice cannot be known?
    pub fn draws(&self) -> bool {
        matches!(self, StrategySpec::Random(_) | StrategySpec::PowerOfTwo(_) | StrategySpec::PeakEwma(_))
    }

    /// The part of the request that it goes by, if any.
    pub fn key(&self) -> Option<&SelectionKey> {
        match self {
            StrategySpec::IpHash(_) => Some(&SelectionKey::ClientIp),
            StrategySpec::ConsistentHash(spec) => Some(&spec.key),
            StrategySpec::Maglev(spec) => Some(&spec.key),
            _ => None,
        }
    }

    /// How long a latency counts, for those that go by latency.
    pub fn decay(&self) -> Option<Duration> {
        match self {
            StrategySpec::LeastResponseTime(spec) => Some(spec.decay.get()),
            StrategySpec::PeakEwma(spec) => Some(spec.decay.get()),
            _ => None,
        }
    }
}

/// A selection algorithm over a fixed set of endpoints.
pub trait Strategy: Send + Sync + Debug {
    /// The best candidate now, as an index into the slice given to `build`; `None` when there is none.
    ///
    /// `key` is the hash of what a hash strategy goes by. It is called again with one more refused index
    /// when the last choice may not take this request.
    fn pick(&self, key: u64, among: &Among<'_>) -> Option<usize>;
}

/// The time of one choice: read at most once, and only if something depends on it.
#[derive(Debug, Clone, Default)]
pub struct Clock(OnceCell<Instant>);

impl Clock {
    /// Now, or a moment ago.
    pub fn now(&self) -> Instant {
        *self.0.get_or_init(Instant::now)
    }
}

/// The endpoints to choose among: those that are available and that this request did not refuse.
#[derive(Debug, Clone, Copy)]
pub struct Among<'a> {
    endpoints: &'a [Arc<Endpoint>],
    refused: &'a [usize],
    clock: &'a Clock,
    /// So few are available that all are used.
    panicking: bool,
    /// Nobody is sent anywhere by this choice, so no turn is taken.
    looking: bool,
}

impl<'a> Among<'a> {
    /// All of `endpoints`, without those `refused` (in the order they were).
    pub fn new(endpoints: &'a [Arc<Endpoint>], refused: &'a [usize], clock: &'a Clock) -> Self {
        let panicking = endpoints.first().is_some_and(|endpoint| endpoint.pool().is_panicking());
        Self { endpoints, refused, clock, panicking, looking: false }
    }
    /// The same, only to see what would be chosen.
    fn looking(self, looking: bool) -> Self {
        Self { looking, ..self }
    }
    /// The time of the choice.
    pub fn now(&self) -> Instant {
        self.clock.now()
    }
    /// The endpoint at this index.
    pub fn endpoint(&self, index: usize) -> &'a Arc<Endpoint> {
        &self.endpoints[index]
    }
    /// May it be chosen?
    pub fn may(&self, index: usize) -> bool {
        self.endpoints[index].is_available(self.panicking, || self.now()) && !self.was_refused(index)
    }
    /// Its weight now, in parts of [`WEIGHT_SCALE`]: less than all of it in a slow start.
    pub fn weight(&self, index: usize) -> u32 {
        let endpoint = &self.endpoints[index];
        if endpoint.is_ramping() { endpoint.effective_weight(self.now()) } else { endpoint.weight() * WEIGHT_SCALE }
    }
    /// For strategies that send a key where it belongs: does this endpoint take the key yet? In a slow start
    /// it takes as large a share of its keys as of its weight, and each that came home stays.
    pub fn has_warmed_to(&self, index: usize, key: u64) -> bool {
        let endpoint = &self.endpoints[index];
        !endpoint.is_ramping() || {
            // Mixed with the address, so that two endpoints do not wait for the same keys.
            let place = hash::mix(key ^ hash::hash(endpoint.label().as_bytes())) >> 11;
            (place as f64) < endpoint.ramp_share(self.now()) * (1u64 << 53) as f64
        }
    }
    /// Did this request refuse it? Linear, and a request refuses as many as it has tried: a few.
    pub fn was_refused(&self, index: usize) -> bool {
        self.refused.contains(&index)
    }
    /// The last choice, if this is not the first one for this request.
    pub fn last_refused(&self) -> Option<usize> {
        self.refused.last().copied()
    }
    /// Those that may be chosen, with their indices.
    pub fn candidates(self) -> impl Iterator<Item = (usize, &'a Arc<Endpoint>)> {
        self.endpoints.iter().enumerate().filter(move |(index, _)| self.may(*index))
    }
}

#[cfg(test)]
mod testing {
    use super::*;
    use crate::endpoint::{EndpointRegistry, HealthStatus, Place};

    /// A strategy over the endpoints `a`, `b`, `c`, ... with these weights.
    pub(super) struct Pool {
        pub(super) endpoints: Vec<Arc<Endpoint>>,
        strategy: Box<dyn Strategy>,
    }

    impl Pool {
        pub(super) fn new(strategy: &str, weights: &[u32]) -> Self {
            let yaml = format!("{strategy}: {{}}");
            Self::with(&serde_yaml::with::singleton_map::deserialize(serde_yaml::Deserializer::from_str(&yaml)).unwrap(), weights)
        }
        pub(super) fn with(spec: &StrategySpec, weights: &[u32]) -> Self {
            let registry = EndpointRegistry::default();
            let endpoints: Vec<_> = (b'a'..)
                .zip(weights)
                .map(|(letter, weight)| {
                    let address = format!("unix:/{}", letter as char).parse().unwrap();
                    registry.get(&"pool".parse().unwrap(), &address, *weight, Place::default())
                })
                .collect();
            Self { strategy: spec.build(&endpoints), endpoints }
        }
        pub(super) fn pick(&self, key: u64) -> Arc<Endpoint> {
            self.pick_without(key, &[]).unwrap()
        }
        /// As `select_with` does for a request that has tried some endpoints.
        pub(super) fn pick_without(&self, key: u64, tried: &[usize]) -> Option<Arc<Endpoint>> {
            let mut refused = Vec::new();
            loop {
                let index = self.strategy.pick(key, &Among::new(&self.endpoints, &refused, &Clock::default()))?;
                assert!(!refused.contains(&index), "what was refused is not offered again");
                if !tried.contains(&index) {
                    return Some(self.endpoints[index].clone());
                }
                refused.push(index);
            }
        }
        pub(super) fn index(&self, endpoint: &Arc<Endpoint>) -> usize {
            self.endpoints.iter().position(|other| Arc::ptr_eq(other, endpoint)).unwrap()
        }
        pub(super) fn set_healthy(&self, index: usize, healthy: bool) {
            let status = if healthy { HealthStatus::Healthy } else { HealthStatus::Unhealthy };
            self.endpoints[index].set_health(status, "test");
        }
    }

    pub(super) trait Letter {
        fn letter(&self) -> char;
    }
    impl Letter for Arc<Endpoint> {
        fn letter(&self) -> char {
            self.label().chars().last().unwrap()
        }
    }

    /// How often each of `a`, `b`, `c`, `d` occurs.
    pub(super) fn shares(turns: &str) -> [usize; 4] {
        ['a', 'b', 'c', 'd'].map(|letter| turns.matches(letter).count())
    }
}
