//! What the endpoints of one upstream know of each other: how many there are and how many are out.
//!
//! Two decisions are made about all of them together: whether one more may be left alone, and whether so few
//! are left that all must be used. Both follow from counts that change only when an endpoint's state does.

use std::{
    collections::HashSet,
    sync::{
        Arc, Weak,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
};

use parking_lot::Mutex;

use super::{Capacity, Change, Endpoint, EndpointSettings, priority::carry_all, witness::Witnessed};
use crate::types::{Name, Ratio};

/// The endpoints of one upstream, counted.
///
/// Locks are taken in the order `members`, an endpoint's own, `tally`; never on the path of a request that
/// succeeds.
#[derive(Debug)]
pub struct Pool {
    upstream: Name,
    members: Mutex<Vec<Weak<Endpoint>>>,
    tally: Mutex<Tally>,
    panicking: AtomicBool,
    changes: AtomicU64,
    pub(super) witnessed: Witnessed,
}

#[derive(Debug)]
struct Tally {
    counts: Counts,
    /// The same by priority: as many as there are groups, one as a rule.
    groups: Vec<(u8, Counts)>,
    threshold: Ratio,
    /// Members are joining and leaving: no conclusions before that is done.
    settling: bool,
}

/// So many endpoints. Of one endpoint: what it adds to those of its pool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) members: usize,
    /// Their circuits are open or half open.
    pub(super) ejected: usize,
    /// They should take no request, for this reason or another.
    pub(super) out: usize,
}

impl Counts {
    fn replace(&mut self, before: Counts, after: Counts) {
        self.members = self.members + after.members - before.members;
        self.ejected = self.ejected + after.ejected - before.ejected;
        self.out = self.out + after.out - before.out;
    }
}

impl Tally {
    fn replace(&mut self, priority: u8, before: Counts, after: Counts) {
        self.counts.replace(before, after);
        // Ejections are counted ahead of time, and for all groups together.
        let (before, after) = (Counts { ejected: 0, ..before }, Counts { ejected: 0, ..after });
        match self.groups.iter_mut().find(|(group, _)| *group == priority) {
            Some((_, counts)) => counts.replace(before, after),
            None => self.groups.push((priority, after)),
        }
    }

    /// Do other groups carry what some endpoints do not? Then there is no reason to use these.
    fn stood_in_for(&self) -> bool {
        let groups = || self.groups.iter().filter(|(_, counts)| counts.members > 0).map(|(_, counts)| counts);
        groups().nth(1).is_some()
            && carry_all(groups().map(|counts| Capacity {
                available: counts.members.saturating_sub(counts.out) as u64,
                total: counts.members as u64,
            }))
    }
}

impl Pool {
    /// A pool without members.
    pub(super) fn new(upstream: Name, witnessed: Witnessed) -> Self {
        let tally = Tally { counts: Counts::default(), groups: Vec::new(), threshold: Ratio::percent(0), settling: false };
        let (panicking, changes) = (AtomicBool::new(false), AtomicU64::new(0));
        Self { upstream, members: Mutex::default(), tally: Mutex::new(tally), panicking, changes, witnessed }
    }

    /// Are so few endpoints available that all are used? One load.
    pub fn is_panicking(&self) -> bool {
        self.panicking.load(Relaxed)
    }

    /// Counts changes of who may be chosen: what was derived from that is still good while this stays the same.
    pub fn changes(&self) -> u64 {
        self.changes.load(Acquire)
    }

    /// These endpoints are in service from now on, with these settings, and no others. Those that join others
    /// start slowly.
    pub fn publish(self: &Arc<Self>, endpoints: &[Arc<Endpoint>], settings: EndpointSettings, panic_threshold: Ratio) {
        let mut members = self.members.lock();
        self.settle(|tally| (tally.threshold, tally.settling) = (panic_threshold, true));
        let before: Vec<_> = members.iter().filter_map(Weak::upgrade).collect();
        let stay: HashSet<_> = endpoints.iter().map(Arc::as_ptr).collect();
        for endpoint in before.iter().filter(|endpoint| !stay.contains(&Arc::as_ptr(endpoint))) {
            endpoint.leave();
        }
        // What is counted elsewhere is not counted here.
        for endpoint in endpoints.iter().filter(|endpoint| Arc::ptr_eq(&endpoint.pool, self)) {
            endpoint.join(settings, !before.is_empty());
        }
        *members = endpoints.iter().map(Arc::downgrade).collect();
        self.settle(|tally| tally.settling = false);
    }

    fn settle(&self, change: impl FnOnce(&mut Tally)) {
        let mut tally = self.tally.lock();
        change(&mut tally);
        self.conclude(&tally);
    }

    /// An endpoint of this priority adds something else from now on, or has `moved`: it may be chosen under
    /// other conditions.
    pub(super) fn count(&self, priority: u8, before: Counts, after: Counts, moved: bool) {
        if before != after {
            self.settle(|tally| tally.replace(priority, before, after));
        }
        if moved || before != after {
            self.changes.fetch_add(1, Release);
        }
    }

    /// An endpoint is no more, which is no reason for conclusions.
    pub(super) fn forget(&self, priority: u8, counts: Counts) {
        self.tally.lock().replace(priority, counts, Counts::default());
    }

    /// One more circuit opens, if so many of so many endpoints may be out; it is counted then.
    pub(super) fn eject(&self, most: impl FnOnce(usize) -> usize) -> bool {
        let mut tally = self.tally.lock();
        let room = tally.counts.ejected < most(tally.counts.members);
        tally.counts.ejected += usize::from(room);
        room
    }

    fn conclude(&self, tally: &Tally) {
        if tally.settling {
            return;
        }
        let Counts { members, out, .. } = tally.counts;
        let available = members.saturating_sub(out);
        let few = (available as f64) < tally.threshold.get() * members as f64;
        let panicking = few && !tally.stood_in_for();
        if self.panicking.swap(panicking, Relaxed) == panicking {
            return;
        }
        self.changes.fetch_add(1, Release);
        self.witnessed.tell(&Change::Panic { upstream: &self.upstream, panicking, available: (available, members) });
        if panicking {
            let threshold = tally.threshold;
            log::warn!(
                "upstream {}: {available} of {members} endpoints are available, fewer than {threshold}: all are used",
                self.upstream
            );
        } else {
            log::info!("upstream {}: {available} of {members} endpoints are available: only those are used", self.upstream);
        }
    }
}
