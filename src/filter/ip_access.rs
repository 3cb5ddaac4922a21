//! The `ip_access` filter.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Filter;
use crate::types::At;

/// Options of `ip_access`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct IpAccessSpec {}

impl IpAccessSpec {
    pub(super) fn compile(&self, _at: &At) -> Option<Arc<dyn Filter>> {
        None
    }
}
