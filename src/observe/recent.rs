//! The last errors, for an operator who asks what just went wrong.

use std::{collections::VecDeque, net::IpAddr, sync::Arc, time::SystemTime};

use parking_lot::Mutex;

use super::Outcome;
use crate::types::{Cause, Name, Phase, RequestId, Who};

/// Errors kept: a page to look at. The log has them all.
const KEPT: usize = 100;
/// Bytes kept of the host and the path, so that a hundred long paths cannot add up.
const TEXT: usize = 256;

/// One exchange that ended in an error.
#[derive(Debug, Clone)]
pub struct RecentError {
    /// When the request arrived.
    pub at: SystemTime,
    /// Its id, to find it in the log.
    pub request_id: RequestId,
    /// The client.
    pub client: IpAddr,
    /// The method.
    pub method: String,
    /// The host, shortened.
    pub host: String,
    /// The canonical path, shortened. May hold anything a client sent.
    pub path: String,
    /// The route.
    pub route: Option<Name>,
    /// The upstream.
    pub upstream: Option<Name>,
    /// The endpoint of the last attempt.
    pub endpoint: Option<Arc<str>>,
    /// Why the last attempt failed, in words, where the cause alone does not say it.
    pub detail: Option<Box<str>>,
    /// The status sent, 0 for none.
    pub status: u16,
    /// The error's type.
    pub cause: Cause,
    /// The gate's or a filter's word.
    pub reason: Option<&'static str>,
    /// Who ended it.
    pub who: Who,
    /// How far it came.
    pub phase: Phase,
}

/// A ring of the last errors. Its lock is taken for errors only, and held for a push.
#[derive(Debug, Default)]
pub struct Recent(Mutex<VecDeque<RecentError>>);

impl Recent {
    /// Keeps the exchange if it ended in an error.
    pub fn finished(&self, outcome: &Outcome) {
        let Some(cause) = outcome.error() else { return };
        let shortened = |text: &str| text[..text.floor_char_boundary(TEXT)].to_owned();
        let error = RecentError {
            at: outcome.started,
            request_id: outcome.request_id.clone(),
            client: outcome.client,
            method: shortened(&outcome.method),
            host: shortened(&outcome.host),
            path: shortened(&outcome.path),
            route: outcome.route.clone(),
            upstream: outcome.upstream.clone(),
            endpoint: outcome.attempts.last().map(|attempt| attempt.endpoint.clone()),
            detail: outcome.attempts.last().and_then(|attempt| attempt.detail.clone()),
            status: outcome.status,
            cause,
            reason: outcome.reason,
            who: outcome.who,
            phase: outcome.phase,
        };
        let mut ring = self.0.lock();
        let oldest = if ring.len() >= KEPT { ring.pop_front() } else { None };
        ring.push_back(error);
        drop(ring);
        drop(oldest); // Freed outside the lock.
    }

    /// What is kept, the newest first.
    pub fn errors(&self) -> Vec<RecentError> {
        self.0.lock().iter().rev().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::testing::outcome;

    #[test]
    fn the_last_hundred_errors_newest_first() {
        let recent = Recent::default();
        recent.finished(&outcome());
        for status in 400..550 {
            let path = "é".repeat(1000).into();
            recent.finished(&Outcome { status, path, cause: Some(Cause::HttpProtocolError), ..outcome() });
        }
        let errors = recent.errors();
        assert_eq!((errors.len(), errors[0].status, errors[KEPT - 1].status), (KEPT, 549, 450));
        assert!(errors.iter().all(|error| error.path.len() <= TEXT));
    }
}
