//! The filters of one route, in order.

use std::sync::Arc;

use bytes::Bytes;
use http::header;

use super::{After, BodyWish, Filter, FilterRequest, FilterResponse, RequestPiece, Slot, Verdict};

/// Filters in order. Requests pass them forwards, responses backwards.
#[derive(Debug, Clone, Default)]
pub struct Chain {
    /// `None` rather than empty: an empty `Arc` would still be counted, by every request, on one cache line.
    filters: Option<Arc<[Arc<dyn Filter>]>>,
    sees_request_body: bool,
}

/// What the filters of a chain keep of one request, and how far it came.
#[derive(Default)]
pub struct Slots {
    places: Vec<Place>,
    entered: usize,
    /// What any of the filters wants of the response body.
    pub(super) wish: BodyWish,
}

/// One filter's part of them.
#[derive(Default)]
struct Place {
    slot: Slot,
    /// What this filter wants of the response body.
    wish: BodyWish,
}

impl Chain {
    /// A chain of these filters.
    pub fn new(filters: Vec<Arc<dyn Filter>>) -> Self {
        let sees_request_body = filters.iter().any(|filter| filter.sees_request_body());
        Self { filters: (!filters.is_empty()).then(|| filters.into()), sees_request_body }
    }

    /// True when there is nothing to run.
    pub fn is_empty(&self) -> bool {
        self.filters.is_none()
    }

    /// The kinds, in order.
    pub fn kinds(&self) -> impl Iterator<Item = &'static str> {
        self.filters().iter().map(|filter| filter.kind())
    }

    /// The filters, in order.
    pub fn filters(&self) -> &[Arc<dyn Filter>] {
        self.filters.as_deref().unwrap_or_default()
    }

    /// True when a filter wants to see the request body.
    pub fn sees_request_body(&self) -> bool {
        self.sees_request_body
    }

    /// Runs the request pass. An answer stops it. So does [`Verdict::Later`]: [`Chain::resume`] goes on from there.
    pub fn request(&self, request: &mut FilterRequest<'_>, slots: &mut Slots) -> Verdict {
        slots.places.resize_with(self.filters().len(), Place::default);
        slots.entered = 0;
        self.go_on(request, slots)
    }

    fn go_on(&self, request: &mut FilterRequest<'_>, slots: &mut Slots) -> Verdict {
        while let Some(filter) = self.filters().get(slots.entered) {
            let place = &mut slots.places[slots.entered];
            slots.entered += 1;
            match filter.request(request, &mut place.slot) {
                Verdict::Continue => {}
                verdict => return verdict,
            }
        }
        Verdict::Continue
    }

    /// Goes on with the request pass: first what the filter wants that had to wait, then the filters behind it.
    pub fn resume(&self, after: After, request: &mut FilterRequest<'_>, slots: &mut Slots) -> Verdict {
        let Some(place) = slots.entered.checked_sub(1).and_then(|last| slots.places.get_mut(last)) else {
            return Verdict::Continue;
        };
        match after(request, &mut place.slot) {
            Verdict::Continue => self.go_on(request, slots),
            verdict => verdict,
        }
    }

    /// Shows a piece of the request body to the filters that want it.
    pub fn request_body(&self, piece: &RequestPiece<'_>, slots: &mut Slots) -> Verdict {
        for (filter, place) in self.filters().iter().zip(&mut slots.places) {
            if filter.sees_request_body() {
                match filter.request_body(piece, &mut place.slot) {
                    Verdict::Continue => {}
                    verdict => return verdict,
                }
            }
        }
        Verdict::Continue
    }

    /// Runs the response pass over the filters that the request entered, last first.
    pub fn response(&self, response: &mut FilterResponse<'_>, slots: &mut Slots) {
        let mut wish = BodyWish::Nothing;
        for (filter, place) in self.filters().iter().zip(&mut slots.places).take(slots.entered).rev() {
            response.wish = BodyWish::Nothing;
            filter.response(response, &mut place.slot);
            if response.wish == BodyWish::Replace {
                // At once: a filter before this one must not believe it.
                response.fields.remove(&header::CONTENT_LENGTH);
            }
            place.wish = response.wish;
            wish = wish.max(response.wish);
        }
        (slots.wish, response.wish) = (wish, wish);
    }

    /// Runs a piece of the response body through the filters that asked for it, last first.
    ///
    /// # Errors
    /// The word of the filter that could not go on.
    pub fn response_body(&self, piece: &mut Bytes, end: bool, slots: &mut Slots) -> Result<(), &'static str> {
        if slots.wish == BodyWish::Nothing {
            return Ok(());
        }
        for (filter, place) in self.filters().iter().zip(&mut slots.places).take(slots.entered).rev() {
            if place.wish != BodyWish::Nothing && (end || !piece.is_empty()) {
                filter.response_body(piece, end, &mut place.slot)?;
            }
        }
        Ok(())
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

    /// Asks somebody, and notes what it was told.
    #[derive(Debug)]
    struct Asking(Arc<Mutex<Vec<String>>>);

    impl Filter for Asking {
        fn kind(&self) -> &'static str {
            "asking"
        }
        fn request(&self, _: &mut FilterRequest<'_>, _: &mut Slot) -> Verdict {
            let seen = self.0.clone();
            Verdict::later(async move {
                seen.lock().push("asked".into());
                move |request: &mut FilterRequest<'_>, slot: &mut Slot| {
                    *slot = Some(Box::new("told"));
                    seen.lock().push(format!("told for {}", request.path));
                    Verdict::Continue
                }
            })
        }
        fn response(&self, _: &mut FilterResponse<'_>, slot: &mut Slot) {
            assert!(slot.as_ref().is_some_and(|slot| slot.is::<&'static str>()), "its own slot");
            self.0.lock().push("asking out".into());
        }
    }

    #[tokio::test]
    async fn a_verdict_that_comes_later_goes_on_behind_the_filter_that_asked() {
        let (around, seen) = chain(&[("a", false), ("b", false)]);
        let asking: Arc<dyn Filter> = Arc::new(Asking(seen.clone()));
        let [a, b] = around.filters() else { panic!("two") };
        let chain = Chain::new(vec![a.clone(), asking, b.clone()]);
        let mut exchange = Exchange::default();
        let later = exchange.begin(&chain).expect_err("it waits");
        assert_eq!(*seen.lock(), ["a in"], "nothing is asked before it is waited for");
        let after = later.wait().await;
        exchange.resume(&chain, after);
        exchange.response(&chain, 200);
        assert_eq!(*seen.lock(), ["a in", "asked", "told for /", "b in", "b out 200", "asking out", "a out 200"]);
    }
}
