//! The handshake with a client, and the words for how it fails.

use std::{io, sync::Arc, time::SystemTime};

use rustls::{
    AlertDescription, CertificateError, Error, HandshakeKind, PeerIncompatible, ProtocolVersion,
    server::{Acceptor, ServerConnection},
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};

use super::{ServerTls, facts};
use crate::types::TlsClient;

/// The first byte of every TLS connection: a record of type "handshake" (RFC 8446 section 5.1).
const HANDSHAKE_RECORD: u8 = 22;

/// Why there is no TLS connection.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The client does not speak TLS: most often a browser that was given `http://` and this port.
    #[error("the client does not speak TLS")]
    NotTls,
    /// The client speaks only versions that are not accepted.
    #[error("the client shares no TLS version with us")]
    NoSharedVersion,
    /// No cipher, group or signature in common.
    #[error("the client shares no cipher, group or signature scheme with us")]
    NoSharedCipher,
    /// The client asked (ALPN) only for protocols that are not spoken here.
    #[error("the client asks for protocols that are not spoken here")]
    NoSharedProtocol,
    /// A certificate is required and the client has none.
    #[error("the client presented no certificate")]
    NoClientCertificate,
    /// The client's certificate is not accepted.
    #[error("the client's certificate is not accepted: {0}")]
    BadClientCertificate(CertificateError),
    /// The client gave up and says why: most often it does not trust our certificate.
    #[error("the client sent the alert {0:?}")]
    Alert(AlertDescription),
    /// The client went away.
    #[error("the client closed the connection")]
    Eof,
    /// The client took too long. The deadline is the caller's; this is the word for it.
    #[error("the client took too long")]
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
    /// The connection, when the client speaks something in cleartext that may be answered likewise: the
    /// first byte is read, nothing is written. Where an alert was due it is sent, and the connection gone.
    pub cleartext: Option<S>,
}

impl<S, E: Into<HandshakeError>> From<E> for Refusal<S> {
    fn from(error: E) -> Self {
        Self { error: error.into(), cleartext: None }
    }
}

impl ServerTls {
    /// Speaks TLS with a client up to the end of the handshake. Has no deadline of its own.
    pub async fn accept<S>(&self, mut stream: S) -> Result<(TlsStream<S>, TlsClient), Refusal<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        // One byte, before rustls writes an alert that a client in cleartext would take for an answer.
        let first = stream.read_u8().await?;
        if first != HANDSHAKE_RECORD {
            // A method starts with a letter; anything else would not understand an answer either.
            let cleartext = first.is_ascii_alphabetic().then_some(stream);
            return Err(Refusal { error: HandshakeError::NotTls, cleartext });
        }
        let mut acceptor = Acceptor::default();
        acceptor.read_tls(&mut [first].as_slice())?;
        let hello = LazyConfigAcceptor::new(acceptor, stream).await?;
        let stream = hello.into_stream(self.config()).await?;
        let connection = stream.get_ref().1;
        still_valid(connection, SystemTime::now())?;
        let client = client(connection);
        Ok((stream, client))
    }
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

fn client(connection: &ServerConnection) -> TlsClient {
    // A chain is there only once it is verified; its first certificate is the client's.
    let leaf = connection.peer_certificates().and_then(|chain| chain.first());
    TlsClient {
        sni: connection.server_name().map(|name| name.to_ascii_lowercase().into()),
        version: match connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "TLSv1.3",
        },
        subject: leaf.and_then(|leaf| facts::subject(leaf)).map(Arc::from),
        fingerprint: leaf.map(|leaf| facts::fingerprint(leaf).into()),
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
