//! What subscribers get once a second: everything that moves.

use schemars::JsonSchema;
use serde::Serialize;

use super::{
    listeners::Listener,
    overview::Overview,
    routes::{NamedTraffic, RouteTraffic},
    upstreams::Upstream,
};
use crate::admin::AdminState;

/// Everything that moves, at one moment.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::admin) struct Snapshot {
    overview: Overview,
    listeners: Vec<Listener>,
    /// The traffic of each route. What a route matches is in `/api/v1/routes`.
    routes: Vec<NamedTraffic>,
    /// Requests that no route matched, or that were refused before one was looked for.
    unrouted: RouteTraffic,
    upstreams: Vec<Upstream>,
}

impl Snapshot {
    pub(in crate::admin) fn read(state: &AdminState) -> Self {
        let moment = state.live.moment(state);
        Self {
            overview: Overview::read(state, &moment),
            listeners: Listener::all(state, &moment),
            routes: NamedTraffic::all(state, &moment),
            unrouted: RouteTraffic::unrouted(state, &moment),
            upstreams: Upstream::all(&moment),
        }
    }
}
