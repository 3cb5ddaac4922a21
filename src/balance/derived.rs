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
    current: ArcSwapOption<Current<T>>,
    deriving: Mutex<()>,
    derive: Derive<T>,
}

type Derive<T> = Box<dyn Fn(&[Arc<Endpoint>]) -> T + Send + Sync>;

struct Current<T> {
    /// [`Endpoint::changes`] before the weights were read.
    changes: u64,
    weights: Box<[u32]>,
    value: Arc<T>,
}

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
            Some(current) if current.changes == changes => read(&current.value),
            before => match (before, self.deriving.try_lock()) {
                (Some(before), None) => read(&before.value),
                (before, _deriving) => read(&self.renew(changes, before.as_deref(), among).value),
            },
        }
    }

    fn renew(&self, changes: u64, before: Option<&Current<T>>, among: &Among<'_>) -> Arc<Current<T>> {
        let weights: Box<[u32]> = among.endpoints.iter().map(|endpoint| endpoint.weight()).collect();
        // The change may have been another upstream's.
        let same = before.filter(|before| before.weights == weights).map(|before| before.value.clone());
        let value = same.unwrap_or_else(|| Arc::new((self.derive)(among.endpoints)));
        let new = Arc::new(Current { changes, weights, value });
        self.current.store(Some(new.clone()));
        new
    }
}

impl<T> fmt::Debug for Derived<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Derived").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use super::{super::Clock, *};
    use crate::endpoint::{EndpointRegistry, Place};

    #[test]
    fn only_a_change_of_its_own_weights_derives_anew() {
        let registry = EndpointRegistry::default();
        let endpoint =
            |upstream: &str| registry.get(&upstream.parse().unwrap(), &"127.0.0.1:1".parse().unwrap(), 1, Place::default());
        let (ours, other) = ([endpoint("ours")], endpoint("other"));
        let count = Arc::new(AtomicUsize::new(0));
        let derived = Derived::new({
            let count = count.clone();
            move |endpoints: &[Arc<Endpoint>]| {
                count.fetch_add(1, SeqCst);
                endpoints[0].weight()
            }
        });
        let read = || derived.with(&Among::new(&ours, &[], &Clock::default()), |weight| *weight);
        assert_eq!((read(), read(), count.load(SeqCst)), (1, 1, 1));
        other.set_weight(9);
        assert_eq!((read(), count.load(SeqCst)), (1, 1));
        ours[0].set_weight(2);
        assert_eq!((read(), read(), count.load(SeqCst)), (2, 2, 2));
    }
}
