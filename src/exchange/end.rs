//! The end of a request: what its client gets after a failure, and one outcome, whatever happened.

use super::{Answer, Exchange, trace};
use crate::{
    filter::Passage,
    types::{Cause, Phase, Reply, Who},
    upstream::{Fault, Verdict},
};

impl Exchange {
    /// What the client gets after this verdict. `None` when there is nobody to answer, which the outcome then tells.
    pub fn conclude(&mut self, verdict: Verdict) -> Option<Box<Answer>> {
        let Verdict { status, who, cause, reason, .. } = verdict;
        if status.is_none() && self.outcome.cause.is_none() {
            // What was decided on before the client left stands.
            (self.outcome.who, self.outcome.cause, self.outcome.reason) = (who, Some(cause), reason);
        }
        let reply = Reply::status(status?);
        Some(Box::new(Answer { reply, stream: None, cause: Some(cause), reason, who }))
    }

    /// The answer after a failure, as the route has it: the log and the metrics still tell why.
    pub fn settle(&mut self, mut answer: Box<Answer>) -> Box<Answer> {
        if let Some(cause) = answer.cause
            && let Some(fallback) = self.fallback(cause, answer.who)
        {
            answer.reply = fallback;
        }
        (self.outcome.cause, self.outcome.reason, self.outcome.who) = (answer.cause, answer.reason, answer.who);
        answer
    }

    /// What the route answers when no endpoint has.
    fn fallback(&self, cause: Cause, who: Who) -> Option<Reply> {
        let upstreams_fault = who != Who::Client && matches!(cause.status(), 502..=504);
        self.route.as_ref()?.fallback.clone().filter(|_| upstreams_fault)
    }

    /// The request ended in the ordinary way. The driver has filled in what only it knows: bytes, and the status that was sent.
    pub fn finish(&mut self) {
        if self.finished {
            return;
        }
        if self.outcome.cause.is_none() {
            self.outcome.phase = Phase::Done;
        }
        self.report();
    }

    /// The exchange ended in this fault, and nobody can be answered any more.
    pub fn broke_off(&mut self, fault: Fault) {
        if self.finished {
            return;
        }
        // A piece that was on its way counts as sent.
        (self.outcome.bytes_in, self.outcome.bytes_out) = (self.body_in, self.body_out);
        let verdict = fault.judge(self.stage());
        if verdict.who == Who::Upstream || verdict.counts {
            self.attempt_failed(&verdict);
        }
        (self.outcome.who, self.outcome.cause, self.outcome.reason) = (verdict.who, Some(verdict.cause), verdict.reason);
        if let Some(status) = verdict.status.filter(|_| self.outcome.status == 0) {
            // The stream is reset, since its task is gone; in the log it is what it would be on HTTP/1.
            self.outcome.status = status;
        }
        self.report();
    }

    /// The request's task ended before its end: its client reset the stream, or a drain had no time left for it.
    pub(super) fn cancelled(&mut self) {
        let fault = if self.connection.is_cut() { Fault::Drained } else { Fault::Cancelled };
        self.broke_off(fault);
    }

    fn report(&mut self) {
        self.finished = true;
        self.attempt_abandoned();
        trace::finish(self);
        self.attempt = None;
        self.attempts = None;
        // With what filters hold for the request: a place among those in flight, say.
        self.filters = Passage::default();
        self.in_flight = None;
        self.outcome.times.total = self.began.at.elapsed();
        if self.behind {
            self.observer.fetched(&self.outcome);
        } else {
            self.observer.finished(&self.outcome);
        }
    }
}
