//! Every endpoint that this process knows, by upstream and address.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;

use super::Endpoint;
use crate::types::{Address, Name};

/// Hands out the one [`Endpoint`] of an upstream and address, so that what was learned about it outlives
/// the snapshot that named it. Endpoints that no snapshot uses any more are forgotten.
#[derive(Debug, Default)]
pub struct EndpointRegistry(Mutex<HashMap<(Name, Address), Weak<Endpoint>>>);

impl EndpointRegistry {
    /// The endpoint, made if it is new. Its weight becomes `weight`.
    pub fn get(&self, upstream: &Name, address: &Address, weight: u32, zone: Option<Arc<str>>) -> Arc<Endpoint> {
        let mut known = self.0.lock();
        known.retain(|_, endpoint| endpoint.strong_count() > 0);
        let key = (upstream.clone(), address.clone());
        if let Some(endpoint) = known.get(&key).and_then(Weak::upgrade)
            && endpoint.zone() == zone.as_deref()
        {
            endpoint.set_weight(weight);
            return endpoint;
        }
        let endpoint = Arc::new(Endpoint::new(upstream.clone(), address.clone(), weight, zone));
        known.insert(key, Arc::downgrade(&endpoint));
        endpoint
    }
}
