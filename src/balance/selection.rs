//! The bridge to `pingora_load_balancing`: one `BackendSelection` for every strategy.

use std::{collections::BTreeSet, sync::Arc};

use arc_swap::ArcSwapOption;
use pingora_load_balancing::{
    Backend,
    selection::{BackendIter, BackendSelection},
};

use smallvec::SmallVec;

use super::{
    Among, Clock, StrategySpec,
    groups::{First, Groups},
    hash::hash,
};
use crate::{endpoint::Endpoint, types::Name};

/// How to select.
#[derive(Debug, Clone, Default)]
pub struct SelectionConfig {
    /// Within a group.
    pub strategy: StrategySpec,
    /// The zone that is preferred, if any is.
    pub zone: Option<Name>,
    /// Where the selection can be looked at, which the load balancer keeps to itself.
    pub current: Current,
}

/// The selection that is in use, for whoever wants to know what it would choose.
#[derive(Debug, Clone, Default)]
pub struct Current(Arc<ArcSwapOption<Selection>>);

impl Current {
    /// The candidates for this key, best first, without anybody's turn being taken.
    pub fn look(&self, key: &[u8]) -> Option<Candidates> {
        Some(self.0.load_full()?.candidates(key, true))
    }
    /// The best candidate for this key that is accepted, out of so many that are asked for at most. As `LoadBalancer::select_with` does,
    /// but for a set of all that were seen and a copy of each.
    pub fn choose(&self, key: &[u8], most: usize, accept: impl Fn(&Arc<Endpoint>) -> bool) -> Option<Arc<Endpoint>> {
        let mut candidates = self.0.load_full()?.candidates(key, false);
        for _ in 0..most {
            let (group, index) = candidates.advance()?;
            let endpoint = &candidates.selection.groups.get(candidates.first, group)?.endpoints[index];
            if accept(endpoint) {
                return Some(endpoint.clone());
            }
        }
        None
    }
    /// Are there several groups to draw from?
    pub fn has_groups(&self) -> bool {
        self.0.load().as_ref().is_some_and(|selection| selection.groups.groups.len() > 1)
    }
}

/// A strategy over the backends of a load balancer. Each backend carries its [`Endpoint`] in `ext`.
#[derive(Debug, Clone)]
pub struct Selection {
    backends: Arc<[Backend]>,
    groups: Arc<Groups>,
}

impl BackendSelection for Selection {
    type Iter = Candidates;
    type Config = SelectionConfig;

    fn build_with_config(backends: &BTreeSet<Backend>, config: &SelectionConfig) -> Self {
        let (backends, endpoints): (Vec<_>, Vec<_>) =
            backends.iter().filter_map(|backend| Some((backend.clone(), backend.ext.get::<Arc<Endpoint>>()?.clone()))).unzip();
        let selection = Self { groups: Arc::new(Groups::new(&endpoints, config)), backends: backends.into() };
        config.current.0.store(Some(Arc::new(selection.clone())));
        selection
    }

    fn build(backends: &BTreeSet<Backend>) -> Self {
        Self::build_with_config(backends, &SelectionConfig::default())
    }

    fn iter(self: &Arc<Self>, key: &[u8]) -> Candidates {
        self.candidates(key, false)
    }
}

impl Selection {
    fn candidates(self: &Arc<Self>, key: &[u8], looking: bool) -> Candidates {
        let (key, clock) = (if key.is_empty() { 0 } else { hash(key) }, Clock::default());
        let first = self.groups.first(key, &clock);
        let group = if let First::Group(group) = first { group } else { 0 };
        Candidates { selection: self.clone(), key, first, group, left: 0, refused: SmallVec::new(), clock, looking }
    }
}

/// The candidates of one selection, best first. Each is asked for when the one before was refused, so
/// the ranking is that of the moment.
pub struct Candidates {
    selection: Arc<Selection>,
    key: u64,
    first: First,
    /// The group that is being looked through.
    group: usize,
    /// Those that come after the first one, in order, begin here.
    left: usize,
    /// Everything of this group handed out so far. Asking for the next one means that these were refused.
    refused: SmallVec<[usize; 4]>,
    clock: Clock,
    looking: bool,
}

impl BackendIter for Candidates {
    fn next(&mut self) -> Option<&Backend> {
        let (group, index) = self.advance()?;
        let places = &self.selection.groups.get(self.first, group)?.places;
        self.selection.backends.get(*places.get(index)?)
    }
}

impl Candidates {
    /// The next one: its group, and its place in that.
    fn advance(&mut self) -> Option<(usize, usize)> {
        loop {
            let group = self.selection.groups.get(self.first, self.group)?;
            let among = Among::new(&group.endpoints, &self.refused, &self.clock).looking(self.looking);
            if let Some(index) = group.strategy.pick(self.key, &among) {
                self.refused.push(index);
                return Some((self.group, index));
            }
            // Nobody is left in this group: the others, the one that is preferred first.
            let First::Group(first) = self.first else { return None };
            if self.left == first {
                self.left += 1;
            }
            self.group = self.left;
            self.left += 1;
            self.refused.clear();
        }
    }
}
