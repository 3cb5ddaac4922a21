//! `/api/v1/events`: server-sent events. A snapshot once a second, each change of state as it happens, and a sample
//! for the charts every five seconds.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use futures_util::stream;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use super::{
    super::{
        AdminState,
        answer::Refusal,
        live::{Full, Subscription, frame},
    },
    Document, Snapshot, time,
};
use crate::{
    observe::{Event, Tone, Topic},
    types::Name,
};

/// A change of state.
#[derive(Debug, Serialize, JsonSchema)]
struct Change<'a> {
    /// When it happened, in RFC 3339.
    at: String,
    topic: Topic,
    tone: Tone,
    /// The upstream it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<&'a Name>,
    /// The endpoint it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<&'a str>,
    /// What happened, in a sentence.
    text: &'a str,
}

fn change(event: &Event) -> Bytes {
    let change = Change {
        at: time(event.at),
        topic: event.topic,
        tone: event.tone,
        upstream: event.upstream.as_ref(),
        endpoint: event.endpoint.as_deref(),
        text: &event.text,
    };
    frame("change", Some(event.number), &change)
}

async fn events(State(state): State<Arc<AdminState>>, headers: HeaderMap) -> Result<Response, Refusal> {
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.trim().parse::<u64>().ok());
    let subscription = state.live.feed.subscribe(state.observer.timeline(), last.unwrap_or(0)).map_err(|Full| Refusal::Full)?;
    // Whoever comes gets a first snapshot at once, and the changes that are still known.
    let first = frame("snapshot", None, &Snapshot::read(&state));
    let following = stream::unfold((Some(first), subscription), next);
    Ok(([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(following)).into_response())
}

async fn next(
    (first, mut subscription): (Option<Bytes>, Subscription),
) -> Option<(Result<Bytes, std::convert::Infallible>, (Option<Bytes>, Subscription))> {
    let frame = match first {
        Some(first) => first,
        None => subscription.next(change).await?,
    };
    Some((Ok(frame), (None, subscription)))
}

pub(super) fn router() -> Router<Arc<AdminState>> {
    Router::new().route("/api/v1/events", get(events))
}

pub(super) fn describe(document: &mut Document) {
    document
        .operation("get", "/api/v1/events", "events", "What goes on, as server-sent events.")
        .header(
            "Last-Event-ID",
            "The id of the last change that was seen: those after it come first.",
            json!({"type": "string", "pattern": "^[0-9]{1,19}$"}),
        )
        .answers_text(
            StatusCode::OK,
            "Events `snapshot` (once a second), `sample` (every five seconds) and `change` (as it happens, with an id).",
            "text/event-stream",
        )
        .fails(StatusCode::SERVICE_UNAVAILABLE, "Every place for subscribers is taken.")
        .done();
}
