//! The running snapshot.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::Snapshot;

/// Holds the snapshot that new requests pin. Only `control` replaces it.
#[derive(Debug)]
pub struct Store(ArcSwap<Snapshot>);

impl Store {
    /// A store that starts with this snapshot.
    pub fn new(snapshot: Snapshot) -> Self {
        Self(ArcSwap::from_pointee(snapshot))
    }
    /// The current snapshot.
    pub fn load(&self) -> Arc<Snapshot> {
        self.0.load_full()
    }
    /// Publishes another snapshot; requests under way keep theirs.
    pub fn publish(&self, snapshot: Snapshot) {
        self.0.store(Arc::new(snapshot));
    }
}
