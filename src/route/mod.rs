//! Layer 3: from a request head to the route that serves it.
//!
//! [`Route::compile`] turns one [`RouteSpec`] into a [`Route`] and reports everything wrong with it;
//! [`Table::build`] arranges routes so that [`Table::find`] costs the same for ten of them and for ten
//! thousand. `docs/routing.md` is the manual: the order of precedence is that of the Kubernetes Gateway API's
//! `HTTPRoute`, extended where that leaves the choice to implementations.

mod action;
mod compiled;
mod fallback;
mod labels;
mod order;
mod path;
mod paths;
mod predicates;
mod shadow;
mod single;
mod spec;
mod split;
mod table;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_support;

pub use action::{Action, Redirect, location};
pub use compiled::Route;
pub use fallback::FallbackSpec;
pub use labels::{Allowed, LabelRoute, from_labels};
pub use order::decided_by_position;
pub use path::PathPattern;
pub use predicates::{Miss, Predicates};
pub use spec::{HeaderMatch, MatchSpec, RedirectSpec, RespondSpec, RouteSpec};
pub use split::{ShareSpec, Split};
pub use table::{Match, Table, why_not};
