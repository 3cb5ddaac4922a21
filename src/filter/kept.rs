//! What filters hold over a reload: counters, caches, pools of connections.

use std::{
    any::{Any, TypeId},
    cell::RefCell,
    collections::HashMap,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;

use super::{Service, Services};
use crate::types::Name;

/// Hands out the one state of a filter, so that it outlives the snapshot that named it. What no snapshot uses
/// any more is forgotten. Clones share everything.
#[derive(Debug, Default, Clone)]
pub struct Kept(Arc<Mutex<HashMap<Key, Weak<dyn Any + Send + Sync>>>>);

/// Whose it is, what it is for, and its type.
type Key = (String, TypeId);

impl Kept {
    fn shared<T: Any + Send + Sync>(&self, name: String, make: impl FnOnce() -> T) -> Arc<T> {
        let kept = &mut self.0.lock();
        let key = (name, TypeId::of::<T>());
        let known = kept.get(&key).and_then(Weak::upgrade).and_then(|known| known.downcast().ok());
        known.unwrap_or_else(|| {
            // As many as there are filters with state, so looking through them all costs a reload little.
            kept.retain(|_, known| known.strong_count() > 0);
            let made: Arc<T> = Arc::new(make());
            let weak: Weak<dyn Any + Send + Sync> = Arc::downgrade(&made) as _;
            kept.insert(key, weak);
            made
        })
    }
}

/// Where a list of filters stands, while it is compiled: at a listener, in a named chain, in a route.
#[derive(Debug)]
pub struct Scope<'k> {
    kept: &'k Kept,
    services: &'k Services,
    owner: String,
    /// How often each identity was asked for in this list.
    seen: RefCell<HashMap<String, usize>>,
}

impl<'k> Scope<'k> {
    /// `owner` is one of a kind: `route api`, `chain standard`, `listener edge`.
    pub(super) fn new(kept: &'k Kept, services: &'k Services, owner: String) -> Self {
        Self { kept, services, owner, seen: RefCell::default() }
    }

    /// The upstream of that name, for asking it something. `None` for a name that leads nowhere, which has been
    /// reported.
    pub fn service(&self, name: &Name) -> Option<Arc<dyn Service>> {
        self.services.get(name)
    }

    /// The list's owner, as in `route api`.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// The state of a filter that is to outlive a reload. `identity` says what makes it the same filter as before:
    /// its kind, and of its options those that give the state its meaning, so that changing another keeps it.
    /// Of several alike in one list the first remains the first.
    pub fn shared<T: Any + Send + Sync>(&self, identity: &str, make: impl FnOnce() -> T) -> Arc<T> {
        self.shared_named(identity, make).1
    }

    /// As [`Self::shared`], with the name that it goes by, which is the same on every edge with this configuration.
    pub fn shared_named<T: Any + Send + Sync>(&self, identity: &str, make: impl FnOnce() -> T) -> (String, Arc<T>) {
        let nth = {
            let mut seen = self.seen.borrow_mut();
            let nth = seen.entry(identity.to_owned()).or_default();
            *nth += 1;
            *nth
        };
        let name = format!("{}, {identity}, {nth}", self.owner);
        let shared = self.kept.shared(name.clone(), make);
        (name, shared)
    }

    /// As [`Self::shared`], one for all filters everywhere that name it alike: a connection to a server, say.
    pub fn shared_by_all<T: Any + Send + Sync>(&self, identity: &str, make: impl FnOnce() -> T) -> Arc<T> {
        self.kept.shared(identity.to_owned(), make)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_is_kept_while_anyone_uses_it_by_owner_identity_and_place() {
        let (kept, services) = (Kept::default(), Services::default());
        let compile = |owner: &str, numbers: [u32; 2]| {
            let scope = Scope::new(&kept, &services, owner.into());
            numbers.map(|number| scope.shared("rate_limit client_ip", || number))
        };
        let first = compile("route a", [1, 2]);
        assert_eq!((*first[0], *first[1]), (1, 2), "two alike in one list are two");
        assert_eq!(compile("route a", [3, 4]).map(|kept| *kept), [1, 2]);
        assert_eq!(compile("route b", [3, 4]).map(|kept| *kept), [3, 4], "another owner's are others");
        drop(first);
        assert_eq!(compile("route a", [5, 6]).map(|kept| *kept), [5, 6], "nobody used them, so they were forgotten");
        assert!(kept.0.lock().len() <= 2, "and the forgotten take no room");
        let (a, b) = (Scope::new(&kept, &services, "route a".into()), Scope::new(&kept, &services, "route b".into()));
        let one = a.shared_by_all("redis", || 1_u8);
        assert!(Arc::ptr_eq(&one, &b.shared_by_all("redis", || 2_u8)));
    }
}
