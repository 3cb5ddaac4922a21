//! Layer 2: TLS by rustls on aws-lc. Certificates and who is served which, the handshake with clients,
//! mutual TLS, and the client side for those who connect over TLS themselves.
//!
//! What is decided here, and why:
//! - **A name picks a certificate**: exact, then a wildcard of one label, then the first certificate. A
//!   client that asks for a name nobody has a certificate for gets the first one rather than an alert, so
//!   that its user sees which certificate is wrong. Requests for a host outside the certificate's scope
//!   are for the proxy to answer with 421 ([`ServerTls::scope`]).
//! - **ALPN without overlap is refused** (`no_application_protocol`, RFC 7301 section 3.2): a client that
//!   names its protocols and leaves out all of ours would misread whatever we sent. A client without ALPN
//!   speaks HTTP/1.1.
//! - **Sessions resume on the listener that made them only**, of this edge or of one that shares the storage of certificates. Each
//!   [`ServerTls`] has its own ticket keys and session cache, and new ones when the authorities of client certificates change, so that no session
//!   walks around a stricter policy. A session brings its client certificate along without verifying it
//!   again, and each resumption renews it, so the certificate's expiry is looked at every time. There is no
//!   early data: a replayed request is not worth a round trip.
//! - **Key exchange prefers X25519MLKEM768**, for traffic that is recorded now and broken later.

mod accept;
mod certificate;
mod client;
mod facts;
mod key_log;
mod pem;
mod server;
mod source;
mod spec;
mod store;
#[cfg(test)]
mod tests;
mod tickets;
mod watch;
mod words;

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};

pub use accept::{Arrival, HandshakeError, Heard, Refusal, resumed, speaks_h2};
pub use certificate::reverse_address;
pub use client::{ClientTlsError, Identity, Trust, Unverified, client_config};
pub use facts::{CertificateFacts, Source};
pub use server::{Offer, ReloadError, ServerTls};
pub use source::{Issued, Issuer, Pair};
pub use spec::{
    AcmeNamesSpec, CertificateSpec, ClientCertificatesSpec, H3Spec, MinVersion, Misdirected, OnDemandSpec, ServerTlsSpec,
    TlsPolicy,
};
pub use tickets::{LIFETIME as TICKET_LIFETIME, TicketSecret, TicketSecrets};
pub use watch::watch;
pub use words::in_words;

/// Makes aws-lc the process's default for rustls. Must run before Pingora builds a connector, which
/// would otherwise choose for everyone. Later calls do nothing.
pub fn install_provider() {
    // The error is the provider that is installed already: the first one stays, by rustls' design.
    let _ = Arc::unwrap_or_clone(provider()).install_default();
}

/// The ciphers of rustls' defaults, and the groups in our order.
pub fn provider() -> Arc<CryptoProvider> {
    use aws_lc_rs::kx_group::{SECP256R1, SECP384R1, X25519, X25519MLKEM768};
    let kx_groups = vec![X25519MLKEM768, X25519, SECP256R1, SECP384R1];
    Arc::new(CryptoProvider { kx_groups, ..aws_lc_rs::default_provider() })
}
