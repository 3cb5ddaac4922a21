//! The API: one resource per file, each with its routes and with what the OpenAPI document says of them.

mod applied;
mod cache;
mod certificates;
mod config;
mod drain;
mod endpoints;
mod errors;
mod events;
mod explain;
mod extract;
mod history;
mod listeners;
mod openapi;
mod overrides;
mod overview;
mod routes;
mod snapshot;
mod upgrade;
mod upstreams;

use std::sync::Arc;

use axum::Router;

pub(super) use applied::Finding;
pub(super) use openapi::Document;
pub(super) use snapshot::Snapshot;

use super::AdminState;

/// Everything below `/api/v1`.
pub(super) fn router() -> Router<Arc<AdminState>> {
    Router::new()
        .merge(overview::router())
        .merge(history::router())
        .merge(listeners::router())
        .merge(routes::router())
        .merge(upstreams::router())
        .merge(endpoints::router())
        .merge(overrides::router())
        .merge(config::router())
        .merge(certificates::router())
        .merge(cache::router())
        .merge(events::router())
        .merge(errors::router())
        .merge(explain::router())
        .merge(drain::router())
        .merge(upgrade::router())
        .merge(openapi::router())
}

/// What the OpenAPI document says of it.
fn describe(document: &mut Document) {
    overview::describe(document);
    history::describe(document);
    listeners::describe(document);
    routes::describe(document);
    upstreams::describe(document);
    endpoints::describe(document);
    overrides::describe(document);
    config::describe(document);
    certificates::describe(document);
    cache::describe(document);
    events::describe(document);
    errors::describe(document);
    explain::describe(document);
    drain::describe(document);
    upgrade::describe(document);
    openapi::describe(document);
}

/// A time as the API writes it: RFC 3339 in UTC, to the millisecond.
fn time(at: std::time::SystemTime) -> String {
    humantime::format_rfc3339_millis(at).to_string()
}
