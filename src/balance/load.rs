//! Requests in flight per weight.

use std::cmp::Ordering;

use super::Among;

/// Requests in flight per weight, compared without dividing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    in_flight: u64,
    weight: u64,
}

impl Load {
    pub(super) fn of(among: &Among<'_>, index: usize) -> Self {
        Self { in_flight: among.endpoint(index).in_flight().into(), weight: among.weight(index).into() }
    }
    pub(super) fn compare(self, other: Self) -> Ordering {
        (self.in_flight * other.weight).cmp(&(other.in_flight * self.weight))
    }
}
