//! Weir: an edge proxy and load balancer on Pingora.

pub mod balance;
pub mod config;
pub mod endpoint;
pub mod filter;
pub mod health;
pub mod observe;
pub mod proxy_protocol;
pub mod route;
pub mod tls;
pub mod types;
pub mod upstream;
