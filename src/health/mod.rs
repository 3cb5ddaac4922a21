//! Layer 2: active health checks.
//!
//! A probe is one file. A [`Checker`] asks one endpoint (it is a Pingora `HealthCheck`), a threshold state
//! machine turns results into a status, and [`run()`] repeats this for all endpoints of an upstream.

mod check;
mod connect;
mod grpc;
mod http;
mod http1;
mod http2;
mod run;
mod status;
mod tcp;
mod threshold;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::{
    check::{Checker, HealthObserver},
    connect::Dial,
    run::run,
    threshold::Thresholds,
};
use crate::types::Span;

/// Active health checks of an upstream: the probe (`http:`, `tcp:` or `grpc:`) and when it counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HealthCheckSpec {
    /// Ask over HTTP. Exactly one probe must be given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<http::HttpProbeSpec>,
    /// Open a connection. Exactly one probe must be given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<tcp::TcpProbeSpec>,
    /// Ask by the gRPC health checking protocol. Exactly one probe must be given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc: Option<grpc::GrpcProbeSpec>,
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
