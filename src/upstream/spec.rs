//! What users write under `upstreams`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    balance::{StickySpec, StrategySpec},
    discovery::{DiscoverSpec, ListedEndpoint},
    health::HealthCheckSpec,
    resilience::{CircuitBreakerSpec, LimitsSpec, RetryBudgetSpec},
    types::{ConfigPath, Name, Ratio, Span, Switch},
};

/// A pool of endpoints that serve the same thing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamSpec {
    /// How an endpoint is chosen.
    #[serde(default)]
    pub strategy: StrategySpec,
    /// Clients stay with the endpoint that answered them, by a signed cookie. Off when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky: Option<StickySpec>,
    /// The endpoints: an address or a name, or one with options. At least one, unless `discover` finds them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<ListedEndpoint>,
    /// Where further endpoints are found while running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discover: Option<DiscoverSpec>,
    /// Active health checks; none when left out, since only you know what to ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheckSpec>,
    /// Leaves an endpoint alone that keeps failing. `off` switches that off.
    #[serde(default)]
    pub circuit_breaker: Switch<CircuitBreakerSpec>,
    /// When a smaller share of the endpoints is available, all are used rather than overload the rest; `0%`
    /// switches that off.
    #[serde(default = "UpstreamSpec::default_panic_threshold")]
    pub panic_threshold: Ratio,
    /// How long an endpoint that is new or back takes to get its full share; at once when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_start: Option<Span>,
    /// Prefer the endpoints of one availability zone. All zones are the same when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locality: Option<LocalitySpec>,
    /// How many requests at a time, and how many wait. No limit when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitsSpec>,
    /// How much retries may add to the load of this upstream.
    #[serde(default)]
    pub retry_budget: RetryBudgetSpec,
    /// Connections to the endpoints: protocol, timeouts, pooling.
    #[serde(default)]
    pub connections: ConnectionsSpec,
    /// Speak TLS to the endpoints. Cleartext when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<UpstreamTlsSpec>,
}

impl UpstreamSpec {
    fn default_panic_threshold() -> Ratio {
        Ratio::percent(50)
    }
}

/// Which endpoints are near.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LocalitySpec {
    /// The availability zone to prefer, while it can carry its share.
    pub zone: Name,
}

/// The protocol spoken to endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    H1,
    /// HTTP/2 over TLS, falling back to HTTP/1.1 when the endpoint does not offer it.
    H2,
    /// HTTP/2 in cleartext with prior knowledge.
    H2c,
}

/// Connections to the endpoints of an upstream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ConnectionsSpec {
    /// How long an unused connection is kept for the next request.
    pub idle_timeout: Span,
    /// For opening a connection, TLS included.
    pub connect_timeout: Span,
    /// From the end of the request to the response header; `0s` for none.
    pub response_timeout: Span,
    /// `h1`, `h2` (TLS) or `h2c`.
    pub protocol: Protocol,
}

impl Default for ConnectionsSpec {
    fn default() -> Self {
        Self {
            idle_timeout: Span::secs(60),
            connect_timeout: Span::secs(2),
            response_timeout: Span::secs(30),
            protocol: Protocol::H1,
        }
    }
}

/// TLS to the endpoints of an upstream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UpstreamTlsSpec {
    /// The name to ask for and to verify; needed when the endpoint's certificate does not name its address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sni: Option<String>,
    /// A file of CA certificates to trust instead of the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<ConfigPath>,
    /// A certificate to present to the endpoint, with `client_key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_cert: Option<ConfigPath>,
    /// The key of `client_cert`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_key: Option<ConfigPath>,
    /// Verify the endpoint's certificate and name. `false` is for tests.
    pub verify: bool,
}

impl Default for UpstreamTlsSpec {
    fn default() -> Self {
        Self { sni: None, ca: None, client_cert: None, client_key: None, verify: true }
    }
}
