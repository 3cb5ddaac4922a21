//! What users write under `tls` of a listener.

use std::num::{NonZeroU16, NonZeroU32};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::types::{Auto, ConfigPath, Offered, OneOrMany, Span};

/// TLS on a listener.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServerTlsSpec {
    /// Chosen by the name that the client asks for (exact, then wildcard); the first is the default.
    pub certificates: Vec<CertificateSpec>,
    /// For development: certificates made in memory for these names.
    pub self_signed: Vec<String>,
    /// Certificates that are obtained and renewed by themselves: `auto` for every host of the routes that this listener serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acme: Option<Auto<AcmeNamesSpec>>,
    /// Offer HTTP/3 as well, on UDP at the same addresses: `true`, or how clients are told of it.
    #[serde(skip_serializing_if = "Offered::is_off")]
    pub h3: Offered<H3Spec>,
    /// The oldest version that is accepted.
    pub min_version: MinVersion,
    /// Which clients are served, in Mozilla's words. With `min_version`, the stricter of both counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<TlsPolicy>,
    /// What becomes of requests whose Host belongs to another certificate than the name in the TLS handshake.
    pub misdirected: Misdirected,
    /// Write the secrets of sessions to this file, to read recorded traffic of one's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_log: Option<ConfigPath>,
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
    /// A response of the authority's OCSP service to be stapled, DER.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ocsp: Option<ConfigPath>,
}

/// How clients are told of HTTP/3: by `Alt-Svc` (RFC 7838) in responses over TLS.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct H3Spec {
    /// Tell them. Without it they learn of it from the DNS, or not at all.
    pub advertise: bool,
    /// The port where they reach it, when that is another one than this listener's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<NonZeroU16>,
    /// How long they may remember it.
    pub max_age: Span,
}

impl Default for H3Spec {
    fn default() -> Self {
        Self { advertise: true, port: None, max_age: Span::secs(24 * 3600) }
    }
}

/// For which names certificates are obtained.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AcmeNamesSpec {
    /// These host names, wildcards (`*.example.com`) and IP addresses, instead of the hosts of the routes.
    #[serde(skip_serializing_if = "OneOrMany::is_absent")]
    pub names: OneOrMany<String>,
    /// Also for names that nobody has written down, when a client asks for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_demand: Option<OnDemandSpec>,
}

/// Certificates for names that clients ask for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OnDemandSpec {
    /// Who decides: a URL that is asked with `?domain=NAME&client=ADDRESS&listener=LISTENER`. Status 200 allows a certificate, any
    /// other refuses it.
    pub ask: String,
    /// How long a handshake waits for the certificate.
    #[serde(default = "OnDemandSpec::default_wait")]
    pub wait: Span,
    /// New names that one client's address may ask for in an hour.
    #[serde(default = "OnDemandSpec::default_per_client")]
    pub per_client: NonZeroU32,
    /// New names below one registered domain (`example.co.uk`) in an hour.
    #[serde(default = "OnDemandSpec::default_per_domain")]
    pub per_domain: NonZeroU32,
}

impl OnDemandSpec {
    fn default_wait() -> Span {
        Span::secs(30)
    }
    fn default_per_client() -> NonZeroU32 {
        const { NonZeroU32::new(10).unwrap() }
    }
    fn default_per_domain() -> NonZeroU32 {
        const { NonZeroU32::new(10).unwrap() }
    }
}

impl CertificateSpec {
    /// A chain and its key, without anything stapled.
    pub fn of(cert: ConfigPath, key: ConfigPath) -> Self {
        Self { cert, key, ocsp: None }
    }
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
    /// Lists of certificates that were revoked (CRL), PEM. Authorities without a list revoke nothing.
    #[serde(default, skip_serializing_if = "OneOrMany::is_absent")]
    pub crl: OneOrMany<ConfigPath>,
    /// Give endpoints the certificate itself, in `Client-Cert` (RFC 9440).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forward: bool,
}

impl ServerTlsSpec {
    /// Is TLS 1.2 accepted?
    pub(super) fn takes_1_2(&self) -> bool {
        self.min_version == MinVersion::Tls12 && self.policy != Some(TlsPolicy::Modern)
    }
}

impl ClientCertificatesSpec {
    /// Certificates that these authorities have signed are required.
    pub fn of(ca: ConfigPath) -> Self {
        Self { ca, required: true, crl: OneOrMany::default(), forward: false }
    }
    fn default_required() -> bool {
        true
    }
}

/// Which clients are served, in the words of <https://wiki.mozilla.org/Security/Server_Side_TLS>.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TlsPolicy {
    /// Those of the last years: TLS 1.3.
    Modern,
    /// Nearly all: TLS 1.2 with forward secrecy, and 1.3.
    Intermediate,
}

/// What becomes of a request on the connection for another name (RFC 9110 section 15.5.20).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Misdirected {
    /// It is answered with 421, and clients try again on a connection of its own.
    #[default]
    Refuse,
    /// It is served: for a proxy in front that asks for one name whatever the Host is.
    Allow,
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
