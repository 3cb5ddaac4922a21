//! Weir over real sockets, on ports that the kernel chooses, without sleeps.

#[macro_use]
mod support;

mod breaker;
mod discovery;
mod faults;
mod filters;
mod fixtures;
mod grpc_health;
mod health;
mod l4;
mod l4_tls;
mod lab;
mod limits;
mod listeners;
mod locality;
mod observe;
mod routing;
mod sticky;
mod tls;
mod upstreams;
