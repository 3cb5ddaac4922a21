//! What users write under `observability`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::types::Ratio;

/// Logs.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ObservabilitySpec {
    /// The process log, on standard error.
    pub log: LogSpec,
    /// One line for each request.
    pub access_log: AccessLogSpec,
}

/// The process log.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogSpec {
    /// The least severe level that is written.
    pub level: LogLevel,
    /// `json` or `text`.
    pub format: LogFormat,
}

/// A level of the process log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

/// How a line of the process log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// One JSON object per line.
    #[default]
    Json,
    /// For reading.
    Text,
}

/// The access log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AccessLogSpec {
    /// `stdout`, `stderr`, `off`, or the path of a file.
    pub path: String,
    /// `json` or `combined`.
    pub format: AccessLogFormat,
    /// The share of requests that is logged. Errors (5xx, refusals) are always logged.
    pub sample: Ratio,
}

impl Default for AccessLogSpec {
    fn default() -> Self {
        Self { path: "stdout".into(), format: AccessLogFormat::Json, sample: Ratio::percent(100) }
    }
}

/// How a line of the access log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AccessLogFormat {
    /// One JSON object per line, with everything.
    #[default]
    Json,
    /// The combined format of Apache and nginx.
    Combined,
}
