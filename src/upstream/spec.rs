//! What users write under `upstreams`.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    balance::StrategySpec,
    health::HealthCheckSpec,
    resilience::{CircuitBreakerSpec, LimitsSpec, RetryBudgetSpec},
    types::{Address, ConfigPath, Ratio, Span, Switch},
};

/// A pool of endpoints that serve the same thing.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamSpec {
    /// How an endpoint is chosen.
    #[serde(default)]
    pub strategy: StrategySpec,
    /// The endpoints: an address, or an address with options.
    pub endpoints: Vec<EndpointSpec>,
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

/// One endpoint. Written as a bare address when it has no options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointSpec {
    /// `IP:port`, `[IPv6]:port` or `unix:/path`.
    pub address: Address,
    /// Its share of the traffic relative to the others.
    pub weight: NonZeroU32,
    /// The availability zone it is in.
    pub zone: Option<String>,
}

/// The long form of [`EndpointSpec`].
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct EndpointOptions {
    /// `IP:port`, `[IPv6]:port` or `unix:/path`.
    address: Address,
    /// Its share of the traffic relative to the others; 1 to 65535.
    #[serde(default = "EndpointOptions::default_weight")]
    weight: NonZeroU32,
}

impl EndpointOptions {
    fn default_weight() -> NonZeroU32 {
        NonZeroU32::MIN
    }
}

impl Serialize for EndpointSpec {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        EndpointOptions { address: self.address.clone(), weight: self.weight }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for EndpointSpec {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de;
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = EndpointSpec;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an address, or `{address: ..., weight: ...}`")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<EndpointSpec, E> {
                let address = text.parse().map_err(E::custom)?;
                Ok(EndpointSpec { address, weight: NonZeroU32::MIN, zone: None })
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<EndpointSpec, A::Error> {
                let options = EndpointOptions::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(EndpointSpec { address: options.address, weight: options.weight, zone: None })
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for EndpointSpec {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Endpoint".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let short = generator.subschema_for::<Address>();
        let long = generator.subschema_for::<EndpointOptions>();
        schemars::json_schema!({"anyOf": [short, long]})
    }
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
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ConnectionsSpec {
    /// How long an unused connection is kept for the next request.
    pub idle_timeout: Span,
    /// For opening a connection, TLS included.
    pub connect_timeout: Span,
    /// From the request to the response header, and between pieces of the response body.
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
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
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
