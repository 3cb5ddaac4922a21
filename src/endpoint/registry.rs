//! Every endpoint that this process knows, by upstream and address.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    num::NonZeroU32,
    sync::{Arc, Weak, atomic::AtomicU64},
};

use parking_lot::Mutex;

use super::{Endpoint, Mode, Place, Pool, Witness, witness::Witnessed};
use crate::types::{Address, Name};

/// Hands out the one [`Endpoint`] of an upstream and address, so that what was learned about it outlives
/// the snapshot that named it. Endpoints that no snapshot uses any more are forgotten. Clones share everything.
#[derive(Debug, Default, Clone)]
pub struct EndpointRegistry(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    endpoints: HashMap<(Name, Address), Weak<Endpoint>>,
    pools: HashMap<Name, Weak<Pool>>,
    /// The size at which those that are gone are swept out: twice what was left by the last sweep, so that
    /// sweeping costs a constant per endpoint and the dead are never more than the living.
    sweep_at: usize,
    changes: Arc<AtomicU64>,
    witnessed: Witnessed,
    discovered: HashMap<(Name, Box<str>), Weak<Discovered>>,
    shared: HashMap<(Name, TypeId), Weak<dyn Any + Send + Sync>>,
    common: HashMap<TypeId, Weak<dyn Any + Send + Sync>>,
    /// What operators ordered, also for endpoints that are not there now.
    orders: HashMap<(Name, Address), Orders>,
}

/// What an operator ordered about one endpoint, for as long as the process lives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Orders {
    /// Another weight than the one that it was given.
    pub weight: Option<NonZeroU32>,
    /// Whether it takes requests.
    pub mode: Mode,
}

impl Orders {
    fn give(self, endpoint: &Endpoint) {
        endpoint.order_weight(self.weight);
        endpoint.set_mode(self.mode);
    }
}

/// The endpoints that one source found last, for the next configuration with the same source to begin with.
#[derive(Debug, Default)]
pub struct Discovered(Mutex<Vec<Arc<Endpoint>>>);

impl Discovered {
    /// What was found last.
    pub fn get(&self) -> Vec<Arc<Endpoint>> {
        self.0.lock().clone()
    }
    /// Replaces it.
    pub fn set(&self, endpoints: Vec<Arc<Endpoint>>) {
        *self.0.lock() = endpoints;
    }
}

impl Known {
    fn sweep(&mut self) {
        if self.endpoints.len() >= self.sweep_at {
            self.endpoints.retain(|_, endpoint| endpoint.strong_count() > 0);
            self.pools.retain(|_, pool| pool.strong_count() > 0);
            self.sweep_at = (self.endpoints.len() * 2).max(16);
        }
    }

    fn pool(&mut self, upstream: &Name) -> Arc<Pool> {
        let known = self.pools.get(upstream).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            let pool = Arc::new(Pool::new(upstream.clone(), self.witnessed.clone()));
            self.pools.insert(upstream.clone(), Arc::downgrade(&pool));
            pool
        })
    }
}

impl EndpointRegistry {
    /// Tells changes of state to this witness, from now on. The first one stays.
    pub fn witnessed_by(&self, witness: Arc<dyn Witness>) {
        self.0.lock().witnessed.by(witness);
    }

    /// The pool that an upstream's endpoints are counted in.
    pub fn pool(&self, upstream: &Name) -> Arc<Pool> {
        self.0.lock().pool(upstream)
    }

    /// The endpoint, made with this weight if it is new. One that is known keeps the weight it has: a
    /// configuration that is compiled and then refused must not change what is being served. An endpoint
    /// whose place changed is a new one.
    pub fn get(&self, upstream: &Name, address: &Address, weight: u32, place: Place) -> Arc<Endpoint> {
        let mut known = self.0.lock();
        known.sweep();
        let key = (upstream.clone(), address.clone());
        if let Some(endpoint) = known.endpoints.get(&key).and_then(Weak::upgrade)
            && *endpoint.place() == place
        {
            return endpoint;
        }
        let (pool, changes) = (known.pool(upstream), known.changes.clone());
        let endpoint = Arc::new(Endpoint::in_pool(upstream.clone(), address.clone(), weight, place, pool, changes));
        if let Some(orders) = known.orders.get(&key) {
            orders.give(&endpoint);
        }
        known.endpoints.insert(key, Arc::downgrade(&endpoint));
        endpoint
    }

    /// Carries out what an operator orders about an endpoint, now and whenever it comes back.
    pub fn order(&self, upstream: &Name, address: &Address, change: impl FnOnce(&mut Orders)) {
        let mut known = self.0.lock();
        let key = (upstream.clone(), address.clone());
        let orders = known.orders.entry(key.clone()).or_default();
        change(orders);
        let orders = *orders;
        if orders == Orders::default() {
            known.orders.remove(&key);
        }
        let endpoint = known.endpoints.get(&key).and_then(Weak::upgrade);
        drop(known);
        if let Some(endpoint) = endpoint {
            orders.give(&endpoint);
        }
    }

    /// What this source of an upstream found, kept while anyone uses it.
    pub fn discovered(&self, upstream: &Name, source: &str) -> Arc<Discovered> {
        let mut known = self.0.lock();
        known.discovered.retain(|_, found| found.strong_count() > 0);
        let key = (upstream.clone(), source.into());
        if let Some(found) = known.discovered.get(&key).and_then(Weak::upgrade) {
            return found;
        }
        let found = Arc::new(Discovered::default());
        known.discovered.insert(key, Arc::downgrade(&found));
        found
    }

    /// What all upstreams share, one of each type: kept while anyone uses it.
    pub fn common<T: Any + Default + Send + Sync>(&self) -> Arc<T> {
        let common = &mut self.0.lock().common;
        let known = common.get(&TypeId::of::<T>()).and_then(Weak::upgrade).and_then(|known| known.downcast().ok());
        known.unwrap_or_else(|| {
            let made = Arc::<T>::default();
            let weak: Weak<dyn Any + Send + Sync> = Arc::downgrade(&made) as _;
            common.insert(TypeId::of::<T>(), weak);
            made
        })
    }

    /// What all requests to an upstream share, one of each type: kept, like the endpoints, while anyone uses it.
    pub fn shared<T: Any + Send + Sync>(&self, upstream: &Name, make: impl FnOnce() -> T) -> Arc<T> {
        let shared = &mut self.0.lock().shared;
        let key = (upstream.clone(), TypeId::of::<T>());
        let known = shared.get(&key).and_then(Weak::upgrade).and_then(|known| known.downcast().ok());
        known.unwrap_or_else(|| {
            // As many as there are upstreams, so looking through them all costs a reload little.
            shared.retain(|_, known| known.strong_count() > 0);
            let made: Arc<T> = Arc::new(make());
            let weak: Weak<dyn Any + Send + Sync> = Arc::downgrade(&made) as _;
            shared.insert(key, weak);
            made
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::HealthStatus;

    #[test]
    fn an_endpoint_keeps_what_was_learned_while_anyone_uses_it() {
        let registry = EndpointRegistry::default();
        let (upstream, address): (Name, Address) = ("api".parse().unwrap(), "127.0.0.1:1".parse().unwrap());
        let first = registry.get(&upstream, &address, 1, Place::default());
        first.set_health(HealthStatus::Unhealthy, "status 503");
        let again = registry.get(&upstream, &address, 7, Place::default());
        assert!(Arc::ptr_eq(&first, &again));
        assert_eq!(again.weight(), 1, "compiling alone changes nothing");
        assert!(
            registry.get(&"web".parse().unwrap(), &address, 1, Place::default()).is_healthy(),
            "another upstream's is another"
        );
        drop((first, again));
        assert!(registry.get(&upstream, &address, 1, Place::default()).is_healthy(), "nobody used it, so it was forgotten");
        for host in 0..=255 {
            registry.get(&upstream, &format!("127.0.1.{host}:1").parse().unwrap(), 1, Place::default());
        }
        assert!(registry.0.lock().endpoints.len() <= 16, "and forgotten endpoints take no room");
    }
    #[test]
    fn orders_outlive_the_endpoint_and_other_weights() {
        let registry = EndpointRegistry::default();
        let (upstream, address): (Name, Address) = ("api".parse().unwrap(), "127.0.0.1:1".parse().unwrap());
        let endpoint = registry.get(&upstream, &address, 1, Place::default());
        registry.order(&upstream, &address, |orders| orders.weight = NonZeroU32::new(7));
        registry.order(&upstream, &address, |orders| orders.mode = Mode::Disabled);
        endpoint.set_weight(3);
        assert_eq!((endpoint.weight(), endpoint.mode()), (7, Mode::Disabled));
        assert!(!endpoint.may_take(std::time::Instant::now()));
        drop(endpoint);
        let again = registry.get(&upstream, &address, 2, Place::default());
        assert_eq!((again.weight(), again.mode()), (7, Mode::Disabled));
        registry.order(&upstream, &address, |orders| *orders = Orders::default());
        assert_eq!((again.weight(), again.mode()), (2, Mode::Enabled));
        assert!(again.is_clear() && registry.0.lock().orders.is_empty());
    }

    #[test]
    fn what_a_source_found_is_kept_while_anyone_uses_it() {
        let registry = EndpointRegistry::default();
        let upstream: Name = "api".parse().unwrap();
        let before = registry.discovered(&upstream, "dns a:1");
        before.set(vec![registry.get(&upstream, &"127.0.0.1:1".parse().unwrap(), 1, Place::default())]);
        assert_eq!(registry.clone().discovered(&upstream, "dns a:1").get().len(), 1);
        assert!(registry.discovered(&upstream, "dns b:1").get().is_empty(), "another source");
        assert!(registry.discovered(&"web".parse().unwrap(), "dns a:1").get().is_empty(), "another upstream");
        drop(before);
        assert!(registry.discovered(&upstream, "dns a:1").get().is_empty());
    }

    #[test]
    fn what_is_shared_is_one_per_upstream_and_type() {
        let registry = EndpointRegistry::default();
        let (api, web): (Name, Name) = ("api".parse().unwrap(), "web".parse().unwrap());
        let first = registry.shared(&api, || 1_u32);
        assert_eq!(
            (*registry.shared(&api, || 2_u32), *registry.shared(&api, || 3_u64), *registry.shared(&web, || 4_u32)),
            (1, 3, 4)
        );
        drop(first);
        assert_eq!(*registry.shared(&api, || 5_u32), 5);
        assert_eq!(registry.0.lock().shared.len(), 1);
    }
}
