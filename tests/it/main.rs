//! Weir over real sockets, on ports that the kernel chooses, without sleeps.

#[macro_use]
mod support;

mod faults;
mod filters;
mod fixtures;
mod health;
mod lab;
mod listeners;
mod routing;
mod tls;
mod upstreams;
