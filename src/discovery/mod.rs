//! Layer 2: which endpoints an upstream has.
//!
//! Those that the configuration lists by their addresses are known from the start. One that it names ([`Target`]) is found as by the
//! source `dns`. A source ([`DiscoverSpec`], one file each)
//! finds further ones while running: [`Discovery::run`] asks it again and again and hands on what it found.
//! Nobody ever waits for a source: requests are served by what was found last.
//!
//! For Pingora, the set of an upstream is one `ServiceDiscovery`, [`Fixed`]. A `Backend` stands for an
//! endpoint and carries it in `ext`. The weight that counts is the endpoint's own: a backend with another
//! weight would be another backend for Pingora, and a weight of 0 panics inside it. So what stands there only
//! tells one place of an endpoint from another, which makes one that moved another backend.

mod dns;
pub mod docker;
mod endpoint;
mod file;
mod fixed;
mod run;
mod target;

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

pub use endpoint::{EndpointSpec, ListedEndpoint, MAX_WEIGHT};
pub use fixed::Fixed;
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_load_balancing::{Backend, Extensions};
pub use run::{Changes, Discovery, DiscoveryObserver};
pub use target::{Scheme, Target};

use crate::{
    endpoint::{Endpoint, EndpointRegistry},
    registry,
    types::{Address, At},
};

/// Endpoints that one source may yield. As many as the strategies are measured with; a wrong file or a
/// hostile name server must not fill memory.
pub const MAX_FOUND: usize = 10_000;

registry! {
    /// Where endpoints are found while running.
    pub enum DiscoverSpec {
        /// In DNS: A and AAAA, or SRV records.
        Dns(dns::DnsSpec) = "dns",
        /// On a Docker engine, by the labels of containers.
        Docker(docker::DockerSpec) = "docker",
        /// In a file that is watched.
        File(file::FileSpec) = "file",
    }
}

impl DiscoverSpec {
    /// The name that all its endpoints have, if they have one.
    pub fn host(&self) -> Option<&str> {
        match self {
            DiscoverSpec::Dns(spec) => Some(&spec.name),
            DiscoverSpec::Docker(_) | DiscoverSpec::File(_) => None,
        }
    }

    /// The compiled form. Problems are reported at `at`, the `discover` key. Neither the network nor the
    /// file is touched.
    fn compile(&self, registry: &EndpointRegistry, at: &At) -> Option<Source> {
        let at = at.key(self.kind());
        match self {
            DiscoverSpec::Dns(spec) => spec.compile(&at).map(Box::new).map(Source::Dns),
            DiscoverSpec::Docker(spec) => spec.compile(registry.common(), &at).map(Source::Docker),
            DiscoverSpec::File(spec) => Some(Source::File(spec.compile())),
        }
    }
}

/// A source, compiled.
#[derive(Debug, Clone)]
enum Source {
    Dns(Box<dns::Dns>),
    Docker(docker::Docker),
    File(file::File),
}

/// One endpoint that a source found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The endpoint.
    pub endpoint: EndpointSpec,
    /// It is about to go: what it began may finish, and it gets no new request.
    pub leaving: bool,
}

impl From<EndpointSpec> for Found {
    fn from(endpoint: EndpointSpec) -> Self {
        Self { endpoint, leaving: false }
    }
}

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
    let mut hasher = DefaultHasher::new();
    endpoint.place().hash(&mut hasher);
    // 32 bits, so that nothing can overflow where weights are summed up.
    let weight = (hasher.finish() as u32).max(1) as usize;
    Some(Backend { addr: socket_address(endpoint.address())?, weight, ext })
}
