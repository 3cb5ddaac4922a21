//! The `request_id` filter.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Filter;
use crate::types::At;

/// Options of `request_id`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RequestIdSpec {}

impl RequestIdSpec {
    pub(super) fn compile(&self, _at: &At) -> Option<Arc<dyn Filter>> {
        None
    }
}
