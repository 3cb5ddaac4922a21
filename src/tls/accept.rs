//! The handshake with a client, and the words for how it fails.

use std::{
    fmt, io,
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use quinn::{ConnectionError, TransportErrorCode, crypto::rustls::HandshakeData};
use rustls::{
    AlertDescription, CertificateError, Error, HandshakeKind, PeerIncompatible, ProtocolVersion, ServerConfig,
    pki_types::CertificateDer,
    server::{Acceptor, ServerConnection},
    sign::SingleCertAndKey,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{Instant, timeout_at},
};
use tokio_rustls::{LazyConfigAcceptor, StartHandshake, server::TlsStream};

use super::{ServerTls, certificate::Certificate, facts, provider, source::Issued, words};
use crate::types::{Name, TlsClient};

/// The first byte of every TLS connection: a record of type "handshake" (RFC 8446 section 5.1).
const HANDSHAKE_RECORD: u8 = 22;

/// Where the alerts of TLS are among the errors of QUIC (RFC 9001 section 4.8).
const ALERTS: u64 = 0x100;

/// The protocol of a proof (RFC 8737 section 6.2).
const NAME_CHECK: &[u8] = b"acme-tls/1";

/// Bytes of records that wait for the socket. The library's own limit is eight times that, for each connection whose
/// client does not read.
const UNSENT: usize = 8 * 1024;

/// Why there is no TLS connection.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The client does not speak TLS: most often a browser that was given `http://` and this port.
    #[error("the client sent cleartext, not TLS")]
    NotTls,
    /// The client speaks only versions that are not accepted.
    #[error("no TLS version in common")]
    NoSharedVersion,
    /// No cipher, group or signature in common.
    #[error("no cipher, key exchange group or signature scheme in common")]
    NoSharedCipher,
    /// The client asked (ALPN) only for protocols that are not spoken here.
    #[error("no application protocol (ALPN) in common")]
    NoSharedProtocol,
    /// Every certificate of the listener is still to be obtained.
    #[error("there is no certificate yet; `weir certificates` says why")]
    NoCertificate,
    /// An authority has checked a name by tls-alpn-01 (RFC 8737): there is nothing more to be said.
    #[error("a certificate authority checked this name")]
    NameChecked,
    /// A certificate is required and the client has none.
    #[error("the client sent no certificate, and this listener requires one")]
    NoClientCertificate,
    /// The client's certificate is not accepted.
    #[error("invalid client certificate: {}", words::certificate(.0))]
    BadClientCertificate(CertificateError),
    /// The client gave up and says why: most often it does not trust our certificate.
    #[error("{}", Rejected(*.0))]
    Alert(AlertDescription),
    /// The client went away.
    #[error("the client closed the connection during the handshake")]
    Eof,
    /// The client took too long.
    #[error("timed out")]
    Timeout,
    /// The client broke the protocol.
    #[error("the client broke the protocol: {0}")]
    Protocol(Error),
    /// The connection failed.
    #[error("the connection failed: {0}")]
    Io(io::Error),
}

impl HandshakeError {
    /// One word for logs and metrics. There are as many as variants, and one for each alert of the standard.
    pub fn reason(&self) -> &'static str {
        match self {
            HandshakeError::NotTls => "not_tls",
            HandshakeError::NoSharedVersion => "no_shared_version",
            HandshakeError::NoSharedCipher => "no_shared_cipher",
            HandshakeError::NoSharedProtocol => "no_shared_protocol",
            HandshakeError::NoCertificate => "no_certificate",
            HandshakeError::NameChecked => "name_checked",
            HandshakeError::NoClientCertificate => "no_client_certificate",
            HandshakeError::BadClientCertificate(_) => "bad_client_certificate",
            HandshakeError::Alert(alert) => alert_reason(*alert),
            HandshakeError::Eof => "eof",
            HandshakeError::Timeout => "timeout",
            HandshakeError::Protocol(_) => "protocol",
            HandshakeError::Io(_) => "io",
        }
    }
}

/// An alert of a client, in words.
struct Rejected(AlertDescription);

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(alert) = *self;
        match alert {
            AlertDescription::UnknownCA => f.write_str("the client does not trust the issuer of our certificate"),
            AlertDescription::CertificateExpired => f.write_str("our certificate has expired, says the client"),
            AlertDescription::CertificateRevoked => f.write_str("our certificate was revoked, says the client"),
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::AccessDenied => f.write_str("the client rejected our certificate"),
            AlertDescription::DecryptError => f.write_str("the client cannot verify a signature of ours"),
            _ => f.write_str("the client gave up"),
        }?;
        write!(f, " (alert {alert:?})")
    }
}

/// The alerts that clients send when a handshake displeases them; the others are a bug on one side.
fn alert_reason(alert: AlertDescription) -> &'static str {
    match alert {
        AlertDescription::CloseNotify => "alert:close_notify",
        AlertDescription::UserCanceled => "alert:user_canceled",
        AlertDescription::HandshakeFailure => "alert:handshake_failure",
        AlertDescription::BadCertificate => "alert:bad_certificate",
        AlertDescription::UnsupportedCertificate => "alert:unsupported_certificate",
        AlertDescription::CertificateRevoked => "alert:certificate_revoked",
        AlertDescription::CertificateExpired => "alert:certificate_expired",
        AlertDescription::CertificateUnknown => "alert:certificate_unknown",
        AlertDescription::UnknownCA => "alert:unknown_ca",
        AlertDescription::AccessDenied => "alert:access_denied",
        AlertDescription::ProtocolVersion => "alert:protocol_version",
        AlertDescription::InternalError => "alert:internal_error",
        _ => "alert:other",
    }
}

impl From<Error> for HandshakeError {
    fn from(error: Error) -> Self {
        match error {
            Error::NoCertificatesPresented => HandshakeError::NoClientCertificate,
            Error::InvalidCertificate(reason) => HandshakeError::BadClientCertificate(reason),
            Error::NoApplicationProtocol => HandshakeError::NoSharedProtocol,
            Error::AlertReceived(alert) => HandshakeError::Alert(alert),
            Error::PeerIncompatible(reason) => match reason {
                PeerIncompatible::SupportedVersionsExtensionRequired
                | PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled
                | PeerIncompatible::Tls13RequiredForQuic => HandshakeError::NoSharedVersion,
                PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon
                | PeerIncompatible::NoCipherSuitesInCommon
                | PeerIncompatible::NoEcPointFormatsInCommon
                | PeerIncompatible::NoKxGroupsInCommon
                | PeerIncompatible::NoSignatureSchemesInCommon => HandshakeError::NoSharedCipher,
                other => HandshakeError::Protocol(Error::PeerIncompatible(other)),
            },
            other => HandshakeError::Protocol(other),
        }
    }
}

impl From<ConnectionError> for HandshakeError {
    fn from(error: ConnectionError) -> Self {
        let alert = |code: TransportErrorCode| {
            let code = u64::from(code).checked_sub(ALERTS).and_then(|alert| u8::try_from(alert).ok());
            code.map(AlertDescription::from)
        };
        match error {
            ConnectionError::TimedOut => HandshakeError::Timeout,
            ConnectionError::VersionMismatch => HandshakeError::NoSharedVersion,
            // What we have sent.
            ConnectionError::TransportError(error) => match alert(error.code) {
                Some(AlertDescription::NoApplicationProtocol) => HandshakeError::NoSharedProtocol,
                Some(AlertDescription::CertificateRequired) => HandshakeError::NoClientCertificate,
                Some(AlertDescription::HandshakeFailure) => HandshakeError::NoSharedCipher,
                _ => HandshakeError::Protocol(Error::General(error.reason)),
            },
            // What the client has sent.
            ConnectionError::ConnectionClosed(close) => {
                alert(close.error_code).map_or(HandshakeError::Eof, HandshakeError::Alert)
            }
            _ => HandshakeError::Eof,
        }
    }
}

impl From<io::Error> for HandshakeError {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, TimedOut, UnexpectedEof};
        match error.kind() {
            UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe => HandshakeError::Eof,
            TimedOut => HandshakeError::Timeout,
            _ => match error.downcast::<Error>() {
                Ok(error) => error.into(),
                Err(error) => HandshakeError::Io(error),
            },
        }
    }
}

/// A client that got no TLS connection.
#[derive(Debug)]
pub struct Refusal<S> {
    /// Why.
    pub error: HandshakeError,
    /// What the client had said before.
    pub heard: Heard,
    /// The connection, when the client speaks something in cleartext that may be answered likewise: the
    /// first byte is read, nothing is written. Where an alert was due it is sent, and the connection gone.
    pub cleartext: Option<S>,
}

/// What a client has said so far.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Heard {
    /// Anything at all.
    pub anything: bool,
    /// The server name it asked for.
    pub sni: Option<Box<str>>,
}

/// Why the handshake failed, and the connection of a client that may be answered in cleartext.
struct Failed<S>(HandshakeError, Option<S>);

impl<S, E: Into<HandshakeError>> From<E> for Failed<S> {
    fn from(error: E) -> Self {
        Self(error.into(), None)
    }
}

/// Where a client comes from, and to: for the decision on a certificate that is made on demand.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    /// Its address.
    pub client: IpAddr,
    /// The listener's name.
    pub listener: &'a Name,
}

impl ServerTls {
    /// Speaks TLS with a client up to the end of the handshake, which may take this long, not counting how long a certificate that
    /// is made on demand is waited for.
    pub async fn accept<S>(
        &self,
        stream: S,
        patience: Duration,
        arrival: Arrival<'_>,
    ) -> Result<(TlsStream<S>, TlsClient), Refusal<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut heard = Heard::default();
        let deadline = Instant::now() + patience;
        let hello = match timeout_at(deadline, greeting(stream, &mut heard)).await {
            Ok(Ok(hello)) => hello,
            Ok(Err(Failed(error, cleartext))) => return Err(Refusal { error, heard, cleartext }),
            Err(_) => return Err(Refusal { error: HandshakeError::Timeout, heard, cleartext: None }),
        };
        let (mut deadline, mut proof) = (deadline, None);
        if let Some(issuer) = self.issued.as_ref().and_then(Issued::issuer)
            && let Some(name) = hello.client_hello().server_name().map(str::to_owned)
        {
            if checks_name(&hello) {
                proof = issuer.proof(&name).await.and_then(|proof| proven(&name, proof));
            } else if !self.knows(&name) {
                let began = Instant::now();
                // Before the watch has seen that it is there.
                if issuer.demand(&name, arrival.client, arrival.listener).await {
                    self.refresh();
                }
                deadline += began.elapsed();
            }
        }
        match timeout_at(deadline, self.finish(hello, proof)).await {
            Ok(Ok(accepted)) => Ok(accepted),
            Ok(Err(Failed(error, cleartext))) => Err(Refusal { error, heard, cleartext }),
            Err(_) => Err(Refusal { error: HandshakeError::Timeout, heard, cleartext: None }),
        }
    }

    /// What a client has told during the handshake of QUIC, which is over.
    ///
    /// # Errors
    /// When its certificate has expired: a session that is resumed brings it along.
    pub fn quic_client(&self, connection: &quinn::Connection) -> Result<TlsClient, HandshakeError> {
        let data = connection.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
        let chain = connection.peer_identity().and_then(|chain| chain.downcast::<Vec<CertificateDer<'static>>>().ok());
        let leaf = chain.as_ref().and_then(|chain| chain.first());
        if leaf.is_some_and(|leaf| facts::expired(leaf, SystemTime::now())) {
            return Err(HandshakeError::BadClientCertificate(CertificateError::Expired));
        }
        let sni = data.as_ref().and_then(|data| data.server_name.as_deref());
        Ok(told(sni, "TLSv1.3", leaf, self.forwards_certificates()))
    }

    async fn finish<S>(
        &self,
        hello: StartHandshake<S>,
        proof: Option<Arc<ServerConfig>>,
    ) -> Result<(TlsStream<S>, TlsClient), Failed<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        if let Some(proof) = proof {
            // The authority has seen the certificate when the handshake is over.
            let mut stream = hello.into_stream(proof).await?;
            stream.shutdown().await?;
            return Err(HandshakeError::NameChecked.into());
        }
        let accepted = hello.into_stream(self.config()).await;
        let mut stream = accepted.map_err(|error| match HandshakeError::from(error) {
            // What rustls says when its resolver has nothing to give.
            HandshakeError::Protocol(Error::General(_)) if self.is_empty() => HandshakeError::NoCertificate,
            error => error,
        })?;
        let connection = stream.get_mut().1;
        connection.set_buffer_limit(Some(UNSENT));
        still_valid(connection, SystemTime::now())?;
        let client = client(connection, self.forwards_certificates());
        Ok((stream, client))
    }
}

/// Reads what a client says first.
async fn greeting<S>(mut stream: S, heard: &mut Heard) -> Result<StartHandshake<S>, Failed<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // One byte, before rustls writes an alert that a client in cleartext would take for an answer.
    let first = stream.read_u8().await?;
    heard.anything = true;
    if first != HANDSHAKE_RECORD {
        // A method starts with a letter; anything else would not understand an answer either.
        let cleartext = first.is_ascii_alphabetic().then_some(stream);
        return Err(Failed(HandshakeError::NotTls, cleartext));
    }
    let mut acceptor = Acceptor::default();
    acceptor.read_tls(&mut [first].as_slice())?;
    let hello = LazyConfigAcceptor::new(acceptor, stream).await?;
    heard.sni = hello.client_hello().server_name().map(Box::from);
    Ok(hello)
}

/// Does an authority ask for a proof (RFC 8737 section 3)? It offers that protocol and no other.
fn checks_name<S: AsyncRead + AsyncWrite + Unpin>(hello: &StartHandshake<S>) -> bool {
    hello.client_hello().alpn().is_some_and(|offered| offered.eq([NAME_CHECK]))
}

/// What proves a name: a certificate of its own that holds the proof.
fn proven(name: &str, proof: [u8; 32]) -> Option<Arc<ServerConfig>> {
    let provider = provider();
    let certificate = Certificate::proof(name, &proof, &provider).ok()?;
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().ok()?;
    let resolver = SingleCertAndKey::from(certificate);
    let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = vec![NAME_CHECK.to_vec()];
    Some(Arc::new(config))
}

/// A session that is resumed carries its client certificate, verified when the session began. The leaf
/// expires first by far; a full handshake has looked at the whole chain just now.
pub(super) fn still_valid(connection: &ServerConnection, now: SystemTime) -> Result<(), HandshakeError> {
    let resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
    match connection.peer_certificates().and_then(|chain| chain.first()) {
        Some(leaf) if resumed && facts::expired(leaf, now) => {
            Err(HandshakeError::BadClientCertificate(CertificateError::Expired))
        }
        _ => Ok(()),
    }
}

fn client(connection: &ServerConnection, forward: bool) -> TlsClient {
    // A chain is there only once it is verified; its first certificate is the client's.
    let leaf = connection.peer_certificates().and_then(|chain| chain.first());
    let version = match connection.protocol_version() {
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "TLSv1.3",
    };
    told(connection.server_name(), version, leaf, forward)
}

fn told(sni: Option<&str>, version: &'static str, leaf: Option<&CertificateDer<'static>>, forward: bool) -> TlsClient {
    TlsClient {
        sni: sni.map(|name| name.to_ascii_lowercase().into()),
        version,
        subject: leaf.and_then(|leaf| facts::subject(leaf)).map(Arc::from),
        fingerprint: leaf.map(|leaf| facts::fingerprint(leaf).into()),
        // A byte sequence of RFC 8941.
        certificate: leaf.filter(|_| forward).and_then(|leaf| format!(":{}:", STANDARD.encode(leaf)).try_into().ok()),
    }
}

/// Was an earlier session taken up again?
pub fn resumed<S>(stream: &TlsStream<S>) -> bool {
    stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed)
}

/// Did client and listener agree on HTTP/2?
pub fn speaks_h2<S>(stream: &TlsStream<S>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(b"h2")
}
