//! Layer 1: what operators see of the traffic. Metrics, the access log, spans, the process log.
//!
//! An exchange ends in an [`Outcome`]; [`Observer::finished`] hands it to everything here. What to show of the
//! present (health, requests in flight) comes through a [`StateSource`].

mod access_log;
mod line_limit;
mod metrics;
mod observer;
mod outcome;
pub mod process_log;
mod recent;
mod spec;
mod state;
#[cfg(test)]
pub(crate) mod testing;
mod timeline;
mod tracing;

use access_log::cut;
pub use access_log::{AccessLog, LineTemplate};
pub use metrics::{ConnectionGuard, ExchangeCounts, Load, Metrics, NO_ROUTE, Pulse, RequestGuard, SessionMeter, Totals};
pub use observer::Observer;
pub use outcome::{Attempt, Layer, Opening, Outcome, Times};
pub use recent::{Recent, RecentError};
pub use spec::{AccessLogFormat, AccessLogSpec, LogFormat, LogLevel, LogSpec, ObservabilitySpec};
pub use state::{EndpointState, Sample, StateSource, UpstreamState};
pub use timeline::{Event, Timeline, Tone, Topic};
pub use tracing::{
    ContinueFrom, OtlpAddress, SpanCounts, SpanId, Trace, TraceId, Traceparent, Tracing, TracingSpec, is_tracestate,
};
