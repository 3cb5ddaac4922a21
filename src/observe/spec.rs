//! What users write under `observability`.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};

use super::{LineTemplate, TracingSpec};
use crate::{
    string_type,
    types::{Ratio, Switch, nearest},
};

/// Logs and traces.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ObservabilitySpec {
    /// The process log, on standard error.
    pub log: LogSpec,
    /// One line for each request. `off` writes none.
    #[serde(deserialize_with = "access_log")]
    #[schemars(with = "Switch<AccessLogSpec>")]
    pub access_log: AccessLogSpec,
    /// Spans of requests, for a collector that speaks OTLP. `off` by default.
    pub tracing: Switch<TracingSpec>,
}

impl Default for ObservabilitySpec {
    fn default() -> Self {
        Self { log: LogSpec::default(), access_log: AccessLogSpec::default(), tracing: TracingSpec::off() }
    }
}

/// As the other sections that can be switched off: `off` in place of the options, beside `path: off` among them.
fn access_log<'de, D: Deserializer<'de>>(deserializer: D) -> Result<AccessLogSpec, D::Error> {
    Ok(match Switch::deserialize(deserializer)? {
        Switch::Off => AccessLogSpec { path: "off".into(), ..AccessLogSpec::default() },
        Switch::On(spec) => spec,
    })
}

/// The process log.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
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
    #[serde(deserialize_with = "destination")]
    pub path: String,
    /// `json`, `combined`, or a template such as `{client} {method} {path} {status}`.
    pub format: AccessLogFormat,
    /// The share of requests that is logged. Errors (5xx, refusals) are always logged.
    pub sample: Ratio,
}

impl AccessLogSpec {
    /// The values of `path` that are no paths.
    pub const WORDS: [&'static str; 3] = ["stdout", "stderr", "off"];
    /// The serde name by which the decoder recognises a path that may be one of the words.
    pub const PATH_MARK: &'static str = "weir::AccessLogPath";
}

/// A word, or a path that the decoder has resolved against the file that names it.
fn destination<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    struct Visitor;
    impl<'de> de::Visitor<'de> for Visitor {
        type Value = String;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("`stdout`, `stderr`, `off`, or the path of a file")
        }
        fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
            match text {
                "" => Err(E::custom("a path must not be empty")),
                _ => Ok(text.to_owned()),
            }
        }
        fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
            deserializer.deserialize_str(Visitor)
        }
    }
    deserializer.deserialize_newtype_struct(AccessLogSpec::PATH_MARK, Visitor)
}

impl Default for AccessLogSpec {
    fn default() -> Self {
        Self { path: "stdout".into(), format: AccessLogFormat::Json, sample: Ratio::percent(100) }
    }
}

/// How a line of the access log looks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum AccessLogFormat {
    /// One JSON object per line, with everything.
    #[default]
    Json,
    /// The combined format of Apache and nginx.
    Combined,
    /// Text with fields.
    Template(LineTemplate),
}

impl FromStr for AccessLogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "json" => Ok(Self::Json),
            "combined" => Ok(Self::Combined),
            // Without a field every line would be the same: that is a misspelt word.
            _ if !text.contains(['{', '}']) => {
                let hint = nearest(text, ["json", "combined"]).unwrap_or_default();
                Err(format!("`{text}` is no format and, without a `{{field}}`, no template; {hint}"))
            }
            _ => text.parse().map(Self::Template),
        }
    }
}

impl fmt::Display for AccessLogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json => f.write_str("json"),
            Self::Combined => f.write_str("combined"),
            Self::Template(template) => template.fmt(f),
        }
    }
}
string_type!(
    AccessLogFormat,
    "AccessLogFormat",
    "`json`, `combined`, or a template such as `{client} {method} {path} {status}`.",
    None
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_access_log_is_switched_off_as_other_sections_are() {
        for (written, path) in
            [(r#"{"access_log": "off"}"#, "off"), (r#"{"access_log": {"path": "off"}}"#, "off"), ("{}", "stdout")]
        {
            let spec: ObservabilitySpec = serde_json::from_str(written).expect("it can be read");
            assert_eq!(spec.access_log.path, path, "{written}");
        }
    }
}
