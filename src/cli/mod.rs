//! One file per command of the `weir` program.

pub mod lab;
