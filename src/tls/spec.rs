//! What users write under `tls` of a listener.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::types::ConfigPath;

/// TLS on a listener.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServerTlsSpec {
    /// Chosen by the name that the client asks for (exact, then wildcard); the first is the default.
    pub certificates: Vec<CertificateSpec>,
    /// For development: certificates made in memory for these names.
    pub self_signed: Vec<String>,
    /// The oldest version that is accepted.
    pub min_version: MinVersion,
    /// Ask clients for a certificate (mutual TLS).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificates: Option<ClientCertificatesSpec>,
}

/// A certificate chain with its key, both PEM.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CertificateSpec {
    /// The chain, leaf first.
    pub cert: ConfigPath,
    /// The private key.
    pub key: ConfigPath,
}

/// Mutual TLS.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientCertificatesSpec {
    /// The authorities that sign client certificates, PEM.
    pub ca: ConfigPath,
    /// Refuse clients without one.
    #[serde(default = "ClientCertificatesSpec::default_required")]
    pub required: bool,
}

impl ClientCertificatesSpec {
    fn default_required() -> bool {
        true
    }
}

/// A TLS version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum MinVersion {
    /// TLS 1.2.
    #[default]
    #[serde(rename = "1.2")]
    Tls12,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    Tls13,
}
