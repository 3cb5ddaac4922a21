//! The `least_connections` strategy.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Strategy;
use crate::endpoint::Endpoint;

/// Options of `least_connections`: none.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LeastConnectionsSpec {}

impl LeastConnectionsSpec {
    pub(super) fn build(&self, endpoints: Vec<Arc<Endpoint>>) -> Box<dyn Strategy> {
        Box::new(LeastConnections { endpoints })
    }
}

#[derive(Debug)]
struct LeastConnections {
    endpoints: Vec<Arc<Endpoint>>,
}

impl Strategy for LeastConnections {
    fn first(&self, _key: &[u8]) -> Option<usize> {
        (!self.endpoints.is_empty()).then_some(0)
    }
    fn next(&self, _key: &[u8], first: usize, step: usize) -> Option<usize> {
        (step < self.endpoints.len()).then(|| (first + step) % self.endpoints.len())
    }
}
