//! What all responses on one client connection may hold together.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// Held by any response, whatever the others hold: enough to go on with, so that one that its client does not want yet stops no other.
pub(super) const LEAST: usize = 4 * 1024;

/// Held by all responses of a connection together beyond their [`LEAST`].
///
/// A byte that waits is in memory twice at worst: Pingora copies what it reads from HTTP/1 endpoints. So 100 responses, which is what a
/// connection may have by default, hold 2 x (100 x 4 KiB + 96 KiB), just under 1 MiB.
const SHARED: usize = 96 * 1024;

/// Responses of a connection that get an HTTP/2 endpoint's larger window.
const LARGE_WINDOWS: usize = 8;

/// One connection's budget.
#[derive(Debug)]
pub struct Allowance {
    left: AtomicUsize,
    large: AtomicUsize,
}

impl Allowance {
    /// Nothing is held.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { left: AtomicUsize::new(SHARED), large: AtomicUsize::new(LARGE_WINDOWS) })
    }

    fn take(&self, wanted: usize) -> usize {
        let taken = self.left.fetch_update(Relaxed, Relaxed, |left| Some(left - wanted.min(left)));
        taken.unwrap_or_default().min(wanted)
    }

    fn give(&self, back: usize) {
        self.left.fetch_add(back, Relaxed);
    }
}

/// What one response has of it. Given back when it is dropped.
#[derive(Debug)]
pub struct Share {
    of: Arc<Allowance>,
    borrowed: usize,
    large: bool,
}

impl Share {
    /// Of a response that begins now.
    pub fn new(of: &Arc<Allowance>) -> Self {
        let large = of.large.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok();
        Self { of: of.clone(), borrowed: 0, large }
    }

    /// Is it among the few that may use the larger window of an HTTP/2 endpoint?
    pub(super) fn is_large(&self) -> bool {
        self.large
    }

    /// How much may be held when this much is, and more is wanted. Borrows what is there.
    pub(super) fn limit(&mut self, held: usize, most: usize) -> usize {
        let missing = most.saturating_sub(LEAST + self.borrowed);
        if held + LEAST > self.borrowed && missing > 0 {
            self.borrowed += self.of.take(missing);
        }
        LEAST + self.borrowed
    }

    /// This much is held now: gives back what is not needed for it.
    pub(super) fn shrink(&mut self, held: usize) {
        let spare = self.borrowed.saturating_sub(held.saturating_sub(LEAST));
        if spare > 0 {
            self.borrowed -= spare;
            self.of.give(spare);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.of.give(self.borrowed);
        if self.large {
            self.of.large.fetch_add(1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 24 * 1024;

    #[test]
    fn responses_share_what_there_is_and_each_has_its_least() {
        let allowance = Allowance::new();
        let mut shares: Vec<_> = (0..100).map(|_| Share::new(&allowance)).collect();
        let limits: Vec<_> = shares.iter_mut().map(|share| share.limit(0, MOST)).collect();
        assert_eq!(limits[0], MOST);
        assert_eq!(limits[99], LEAST);
        assert_eq!(limits.iter().sum::<usize>(), 100 * LEAST + SHARED);
        assert_eq!(shares.iter().filter(|share| share.is_large()).count(), LARGE_WINDOWS);
        shares[0].shrink(LEAST + 1);
        assert_eq!(shares[99].limit(LEAST, MOST), MOST - 1);
        drop(shares);
        assert_eq!((allowance.left.load(Relaxed), allowance.large.load(Relaxed)), (SHARED, LARGE_WINDOWS));
    }
}
