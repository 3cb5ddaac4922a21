//! The real binary as a child process, on ports that the kernel chooses: signals, exit codes, diagnostics, the demo.

#[macro_use]
#[path = "../it/support/mod.rs"]
mod support;

mod cache;
mod child;
mod command_line;
mod demo;
mod explain;
mod health;
mod leaks;
mod operating;
mod process_log;
mod server;
mod shared_limits;
mod signals;
mod slow_readers;
