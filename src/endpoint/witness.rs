//! Who is told when an endpoint or a pool changes its state: one witness for all of a registry, told as it happens.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use super::{Condition, Situation};
use crate::types::Name;

/// A change of state.
#[derive(Debug)]
pub enum Change<'a> {
    /// An endpoint in service stands otherwise than before.
    Endpoint {
        /// Its upstream.
        upstream: &'a Name,
        /// Its address, as it is shown everywhere.
        endpoint: &'a Arc<str>,
        /// How it stood.
        before: Condition,
        /// How it stands, and why.
        now: Situation,
    },
    /// A pool uses all of its endpoints from now on, since too few are available; or only those again.
    Panic {
        /// The upstream.
        upstream: &'a Name,
        /// All are used.
        panicking: bool,
        /// Endpoints that are available, of all.
        available: (usize, usize),
    },
}

/// Wants to know of changes. Called on the thread that caused the change, at times under a lock of the pool's: it
/// must be quick and must not ask the endpoint or the pool anything.
pub trait Witness: Send + Sync {
    /// Something changed.
    fn saw(&self, change: &Change<'_>);
}

/// The witness of a registry, once there is one. Clones share it.
#[derive(Default, Clone)]
pub(super) struct Witnessed(Arc<OnceLock<Arc<dyn Witness>>>);

impl Witnessed {
    /// The first one stays.
    pub(super) fn by(&self, witness: Arc<dyn Witness>) {
        let _ = self.0.set(witness);
    }

    pub(super) fn tell(&self, change: &Change<'_>) {
        if let Some(witness) = self.0.get() {
            witness.saw(change);
        }
    }
}

impl fmt::Debug for Witnessed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Witnessed({})", self.0.get().is_some())
    }
}
