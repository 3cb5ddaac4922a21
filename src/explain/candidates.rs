//! The endpoints that may get a request, with their state and load, and the one that would.

use std::{sync::Arc, time::Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    endpoint::Endpoint,
    types::{Client, RequestHead},
    upstream::Upstream,
};

/// An upstream that gets the request, or may.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Share {
    /// The upstream.
    pub upstream: String,
    /// Its share of the route's requests, 0 to 1, where a split draws.
    pub share: Option<f64>,
    /// The kind of its strategy.
    pub strategy: String,
    /// So few of its endpoints are available that all are used.
    pub panic: bool,
    /// Its endpoints.
    pub candidates: Vec<Candidate>,
    /// The one that would get the request.
    pub pick: Option<Pick>,
}

/// An endpoint that would get the request.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Pick {
    /// The endpoint.
    pub endpoint: String,
    /// Why: `strategy`, or `session` where the request's cookie names it.
    pub by: String,
    /// False where the strategy draws by lot, so that the next request may get another.
    pub certain: bool,
}

/// An endpoint, as it is now.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Candidate {
    /// Its address.
    pub endpoint: String,
    /// It may be chosen.
    pub available: bool,
    /// How it stands: `healthy`, `unhealthy`, `open`, `half_open` or `draining`.
    pub state: String,
    /// Why it stands so.
    pub reason: String,
    /// Its share of the traffic relative to the others.
    pub weight: u32,
    /// Its group: 0 is used first.
    pub priority: u8,
    /// Its availability zone.
    pub zone: Option<String>,
    /// Requests that it is serving.
    pub in_flight: u32,
    /// Half of the recent answers were faster than this.
    pub p50_ms: f64,
}

impl Candidate {
    fn of(endpoint: &Endpoint, panicking: bool) -> Self {
        let (situation, stats) = (endpoint.situation(), endpoint.stats());
        let may = endpoint.is_clear() || endpoint.may_take(Instant::now());
        Self {
            endpoint: endpoint.label().to_string(),
            available: if panicking { !endpoint.is_draining() } else { may },
            state: situation.condition.word().into(),
            reason: situation.reason.to_string(),
            weight: endpoint.weight(),
            priority: endpoint.priority(),
            zone: endpoint.zone().map(str::to_owned),
            in_flight: endpoint.in_flight(),
            p50_ms: stats.p50_ms,
        }
    }
}

impl Share {
    pub(super) fn of(upstream: &Arc<Upstream>, share: Option<f64>, head: &RequestHead<'_>, client: &Client) -> Self {
        let session = upstream.pinned(head, super::now());
        let pick = match session.as_ref().and_then(|session| session.look()) {
            Some(endpoint) => Some(Pick { endpoint: endpoint.label().to_string(), by: "session".into(), certain: true }),
            None => upstream.look(&upstream.key(head, client)).map(|(endpoint, certain)| Pick {
                endpoint: endpoint.label().to_string(),
                by: "strategy".into(),
                certain,
            }),
        };
        let panic = upstream.is_panicking();
        Self {
            upstream: upstream.name().to_string(),
            share,
            strategy: upstream.spec().strategy.kind().into(),
            panic,
            candidates: upstream.endpoints().iter().map(|endpoint| Candidate::of(endpoint, panic)).collect(),
            pick,
        }
    }
}
