//! Endpoints from a Docker engine: running containers that name their upstream in a label.
//!
//! The engine tells of what happens (`GET /events`), so nothing is polled: a container is an endpoint as soon
//! as it has started (with a health check: as soon as it is healthy), gets no new request from the signal
//! on that asks it to stop, and is gone when it died. One connection follows an engine for all upstreams,
//! see [`engine`]. What a container must have to be an endpoint is in [`endpoints`].
//!
//! Only reading requests are made (`GET`), so a socket behind a proxy that allows no others is enough.

mod client;
mod container;
mod diagnostic;
mod endpoints;
mod engine;
mod host;
mod known;

use std::{convert::Infallible, fmt, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[cfg(test)]
pub(crate) use container::tests;
pub use container::{Container, Phase};
pub use diagnostic::{Diagnostic, Diagnostics, Source, shown};
pub use endpoints::{ROUTE, UPSTREAM};
pub use engine::{Engine, Engines, Link, Seen};
pub use host::EngineHost;

use super::{Changes, DiscoveryObserver, Found};
use crate::types::{At, Code, HostPattern, Name, OneOrMany};

/// A Docker engine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DockerSpec {
    /// Where the engine answers: `unix:///path` or `tcp://host:port`.
    pub host: EngineHost,
    /// The network in which containers are reached. Left out: their only one, or one that Weir's own container is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// Containers may also bring routes to this upstream, by labels. Not allowed when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub routes: Option<LabelRoutesSpec>,
}

/// Which routes containers may bring.
///
/// Whoever can start a container on the engine can take requests away from other routes with one, by a host or
/// a path that is more specific than theirs. So it is allowed by a word in the file, and can be held to hosts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LabelRoutesSpec {
    /// Only for hosts among these: `*.apps.example.com`. Any host, or none, when left out.
    #[serde(skip_serializing_if = "OneOrMany::is_absent")]
    pub hosts: OneOrMany<HostPattern>,
}

impl DockerSpec {
    pub(super) fn compile(&self, engines: Arc<Engines>, at: &At) -> Option<Docker> {
        if self.network.as_ref().is_some_and(String::is_empty) {
            at.key("network").problem(Code::BadValue, "a network has a name").hint("remove `network`, or name one");
            return None;
        }
        let engine = engines.get(&self.host);
        Some(Docker { engine, engines, network: self.network.as_deref().map(Arc::from) })
    }
}

/// One upstream's view of an engine.
#[derive(Clone)]
pub(super) struct Docker {
    engine: Arc<Engine>,
    engines: Arc<Engines>,
    network: Option<Arc<str>>,
}

impl fmt::Display for Docker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "docker {}", self.engine.host())?;
        self.network.iter().try_for_each(|network| write!(f, " network {network}"))
    }
}

impl fmt::Debug for Docker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Docker {
    /// Follows the engine until the future is dropped.
    pub(super) async fn follow(
        &self,
        upstream: &Name,
        observer: &dyn DiscoveryObserver,
        apply: impl Fn(Vec<Found>) -> Changes,
    ) -> Infallible {
        let source = self.engines.diagnostics().source();
        let mut before = None;
        let look = |seen: &Seen| {
            match seen.link {
                Link::Untried => return,
                Link::Up => observer.asked(upstream, true),
                Link::Down(_) => return observer.asked(upstream, false),
            }
            let (found, diagnostics) = endpoints::of(upstream, self.network.as_deref(), seen);
            source.replace(diagnostics);
            if before.as_ref() != Some(&found) {
                observer.replaced(upstream, apply(found.clone()));
                before = Some(found);
            }
        };
        self.engine.follow(look).await
    }
}
