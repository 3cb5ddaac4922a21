//! Layer 2: active health checks.
//!
//! A probe is one file. `pingora_load_balancing` runs them as a background service, in parallel; a
//! threshold state machine turns their results into a status.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::types::Span;

mod http;
mod tcp;

/// Active health checks of an upstream: the probe (`http:` or `tcp:`) and when it counts.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HealthCheckSpec {
    /// Ask over HTTP. Exactly one probe must be given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<http::HttpProbeSpec>,
    /// Open a connection. Exactly one probe must be given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<tcp::TcpProbeSpec>,
    /// Time between checks of one endpoint, before jitter.
    #[serde(default = "HealthCheckSpec::default_interval")]
    pub interval: Span,
    /// A check that takes longer has failed.
    #[serde(default = "HealthCheckSpec::default_timeout")]
    pub timeout: Span,
    /// Passes in a row that bring an endpoint back.
    #[serde(default = "HealthCheckSpec::default_healthy_after")]
    pub healthy_after: std::num::NonZeroU32,
    /// Failures in a row that take an endpoint out.
    #[serde(default = "HealthCheckSpec::default_unhealthy_after")]
    pub unhealthy_after: std::num::NonZeroU32,
}

impl HealthCheckSpec {
    fn default_interval() -> Span {
        Span::secs(10)
    }
    fn default_timeout() -> Span {
        Span::secs(3)
    }
    fn default_healthy_after() -> std::num::NonZeroU32 {
        const { std::num::NonZeroU32::new(2).unwrap() }
    }
    fn default_unhealthy_after() -> std::num::NonZeroU32 {
        const { std::num::NonZeroU32::new(3).unwrap() }
    }
}
