//! Layer 3: a named pool of endpoints with everything needed to send a request to one of them.

mod spec;

pub use spec::{ConnectionsSpec, EndpointSpec, Protocol, UpstreamSpec, UpstreamTlsSpec};
