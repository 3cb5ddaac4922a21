//! What a strategy derives from the weights of its endpoints: kept until a weight changes.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;

use super::Among;
use crate::endpoint::Endpoint;

/// A value derived from endpoints and their weights, derived anew when a weight has changed.
///
/// Reading it costs one atomic load more than reading a value that never changes. While one request derives
/// it anew (milliseconds for a large table), the others go on with the one before.
pub(super) struct Derived<T> {
    current: ArcSwapOption<(u64, T)>,
    deriving: Mutex<()>,
    derive: Derive<T>,
}

type Derive<T> = Box<dyn Fn(&[Arc<Endpoint>]) -> T + Send + Sync>;

impl<T> Derived<T> {
    pub(super) fn new(derive: impl Fn(&[Arc<Endpoint>]) -> T + Send + Sync + 'static) -> Self {
        Self { current: ArcSwapOption::empty(), deriving: Mutex::new(()), derive: Box::new(derive) }
    }

    /// The value for the weights of now, or of a moment ago.
    pub(super) fn with<R>(&self, among: &Among<'_>, read: impl FnOnce(&T) -> R) -> R {
        // Read before the weights are: a change meanwhile makes the value stale, never the other way round.
        let changes = among.endpoints.first().map_or(0, |endpoint| endpoint.changes());
        let current = self.current.load();
        match &*current {
            Some(current) if current.0 == changes => read(&current.1),
            Some(before) => {
                let Some(_deriving) = self.deriving.try_lock() else { return read(&before.1) };
                read(&self.store(changes, among).1)
            }
            None => read(&self.store(changes, among).1),
        }
    }

    fn store(&self, changes: u64, among: &Among<'_>) -> Arc<(u64, T)> {
        let new = Arc::new((changes, (self.derive)(among.endpoints)));
        self.current.store(Some(new.clone()));
        new
    }
}

impl<T> fmt::Debug for Derived<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Derived").finish_non_exhaustive()
    }
}
