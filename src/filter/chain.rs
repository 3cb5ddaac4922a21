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

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use parking_lot::Mutex;

    use super::*;
    use crate::{filter::tests_support::Exchange, types::Reply};

    /// Writes down when it runs, and answers if it is told to.
    #[derive(Debug)]
    struct Probe {
        name: &'static str,
        answers: bool,
        seen: Arc<Mutex<Vec<String>>>,
    }

    impl Filter for Probe {
        fn kind(&self) -> &'static str {
            self.name
        }
        fn request(&self, _: &mut FilterRequest<'_>, slot: &mut Slot) -> Verdict {
            self.seen.lock().push(format!("{} in", self.name));
            *slot = Some(Box::new(self.name));
            match self.answers {
                true => Verdict::Answer { reply: Reply::status(403), reason: "probe" },
                false => Verdict::Continue,
            }
        }
        fn response(&self, response: &mut FilterResponse<'_>, slot: &mut Slot) {
            let own = slot.take().and_then(|slot| slot.downcast::<&'static str>().ok());
            assert_eq!(own.as_deref(), Some(&self.name), "each filter finds its own slot");
            self.seen.lock().push(format!("{} out {}", self.name, response.status));
            response.fields.set(HeaderName::from_static("x-last"), HeaderValue::from_static(self.name));
        }
    }

    fn chain(names: &[(&'static str, bool)]) -> (Chain, Arc<Mutex<Vec<String>>>) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let probe = |(name, answers): &(&'static str, bool)| -> Arc<dyn Filter> {
            Arc::new(Probe { name, answers: *answers, seen: seen.clone() })
        };
        (Chain::new(names.iter().map(probe).collect()), seen)
    }

    #[test]
    fn requests_pass_forwards_and_responses_backwards() {
        let (chain, seen) = chain(&[("a", false), ("b", false), ("c", false)]);
        let mut exchange = Exchange::default();
        exchange.request(&chain).unwrap();
        let fields = exchange.response(&chain, 200);
        assert_eq!(*seen.lock(), ["a in", "b in", "c in", "c out 200", "b out 200", "a out 200"]);
        assert_eq!(fields["x-last"], "a", "the first filter has the last word");
        assert_eq!(chain.kinds().collect::<Vec<_>>(), ["a", "b", "c"]);
    }

    #[test]
    fn an_answer_stops_the_way_in_and_passes_out_through_what_was_entered() {
        let (chain, seen) = chain(&[("a", false), ("b", true), ("c", false)]);
        let mut exchange = Exchange::default();
        let (reply, reason) = exchange.request(&chain).unwrap_err();
        assert_eq!((reply.status.as_u16(), reason), (403, "probe"));
        exchange.response(&chain, 403);
        assert_eq!(*seen.lock(), ["a in", "b in", "b out 403", "a out 403"]);
    }

    #[test]
    fn a_response_without_a_request_pass_meets_no_filter() {
        let (chain, seen) = chain(&[("a", false)]);
        Exchange::default().response(&chain, 408);
        assert!(seen.lock().is_empty());
        let empty = Chain::default();
        let mut exchange = Exchange::default();
        exchange.request(&empty).unwrap();
        assert!(exchange.response(&empty, 200).is_empty());
    }
}
