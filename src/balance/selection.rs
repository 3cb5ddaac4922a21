//! The bridge to `pingora_load_balancing`: one `BackendSelection` for every strategy.

use std::{collections::BTreeSet, sync::Arc};

use pingora_load_balancing::{
    Backend,
    selection::{BackendIter, BackendSelection},
};

use super::{Strategy, StrategySpec};
use crate::endpoint::Endpoint;

/// A strategy over the backends of a load balancer. Each backend carries its [`Endpoint`] in `ext`.
#[derive(Debug)]
pub struct Selection {
    backends: Box<[Backend]>,
    strategy: Box<dyn Strategy>,
}

impl BackendSelection for Selection {
    type Iter = Candidates;
    type Config = StrategySpec;

    fn build_with_config(backends: &BTreeSet<Backend>, config: &StrategySpec) -> Self {
        let backends: Box<[Backend]> =
            backends.iter().filter(|backend| backend.ext.get::<Arc<Endpoint>>().is_some()).cloned().collect();
        let endpoints = backends.iter().filter_map(|backend| backend.ext.get::<Arc<Endpoint>>().cloned()).collect();
        Self { strategy: config.build(endpoints), backends }
    }

    fn build(backends: &BTreeSet<Backend>) -> Self {
        Self::build_with_config(backends, &StrategySpec::default())
    }

    fn iter(self: &Arc<Self>, key: &[u8]) -> Candidates {
        Candidates { selection: self.clone(), key: key.into(), first: None, step: 0 }
    }
}

/// The candidates of one selection, best first.
pub struct Candidates {
    selection: Arc<Selection>,
    key: Box<[u8]>,
    first: Option<usize>,
    step: usize,
}

impl BackendIter for Candidates {
    fn next(&mut self) -> Option<&Backend> {
        let strategy = &self.selection.strategy;
        let index = match self.first {
            None => {
                self.first = strategy.first(&self.key);
                self.first
            }
            Some(first) => {
                self.step += 1;
                strategy.next(&self.key, first, self.step)
            }
        }?;
        self.selection.backends.get(index)
    }
}
