//! How many connections there may be at a time.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// Connections open now, against a bound that a reload may change. At the bound new ones are refused, so
/// that those being served are not starved.
#[derive(Debug, Clone, Default)]
pub struct ConnectionLimit(Arc<AtomicUsize>);

/// One connection that counts. Dropping it counts it out.
#[derive(Debug)]
pub struct Place(Arc<AtomicUsize>);

impl ConnectionLimit {
    /// A place among `max`, or `None` when all are taken.
    pub fn enter(&self, max: usize) -> Option<Place> {
        let entered = self.0.fetch_update(Relaxed, Relaxed, |open| (open < max).then_some(open + 1));
        entered.is_ok().then(|| Place(self.0.clone()))
    }
    /// Connections open now.
    pub fn open(&self) -> usize {
        self.0.load(Relaxed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_it_is_dropped() {
        let limit = ConnectionLimit::default();
        let place = limit.enter(1).unwrap();
        assert!(limit.enter(1).is_none());
        drop(place);
        assert!(limit.enter(1).is_some());
        assert_eq!(limit.open(), 0);
    }
}
