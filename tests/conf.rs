//! What is said about configurations, good and bad.

#[path = "conf/bad.rs"]
mod bad;
