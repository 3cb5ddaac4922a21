//! The filters that one request passes: those of its listener, then those of its route.

use bytes::Bytes;

use super::{After, BodyWish, Chain, FilterRequest, FilterResponse, RequestPiece, Slots, Verdict};

/// One chain, and what its filters keep of this request.
#[derive(Default)]
pub struct Pass {
    chain: Chain,
    slots: Slots,
}

impl Pass {
    /// A request before this chain.
    pub fn new(chain: Chain) -> Self {
        Self { chain, slots: Slots::default() }
    }

    /// True when there is nothing to run.
    pub fn is_empty(&self) -> bool {
        self.chain.is_empty()
    }

    /// See [`Chain::request`].
    pub fn request(&mut self, request: &mut FilterRequest<'_>) -> Verdict {
        self.chain.request(request, &mut self.slots)
    }

    /// See [`Chain::resume`].
    pub fn resume(&mut self, after: After, request: &mut FilterRequest<'_>) -> Verdict {
        self.chain.resume(after, request, &mut self.slots)
    }
}

/// Both chains. Bodies and responses see them as one: requests run through the listener's filters first, responses
/// through the route's.
#[derive(Default)]
pub struct Passage {
    /// The listener's filters, which run before a route is chosen, and for requests that no route serves.
    pub listener: Pass,
    /// The route's.
    pub route: Pass,
}

impl Passage {
    /// True when a filter wants to see the request body.
    pub fn sees_request_body(&self) -> bool {
        self.listener.chain.sees_request_body() || self.route.chain.sees_request_body()
    }

    /// Shows a piece of the request body to the filters that want it.
    pub fn request_body(&mut self, piece: &RequestPiece<'_>) -> Verdict {
        match self.listener.chain.request_body(piece, &mut self.listener.slots) {
            Verdict::Continue => self.route.chain.request_body(piece, &mut self.route.slots),
            verdict => verdict,
        }
    }

    /// Runs the response pass. What the filters want of the body is in `response.wish` afterwards.
    pub fn response(&mut self, response: &mut FilterResponse<'_>) {
        self.route.chain.response(response, &mut self.route.slots);
        let wish = response.wish;
        self.listener.chain.response(response, &mut self.listener.slots);
        response.wish = response.wish.max(wish);
    }

    /// True when a filter asked for the body of the response under way.
    pub fn wants_response_body(&self) -> bool {
        self.route.slots.wish.max(self.listener.slots.wish) != BodyWish::Nothing
    }

    /// Runs a piece of the response body through the filters that asked for it.
    ///
    /// # Errors
    /// The word of the filter that could not go on. The response must be cut.
    pub fn response_body(&mut self, piece: &mut Bytes, end: bool) -> Result<(), &'static str> {
        self.route.chain.response_body(piece, end, &mut self.route.slots)?;
        self.listener.chain.response_body(piece, end, &mut self.listener.slots)
    }
}
