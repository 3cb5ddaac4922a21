//! Layer 3: from a request head to the route that serves it.

mod spec;

pub use spec::{HeaderMatch, MatchSpec, RedirectSpec, RespondSpec, RouteSpec};
