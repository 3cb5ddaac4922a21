//! The `round_robin` strategy.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Strategy;
use crate::endpoint::Endpoint;

/// Options of `round_robin`: none.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RoundRobinSpec {}

impl RoundRobinSpec {
    pub(super) fn build(&self, endpoints: Vec<Arc<Endpoint>>) -> Box<dyn Strategy> {
        Box::new(RoundRobin { endpoints })
    }
}

#[derive(Debug)]
struct RoundRobin {
    endpoints: Vec<Arc<Endpoint>>,
}

impl Strategy for RoundRobin {
    fn first(&self, _key: &[u8]) -> Option<usize> {
        (!self.endpoints.is_empty()).then_some(0)
    }
    fn next(&self, _key: &[u8], first: usize, step: usize) -> Option<usize> {
        (step < self.endpoints.len()).then(|| (first + step) % self.endpoints.len())
    }
}
