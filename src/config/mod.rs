//! Layer 4: from text to [`Spec`], with every problem placed in the file.

mod listener;
mod spec;

pub use crate::tls::{CertificateSpec, ClientCertificatesSpec, MinVersion, ServerTlsSpec};
pub use listener::{HttpSpec, ListenerSpec, ProxyProtocolSpec};
pub use spec::{AdminSpec, MaxConnections, ServerSpec, Spec, Switch, Threads};
