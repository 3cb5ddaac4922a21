//! Layer 1: how an edge lives with endpoints that fail, as pure state machines.
//!
//! A machine here is told what happened and what time it is, and says what follows. It reads no clock, takes
//! no lock and knows neither endpoints nor requests: who owns one does that, and so it is tested without
//! sleeping.

mod breaker;

pub use breaker::{Admission, AdmitsFrom, Breaker, BreakerSettings, BreakerState, CircuitBreakerSpec};
