//! A row: one behaviour, and what is to come of it whatever the versions of HTTP on the two sides.

use super::{Pair, message::Script};

/// How a message is to arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrives {
    Whole,
    /// It begins, and can be told from one that is whole.
    Cut,
    /// Not at all.
    Never,
    /// It begins; whether it comes to its end is nobody's business.
    Any,
    /// It may have begun, and is not whole: how far it came is a race.
    NotWhole,
    /// Nobody can tell.
    Whatever,
}

/// What is to come of a row. `None` is what follows from what was sent and answered.
#[derive(Debug, Clone, Default)]
pub struct Want {
    pub status: Option<u16>,
    pub response: Option<Arrives>,
    pub body: Option<Vec<u8>>,
    pub interim: Option<Vec<u16>>,
    /// The code with which the stream is reset.
    pub reset: Option<u32>,
    pub response_has: Vec<(&'static str, String)>,
    pub response_lacks: Vec<&'static str>,
    /// Of each request that comes to an endpoint.
    pub requests: Option<Vec<Arrives>>,
    pub request_has: Vec<(&'static str, String)>,
    pub request_lacks: Vec<&'static str>,
    pub logged_status: Option<u16>,
    pub who: Option<&'static str>,
    pub kind: Option<&'static str>,
    pub reason: Option<&'static str>,
    pub attempts: Option<Vec<String>>,
    pub errors: Option<u64>,
    /// The last endpoint is told that its answer is not wanted.
    pub cancelled: bool,
    /// A library answers before anybody could write a line.
    pub unlogged: bool,
    /// What was sent is not compared with what was logged of it.
    pub uncounted: bool,
}

/// One behaviour.
#[derive(Debug, Clone)]
pub struct Row {
    pub name: &'static str,
    pub pair: Pair,
    /// Why the row says nothing about this pair.
    pub skipped: Option<&'static str>,
    /// Why more or less is expected of this pair than of others.
    pub notes: Vec<&'static str>,
    /// Further keys of the route.
    pub route: &'static str,
    /// Further keys of its `connections`.
    pub connections: &'static str,
    pub endpoints: usize,
    /// Another request leaves a connection in the pool first.
    pub warm: bool,
    pub request: Script,
    pub answers: Vec<Script>,
    pub want: Want,
}

/// A row of which everything is to arrive as it was sent.
pub fn row<const N: usize>(pair: Pair, name: &'static str, request: Script, answers: [Script; N]) -> Row {
    Row {
        name,
        pair,
        skipped: None,
        notes: Vec::new(),
        route: "",
        connections: "",
        endpoints: 1,
        warm: false,
        request,
        answers: answers.into(),
        want: Want::default(),
    }
}

impl Row {
    /// Says nothing about other pairs than these.
    pub fn only(mut self, reason: &'static str, when: impl Fn(Pair) -> bool) -> Self {
        if !when(self.pair) {
            self.skipped = Some(reason);
        }
        self
    }
    /// Something else is expected of these pairs.
    pub fn differs(mut self, reason: &'static str, when: impl Fn(Pair) -> bool, change: impl FnOnce(Self) -> Self) -> Self {
        if !when(self.pair) {
            return self;
        }
        self.notes.push(reason);
        change(self)
    }
    pub fn route(mut self, keys: &'static str) -> Self {
        self.route = keys;
        self
    }
    pub fn connections(mut self, keys: &'static str) -> Self {
        self.connections = keys;
        self
    }
    pub fn endpoints(mut self, count: usize) -> Self {
        self.endpoints = count;
        self
    }
    pub fn warm(mut self) -> Self {
        self.warm = true;
        self
    }
    /// The status that the client gets, and with it the body of an answer of ours, which is not compared.
    pub fn status(mut self, status: u16) -> Self {
        self.want.status = Some(status);
        self
    }
    pub fn response(mut self, arrives: Arrives) -> Self {
        self.want.response = Some(arrives);
        self
    }
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.want.body = Some(body.as_ref().to_vec());
        self
    }
    pub fn interim(mut self, statuses: &[u16]) -> Self {
        self.want.interim = Some(statuses.to_vec());
        self
    }
    pub fn reset(mut self, code: u32) -> Self {
        self.want.reset = Some(code);
        self
    }
    pub fn response_has(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.want.response_has.push((name, value.into()));
        self
    }
    pub fn response_lacks(mut self, name: &'static str) -> Self {
        self.want.response_lacks.push(name);
        self
    }
    pub fn requests(mut self, arrive: &[Arrives]) -> Self {
        self.want.requests = Some(arrive.to_vec());
        self
    }
    pub fn request_has(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.want.request_has.push((name, value.into()));
        self
    }
    pub fn request_lacks(mut self, name: &'static str) -> Self {
        self.want.request_lacks.push(name);
        self
    }
    /// How the exchange ended, in the access log: who, and with which type and reason.
    pub fn ended(mut self, who: &'static str, kind: &'static str, reason: &'static str) -> Self {
        (self.want.who, self.want.kind, self.want.reason) = (Some(who), Some(kind), Some(reason));
        self
    }
    /// The status in the access log, where it is not what the client got.
    pub fn logged(mut self, status: u16) -> Self {
        self.want.logged_status = Some(status);
        self
    }
    /// The outcome of each attempt, in the access log.
    pub fn attempts(mut self, outcomes: &[&str]) -> Self {
        self.want.attempts = Some(outcomes.iter().map(|outcome| (*outcome).to_owned()).collect());
        self
    }
    /// The last endpoint is told that its answer is not wanted any more.
    pub fn cancelled(mut self) -> Self {
        self.want.cancelled = true;
        self
    }
    /// A library answers before anybody could write a line.
    pub fn unlogged(mut self) -> Self {
        self.want.unlogged = true;
        self
    }
    /// What was sent is not compared with what was logged of it.
    pub fn uncounted(mut self) -> Self {
        self.want.uncounted = true;
        self
    }
    /// How many failures were held against the endpoints.
    pub fn errors(mut self, count: u64) -> Self {
        self.want.errors = Some(count);
        self
    }
}
