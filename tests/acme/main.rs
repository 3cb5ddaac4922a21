//! Certificates by themselves: the real binary, the real Pebble with its name server, a real Redis, and Caddy's own authority.
//!
//! `make test` installs them. Where one is missing, a test says that it was skipped.

#[macro_use]
#[path = "../it/support/mod.rs"]
mod support;
#[path = "../process/child.rs"]
#[expect(dead_code, reason = "of a child process these tests need a part")]
mod child;

mod caddy;
mod demand;
mod dns;
mod edge;
mod fleet;
mod front;
mod obtain;
mod pebble;
mod renew;
mod survive;
