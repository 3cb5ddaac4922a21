//! Certificates made for one test, in a directory of their own.

use std::{
    fs,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tempfile::TempDir;

/// A certificate authority and the directory that its files are in, which goes when it is dropped.
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    directory: TempDir,
}

/// A certificate with its key, as text and as files.
#[derive(Debug, Clone)]
pub struct Identity {
    pub cert_pem: String,
    pub key_pem: String,
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
}

/// A new authority.
pub fn ca() -> Ca {
    ca_called("Test CA")
}

/// A new authority of this name. Of two with one name, each takes the other's certificates for its own with a bad signature.
pub fn ca_called(name: &str) -> Ca {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().expect("a key");
    let pem = params.self_signed(&key).expect("a CA certificate").pem();
    let directory = TempDir::new().expect("a directory");
    fs::write(directory.path().join("ca.pem"), &pem).expect("ca.pem");
    Ca { issuer: Issuer::new(params, key), pem, directory }
}

impl Ca {
    /// The authority's certificate.
    pub fn pem(&self) -> &str {
        &self.pem
    }
    /// The file of the authority's certificate.
    pub fn file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }
    /// A certificate for a server with these names (or IP addresses).
    pub fn server(&self, names: &[&str]) -> Identity {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names.clone()).expect("names");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(params, &names[0])
    }
    /// A certificate for a client called `name`.
    pub fn client(&self, name: &str) -> Identity {
        let mut params = CertificateParams::default();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params, name)
    }
    /// A certificate for servers and clients with this name, which was valid until an hour ago.
    pub fn expired(&self, name: &str) -> Identity {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("names");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let hour = Duration::from_secs(3600);
        params.not_before = (SystemTime::now() - 2 * hour).into();
        params.not_after = (SystemTime::now() - hour).into();
        self.sign(params, name)
    }
    fn sign(&self, mut params: CertificateParams, name: &str) -> Identity {
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let cert_pem = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        let key_pem = key.serialize_pem();
        // The name of the file need not be the name: `*` and `:` are no good there.
        let stem: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        let unique = fs::read_dir(self.directory.path()).map(Iterator::count).unwrap_or_default();
        let file = |kind: &str| self.directory.path().join(format!("{stem}-{unique}.{kind}"));
        let (cert_file, key_file) = (file("pem"), file("key"));
        fs::write(&cert_file, &cert_pem).expect("certificate file");
        fs::write(&key_file, &key_pem).expect("key file");
        Identity { cert_pem, key_pem, cert_file, key_file }
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

impl Identity {
    fn chain(&self) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(self.cert_pem.as_bytes()).collect::<Result<_, _>>().expect("PEM")
    }
    fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).expect("PEM")
    }
}

fn roots(pem: &str) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(certificate.expect("PEM")).expect("a CA");
    }
    Arc::new(roots)
}

/// TLS for an origin; with `clients`, it requires certificates of that authority.
pub fn server_config(identity: &Identity, alpn: &[&[u8]], clients: Option<&Ca>) -> Arc<ServerConfig> {
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().expect("versions");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(roots(ca.pem()), provider()).build().expect("verifier");
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(identity.chain(), identity.key()).expect("a certificate");
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Arc::new(config)
}

static ONLY_1_2: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];
static ONLY_1_3: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// How a test client does TLS. The default verifies nothing, sends no SNI and offers no ALPN.
#[derive(Default, Clone)]
pub struct Tls {
    pub(super) sni: Option<String>,
    alpn: Vec<Vec<u8>>,
    ca: Option<String>,
    identity: Option<Identity>,
    versions: Option<&'static [&'static SupportedProtocolVersion]>,
}

/// TLS that verifies nothing, sends no SNI and offers no ALPN.
pub fn tls() -> Tls {
    Tls::default()
}

impl Tls {
    /// Asks for this name.
    pub fn sni(mut self, name: &str) -> Self {
        self.sni = Some(name.to_owned());
        self
    }
    /// Offers this protocol, after those offered before.
    pub fn alpn(mut self, protocol: &str) -> Self {
        self.alpn.push(protocol.as_bytes().to_vec());
        self
    }
    /// Verifies the server by this authority.
    pub fn ca(mut self, ca: &Ca) -> Self {
        self.ca = Some(ca.pem.clone());
        self
    }
    /// Verifies the server by this authority, in PEM.
    pub fn root(mut self, pem: &str) -> Self {
        self.ca = Some(pem.to_owned());
        self
    }
    /// Presents this certificate when asked.
    pub fn identity(mut self, identity: &Identity) -> Self {
        self.identity = Some(identity.clone());
        self
    }
    /// Speaks TLS 1.2 only.
    pub fn only_1_2(mut self) -> Self {
        self.versions = Some(ONLY_1_2);
        self
    }
    /// Speaks TLS 1.3 only.
    pub fn only_1_3(mut self) -> Self {
        self.versions = Some(ONLY_1_3);
        self
    }
    /// The configuration for rustls.
    pub fn config(&self) -> Arc<ClientConfig> {
        let builder = ClientConfig::builder_with_provider(provider());
        let builder = builder.with_protocol_versions(self.versions.unwrap_or(rustls::DEFAULT_VERSIONS)).expect("versions");
        let builder = match &self.ca {
            Some(pem) => builder.with_root_certificates(roots(pem)),
            None => builder.dangerous().with_custom_certificate_verifier(Arc::new(weir::tls::Unverified(provider()))),
        };
        let mut config = match &self.identity {
            Some(identity) => builder.with_client_auth_cert(identity.chain(), identity.key()).expect("a client certificate"),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = self.alpn.clone();
        Arc::new(config)
    }
    /// The name to ask for; an IP address when there is none, for which rustls sends no SNI.
    pub fn server_name(&self) -> ServerName<'static> {
        let name = self.sni.clone().unwrap_or_else(|| "127.0.0.1".to_owned());
        ServerName::try_from(name).expect("a server name")
    }
}
