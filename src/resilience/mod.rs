//! Layer 2: what keeps one failure from becoming many.
//!
//! Algorithms here are pure: they are told the time, and know nothing of Pingora or of requests.

mod adaptive;
mod admission;
mod budget;
mod retry;

pub use admission::{Admission, Entry, LimitsSpec, Permit};
pub use budget::{RetryBudget, RetryBudgetSpec};
pub use retry::{Backoff, Failure, RetryOn, RetryPolicy, RetrySpec, Tries};
