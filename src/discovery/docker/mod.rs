//! Endpoints from a Docker engine: running containers that name their upstream in a label.
//!
//! The engine tells of what happens (`GET /events`), so nothing is polled: a container is an endpoint as soon
//! as it has started (with a health check: as soon as it is healthy), gets no new request from the signal
//! on that asks it to stop, and is gone when it died. One connection follows an engine for all upstreams,
//! see `engine.rs`. What a container must have to be an endpoint is in `endpoints.rs`.
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

use rustls::pki_types::ServerName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[cfg(test)]
pub(crate) use container::tests;
pub use container::{Container, Phase};
pub use diagnostic::{Diagnostic, Diagnostics, Source, shown};
pub use endpoints::{ROUTE, UPSTREAM};
pub use engine::{Engine, EnginePlace, Engines, Link, Seen};
pub use host::EngineHost;

use client::EngineTls;

use super::{Changes, DiscoveryObserver, Found};
use crate::{
    tls::{Identity, Trust, client_config},
    types::{At, Code, ConfigPath, HostPattern, Name, OneOrMany},
};

/// A Docker engine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DockerSpec {
    /// Where the engine answers: `unix:///path` or `tcp://host:port`.
    pub host: EngineHost,
    /// Speak TLS to the engine, over TCP. Cleartext when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<EngineTlsSpec>,
    /// The network in which containers are reached. Left out: their only one, or one that Weir's own container is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// Containers may also bring routes to this upstream, by labels. Not allowed when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub routes: Option<LabelRoutesSpec>,
}

/// TLS to an engine. The certificate of the engine must name its host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EngineTlsSpec {
    /// A file of CA certificates to trust instead of the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<ConfigPath>,
    /// The certificate by which the engine knows Weir, with `key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert: Option<ConfigPath>,
    /// The key of `cert`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<ConfigPath>,
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
    /// Which engine it is: upstreams that agree in this share one.
    pub fn place(&self) -> EnginePlace {
        (self.host.clone(), self.tls.clone())
    }

    pub(super) fn compile(&self, engines: Arc<Engines>, at: &At) -> Option<Docker> {
        if self.network.as_ref().is_some_and(String::is_empty) {
            at.key("network").problem(Code::BadValue, "a network has a name").hint("remove `network`, or name one");
            return None;
        }
        let place = self.place();
        // Read here to say what is wrong with the files; an engine that is known keeps what it has.
        let tls = match &place.1 {
            Some(tls) => Some(tls.compile(&self.host, &at.key("tls"))?),
            None => None,
        };
        let engine = engines.get(&place, tls);
        Some(Docker { engine, engines, network: self.network.as_deref().map(Arc::from) })
    }
}

impl EngineTlsSpec {
    fn compile(&self, host: &EngineHost, at: &At) -> Option<EngineTls> {
        let EngineHost::Tcp(name, _) = host else {
            at.problem(Code::Conflict, "TLS is spoken over TCP, and this engine is behind a unix socket")
                .hint("remove `tls`, or write `host: tcp://host:2376`")
                .at_key();
            return None;
        };
        let Ok(name) = ServerName::try_from(name.clone()) else {
            at.problem(Code::BadValue, format!("no certificate can name `{name}`")).at_key();
            return None;
        };
        let identity = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => Some(Identity { cert, key }),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => {
                at.problem(Code::Conflict, "`cert` and `key` need each other").at_key();
                return None;
            }
        };
        let trust = self.ca.as_ref().map_or(Trust::System, |ca| Trust::File(ca));
        match client_config(trust, identity) {
            Ok(config) => Some(EngineTls { config: Arc::new(config), name }),
            Err(error) => {
                at.problem(Code::BadCertificate, error.to_string());
                None
            }
        }
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
