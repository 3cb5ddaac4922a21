//! What is kept of one request while Pingora serves it: the exchange, and what only this driver needs.

use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
};

use http::request::Parts;
use pingora_core::{Error, ErrorType};

use super::{Arrival, Link, caching::Caching};
use crate::{
    exchange::{Answer, Decision, Exchange},
    gate::Spelling,
    pace::{Deadlines, Pace},
    tunnel::Tunnel,
    types::Driver,
    upstream::{Fault, Hold},
};

/// One request in Pingora's phases.
pub struct RequestCtx {
    pub(super) exchange: Box<Exchange>,
    /// Its head as policy has left it, until Pingora has it.
    pub(super) request: Option<Parts>,
    /// How the client has spelt the names of its fields.
    pub(super) spelling: Spelling,
    /// What was decided, until that is carried out.
    pub(super) decision: Option<Decision>,
    /// The HTTP/1 stream it came on.
    pub(super) link: Option<Arc<Link>>,
    /// How much of it may be in this process.
    pub(super) pace: Arc<Pace>,
    /// The cache at work, where the route wants one. In a box: most routes do not.
    pub(super) caching: Option<Box<Caching>>,
    /// What Weir decided to answer, when a phase can only fail to say so.
    pub(super) decided: Option<Box<Answer>>,
    /// Of an attempt for a tunnel.
    pub(super) hold: Option<Hold>,
    /// The status that the endpoint answered with is worth another attempt, which is paid for.
    pub(super) retrying: bool,
    /// The end of the connection is the end of the response under way.
    pub(super) ends_with_connection: bool,
}

impl RequestCtx {
    pub(super) fn new(arrival: Arrival) -> Self {
        let Arrival { mut exchange, request, spelling, decision, link, pace } = arrival;
        exchange.outcome.driver = Some(Driver::Pingora);
        Self {
            exchange,
            request: Some(request),
            spelling,
            decision: Some(decision),
            link,
            pace,
            caching: None,
            decided: None,
            hold: None,
            retrying: false,
            ends_with_connection: false,
        }
    }

    /// The context of a request that is made behind another, to fetch for the cache what that one got stale.
    pub(super) fn behind(before: &Self, caching: Box<Caching>) -> Self {
        Self {
            exchange: Box::new(before.exchange.again_behind()),
            request: None,
            spelling: Spelling::default(),
            decision: None,
            link: None,
            pace: Pace::unpaced(),
            caching: Some(caching),
            decided: None,
            hold: None,
            retrying: false,
            ends_with_connection: false,
        }
    }

    /// The limits of the exchange.
    pub(super) fn deadlines(&self) -> &Deadlines {
        &self.pace.deadlines
    }

    /// The tunnel that it asks for.
    pub(super) fn tunnel(&self) -> Option<&Arc<Tunnel>> {
        self.link.as_ref()?.tunnel()
    }

    /// What was sent of the response is cut: its client must not take that for its end.
    pub(super) fn cut(&self) {
        if let Some(link) = self.link.as_ref().filter(|_| self.ends_with_connection) {
            link.break_off();
        }
    }

    /// Decides on an answer of Weir's own. The caller then fails its phase, and `fail` writes it.
    pub(super) fn decide(&mut self, answer: Box<Answer>) -> Box<Error> {
        let (status, reason) = (answer.reply.status.as_u16(), answer.reason.unwrap_or("answered"));
        self.decided = Some(answer);
        Error::explain(ErrorType::HTTPStatus(status), reason)
    }
}

impl Deref for RequestCtx {
    type Target = Exchange;
    fn deref(&self) -> &Exchange {
        &self.exchange
    }
}

impl DerefMut for RequestCtx {
    fn deref_mut(&mut self) -> &mut Exchange {
        &mut self.exchange
    }
}

impl Drop for RequestCtx {
    /// Pingora is cancelled before `logging` when the client resets its stream, a limit passes, or a drain has no time left.
    fn drop(&mut self) {
        if let Some(limit) = self.deadlines().take_passed() {
            let fault: Fault = self.exchange.overdue(limit);
            self.exchange.broke_off(fault);
        }
    }
}
