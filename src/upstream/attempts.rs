//! The attempts of one request, or of one connection, at the endpoints of its upstream.
//!
//! The one loop for everybody who sends something there: both drivers of HTTP, calls of filters, and layer 4. It says who is next
//! and whether there is another; what went wrong it is told as [`Again`].

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use smallvec::SmallVec;

use super::{Again, Pinned, Upstream};
use crate::{
    endpoint::{Endpoint, InFlight},
    resilience::{Backoff, Entry, Failure, Permit, RetryPolicy, Tries},
};

/// How long a place in the queue is waited for where nothing else limits that.
const PATIENCE: Duration = Duration::from_secs(30);

/// Tries of one request that its endpoints refused to process. An endpoint that refuses everything must not be asked forever.
const UNPROCESSED: u8 = 3;

/// Why there is no attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// So many are in flight and so many wait that this one is turned away.
    QueueFull,
    /// Its turn did not come in time.
    QueueTimeout,
    /// No endpoint may take it.
    NoEndpoint,
}

impl Stop {
    /// The word for the log.
    pub const fn reason(self) -> &'static str {
        match self {
            Stop::QueueFull => "queue_full",
            Stop::QueueTimeout => "queue_timeout",
            Stop::NoEndpoint => "no_endpoint",
        }
    }
}

/// May what was sent be sent once more?
#[derive(Debug, Clone, Copy)]
pub struct Replay {
    /// The method may be carried out twice with the effect of once (RFC 9110 section 9.2.2).
    pub idempotent: bool,
    /// All of the body that was read is still at hand.
    pub at_hand: bool,
    /// There is time left for it.
    pub in_time: bool,
}

/// Is there another attempt?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Granted {
    /// There is, and it is paid for.
    Yes,
    /// There is none.
    No,
    /// There would be, but the upstream's budget for retries has nothing left.
    Broke,
}

impl Granted {
    fn free(granted: bool) -> Self {
        if granted { Granted::Yes } else { Granted::No }
    }
}

/// The next attempt.
#[derive(Debug)]
pub struct Next {
    /// Where it goes. It is counted there until this is dropped.
    pub guard: InFlight,
    /// How long to wait before: the same endpoint has just failed.
    pub wait: Option<Duration>,
    /// A pooled connection was found closed, so that this one needs a connection of its own.
    pub anew: bool,
}

/// What is kept from attempt to attempt.
#[derive(Debug)]
pub struct Attempts {
    upstream: Arc<Upstream>,
    /// The session that the request belongs to, where those stay with an endpoint.
    pinned: Option<Pinned>,
    /// Its place among the requests in flight on that upstream, where those are limited. All attempts keep it.
    permit: Option<Permit>,
    /// The endpoints that were tried, in order.
    tried: SmallVec<[Arc<Endpoint>; 2]>,
    /// Attempts made. One that found a pooled connection closed is none.
    made: u8,
    /// A pooled connection was found closed: that is forgiven once.
    stale: bool,
    /// Attempts that endpoints have refused to process.
    unprocessed: u8,
    /// The next attempt is for one of these reasons, and may go to the same endpoint at once.
    forgiven: bool,
}

impl Attempts {
    /// At this upstream. None was made.
    pub fn new(upstream: Arc<Upstream>) -> Self {
        Self {
            upstream,
            pinned: None,
            permit: None,
            tried: SmallVec::new(),
            made: 0,
            stale: false,
            unprocessed: 0,
            forgiven: false,
        }
    }
    /// The upstream.
    pub fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }
    /// The session that the request belongs to.
    pub fn pinned(&self) -> Option<&Pinned> {
        self.pinned.as_ref()
    }
    /// It belongs to this session.
    pub fn stay_with(&mut self, pinned: Option<Pinned>) {
        self.pinned = pinned;
    }
    /// Its place, where those are limited.
    pub fn permit(&self) -> Option<&Permit> {
        self.permit.as_ref()
    }
    /// Gives its place away: to whoever holds it from now on.
    pub fn into_permit(self) -> Option<Permit> {
        self.permit
    }
    /// None was made.
    pub fn is_first(&self) -> bool {
        self.tried.is_empty()
    }
    /// Was a pooled connection found closed?
    pub fn is_stale(&self) -> bool {
        self.stale
    }

    /// Gets a place among those in flight, where that is limited, and waits for it no longer than this. Returns the wait.
    ///
    /// # Errors
    /// When there is none.
    pub async fn enter(&mut self, left: Option<Duration>) -> Result<Duration, Stop> {
        let Some((entry, limits)) = self.upstream.enter() else { return Ok(Duration::ZERO) };
        match entry {
            Entry::Admitted(permit) => {
                self.permit = Some(permit);
                Ok(Duration::ZERO)
            }
            Entry::Refused => Err(Stop::QueueFull),
            Entry::Queued(turn) => {
                let began = Instant::now();
                let patience = limits.queue_timeout.limit().into_iter().chain(left).min().unwrap_or(PATIENCE);
                let turn = tokio::time::timeout(patience, turn).await;
                let permit = turn.map_err(|_| Stop::QueueTimeout)?.map_err(|_| Stop::QueueTimeout)?;
                self.permit = Some(permit);
                Ok(began.elapsed())
            }
        }
    }

    /// The endpoint of the next attempt. `key` is what the upstream's strategy goes by.
    ///
    /// # Errors
    /// When no endpoint may take it.
    pub fn next(&mut self, key: &[u8], policy: &RetryPolicy) -> Result<Next, Stop> {
        let guard = self.stay().or_else(|| self.take(key, policy)).ok_or(Stop::NoEndpoint)?;
        let anew = std::mem::take(&mut self.forgiven);
        let again = self.tried.iter().filter(|tried| Arc::ptr_eq(tried, guard.endpoint())).count();
        let wait = (again > 0 && !anew).then(|| Backoff::wait(again as u8, &mut rand::rng()));
        self.made += 1;
        self.tried.push(guard.endpoint().clone());
        Ok(Next { guard, wait, anew })
    }

    /// The endpoint of the request's session: at first, and again when all that failed was a connection that it had
    /// closed while nobody used it, which is no reason to lose a session.
    fn stay(&self) -> Option<InFlight> {
        let pinned = self.pinned.as_ref()?;
        let may = self.tried.last().is_none_or(|last| self.forgiven && pinned.is_with(last));
        if may { pinned.enter() } else { None }
    }

    /// An endpoint that was not tried; where that may be, else any but the last one, else any.
    fn take(&self, key: &[u8], policy: &RetryPolicy) -> Option<InFlight> {
        let (upstream, tried) = (&self.upstream, &self.tried);
        let Some(last) = tried.last() else { return upstream.take(key, tried) };
        let but_last = std::slice::from_ref(last);
        if self.forgiven {
            // What was tried has not failed: it comes before those that are left alone.
            return upstream.take(key, tried).or_else(|| upstream.take(key, but_last)).or_else(|| upstream.take(key, &[]));
        }
        let another = upstream.take_another(key, tried);
        if !policy.same_endpoint() {
            return another;
        }
        another.or_else(|| upstream.take_another(key, but_last)).or_else(|| upstream.take(key, &[]))
    }

    /// Is there another attempt after one that failed? A yes has paid for it.
    pub fn again(&mut self, again: Again, policy: &RetryPolicy, replay: Replay) -> Granted {
        match again {
            Again::Never => Granted::No,
            Again::Listed { failure, free } => match self.is_possible(failure, policy, replay) {
                false => Granted::No,
                true if free => Granted::Yes,
                true => self.withdraw(),
            },
            Again::Once => Granted::free(self.forgive(replay)),
            Again::Unprocessed => {
                self.unprocessed += 1;
                Granted::free(replay.at_hand && self.unprocessed <= UNPROCESSED && self.forgive(replay))
            }
        }
    }

    fn is_possible(&self, failure: Failure, policy: &RetryPolicy, replay: Replay) -> bool {
        let tries = Tries { made: self.made, idempotent: replay.idempotent, replayable: replay.at_hand };
        policy.calls_for_another(failure, tries)
            && replay.in_time
            && (policy.same_endpoint() || self.upstream.has_another(&self.tried))
    }

    /// The attempt that just ended counts for nothing, and the next one may go to the same endpoint at once.
    fn forgive(&mut self, replay: Replay) -> bool {
        self.forgiven = replay.in_time;
        if self.forgiven {
            self.stale = true;
            self.made = self.made.saturating_sub(1);
        }
        self.forgiven
    }

    fn withdraw(&self) -> Granted {
        if self.upstream.withdraw_retry(Instant::now()) { Granted::Yes } else { Granted::Broke }
    }
}
