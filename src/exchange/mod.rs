//! Layer 6: the program of one exchange, whoever moves its bytes.
//!
//! It names no driver and nothing of Pingora. It works on [`http::request::Parts`], a [`Connection`] and a clock, and holds everything
//! that is decided about one request; a driver ([`crate::lane`], [`crate::proxy`]) asks it what comes next, and tells it what happened.
//!
//! | file | owns |
//! |---|---|
//! | `connection` | what all requests of one connection share |
//! | `prepare` | what an intermediary changes in the request |
//! | `decide` | from a request to its answer or its upstream; the way to a route, which `explain` asks, too |
//! | `attempts` | the attempt under way: its endpoint, its stage, its limits, what its end means |
//! | `back` | what the endpoint says of its own paths and addresses, as the client must read it |
//! | `answered` | the response's head: is it HTTP, what is changed, how its body is framed |
//! | `body` | bodies on their way through |
//! | `fresh` | how a request takes part in the cache, and a stored response that answers it |
//! | `reply` | answers of Weir's own |
//! | `end` | exactly one outcome, on every path |

mod answered;
mod attempts;
mod back;
mod body;
mod connection;
mod decide;
mod door;
mod end;
mod fields;
mod filters;
mod fresh;
mod prepare;
mod reply;
mod told;
mod trace;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

pub use answered::{Framing, Origin, Plan, Received};
pub use attempts::Attempting;
pub use body::{DRAIN, LINGER};
pub use connection::{Began, Connection};
pub use decide::{Asked, Decision, Way, way};
pub use door::{Attendance, Door, Doors};
pub use fields::Settled;
pub use fresh::{Fresh, Looks};
pub use prepare::{Prepared, prepare};
pub use reply::{Answer, Own, refusal_length, refusal_reply, render_refusal, standard_head};
pub use told::Told;

use http::HeaderValue;

use crate::{
    filter::{Back, Keeping, Pass, Passage},
    gate::{Admitted, BodyFraming},
    observe::{Observer, Outcome, RequestGuard},
    route::Route,
    snapshot::Snapshot,
    types::{Client, Stage},
    upstream::{Attempts, Upstream, Verdict},
};

/// One request. It reports its outcome exactly once: when its driver says that it is over, or when it is dropped before.
pub struct Exchange {
    /// The connection it came on.
    pub connection: Arc<Connection>,
    /// What the gate found.
    pub admitted: Admitted,
    /// When it began.
    pub began: Began,
    /// The configuration that serves it.
    pub snapshot: Arc<Snapshot>,
    /// The client, as trusted proxies have it.
    pub client: Client,
    /// The route.
    pub route: Option<Arc<Route>>,
    /// The filters that it passes.
    pub filters: Passage,
    /// What filters say about keeping the answer.
    pub keeping: Keeping,
    /// When the whole exchange must be over.
    pub deadline: Option<Instant>,
    /// When the response header of the attempt under way must be there.
    pub answer_by: Option<Instant>,
    /// Our entry in Via.
    pub via: Option<&'static str>,
    /// What filters have decided on of the fields that are written behind them.
    pub settled: Settled,
    /// The path and query to forward instead of the client's own.
    pub rewritten: Option<String>,
    /// How the answer is mapped back.
    back: Back,
    /// The Host that a filter has set.
    named: Option<HeaderValue>,
    /// The attempts at the upstream that serves it.
    pub attempts: Option<Attempts>,
    /// The attempt that is under way.
    pub attempt: Option<Attempting>,
    /// The verdict on the last attempt that failed.
    pub verdict: Option<Verdict>,
    /// The whole request has come from the client.
    pub uploaded: bool,
    /// Bytes of the request's body that were passed on.
    pub body_in: u64,
    /// Bytes of the response's body that were passed on to be sent.
    pub body_out: u64,
    /// The client was told to go on with its body.
    pub continued: bool,
    /// The whole response went to the client, whatever becomes of the rest of the request.
    pub answered: bool,
    /// What is known of it.
    pub outcome: Outcome,
    /// Where outcomes go.
    pub observer: Arc<Observer>,
    /// It is made for no client.
    pub behind: bool,
    /// The request asked why it went where it went.
    told: Option<Box<Told>>,
    in_flight: Option<RequestGuard>,
    idempotent: bool,
    finished: bool,
}

impl Exchange {
    /// A request that the gate has admitted.
    pub fn new(
        connection: Arc<Connection>,
        mut admitted: Admitted,
        began: Began,
        snapshot: Arc<Snapshot>,
        observer: Arc<Observer>,
    ) -> Self {
        let client = Client {
            ip: connection.peer,
            port: connection.port,
            scheme: connection.scheme(),
            listener: connection.listener.name.clone(),
            tls: connection.tls.clone(),
            whereabouts: snapshot.whereabouts(),
        };
        let filters = Passage {
            listener: Pass::new(snapshot.listener_filters.get(&client.listener).cloned().unwrap_or_default()),
            route: Pass::default(),
        };
        let mut outcome = connection.begin(snapshot.generation, began);
        outcome.http = Some(admitted.http);
        (outcome.host, outcome.path) = (std::mem::take(&mut admitted.host), std::mem::take(&mut admitted.path));
        Self {
            uploaded: matches!(admitted.body, BodyFraming::None | BodyFraming::Length(0)),
            connection,
            admitted,
            began,
            snapshot,
            client,
            route: None,
            filters,
            keeping: Keeping::default(),
            deadline: None,
            answer_by: None,
            via: None,
            settled: Settled::default(),
            rewritten: None,
            back: Back::default(),
            named: None,
            attempts: None,
            attempt: None,
            verdict: None,
            body_in: 0,
            body_out: 0,
            continued: false,
            answered: false,
            outcome,
            observer,
            behind: false,
            told: None,
            in_flight: None,
            idempotent: false,
            finished: false,
        }
    }

    /// The same request once more, from now, for no client: as its filters had left it.
    pub fn again_behind(&self) -> Self {
        let mut behind =
            Self::new(self.connection.clone(), self.admitted.clone(), Began::now(), self.snapshot.clone(), self.observer.clone());
        behind.behind = true;
        behind.client = self.client.clone();
        behind.route = self.route.clone();
        behind.filters = Passage::default();
        behind.deadline = self.route.as_ref().and_then(|route| route.timeout).map(|timeout| behind.began.at + timeout);
        behind.via = self.via;
        behind.settled = self.settled;
        behind.rewritten = self.rewritten.clone();
        behind.attempts = self.upstream().cloned().map(Attempts::new);
        behind.idempotent = true;
        behind.outcome.request_id = self.outcome.request_id.clone();
        behind.outcome.method = "GET".into();
        behind.outcome.host = self.outcome.host.clone();
        behind.outcome.path = self.outcome.path.clone();
        behind.outcome.route = self.outcome.route.clone();
        behind.outcome.upstream = self.outcome.upstream.clone();
        behind
    }

    /// The upstream that serves it.
    pub fn upstream(&self) -> Option<&Arc<Upstream>> {
        self.attempts.as_ref().map(Attempts::upstream)
    }

    /// Does it ask for an upgrade?
    pub fn upgrades(&self) -> bool {
        self.admitted.upgrade.is_some()
    }

    /// Time left of the whole exchange; `None` without a deadline, zero when it has passed.
    pub fn time_left(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Has the whole exchange taken too long?
    pub fn is_late(&self) -> bool {
        self.time_left().is_some_and(|left| left.is_zero())
    }

    /// How far the attempt under way has come.
    pub fn stage(&self) -> Stage {
        self.attempt.as_ref().map_or(Stage::Connecting, Attempting::stage)
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.cancelled();
    }
}
