//! The `ip_hash` strategy.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Strategy;
use crate::endpoint::Endpoint;

/// Options of `ip_hash`: none.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct IpHashSpec {}

impl IpHashSpec {
    pub(super) fn build(&self, endpoints: Vec<Arc<Endpoint>>) -> Box<dyn Strategy> {
        Box::new(IpHash { endpoints })
    }
}

#[derive(Debug)]
struct IpHash {
    endpoints: Vec<Arc<Endpoint>>,
}

impl Strategy for IpHash {
    fn first(&self, _key: &[u8]) -> Option<usize> {
        (!self.endpoints.is_empty()).then_some(0)
    }
    fn next(&self, _key: &[u8], first: usize, step: usize) -> Option<usize> {
        (step < self.endpoints.len()).then(|| (first + step) % self.endpoints.len())
    }
}
