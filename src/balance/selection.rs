//! The bridge to `pingora_load_balancing`: one `BackendSelection` for every strategy.

use std::{collections::BTreeSet, sync::Arc};

use pingora_load_balancing::{
    Backend,
    selection::{BackendIter, BackendSelection},
};

use super::{Among, Clock, Strategy, StrategySpec, hash::hash};
use crate::endpoint::Endpoint;

/// A strategy over the backends of a load balancer. Each backend carries its [`Endpoint`] in `ext`.
#[derive(Debug)]
pub struct Selection {
    backends: Box<[Backend]>,
    endpoints: Box<[Arc<Endpoint>]>,
    strategy: Box<dyn Strategy>,
}

impl BackendSelection for Selection {
    type Iter = Candidates;
    type Config = StrategySpec;

    fn build_with_config(backends: &BTreeSet<Backend>, config: &StrategySpec) -> Self {
        let (backends, endpoints): (Vec<_>, Vec<_>) =
            backends.iter().filter_map(|backend| Some((backend.clone(), backend.ext.get::<Arc<Endpoint>>()?.clone()))).unzip();
        Self { strategy: config.build(&endpoints), backends: backends.into(), endpoints: endpoints.into() }
    }

    fn build(backends: &BTreeSet<Backend>) -> Self {
        Self::build_with_config(backends, &StrategySpec::default())
    }

    fn iter(self: &Arc<Self>, key: &[u8]) -> Candidates {
        let key = if key.is_empty() { 0 } else { hash(key) };
        Candidates { selection: self.clone(), key, refused: Vec::new(), clock: Clock::default() }
    }
}

/// The candidates of one selection, best first. Each is asked for when the one before was refused, so
/// the ranking is that of the moment.
pub struct Candidates {
    selection: Arc<Selection>,
    key: u64,
    /// Everything handed out so far. Asking for the next one means that these were refused.
    refused: Vec<usize>,
    clock: Clock,
}

impl BackendIter for Candidates {
    fn next(&mut self) -> Option<&Backend> {
        let Selection { backends, endpoints, strategy } = &*self.selection;
        let index = strategy.pick(self.key, &Among::new(endpoints, &self.refused, &self.clock))?;
        self.refused.push(index);
        backends.get(index)
    }
}
