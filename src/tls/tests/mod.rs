//! Handshakes over real streams with certificates made for each test.

mod depth;
mod files;
mod handshake;

use std::{
    io,
    net::Ipv4Addr,
    sync::{Arc, LazyLock},
    time::{Duration, SystemTime},
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{
    ClientConfig, SupportedProtocolVersion,
    pki_types::{CertificateDer, ServerName},
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_rustls::{TlsConnector, client, server};

use super::*;
use crate::types::{ConfigPath, Name, OneOrMany, Problem, Problems, TlsClient};

const DAY: Duration = Duration::from_secs(86_400);

/// An authority that issues into a directory.
struct Authority {
    dir: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let authority = Self { dir: TempDir::new().unwrap(), issuer };
        authority.write("ca.pem", authority.issuer.pem());
        authority
    }

    fn params(names: &[&str]) -> CertificateParams {
        let mut params = CertificateParams::new(names.iter().map(|name| name.to_string()).collect::<Vec<_>>()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Example, Inc.");
        params.distinguished_name.push(DnType::CommonName, names[0]);
        params
    }

    /// Writes `<file>.pem` and `<file>.key`; they last a year.
    fn issue(&self, file: &str, names: &[&str]) -> CertificateSpec {
        self.issue_with(file, Self::params(names), &KeyPair::generate().unwrap(), SystemTime::now() + 365 * DAY)
    }

    fn issue_with(&self, file: &str, mut params: CertificateParams, key: &KeyPair, until: SystemTime) -> CertificateSpec {
        params.not_before = (SystemTime::now() - DAY).into();
        params.not_after = until.into();
        let leaf = params.signed_by(key, &self.issuer).unwrap();
        let cert = self.write(&format!("{file}.pem"), leaf.pem());
        CertificateSpec::of(cert, self.write(&format!("{file}.key"), key.serialize_pem()))
    }

    fn write(&self, file: &str, text: String) -> ConfigPath {
        let path = self.dir.path().join(file);
        std::fs::write(&path, text).unwrap();
        path.into()
    }

    fn ca(&self) -> ConfigPath {
        self.dir.path().join("ca.pem").into()
    }

    fn trusted(&self) -> ClientConfig {
        client_config(Trust::File(&self.ca()), None).unwrap()
    }

    fn trusted_as(&self, identity: &CertificateSpec) -> ClientConfig {
        let identity = Identity { cert: &identity.cert, key: &identity.key };
        client_config(Trust::File(&self.ca()), Some(identity)).unwrap()
    }
}

fn compile(spec: &ServerTlsSpec) -> (Option<Arc<ServerTls>>, Vec<Problem>) {
    let problems = Problems::default();
    let tls = ServerTls::compile(spec, Offer::Http2, &Issued::default(), SystemTime::now(), &problems.root().key("tls"));
    (tls, problems.take())
}

fn serve(spec: &ServerTlsSpec) -> Arc<ServerTls> {
    let (tls, problems) = compile(spec);
    assert_eq!(problems, []);
    tls.unwrap()
}

fn certificates(certificates: impl Into<Vec<CertificateSpec>>) -> ServerTlsSpec {
    ServerTlsSpec { certificates: certificates.into(), ..ServerTlsSpec::default() }
}

/// Longer than any handshake takes here.
const PATIENCE: Duration = Duration::from_secs(20);

/// A client of this machine.
fn arrival() -> Arrival<'static> {
    static LISTENER: LazyLock<Name> = LazyLock::new(|| "edge".parse().unwrap());
    Arrival { client: Ipv4Addr::LOCALHOST.into(), listener: &LISTENER }
}

/// Both ends of one connection.
struct Met {
    client: io::Result<client::TlsStream<DuplexStream>>,
    server: Result<(server::TlsStream<DuplexStream>, TlsClient), Refusal<DuplexStream>>,
}

impl Met {
    fn seen(&self) -> &TlsClient {
        &self.server.as_ref().unwrap().1
    }
    fn reason(&self) -> &'static str {
        self.server.as_ref().unwrap_err().error.reason()
    }
    /// The leaf that the client was shown.
    fn leaf(&self) -> CertificateDer<'static> {
        let stream = self.client.as_ref().unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].clone()
    }
    fn shown(&self) -> String {
        CertificateFacts::read(&self.leaf(), Source::SelfSigned).unwrap().name
    }
    /// One byte from the server: the client reads its tickets on the way.
    async fn settle(mut self) -> Self {
        let (client, (server, _)) = (self.client.as_mut().unwrap(), self.server.as_mut().unwrap());
        server.write_all(b"!").await.unwrap();
        server.flush().await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), b'!');
        self
    }
}

async fn meet(tls: &ServerTls, config: impl Into<Arc<ClientConfig>>, name: &str) -> Met {
    let (near, far) = duplex(64 * 1024);
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connector = TlsConnector::from(config.into());
    let (client, server) = tokio::join!(connector.connect(name, near), tls.accept(far, PATIENCE, arrival()));
    Met { client, server }
}

/// A client of these versions, that takes any certificate.
fn any(versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
    any_with(Arc::unwrap_or_clone(provider()), versions)
}

/// Likewise, of these abilities.
fn any_with(provider: CryptoProvider, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
    let provider = Arc::new(provider);
    ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(super::client::Unverified(provider)))
        .with_no_client_auth()
}
