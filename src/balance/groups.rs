//! The groups of a pool, and what each takes of the traffic.

use std::{sync::Arc, time::Instant};

use arc_swap::ArcSwap;
use rand::Rng;

use super::{Clock, SelectionConfig, Strategy, hash::mix, locality};
use crate::endpoint::{Capacity, Endpoint, shares};

/// Endpoints that are chosen among by one strategy.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) endpoints: Box<[Arc<Endpoint>]>,
    /// Where they are among all endpoints.
    pub(super) places: Box<[usize]>,
    pub(super) strategy: Box<dyn Strategy>,
    priority: u8,
}

/// The endpoints of an upstream, divided into groups, the one that is preferred first: by priority, and where a
/// zone is preferred, those in it before the others.
///
/// Each group has a strategy of its own, so none needs to know of groups: turns stay even and keys stay where
/// they are, whatever happens in another group.
#[derive(Debug)]
pub(super) struct Groups {
    pub(super) groups: Box<[Group]>,
    /// What the groups take, where there are several.
    division: ArcSwap<Division>,
    /// All of them as one group, for a pool that panics. Only where there are several.
    all: Option<Group>,
}

/// Where to look for an endpoint first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum First {
    /// In this group, then in the others.
    Group(usize),
    /// In all groups at once, and nowhere else.
    All,
}

/// What the groups take, as of some moment.
#[derive(Debug, Default, PartialEq)]
struct Division {
    /// [`crate::endpoint::Pool::changes`] and [`Endpoint::changes`] before the endpoints were read.
    changes: (u64, u64),
    /// It may be another one from then on without any change.
    until: Option<Instant>,
    /// The share of each group and of those before it.
    sums: Box<[f64]>,
    /// One that gets nothing since its circuits are open, and may be tried again.
    probe: Option<usize>,
}

impl Groups {
    pub(super) fn new(endpoints: &[Arc<Endpoint>], config: &SelectionConfig) -> Self {
        // Those that are near come first.
        let rank = |endpoint: &Endpoint| {
            let far = config.zone.as_ref().is_some_and(|zone| endpoint.zone() != Some(zone.as_str()));
            (endpoint.priority(), far)
        };
        let mut ranks: Vec<_> = endpoints.iter().map(|endpoint| rank(endpoint)).collect();
        ranks.sort_unstable();
        ranks.dedup();
        let group = |priority: u8, belongs: &dyn Fn(&Endpoint) -> bool| {
            let (places, members): (Vec<_>, Vec<_>) = endpoints
                .iter()
                .enumerate()
                .filter(|(_, endpoint)| belongs(endpoint))
                .map(|(place, endpoint)| (place, endpoint.clone()))
                .unzip();
            Group { strategy: config.strategy.build(&members), endpoints: members.into(), places: places.into(), priority }
        };
        let groups: Box<[Group]> = ranks.iter().map(|of| group(of.0, &|endpoint| rank(endpoint) == *of)).collect();
        let all = (groups.len() > 1).then(|| group(0, &|_| true));
        let this = Self { groups, division: ArcSwap::default(), all };
        if this.all.is_some() {
            this.division.store(Arc::new(this.divide(this.changes(), Instant::now())));
        }
        this
    }

    pub(super) fn get(&self, first: First, index: usize) -> Option<&Group> {
        match first {
            First::All => self.all.as_ref(),
            First::Group(_) => self.groups.get(index),
        }
    }

    /// Where a request looks first. One that goes by a key goes where the key belongs.
    pub(super) fn first(&self, key: u64, clock: &Clock) -> First {
        let Some(all) = &self.all else { return First::Group(0) };
        if all.endpoints.first().is_some_and(|endpoint| endpoint.pool().is_panicking()) {
            return First::All;
        }
        let changes = self.changes();
        let current = self.division.load();
        let holds = current.changes == changes && current.until.is_none_or(|until| clock.now() < until);
        if holds {
            return First::Group(current.group(key));
        }
        // Others may do the same at the same time and come to the same conclusion.
        let new = self.divide(changes, clock.now());
        let group = new.group(key);
        self.division.store(Arc::new(new));
        First::Group(group)
    }

    fn changes(&self) -> (u64, u64) {
        let first = self.groups.first().and_then(|group| group.endpoints.first());
        first.map_or((0, 0), |endpoint| (endpoint.pool().changes(), endpoint.changes()))
    }

    fn divide(&self, changes: (u64, u64), now: Instant) -> Division {
        let shares = self.shares(Endpoint::is_clear);
        // What it would be if all that may be tried again were well.
        let hoped = self.shares(|endpoint| endpoint.may_take(now));
        let probe = shares.iter().zip(&hoped).position(|(share, hoped)| *share == 0.0 && *hoped > 0.0);
        let endpoints = || self.groups.iter().flat_map(|group| &group.endpoints);
        let until = endpoints().filter_map(|endpoint| endpoint.returns_at()).filter(|returns| *returns > now).min();
        let sums = shares.iter().scan(0.0, |sum, share| {
            *sum += share;
            Some(*sum)
        });
        Division { changes, until, sums: sums.collect(), probe }
    }

    /// The share of each group, if those endpoints are available.
    fn shares(&self, available: impl Fn(&Endpoint) -> bool) -> Vec<f64> {
        let capacities: Vec<Capacity> = self.groups.iter().map(|group| group.capacity(&available)).collect();
        let of_priority = self.groups.chunk_by(|one, other| one.priority == other.priority).map(<[Group]>::len);
        let mut rest = &capacities[..];
        let zones: Vec<&[Capacity]> = of_priority
            .map(|groups| {
                let zones;
                (zones, rest) = rest.split_at(groups);
                zones
            })
            .collect();
        let shares = shares(zones.iter().map(|zones| zones.iter().copied().sum()));
        let mut all = Vec::with_capacity(capacities.len());
        for (share, zones) in shares.into_iter().zip(zones) {
            match zones {
                [near, _] => {
                    let near = share * locality::share(*near, zones.iter().copied().sum());
                    all.extend([near, share - near]);
                }
                _ => all.push(share),
            }
        }
        all
    }
}

impl Group {
    fn capacity(&self, available: impl Fn(&Endpoint) -> bool) -> Capacity {
        let weight = |endpoint: &Arc<Endpoint>| {
            let total = u64::from(endpoint.weight());
            Capacity { available: if available(endpoint) { total } else { 0 }, total }
        };
        self.endpoints.iter().map(weight).sum()
    }
}

impl Division {
    fn group(&self, key: u64) -> usize {
        /// Keys are divided among groups otherwise than within them.
        const SALT: u64 = 0x9e37_79b9_7f4a_7c15;
        if let Some(probe) = self.probe {
            return probe;
        }
        // All or nothing, which needs no dice.
        if let Some(group) = self.sums.iter().position(|sum| *sum > 0.0)
            && self.sums[group] >= 1.0
        {
            return group;
        }
        let point = match key {
            0 => rand::rng().random::<f64>(),
            key => (mix(key ^ SALT) >> 11) as f64 / (1u64 << 53) as f64,
        };
        // Sums of fractions may end a hair below 1: the rest belongs to the last one that gets anything.
        let found = self.sums.iter().position(|sum| point < *sum);
        found.or_else(|| self.sums.windows(2).rposition(|sums| sums[0] < sums[1]).map(|before| before + 1)).unwrap_or(0)
    }
}
