//! Layer 4: from text to [`Spec`], with every problem placed in the file.
//!
//! [`load()`] reads files, [`parse_str`] a text; both give a [`Loaded`]. [`Loaded::check`] adds what the Spec alone
//! tells, [`Loaded::add`] what compiling it told. [`render`] shows the diagnostics.

mod decode;
mod diagnostic;
mod document;
mod effective;
mod elsewhere;
mod fault;
mod include;
mod interpolate;
mod listener;
mod load;
mod plain;
pub mod render;
mod semantics;
mod spec;
mod tcp;

pub use crate::tls::{CertificateSpec, ClientCertificatesSpec, MinVersion, ServerTlsSpec};
pub use diagnostic::{Diagnostic, MAX_REPORTS, Place};
pub use document::{Document, MAX_BYTES, MAX_DEPTH, MAX_NODES, Source};
pub use effective::{effective, effective_value};
pub use interpolate::Variables;
pub use listener::{HttpSpec, ListenerSpec, ProxyProtocolSpec};
pub use load::{Bundle, Facts, Loaded, load, load_bundle, parse_str};
pub use spec::{AdminSpec, DriverChoice, MaxConnections, ServerSpec, Spec, Threads};
pub use tcp::{SendProxyProtocol, SpliceMode, TcpSpec};
