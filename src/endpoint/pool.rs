//! What the endpoints of one upstream know of each other: how many there are and how many are out.
//!
//! Two decisions are made about all of them together: whether one more may be left alone, and whether so few
//! are left that all must be used. Both follow from counts that change only when an endpoint's state does.

use std::{
    collections::HashSet,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;

use super::{Endpoint, EndpointSettings};
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
}

#[derive(Debug)]
struct Tally {
    counts: Counts,
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

impl Pool {
    /// A pool without members.
    pub(super) fn new(upstream: Name) -> Self {
        let tally = Tally { counts: Counts::default(), threshold: Ratio::percent(0), settling: false };
        Self { upstream, members: Mutex::default(), tally: Mutex::new(tally), panicking: AtomicBool::new(false) }
    }

    /// Are so few endpoints available that all are used? One load.
    pub fn is_panicking(&self) -> bool {
        self.panicking.load(Relaxed)
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

    /// An endpoint adds something else from now on.
    pub(super) fn count(&self, before: Counts, after: Counts) {
        if before != after {
            self.settle(|tally| tally.counts.replace(before, after));
        }
    }

    /// An endpoint is no more, which is no reason for conclusions.
    pub(super) fn forget(&self, counts: Counts) {
        self.tally.lock().counts.replace(counts, Counts::default());
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
        let panicking = (available as f64) < tally.threshold.get() * members as f64;
        if self.panicking.swap(panicking, Relaxed) == panicking {
            return;
        }
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
