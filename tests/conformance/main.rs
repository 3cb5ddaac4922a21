//! The rules of a correct HTTP edge, each proved over real sockets through a whole Weir, and named after its RFC section.

#[path = "../it/support/mod.rs"]
#[macro_use]
mod support;

mod cache_setup;

mod abuse;
mod cache_storing;
mod cache_using;
mod h1_client;
mod h1_connection;
mod h1_cve;
mod h1_expect;
mod h1_fields;
mod h1_framing;
mod h1_hop;
mod h1_limits;
mod h1_retry;
mod h1_target;
mod h1_upgrade;
mod h2_gate;
mod h2_streams;
mod limits_alike;
mod refused_lines;
mod semantics_bodies;
mod semantics_cancel;
mod semantics_drain;
mod semantics_errors;
mod semantics_streaming;
mod semantics_truncation;
mod setup;
