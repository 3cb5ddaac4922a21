//! The HTTP probe.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A GET that must answer with an accepted status, and optionally with accepted JSON.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpProbeSpec {
    /// The path to ask for.
    #[serde(default = "HttpProbeSpec::default_path")]
    pub path: String,
    /// The Host to send; the endpoint's own address when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Accepted statuses.
    #[serde(default = "HttpProbeSpec::default_status")]
    pub status: Vec<u16>,
    /// Members that the JSON body must have, with these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub json: BTreeMap<String, serde_json::Value>,
}

impl HttpProbeSpec {
    fn default_path() -> String {
        "/".into()
    }
    fn default_status() -> Vec<u16> {
        vec![200]
    }
}
