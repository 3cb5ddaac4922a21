//! Requests in flight per weight.

use std::cmp::Ordering;

use crate::endpoint::Endpoint;

/// Requests in flight per weight, compared without dividing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    in_flight: u64,
    weight: u64,
}

impl Load {
    pub(super) fn of(endpoint: &Endpoint) -> Self {
        Self { in_flight: endpoint.in_flight().into(), weight: endpoint.weight().into() }
    }
    pub(super) fn compare(self, other: Self) -> Ordering {
        (self.in_flight * other.weight).cmp(&(other.in_flight * self.weight))
    }
}
