//! TLS to endpoints: from the files to what connections are dialled with.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::Path,
    sync::{Arc, OnceLock},
};

use rustls::{
    ClientConfig, RootCertStore,
    client::WebPkiServerVerifier,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Protocol, UpstreamSpec, UpstreamTlsSpec};
use crate::{
    tls::{Unverified, provider},
    types::{Address, At, Code, ConfigPath, unreadable},
    wire::ClientTls,
};

/// Compiled TLS settings of an upstream, by what is offered in the handshake (ALPN).
#[derive(Debug)]
pub(super) struct UpstreamTls {
    /// What the upstream's protocol offers.
    pub(super) offered: ClientTls,
    /// HTTP/1.1 alone.
    pub(super) http1: ClientTls,
    /// Nothing: nobody knows what is spoken inside.
    pub(super) bytes: ClientTls,
    /// Of the name, of whom these settings trust and of what they show: connections that differ in it are never shared.
    pub(super) digest: u64,
}

impl UpstreamTls {
    pub(super) fn compile(spec: &UpstreamTlsSpec, upstream: &UpstreamSpec, at: &At) -> Option<Self> {
        if !spec.verify {
            at.key("verify")
                .problem(Code::Insecure, "whoever answers at the endpoint's address is believed")
                .hint("name the endpoint's CA with `ca` instead");
        }
        let name = server_name(spec, upstream, at);
        let ca = match &spec.ca {
            Some(path) => certificates(path, &at.key("ca")).map(Some),
            None => Some(None),
        };
        let client = client_pair(spec, at);
        let (name, ca, client) = (name?, ca?, client?);
        let config = client_config(spec, ca.as_deref(), client.as_ref(), at)?;
        let offering = |protocols: &[&[u8]]| {
            let mut config = config.clone();
            config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
            ClientTls { config: Arc::new(config), name: name.clone() }
        };
        let mut digest = DefaultHasher::new();
        (&spec.sni, spec.verify, &ca).hash(&mut digest);
        if let Some((chain, key)) = &client {
            (chain, key.secret_der()).hash(&mut digest);
        }
        Some(Self {
            offered: match upstream.connections.protocol {
                Protocol::H1 => offering(&[b"http/1.1"]),
                Protocol::H2 | Protocol::H2c => offering(&[b"h2", b"http/1.1"]),
            },
            http1: offering(&[b"http/1.1"]),
            bytes: offering(&[]),
            digest: digest.finish(),
        })
    }
}

/// The configured name; `Some(None)` to go by the endpoint's IP address.
fn server_name(spec: &UpstreamTlsSpec, upstream: &UpstreamSpec, at: &At) -> Option<Option<ServerName<'static>>> {
    let Some(sni) = &spec.sni else {
        let unix = upstream.endpoints.iter().find(|endpoint| matches!(endpoint.target.address(), Some(Address::Unix(_))));
        return match unix {
            None => Some(None),
            Some(endpoint) => {
                at.problem(Code::Conflict, format!("`{}` has no IP address to verify, so `sni` is needed", endpoint.target))
                    .hint("add `sni: name.in.its.certificate`");
                None
            }
        };
    };
    match ServerName::try_from(sni.clone()) {
        Ok(name) => Some(Some(name)),
        Err(_) => {
            at.key("sni").problem(Code::BadValue, format!("`{sni}` is not a host name"));
            None
        }
    }
}

fn read(path: &Path, at: &At) -> Option<Vec<u8>> {
    /// Bundles of all public CAs have a quarter of this. A device or a wrong path must not fill memory.
    const MAX: u64 = 4 << 20;
    let content = match fs::metadata(path) {
        Ok(file) if !file.is_file() => Err("it is not a file".into()),
        Ok(file) if file.len() > MAX => Err("it is over 4 MiB".into()),
        Ok(_) => fs::read(path).map_err(|error| unreadable(&error)),
        Err(error) => Err(unreadable(&error)),
    };
    content.map_err(|reason| at.problem(Code::UnreadableFile, format!("cannot read `{}`: {reason}", path.display()))).ok()
}

fn certificates(path: &ConfigPath, at: &At) -> Option<Vec<CertificateDer<'static>>> {
    let content = read(path, at)?;
    let certificates = CertificateDer::pem_slice_iter(&content).collect::<Result<Vec<_>, _>>();
    let refuse = |message: String| {
        at.problem(Code::BadCertificate, message);
        None
    };
    match certificates {
        Err(error) => refuse(format!("{path} is not PEM: {error}")),
        Ok(certificates) if certificates.is_empty() => refuse(format!("{path} holds no certificate in PEM form")),
        // rustls looks into the authorities alone.
        Ok(certificates) if certificates.iter().any(|der| X509Certificate::from_der(der).is_err()) => {
            refuse(format!("{path} holds a certificate that cannot be parsed"))
        }
        Ok(certificates) => Some(certificates),
    }
}

type Pair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn client_pair(spec: &UpstreamTlsSpec, at: &At) -> Option<Option<Pair>> {
    let (cert, key) = match (&spec.client_cert, &spec.client_key) {
        (None, None) => return Some(None),
        (Some(cert), Some(key)) => (cert, key),
        (Some(_), None) => {
            at.key("client_cert").problem(Code::Conflict, "`client_cert` needs `client_key`").at_key();
            return None;
        }
        (None, Some(_)) => {
            at.key("client_key").problem(Code::Conflict, "`client_key` needs `client_cert`").at_key();
            return None;
        }
    };
    let chain = certificates(cert, &at.key("client_cert"));
    let at_key = at.key("client_key");
    let key = read(key, &at_key).and_then(|content| match PrivateKeyDer::from_pem_slice(&content) {
        Ok(key) => Some(key),
        Err(_) => {
            at_key.problem(Code::BadCertificate, format!("{key} holds no private key in PEM form"));
            None
        }
    });
    Some(Some((chain?, key?)))
}

/// The settings as rustls takes them. Making them also tells whether the key belongs to the certificate.
fn client_config(
    spec: &UpstreamTlsSpec,
    ca: Option<&[CertificateDer<'static>]>,
    client: Option<&Pair>,
    at: &At,
) -> Option<ClientConfig> {
    let provider = provider();
    let builder = ClientConfig::builder_with_provider(provider.clone());
    // Cannot fail: the provider has suites for these versions.
    let builder = builder.with_safe_default_protocol_versions().ok()?;
    let builder = if !spec.verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(provider)))
    } else {
        let roots = match ca {
            None => system_roots(),
            Some(certificates) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates {
                    if let Err(error) = roots.add(certificate.clone()) {
                        at.key("ca").problem(Code::BadCertificate, format!("a certificate cannot be trusted: {error}"));
                        return None;
                    }
                }
                Arc::new(roots)
            }
        };
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider).build();
        match verifier {
            Ok(verifier) => builder.with_webpki_verifier(verifier),
            Err(_) => {
                at.problem(Code::BadCertificate, "this system trusts no CA at all, so no endpoint could be verified")
                    .hint("name the endpoint's CA with `ca`");
                return None;
            }
        }
    };
    let config = match client {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => match builder.with_client_auth_cert(chain.clone(), key.clone_key()) {
            Ok(config) => config,
            Err(error) => {
                at.key("client_key").problem(Code::BadCertificate, format!("the client key cannot be used: {error}"));
                return None;
            }
        },
    };
    Some(config)
}

/// The CAs that this system trusts. They are the machine's, not an edge's, and
/// reading them takes milliseconds, which a file with a thousand upstreams would pay a thousand times.
fn system_roots() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let load = || {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(pingora_rustls::load_native_certs().unwrap_or_default());
        Arc::new(roots)
    };
    ROOTS.get_or_init(load).clone()
}
