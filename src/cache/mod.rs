//! Layer 2: a shared HTTP cache (RFC 9111): what may be kept, under which key, for how long, and the store itself.
//!
//! Policy is pure: heads, directives and times in, decisions out. The [`Cache`] holds responses in memory within a bound in
//! bytes that counts everything (bodies, heads, keys, bookkeeping, what is being received) and, where asked for, on a disk.
//! Nothing here knows Pingora; `proxy::caching` carries it into Pingora's phases and back.

mod directives;
mod disk;
mod entry;
mod fill;
mod key;
mod policy;
mod purges;
mod shard;
mod spec;
mod store;
mod turns;
mod vary;

pub use directives::{RequestDirectives, ResponseDirectives};
pub use disk::OnDisk;
pub use entry::{Body, Entry, Head};
pub use fill::{Fill, GaveUp};
pub use key::{Key, KeyError, typed};
pub use policy::{Asked, Freshness, Policy, QueryRule, Refusal, Reuse, Stored};
pub use spec::{CacheSettings, CacheSpec, DiskSettings, DiskSpec};
pub use store::{Cache, Counts, Holdings};
pub use vary::{Variance, variance, varies_on_everything};
