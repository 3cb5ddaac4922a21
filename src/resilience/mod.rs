//! Layer 1: how an edge lives with endpoints that fail, and keeps one failure from becoming many.
//!
//! Algorithms and state machines here are told what happened and what time it is, and say what follows. They read no
//! clock and know neither endpoints nor requests, and so they are tested without sleeping.

mod adaptive;
mod breaker;
mod budget;
mod places;
mod retry;

pub use breaker::{Admission, AdmitsFrom, Breaker, BreakerSettings, BreakerState, CircuitBreakerSpec};
pub use budget::{RetryBudget, RetryBudgetSpec};
pub use places::{Entry, LimitsSpec, Permit, Places};
pub use retry::{Backoff, Failure, RetryOn, RetryPolicy, RetrySpec, Tries};
