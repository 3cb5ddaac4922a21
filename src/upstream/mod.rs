//! Layer 3: a named pool of endpoints with everything needed to send a request to one of them.

mod spec;

pub use spec::{ConnectionsSpec, EndpointSpec, Protocol, UpstreamSpec, UpstreamTlsSpec};

use crate::types::Name;

/// A named pool of endpoints.
#[derive(Debug)]
pub struct Upstream {
    name: Name,
}

impl Upstream {
    /// An upstream without endpoints, for tests of what only refers to one.
    pub fn new_for_test(name: &str) -> Self {
        Self { name: name.parse().expect("tests use valid names") }
    }
    /// Its name.
    pub fn name(&self) -> &Name {
        &self.name
    }
}
