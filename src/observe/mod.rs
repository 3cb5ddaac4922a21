//! Layer 1: what operators see of the traffic. Metrics, the access log, the process log.

mod outcome;
mod spec;

pub use outcome::{Attempt, Outcome, Times};
pub use spec::{AccessLogFormat, AccessLogSpec, LogFormat, LogLevel, LogSpec, ObservabilitySpec};
