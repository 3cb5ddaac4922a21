//! Layer 2: which endpoints an upstream has.
//!
//! Each source is an implementation of Pingora's `ServiceDiscovery`. A `Backend` stands for an endpoint and
//! carries it in `ext`; its weight is always 1. The weight that counts is the endpoint's own: a backend with
//! another weight would be another backend for Pingora, and a weight of 0 panics inside it.

mod fixed;

use std::sync::Arc;

pub use fixed::Fixed;
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_load_balancing::{Backend, Extensions};

use crate::{endpoint::Endpoint, types::Address};

/// The address in Pingora's form. `None` for a path that cannot be a unix socket's.
pub fn socket_address(address: &Address) -> Option<SocketAddr> {
    match address {
        Address::Tcp(address) => Some(SocketAddr::Inet(*address)),
        Address::Unix(path) => std::os::unix::net::SocketAddr::from_pathname(path).ok().map(SocketAddr::Unix),
    }
}

/// The backend that stands for an endpoint.
pub fn backend(endpoint: &Arc<Endpoint>) -> Option<Backend> {
    let mut ext = Extensions::new();
    ext.insert(endpoint.clone());
    Some(Backend { addr: socket_address(endpoint.address())?, weight: 1, ext })
}
