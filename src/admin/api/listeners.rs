//! `/api/v1/listeners`: where connections are accepted, and what comes in there.

use std::{collections::HashMap, sync::Arc};

use axum::{Json, Router, extract::State, http::StatusCode, routing::get};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    super::{AdminState, live::Moment},
    Document,
};
use crate::types::{Address, Name};

/// One listener.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::admin) struct Listener {
    name: Name,
    /// Where it accepts, as the configuration says.
    addresses: Vec<Address>,
    /// It speaks TLS.
    tls: bool,
    /// It passes on bytes (layer 4) and serves no HTTP.
    tcp: bool,
    /// It sends every request to https.
    redirects_to_https: bool,
    /// Client connections open.
    connections: u64,
    /// Requests that ended, per second.
    requests_per_second: f64,
}

impl Listener {
    pub(in crate::admin) fn all(state: &AdminState, moment: &Moment) -> Vec<Self> {
        let mut connections = HashMap::<String, u64>::new();
        state.metrics().connections(|listener, open| {
            connections.insert(listener.to_owned(), open);
        });
        let listener = |listener: &Arc<crate::snapshot::Listener>| Self {
            name: listener.name.clone(),
            addresses: listener.addresses.clone(),
            tls: listener.tls.is_some(),
            tcp: listener.tcp.is_some(),
            redirects_to_https: listener.redirect_to_https.is_some(),
            connections: connections.get(listener.name.as_str()).copied().unwrap_or(0),
            requests_per_second: moment.listeners.get(listener.name.as_str()).copied().unwrap_or(0.0),
        };
        state.store.load().listeners.values().map(listener).collect()
    }
}

/// Every listener.
#[derive(Debug, Serialize, JsonSchema)]
struct Listeners {
    /// By name.
    listeners: Vec<Listener>,
}

async fn listeners(State(state): State<Arc<AdminState>>) -> Json<Listeners> {
    Json(Listeners { listeners: Listener::all(&state, &state.live.moment(&state)) })
}

pub(super) fn router() -> Router<Arc<AdminState>> {
    Router::new().route("/api/v1/listeners", get(listeners))
}

pub(super) fn describe(document: &mut Document) {
    document
        .operation("get", "/api/v1/listeners", "listeners", "Where connections are accepted.")
        .answers::<Listeners>(StatusCode::OK, "Every listener.")
        .done();
}
