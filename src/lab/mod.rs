//! Test backends and a client: for trying Weir out, for the demo, and for Weir's own tests.
//!
//! The lab owns [`Backend`], an HTTP server whose answers say who gave them and that can delay, fail and be switched
//! unhealthy; [`TcpEcho`], its counterpart on layer 4; and [`send`], a client that sends one request or many and sums
//! up; and [`load`], connections kept busy for a while. Nothing on Weir's request path uses it, and it uses nothing of Weir but the words of [`crate::types`].
//!
//! Everything that a request can ask for is bounded: a lab backend may end up reachable by more than its author.

mod answers;
mod backend;
mod body;
mod faults;
pub mod load;
mod query;
pub mod send;
mod serving;
mod tcp_echo;
mod websocket;
mod workers;

pub use backend::{Backend, BackendHandle, BackendOptions};
pub use faults::{Failure, Faults};
pub use tcp_echo::{TcpEcho, TcpEchoHandle, TcpEchoOptions};
