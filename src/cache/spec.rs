//! The store, as users write it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::types::{At, Code, Size};

/// The store that all `cache` filters share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CacheSpec {
    /// Memory for all of it: bodies, heads, keys, bookkeeping, and what is being received.
    pub memory: Size,
}

/// The default bound: little beside what an edge needs otherwise, and enough for the assets of a site.
const MEMORY: Size = Size::bytes(256 << 20);
/// Less holds hardly anything, since no response may take more than a quarter.
const LEAST_MEMORY: u64 = 1 << 20;
/// More than this is a mistake of units.
const MOST_MEMORY: u64 = 16 << 40;

impl Default for CacheSpec {
    fn default() -> Self {
        Self { memory: MEMORY }
    }
}

/// How large the store may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheSettings {
    /// Bytes of memory.
    pub memory: u64,
}

impl CacheSpec {
    /// The settings; `None` when a problem was reported instead.
    pub fn compile(&self, at: &At) -> Option<CacheSettings> {
        let memory = self.memory.get();
        if !(LEAST_MEMORY..=MOST_MEMORY).contains(&memory) {
            at.key("memory")
                .problem(Code::BadValue, format!("`{}` is no sensible size for a cache", self.memory))
                .hint("from `1MiB` to `16TiB`; leave out the `cache` filters to have none");
            return None;
        }
        Some(CacheSettings { memory })
    }
}
