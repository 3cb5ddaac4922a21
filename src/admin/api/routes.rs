//! `/api/v1/routes`: which requests go where, and how they fare.

use std::{collections::HashMap, sync::Arc};

use axum::{Json, Router, extract::State, http::StatusCode, routing::get};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    super::{
        AdminState,
        live::{Moment, Rates, RouteMoment},
    },
    Document,
};
use crate::{
    observe::NO_ROUTE,
    route::{Action, Route as Compiled},
    types::Name,
};

/// What becomes of a request.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Does {
    /// It is forwarded to an upstream.
    Upstream,
    /// It is forwarded to one of several upstreams.
    Split,
    /// It is sent elsewhere.
    Redirect,
    /// It is answered.
    Respond,
}

/// An upstream of a route.
#[derive(Debug, Serialize, JsonSchema)]
struct Share {
    upstream: Name,
    /// The share of the route's requests that it gets by the configuration, 0 to 1.
    share: f64,
}

/// One route as it is configured.
#[derive(Debug, Serialize, JsonSchema)]
struct Route {
    name: Name,
    /// Its position in the file, from 0.
    index: usize,
    /// Its hosts; empty for every host.
    hosts: Vec<String>,
    /// Its path: exact, a prefix that ends in `/*`, or a regular expression.
    path: String,
    does: Does,
    /// Where it forwards to.
    upstreams: Vec<Share>,
    #[serde(flatten)]
    traffic: RouteTraffic,
}

/// What goes through one route.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::admin) struct RouteTraffic {
    /// Requests since the start.
    requests: u64,
    /// Requests being served.
    in_flight: u64,
    /// Over the last 5 to 10 seconds.
    traffic: Rates,
    /// Requests per second through each listener that has had any.
    listeners: Vec<ThroughListener>,
}

/// What comes to a route through one listener.
#[derive(Debug, Serialize, JsonSchema)]
struct ThroughListener {
    listener: String,
    requests_per_second: f64,
}

/// What goes through one route, by its name.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::admin) struct NamedTraffic {
    name: Name,
    #[serde(flatten)]
    traffic: RouteTraffic,
}

/// Reads the traffic of routes.
struct Traffic<'a> {
    moment: &'a Moment,
    in_flight: HashMap<String, u64>,
}

impl<'a> Traffic<'a> {
    fn new(state: &AdminState, moment: &'a Moment) -> Self {
        let mut in_flight = HashMap::new();
        state.metrics().in_flight(|route, count| {
            in_flight.insert(route.to_owned(), count);
        });
        Self { moment, in_flight }
    }

    fn of(&self, route: &str) -> RouteTraffic {
        let RouteMoment { rates, requests, listeners } = self.moment.routes.get(route).cloned().unwrap_or_default();
        let through =
            |(listener, requests_per_second): (Box<str>, f64)| ThroughListener { listener: listener.into(), requests_per_second };
        let in_flight = self.in_flight.get(route).copied().unwrap_or(0);
        RouteTraffic { requests, in_flight, traffic: rates, listeners: listeners.into_iter().map(through).collect() }
    }
}

impl RouteTraffic {
    /// That of requests without a route.
    pub(in crate::admin) fn unrouted(state: &AdminState, moment: &Moment) -> Self {
        Traffic::new(state, moment).of(NO_ROUTE)
    }
}

impl NamedTraffic {
    /// That of every route of the running configuration.
    pub(in crate::admin) fn all(state: &AdminState, moment: &Moment) -> Vec<Self> {
        let traffic = Traffic::new(state, moment);
        let routes = state.store.load();
        routes.routes.routes().iter().map(|route| Self { name: route.name.clone(), traffic: traffic.of(&route.name) }).collect()
    }
}

impl Route {
    fn new(route: &Compiled, traffic: RouteTraffic) -> Self {
        let (does, upstreams) = match &route.action {
            Action::Upstream(upstream) => (Does::Upstream, vec![Share { upstream: upstream.name().clone(), share: 1.0 }]),
            Action::Split(split) => {
                let share = |(upstream, share): (&Arc<crate::upstream::Upstream>, f64)| Share {
                    upstream: upstream.name().clone(),
                    share,
                };
                (Does::Split, split.shares().map(share).collect())
            }
            Action::Redirect(_) => (Does::Redirect, Vec::new()),
            Action::Respond(_) => (Does::Respond, Vec::new()),
        };
        Self {
            name: route.name.clone(),
            index: route.index,
            hosts: route.hosts.iter().map(ToString::to_string).collect(),
            path: route.path.to_string(),
            does,
            upstreams,
            traffic,
        }
    }
}

/// Every route.
#[derive(Debug, Serialize, JsonSchema)]
struct Routes {
    /// The configuration that they are of.
    generation: u64,
    /// In the order of the file.
    routes: Vec<Route>,
    /// Requests that no route matched, or that were refused before one was looked for.
    unrouted: RouteTraffic,
}

async fn routes(State(state): State<Arc<AdminState>>) -> Json<Routes> {
    let moment = state.live.moment(&state);
    let (snapshot, traffic) = (state.store.load(), Traffic::new(&state, &moment));
    let routes = snapshot.routes.routes().iter().map(|route| Route::new(route, traffic.of(&route.name))).collect();
    Json(Routes { generation: snapshot.generation, routes, unrouted: traffic.of(NO_ROUTE) })
}

pub(super) fn router() -> Router<Arc<AdminState>> {
    Router::new().route("/api/v1/routes", get(routes))
}

pub(super) fn describe(document: &mut Document) {
    document
        .operation("get", "/api/v1/routes", "routes", "Which requests go where, and how they fare.")
        .answers::<Routes>(StatusCode::OK, "Every route.")
        .done();
}
