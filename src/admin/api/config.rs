//! `/api/v1/config`: the running configuration, and how another takes its place.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    super::{AdminState, answer::Refusal},
    Document,
    applied::{Finding, answer, etag, findings, invalid},
    extract::{Configuration, InBody, if_match},
    time,
};
use crate::{
    admin::{Guard, Probation},
    snapshot::{Diff, diff::View},
    types::Span,
};

/// The longest probation: after an hour nobody compares any more.
const LONGEST: Duration = Duration::from_secs(3600);

/// What is running.
#[derive(Debug, Serialize, JsonSchema)]
struct Running {
    /// Counts configurations from 1. Changes at runtime make new ones, too.
    generation: u64,
    /// Since when, in RFC 3339.
    since: String,
    /// Where it came from: the path of a file, `posted`, `rollback`.
    origin: String,
    /// The configuration with defaults filled in, secrets hidden, without what was changed at runtime.
    yaml: String,
    /// Why the last reload was refused, unless one succeeded after it.
    last_refusal: Option<String>,
    /// A reload on probation, or how the last one ended.
    probation: Option<Probation>,
    /// There is a configuration to go back to.
    can_roll_back: bool,
}

async fn config(State(state): State<Arc<AdminState>>, headers: HeaderMap) -> Response {
    let running = state.commands.running();
    let tag = etag(running.generation);
    let wants_yaml = headers.get(header::ACCEPT).is_some_and(|accept| accept.as_bytes() == b"application/yaml");
    if wants_yaml {
        return (tag, [(header::CONTENT_TYPE, "application/yaml")], running.text).into_response();
    }
    let running = Running {
        generation: running.generation,
        since: time(running.since),
        origin: running.origin,
        yaml: running.text,
        last_refusal: running.last_refusal,
        probation: running.probation,
        can_roll_back: running.can_roll_back,
    };
    (tag, Json(running)).into_response()
}

/// What was found out about a posted configuration.
#[derive(Debug, Serialize, JsonSchema)]
struct Checked {
    /// It could be put into service, as far as its text says.
    valid: bool,
    /// Errors and warnings, in the order of the file.
    diagnostics: Vec<Finding>,
}

async fn check(State(state): State<Arc<AdminState>>, Configuration(text): Configuration) -> Json<Checked> {
    let loaded = state.commands.check(text).await;
    Json(Checked { valid: loaded.is_ok(), diagnostics: findings(&loaded) })
}

async fn diff(State(state): State<Arc<AdminState>>, Configuration(text): Configuration) -> Response {
    let loaded = state.commands.check(text).await;
    let Some(new) = View::of_written(&loaded).filter(|_| loaded.is_ok()) else { return invalid(loaded) };
    match View::of_effective(&state.commands.running().text) {
        Ok(old) => Json(Diff::between(&old, &new)).into_response(),
        Err(reason) => Refusal::Body(format!("the running configuration cannot be compared: {reason}")).into_response(),
    }
}

/// How a configuration is put into service.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct How {
    /// Go back by itself if the error share or the latency gets worse within this time: `30s`, at most an hour.
    #[serde(default)]
    probation: Option<Span>,
}

impl How {
    fn guard(&self, headers: &HeaderMap) -> Result<Guard, Refusal> {
        let probation = self.probation.map(|span| span.get());
        match probation {
            Some(span) if span.is_zero() || span > LONGEST => {
                Err(Refusal::Body("a probation takes from a moment to an hour".to_owned()))
            }
            probation => Ok(Guard { if_generation: if_match(headers)?, probation }),
        }
    }
}

async fn apply(
    State(state): State<Arc<AdminState>>,
    how: Result<Query<How>, axum::extract::rejection::QueryRejection>,
    headers: HeaderMap,
    Configuration(text): Configuration,
) -> Result<Response, Refusal> {
    let Query(how) = how.map_err(|error| Refusal::Body(error.body_text()))?;
    let guard = how.guard(&headers)?;
    Ok(answer(state.commands.apply(text, guard).await, guard, &*state.commands))
}

async fn reload(State(state): State<Arc<AdminState>>, headers: HeaderMap, InBody(how): InBody<How>) -> Result<Response, Refusal> {
    let guard = how.guard(&headers)?;
    Ok(answer(state.commands.reload(guard).await, guard, &*state.commands))
}

async fn rollback(State(state): State<Arc<AdminState>>) -> Response {
    answer(state.commands.rollback().await, Guard::default(), &*state.commands)
}

pub(super) fn router() -> Router<Arc<AdminState>> {
    Router::new()
        .route("/api/v1/config", get(config).put(apply))
        .route("/api/v1/config/check", post(check))
        .route("/api/v1/config/diff", post(diff))
        .route("/api/v1/config/reload", post(reload))
        .route("/api/v1/config/rollback", post(rollback))
}

const IF_MATCH: &str = "Only if this configuration is running: the ETag of an earlier answer.";

pub(super) fn describe(document: &mut Document) {
    let tag = || json!({"type": "string", "pattern": "^\"[0-9]{1,18}\"$"});
    document
        .operation("get", "/api/v1/config", "config", "The running configuration, secrets hidden; its generation is the ETag.")
        .answers::<Running>(StatusCode::OK, "The configuration. As YAML alone where `Accept` is exactly `application/yaml`.")
        .answers_text(
            StatusCode::OK,
            "The configuration. As YAML alone where `Accept` is exactly `application/yaml`.",
            "application/yaml",
        )
        .done();
    document
        .operation("put", "/api/v1/config", "apply", "Puts a posted configuration into service, until the next reload.")
        .header("If-Match", IF_MATCH, tag())
        .query(
            "probation",
            "Go back if things get worse within this time: `30s`, at most an hour.",
            json!({"type": "string", "pattern": "^[1-9][0-9]{0,2}s$"}),
        )
        .takes_file()
        .carried_out(StatusCode::OK, "It is in service.")
        .fails(StatusCode::PRECONDITION_FAILED, "Another configuration is running than `If-Match` says.")
        .fails(StatusCode::UNPROCESSABLE_ENTITY, "The configuration has errors; everything is as it was.")
        .done();
    document
        .operation(
            "post",
            "/api/v1/config/check",
            "check",
            "Reads a posted configuration, with every problem, and changes nothing.",
        )
        .takes_file()
        .fails(StatusCode::BAD_REQUEST, "The request cannot be read.")
        .answers::<Checked>(StatusCode::OK, "What was found.")
        .done();
    document
        .operation(
            "post",
            "/api/v1/config/diff",
            "diff",
            "Says what would change if a posted configuration took the place of the running one.",
        )
        .takes_file()
        .fails(StatusCode::BAD_REQUEST, "The request cannot be read.")
        .fails(StatusCode::UNPROCESSABLE_ENTITY, "The configuration has errors.")
        .answers::<Diff>(StatusCode::OK, "What would change. Of secrets and variables only what is written is compared.")
        .done();
    document
        .operation("post", "/api/v1/config/reload", "reload", "Takes the configuration from its file again.")
        .header("If-Match", IF_MATCH, tag())
        .takes_or_nothing::<How>()
        .carried_out(StatusCode::OK, "It is in service.")
        .fails(StatusCode::PRECONDITION_FAILED, "Another configuration is running than `If-Match` says.")
        .fails(StatusCode::UNPROCESSABLE_ENTITY, "The file has errors; everything is as it was.")
        .done();
    document
        .operation("post", "/api/v1/config/rollback", "rollback", "Goes back to the configuration before the last reload.")
        .carried_out(StatusCode::OK, "It is in service again.")
        .done();
}
