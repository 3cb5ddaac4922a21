//! `/api/v1/cache`: what is kept of responses, and its removal.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use axum::{
    Json, Router,
    extract::{Query, State, rejection::QueryRejection},
    http::StatusCode,
    routing::get,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    super::{AdminState, answer::Refusal},
    Document,
};
use crate::{cache, gate::target::canonical};

/// The cache.
#[derive(Debug, Default, Serialize, JsonSchema)]
struct Contents {
    /// Does any route use it?
    enabled: bool,
    /// Responses that are in memory.
    entries: usize,
    /// Bytes of memory that they take, with heads, keys and bookkeeping, and with responses that are being received.
    memory_bytes: u64,
    /// The bound of those.
    memory_max_bytes: u64,
    /// The part that is on a disk; absent where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    disk: Option<Disk>,
    /// Responses stored since the start.
    stored: u64,
    /// Responses that went to make room.
    evicted: u64,
    /// Responses that were purged.
    purged: u64,
    /// Requests since the start by what the cache did: `hit`, `miss` and so on.
    requests: std::collections::BTreeMap<String, u64>,
}

/// The part of the cache that is on a disk.
#[derive(Debug, Serialize, JsonSchema)]
struct Disk {
    /// Responses there.
    entries: usize,
    /// Bytes of their files.
    bytes: u64,
    /// The bound of those.
    max_bytes: u64,
    /// It can be written to, as far as is known.
    works: bool,
    /// Responses that were not written, since it was busy or could not be written to.
    skipped: u64,
}

/// What to remove: one of both, or neither for everything.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct What {
    url: Option<String>,
    prefix: Option<String>,
}

/// What was removed.
#[derive(Debug, Serialize, JsonSchema)]
struct Purged {
    /// Responses, each variant for itself.
    purged: usize,
}

async fn contents(State(state): State<Arc<AdminState>>) -> Json<Contents> {
    let mut contents = Contents::default();
    state.observer.metrics().cached(|_, word, count| *contents.requests.entry(word.to_owned()).or_default() += count);
    if let Some(cache) = state.store.load().cache {
        let (holdings, counts) = (cache.holdings(), cache.counts());
        contents.enabled = true;
        contents.entries = holdings.entries;
        contents.memory_bytes = holdings.bytes;
        contents.memory_max_bytes = holdings.bound;
        contents.disk = holdings.disk.map(|disk| Disk {
            entries: disk.entries,
            bytes: disk.bytes,
            max_bytes: disk.bound,
            works: disk.works,
            skipped: disk.skipped,
        });
        contents.stored = counts.stored.load(Relaxed);
        contents.evicted = counts.evicted.load(Relaxed);
        contents.purged = counts.purged.load(Relaxed);
    }
    Json(contents)
}

async fn purge(State(state): State<Arc<AdminState>>, what: Result<Query<What>, QueryRejection>) -> Result<Json<Purged>, Refusal> {
    let Query(what) = what.map_err(|error| Refusal::Body(error.body_text()))?;
    let canonical = |text: &str| {
        let path = |path: &str| canonical(path).map(|path| path.into_owned()).map_err(|refusal| refusal.reason().to_owned());
        cache::typed(text, path).map_err(|error| Refusal::Body(error.to_string()))
    };
    let Some(cache) = state.store.load().cache else { return Ok(Json(Purged { purged: 0 })) };
    let purged = match (what.url, what.prefix) {
        (Some(_), Some(_)) => return Err(Refusal::Body("either `url` or `prefix`".to_owned())),
        (Some(url), None) => cache.purge_url(&canonical(&url)?),
        (None, Some(prefix)) => cache.purge_prefix(&canonical(&prefix)?),
        (None, None) => cache.purge_all(),
    };
    log::info!("{purged} responses were purged from the cache, as ordered through the admin API");
    Ok(Json(Purged { purged }))
}

pub(super) fn router() -> Router<Arc<AdminState>> {
    Router::new().route("/api/v1/cache", get(contents).delete(purge))
}

pub(super) fn describe(document: &mut Document) {
    document
        .operation("get", "/api/v1/cache", "cache", "What is kept of responses.")
        .answers::<Contents>(StatusCode::OK, "Sizes and counts.")
        .done();
    document
        .operation("delete", "/api/v1/cache", "purge", "Removes what is kept: one URL, all that begin so, or everything.")
        .query("url", "The URL as clients ask for it, in all its variants.", json!({"type": "string"}))
        .query("prefix", "The beginning of URLs, with scheme and host.", json!({"type": "string"}))
        .answers::<Purged>(StatusCode::OK, "What was removed.")
        .fails(StatusCode::BAD_REQUEST, "This is no URL.")
        .done();
}
