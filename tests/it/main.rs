//! Weir over real sockets, on ports that the kernel chooses, without sleeps.

mod lab;
#[macro_use]
mod support;
