//! Weir over real sockets, on ports that the kernel chooses, without sleeps.

#[macro_use]
mod support;

mod discovery;
mod fixtures;
mod grpc_health;
mod lab;
