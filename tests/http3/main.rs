//! HTTP/3: what it serves, how long its connections live, what it refuses, and what real clients make of it.
//!
//! The rows of `tests/it/parity` say that it serves what HTTP/2 serves. Here is what is its own.

#[macro_use]
#[path = "../it/support/mod.rs"]
mod support;
#[path = "../process/child.rs"]
#[expect(dead_code, reason = "of a child process these tests need a part")]
mod child;

mod abuse;
mod client;
mod lifetime;
mod real;
mod serve;
mod tls;
