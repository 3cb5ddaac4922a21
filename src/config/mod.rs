//! Layer 4: from text to [`Spec`], with every problem placed in the file.

mod listener;
mod spec;

pub use listener::{
    CertificateSpec, ClientCertificatesSpec, HttpSpec, ListenerSpec, MinVersion, ProxyProtocolSpec, ServerTlsSpec,
};
pub use spec::{AdminSpec, MaxConnections, ServerSpec, Spec, Switch, Threads};
