//! Real protocols through layer 4: what PostgreSQL, Redis and a session that is silent for long make of it. And HAProxy in front
//! of HTTP, and nginx and HAProxy beside Weir with their configurations imported.
//!
//! The servers come from the distribution's packages, which `make test` installs. Where they are missing, a test says that
//! it was skipped.

#[macro_use]
#[path = "../it/support/mod.rs"]
mod support;

mod haproxy;
mod idle;
mod imports;
mod postgres;
mod programs;
mod redis;
