//! The store, as users write it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use std::path::{Path, PathBuf};

use crate::types::{At, Code, ConfigPath, Size};

/// The store that all `cache` filters share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CacheSpec {
    /// Memory for all of it: bodies, heads, keys, bookkeeping, and what is being received.
    pub memory: Size,
    /// A directory for more, which survives a restart. Left out, there is memory only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskSpec>,
}

/// A directory for stored responses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DiskSpec {
    /// The directory, which is made if it is not there. It belongs to one Weir.
    pub path: ConfigPath,
    /// Bytes of all files in it.
    pub max: Size,
}

/// The default bound: little beside what an edge needs otherwise, and enough for the assets of a site.
const MEMORY: Size = Size::bytes(256 << 20);
/// Less holds hardly anything, since no response may take more than a quarter.
const LEAST_MEMORY: u64 = 1 << 20;
/// More than this is a mistake of units.
const MOST_MEMORY: u64 = 16 << 40;

impl Default for CacheSpec {
    fn default() -> Self {
        Self { memory: MEMORY, disk: None }
    }
}

/// The largest share of the memory that one response may take: one in so many.
pub(super) const LARGEST: u64 = 4;

impl CacheSpec {
    /// The largest response that can be stored.
    pub fn largest(&self) -> Size {
        Size::bytes(self.memory.get() / LARGEST)
    }
}

/// How large the store may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheSettings {
    /// Bytes of memory.
    pub memory: u64,
    /// The disk, if there is to be one.
    pub disk: Option<DiskSettings>,
}

/// A directory for stored responses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskSettings {
    /// Where.
    pub path: PathBuf,
    /// Bytes of all files in it.
    pub max: u64,
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
        let disk = match &self.disk {
            None => None,
            Some(disk) => Some(disk.compile(&at.key("disk"))?),
        };
        Some(CacheSettings { memory, disk })
    }
}

/// Less holds hardly anything.
const LEAST_DISK: u64 = 16 << 20;
/// More is a mistake of units.
const MOST_DISK: u64 = 1 << 50;

impl DiskSpec {
    fn compile(&self, at: &At) -> Option<DiskSettings> {
        let max = self.max.get();
        if !(LEAST_DISK..=MOST_DISK).contains(&max) {
            at.key("max")
                .problem(Code::BadValue, format!("`{}` is no sensible size for a cache on a disk", self.max))
                .hint("from `16MiB` to `1024TiB`");
            return None;
        }
        let path: &Path = self.path.as_ref();
        if path.exists() && !path.is_dir() {
            at.key("path")
                .problem(Code::BadValue, format!("`{}` is no directory", self.path))
                .hint("name a directory of its own");
            return None;
        }
        Some(DiskSettings { path: path.to_owned(), max })
    }
}
