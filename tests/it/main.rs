//! Weir over real sockets, on ports that the kernel chooses, without sleeps.

#[macro_use]
mod support;

mod faults;
mod fixtures;
mod lab;
