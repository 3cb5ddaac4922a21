//! Counting requests in flight, as a guard.

use std::sync::Arc;

use super::Endpoint;

/// One request in flight on an endpoint. Dropping it, on whatever path, counts the request out.
#[derive(Debug)]
pub struct InFlight(Arc<Endpoint>);

impl InFlight {
    pub(super) fn new(endpoint: Arc<Endpoint>) -> Self {
        endpoint.state.enter();
        Self(endpoint)
    }
    /// The endpoint.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.state.leave();
    }
}
