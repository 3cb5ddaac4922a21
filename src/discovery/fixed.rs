//! The endpoints that the configuration lists.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use async_trait::async_trait;
use pingora_load_balancing::{Backend, discovery::ServiceDiscovery};
use tokio::sync::watch;

use super::backend;
use crate::endpoint::Endpoint;

/// A set of endpoints that changes only when it is replaced. Clones share the set.
#[derive(Debug, Clone)]
pub struct Fixed(Arc<watch::Sender<Arc<[Arc<Endpoint>]>>>);

impl Fixed {
    /// These endpoints.
    pub fn new(endpoints: impl Into<Arc<[Arc<Endpoint>]>>) -> Self {
        Self(Arc::new(watch::Sender::new(endpoints.into())))
    }
    /// The endpoints now.
    pub fn endpoints(&self) -> Arc<[Arc<Endpoint>]> {
        self.0.borrow().clone()
    }
    /// Replaces the set. Takes effect on requests with the load balancer's next `update`.
    pub fn replace(&self, endpoints: impl Into<Arc<[Arc<Endpoint>]>>) {
        self.0.send_replace(endpoints.into());
    }
    /// Tells of each replacement.
    pub fn watch(&self) -> watch::Receiver<Arc<[Arc<Endpoint>]>> {
        self.0.subscribe()
    }
}

#[async_trait]
impl ServiceDiscovery for Fixed {
    async fn discover(&self) -> pingora_core::Result<(BTreeSet<Backend>, HashMap<u64, bool>)> {
        Ok((self.endpoints().iter().filter_map(backend).collect(), HashMap::new()))
    }
}
