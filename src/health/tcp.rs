//! The TCP probe.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A connection that must open. No options.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TcpProbeSpec {}
