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
mod lab;
mod limits;
mod listeners;
mod locality;
mod observe;
mod reload;
mod routing;
mod sticky;
mod tls;
mod upstreams;
