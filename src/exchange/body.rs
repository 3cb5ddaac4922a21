//! Bodies on their way through: counted, bounded, and never buffered here.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Answer, Exchange};
use crate::{
    filter::{RequestPiece, Verdict},
    gate::Refusal,
    types::{Cause, Reply},
};

/// How long the rest of a request body is waited for once the response is complete. As long as an idle client of others.
pub const LINGER: Duration = Duration::from_secs(5);
/// What is left of a request body when its answer is complete is read for this long, so that the connection can live on.
pub const DRAIN: Duration = Duration::from_secs(5);

/// A body gets this long before its rate is judged.
const RATE_GRACE: Duration = Duration::from_secs(10);

impl Exchange {
    /// A piece of the request body, of this length, is about to go on. Not of a tunnel: what passes there is no body. Its bytes are
    /// asked for when a filter wants to see them.
    ///
    /// # Errors
    /// What to answer instead.
    pub fn request_piece(&mut self, length: usize, end: bool, bytes: impl FnOnce() -> Bytes) -> Result<(), Box<Answer>> {
        if end {
            self.uploaded = true;
            self.request_is_whole(Instant::now());
        }
        if length == 0 && !end {
            return Ok(());
        }
        self.body_in += length as u64;
        if self.is_late() {
            return Err(late());
        }
        if !end && self.is_too_slow() {
            return Err(Answer::refused(Refusal::BodyTooSlow));
        }
        if !self.filters.sees_request_body() {
            return Ok(());
        }
        match self.filters.request_body(&RequestPiece { bytes: &bytes(), so_far: self.body_in, end }) {
            // There is nothing to wait with: the upstream has the head, and bytes are coming.
            Verdict::Continue | Verdict::Later(_) => Ok(()),
            Verdict::Answer { reply, reason } | Verdict::Stream { reply, reason, .. } => {
                Err(Answer::weir(reply, Cause::HttpRequestDenied, reason))
            }
        }
    }

    /// A piece of the response body is about to go on: what is too late is cut, visibly; filters see and change the rest.
    ///
    /// # Errors
    /// Why the response is cut, as the answer that it would have been.
    pub fn response_piece(&mut self, piece: &mut Bytes, end: bool) -> Result<(), Box<Answer>> {
        if self.filters.wants_response_body() {
            let passed = self.filters.response_body(piece, end);
            passed.map_err(|reason| Answer::weir(Reply::status(500), Cause::ProxyInternalError, reason))?;
        }
        self.response_moved(piece.len(), end)
    }

    /// The same for a piece of this length that no filter wants.
    ///
    /// # Errors
    /// As [`Exchange::response_piece`].
    pub fn response_moved(&mut self, length: usize, end: bool) -> Result<(), Box<Answer>> {
        if self.is_late() {
            return Err(late());
        }
        self.body_out += length as u64;
        self.answered |= end;
        Ok(())
    }

    /// Has the client begun to send its body, or was it told to?
    pub fn sends_its_body(&self) -> bool {
        self.continued || self.body_in > 0 || !self.admitted.expect_continue
    }

    /// Is the body slower than the listener puts up with? A response under way is not judged.
    fn is_too_slow(&self) -> bool {
        let min = self.connection.listener.http.min_body_rate.each_second();
        let took = self.began.at.elapsed();
        self.outcome.status == 0 && took > RATE_GRACE && (self.body_in as f64) < min * took.as_secs_f64()
    }
}

fn late() -> Box<Answer> {
    Answer::weir(Reply::status(504), Cause::HttpResponseTimeout, "timeout")
}
