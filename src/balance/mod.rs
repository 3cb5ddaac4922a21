//! Layer 2: which endpoint takes a request.
//!
//! A strategy is one file: its Spec, its [`Strategy`], its source. `pingora_load_balancing` asks
//! [`Selection`] (our `BackendSelection`) for candidates in order of preference; `LoadBalancer::select_with`
//! skips those that may not take this request.

mod ip_hash;
mod least_connections;
mod random;
mod round_robin;
mod selection;

use std::{fmt::Debug, sync::Arc};

use crate::{endpoint::Endpoint, registry};
pub use selection::{Candidates, Selection};

registry! {
    /// How an endpoint is chosen among those that may take the request.
    pub enum StrategySpec {
        /// In turn, smoothly by weight.
        RoundRobin(round_robin::RoundRobinSpec) = "round_robin",
        /// At random, by weight.
        Random(random::RandomSpec) = "random",
        /// The fewest requests in flight per weight.
        LeastConnections(least_connections::LeastConnectionsSpec) = "least_connections",
        /// By the client's address, stable when other endpoints leave.
        IpHash(ip_hash::IpHashSpec) = "ip_hash",
    }
}

impl Default for StrategySpec {
    fn default() -> Self {
        StrategySpec::RoundRobin(Default::default())
    }
}

impl StrategySpec {
    /// The strategy over these endpoints. Rebuilt whenever the set or a weight changes.
    pub fn build(&self, endpoints: Vec<Arc<Endpoint>>) -> Box<dyn Strategy> {
        match self {
            StrategySpec::RoundRobin(spec) => spec.build(endpoints),
            StrategySpec::Random(spec) => spec.build(endpoints),
            StrategySpec::LeastConnections(spec) => spec.build(endpoints),
            StrategySpec::IpHash(spec) => spec.build(endpoints),
        }
    }
}

/// A selection algorithm over a fixed set of endpoints.
///
/// `rank` gives candidates in order of preference, one call at a time: `step` 0 is the first choice, and
/// each further step must eventually reach every endpoint. Indices are into the slice given to `build`.
pub trait Strategy: Send + Sync + Debug {
    /// Starts a selection for this key (the hash strategies' input) and returns the first choice.
    fn first(&self, key: &[u8]) -> Option<usize>;
    /// The next choice after `step` (1, 2, ...) earlier ones were refused; `first` is the first choice.
    fn next(&self, key: &[u8], first: usize, step: usize) -> Option<usize>;
}
