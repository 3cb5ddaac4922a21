//! Weir over real sockets, on ports that the kernel chooses, without sleeps.

#[macro_use]
mod support;

mod discovery;
mod filters;
mod fixtures;
mod grpc_health;
mod health;
mod lab;
mod listeners;
mod routing;
mod tls;
mod upstreams;
