//! The TCP probe.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::connect::{Dial, connect};
use crate::types::Address;

/// A connection that must open, with its TLS handshake if the upstream speaks TLS. No options.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TcpProbeSpec {}

/// Opens a connection and closes it.
pub(super) async fn probe(address: &Address, dial: &Dial) -> Result<(), String> {
    connect(address, dial).await.map(drop)
}
