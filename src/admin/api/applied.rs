//! What became of an order.

use std::borrow::Cow;

use axum::{
    Json,
    http::{HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    super::answer::{ProblemDetails, Refusal, problem_of},
    openapi::Operation,
};
use crate::{
    admin::{Applied, Commands, Guard, Refused},
    config::{Diagnostic, Loaded},
    types::Severity,
};

/// A line about a configuration: what is wrong, where, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(in crate::admin) struct Finding {
    /// The stable code of this kind of problem.
    code: &'static str,
    /// `error` or `warning`.
    severity: &'static str,
    /// What is wrong.
    message: String,
    /// The file it is in.
    file: String,
    /// The line, from 1.
    line: usize,
    /// The column, from 1.
    column: usize,
    /// Where in the configuration: `routes[2].upstream`.
    path: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl From<&Diagnostic> for Finding {
    fn from(diagnostic: &Diagnostic) -> Self {
        let place = &diagnostic.place;
        Self {
            code: diagnostic.code.as_str(),
            severity: match diagnostic.severity() {
                Severity::Error => "error",
                Severity::Warning => "warning",
            },
            message: diagnostic.message.clone(),
            file: place.name.clone(),
            line: place.line,
            column: place.column,
            path: place.path.to_string(),
            hint: diagnostic.hint.clone(),
        }
    }
}

/// All that was found.
pub(super) fn findings(loaded: &Loaded) -> Vec<Finding> {
    loaded.diagnostics.iter().map(Finding::from).collect()
}

/// An order that was carried out.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Done {
    /// The configuration that is served now.
    generation: u64,
    /// What an operator should know of it.
    notes: Vec<String>,
    /// Warnings about the configuration.
    warnings: Vec<Finding>,
}

/// What every answer to a runtime change says.
const LOST: &str = "this change outlives a reload and is lost when the process ends; to keep it, change the file";

/// The answer to an order about the configuration.
pub(super) fn answer(outcome: Result<Applied, Refused>, guard: Guard, commands: &dyn Commands) -> Response {
    match outcome {
        Ok(applied) => (etag(applied.generation), Json(done(applied, None))).into_response(),
        Err(Refused::Conflict(reason)) if guard.if_generation.is_some_and(|wanted| wanted != commands.running().generation) => {
            Refusal::Generation(reason).into_response()
        }
        Err(refused) => refuse(refused),
    }
}

/// The answer to a change at runtime.
pub(super) fn answer_change(outcome: Result<Applied, Refused>, status: StatusCode) -> Response {
    match outcome {
        Ok(applied) => (status, etag(applied.generation), Json(done(applied, Some(LOST)))).into_response(),
        Err(refused) => refuse(refused),
    }
}

fn done(Applied { generation, mut notes, warnings }: Applied, note: Option<&str>) -> Done {
    notes.extend(note.map(str::to_owned));
    Done { generation, notes, warnings: warnings.iter().map(Finding::from).collect() }
}

/// The generation as an entity tag.
pub(super) fn etag(generation: u64) -> [(HeaderName, String); 1] {
    [(header::ETAG, format!("\"{generation}\""))]
}

/// The answer to a configuration that has errors.
pub(super) fn invalid(loaded: Loaded) -> Response {
    refuse(Refused::Invalid(Box::new(loaded)))
}

pub(super) fn refuse(refused: Refused) -> Response {
    let text = refused.to_string();
    let (status, code, problems) = match refused {
        Refused::Invalid(loaded) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid_configuration", findings(&loaded)),
        Refused::Conflict(_) => (StatusCode::CONFLICT, "conflict", Vec::new()),
        Refused::NotFound(_) => (StatusCode::NOT_FOUND, "not_found", Vec::new()),
        Refused::Failed(_) => (StatusCode::CONFLICT, "not_possible", Vec::new()),
    };
    problem_of(ProblemDetails::new(status, code, Cow::from(text)).with(problems))
}

impl Operation<'_> {
    /// An order: what comes of it when it is carried out, and when it is not.
    pub(super) fn carried_out(self, status: StatusCode, description: &str) -> Self {
        self.answers::<Done>(status, description)
            .fails(StatusCode::BAD_REQUEST, "The request cannot be read.")
            .fails(StatusCode::CONFLICT, "It does not go together with what is running, or the system does not allow it.")
    }
}
