//! Weir: an edge proxy and load balancer on Pingora.

pub mod admin;
pub mod balance;
pub mod config;
pub mod endpoint;
pub mod filter;
pub mod health;
pub mod observe;
pub mod route;
pub mod types;
pub mod upstream;
