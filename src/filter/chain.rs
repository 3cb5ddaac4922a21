//! The filters of one route, in order.

use std::sync::Arc;

use super::{Filter, FilterRequest, FilterResponse, Slot, Verdict};

/// The filters of one route. Requests pass it forwards, responses backwards.
#[derive(Debug, Clone, Default)]
pub struct Chain {
    filters: Arc<[Arc<dyn Filter>]>,
    sees_request_body: bool,
}

/// What the filters of a chain keep of one request, and how far it came.
#[derive(Default)]
pub struct Slots {
    slots: Vec<Slot>,
    entered: usize,
}

impl Chain {
    /// A chain of these filters.
    pub fn new(filters: Vec<Arc<dyn Filter>>) -> Self {
        let sees_request_body = filters.iter().any(|filter| filter.sees_request_body());
        Self { filters: filters.into(), sees_request_body }
    }

    /// The kinds, in order.
    pub fn kinds(&self) -> impl Iterator<Item = &'static str> {
        self.filters.iter().map(|filter| filter.kind())
    }

    /// True when a filter wants to see the request body.
    pub fn sees_request_body(&self) -> bool {
        self.sees_request_body
    }

    /// Runs the request pass. An answer stops it.
    pub fn request(&self, request: &mut FilterRequest<'_>, slots: &mut Slots) -> Verdict {
        if self.filters.is_empty() {
            return Verdict::Continue;
        }
        slots.slots.resize_with(self.filters.len(), || None);
        for (filter, slot) in self.filters.iter().zip(&mut slots.slots) {
            slots.entered += 1;
            if let answer @ Verdict::Answer { .. } = filter.request(request, slot) {
                return answer;
            }
        }
        Verdict::Continue
    }

    /// Shows a piece of the request body to the filters that want it.
    pub fn request_body(&self, so_far: u64, slots: &mut Slots) -> Verdict {
        for (filter, slot) in self.filters.iter().zip(&mut slots.slots) {
            if filter.sees_request_body()
                && let answer @ Verdict::Answer { .. } = filter.request_body(so_far, slot)
            {
                return answer;
            }
        }
        Verdict::Continue
    }

    /// Runs the response pass over the filters that the request entered, last first.
    pub fn response(&self, response: &mut FilterResponse<'_>, slots: &mut Slots) {
        for (filter, slot) in self.filters.iter().zip(&mut slots.slots).take(slots.entered).rev() {
            filter.response(response, slot);
        }
    }
}
