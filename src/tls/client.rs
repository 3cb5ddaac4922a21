//! The client side: for health checks and whoever else connects over TLS without Pingora.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use super::{certificate::Certificate, pem, provider, server::unfit};

/// Whom a client believes.
#[derive(Debug, Clone, Copy)]
pub enum Trust<'a> {
    /// The authorities of this system.
    System,
    /// The authorities in this PEM file, and no others.
    File(&'a Path),
    /// Anyone who has the key of the certificate they show.
    Anyone,
}

/// A client certificate and its key, PEM.
#[derive(Debug, Clone, Copy)]
pub struct Identity<'a> {
    /// The chain, leaf first.
    pub cert: &'a Path,
    /// The private key.
    pub key: &'a Path,
}

/// Why a client cannot be set up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ClientTlsError(String);

/// What a client of TLS 1.2 and 1.3 connects with. ALPN is left to the caller.
///
/// Reads files: build it when the configuration is compiled, and share it.
pub fn client_config(trust: Trust<'_>, identity: Option<Identity<'_>>) -> Result<ClientConfig, ClientTlsError> {
    let provider = provider();
    let failed = |error: &dyn std::fmt::Display| ClientTlsError(format!("TLS cannot be set up: {error}"));
    let verifier: Arc<dyn ServerCertVerifier> = match trust {
        Trust::Anyone => Arc::new(Unverified(provider.clone())),
        Trust::System => verifier(system_roots()?, &provider)?,
        Trust::File(path) => verifier(file_roots(path)?, &provider)?,
    };
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(&error))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let Some(Identity { cert, key }) = identity else { return Ok(builder.with_no_client_auth()) };
    let own = Certificate::load(cert, key, &provider).map_err(|(_, fault)| ClientTlsError(fault.message))?;
    Ok(builder.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(own.key))))
}

fn verifier(roots: RootCertStore, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, ClientTlsError> {
    let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let verifier = builder.build().map_err(|error| ClientTlsError(format!("TLS cannot be set up: {error}")))?;
    Ok(verifier)
}

fn file_roots(path: &Path) -> Result<RootCertStore, ClientTlsError> {
    let mut roots = RootCertStore::empty();
    let authorities = pem::certificates(path).map_err(|fault| ClientTlsError(fault.message))?;
    for (position, authority) in authorities.into_iter().enumerate() {
        roots.add(authority).map_err(|error| ClientTlsError(unfit(path, position, &error).message))?;
    }
    Ok(roots)
}

/// The platform's store. Single certificates that cannot be read are left out: every store has some.
fn system_roots() -> Result<RootCertStore, ClientTlsError> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added > 0 {
        return Ok(roots);
    }
    let why = found.errors.first().map_or_else(|| "it is empty".to_owned(), ToString::to_string);
    Err(ClientTlsError(format!("the system's store of authorities cannot be used: {why}")))
}

/// Takes every certificate, and still wants proof of its key: a transcript signed by someone else is an error.
#[derive(Debug)]
pub struct Unverified(pub Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
