//! What an intermediary changes in a request before anything is decided: who the client is, and the fields that go no further.

use bytes::Bytes;
use compact_str::CompactString;
use http::{HeaderMap, HeaderName, HeaderValue, header, request::Parts};

use super::{Exchange, told, trace};
use crate::{
    gate::{
        Admitted, Refusal, Version,
        hop::{self, Dropped, Forwarded, Onward, Peer},
    },
    snapshot::Listener,
    types::TlsClient,
};

const CERT_SUBJECT: HeaderName = HeaderName::from_static("x-client-cert-subject");
/// RFC 9440 section 2.2.
const CERTIFICATE: HeaderName = HeaderName::from_static("client-cert");
const CERT_FINGERPRINT: HeaderName = HeaderName::from_static("x-client-cert-fingerprint");

impl Exchange {
    /// Prepares the head, and learns from it.
    ///
    /// # Errors
    /// When the request goes in a circle, or cannot be written in the form that endpoints expect.
    pub fn prepare(&mut self, request: &mut Parts) -> Result<(), Refusal> {
        let fields = &mut request.headers;
        self.outcome.method = request.method.as_str().into();
        self.idempotent = request.method.is_idempotent();
        self.outcome.user_agent = text(fields.get(header::USER_AGENT));
        self.outcome.referer = text(fields.get(header::REFERER));
        self.told = told::asked(fields, &self.snapshot);
        let connection = &self.connection;
        let peer = Peer { ip: connection.peer, port: connection.port, scheme: connection.scheme() };
        let Prepared { found, via, dropped } = prepare(
            fields,
            &self.admitted,
            &self.outcome.host,
            peer,
            &connection.told,
            &connection.listener,
            connection.tls.as_deref(),
        )?;
        told_of(&dropped, self);
        self.via = Some(via);
        (self.client.ip, self.client.port, self.client.scheme) = (found.ip, found.port, found.scheme);
        (self.outcome.client, self.outcome.client_port) = (found.ip, found.port);
        trace::begin(fields, self, found.trusted());
        Ok(())
    }
}

/// Counts the fields that services could take for others, and says which they were.
fn told_of(dropped: &Dropped, ctx: &Exchange) {
    let listener = &ctx.connection.listener.name;
    for (name, reason) in dropped {
        ctx.observer.metrics().field_dropped(listener, reason.word());
        log::debug!(
            "request {}: field `{name}` dropped ({}), see `underscore_fields` of listener {listener}",
            ctx.outcome.request_id,
            reason.word()
        );
    }
}

/// What [`prepare`] found out.
pub struct Prepared {
    /// The client.
    pub found: Forwarded,
    /// Our entry in Via.
    pub via: &'static str,
    /// Fields that services could take for others.
    pub dropped: Dropped,
}

/// Takes away the fields that go no further, finds the client behind trusted proxies, and writes down for the endpoint
/// who it is. `told` is [`Peer::told`].
pub fn prepare(
    fields: &mut HeaderMap,
    admitted: &Admitted,
    host: &str,
    peer: Peer,
    told: &HeaderValue,
    listener: &Listener,
    tls: Option<&TlsClient>,
) -> Result<Prepared, Refusal> {
    let dropped = if admitted.underscores { listener.http.underscore_fields.apply(fields) } else { Dropped::default() };
    hop::strip_request(fields, Onward { upgrade: admitted.upgrade, trailers: false });
    if admitted.http == Version::Http10 {
        fields.remove(header::EXPECT);
    }
    if !admitted.http.is_http1() {
        hop::join_cookies(fields)?;
    }
    let passed = fields.get_all(header::VIA).iter().map(HeaderValue::as_bytes);
    let via = hop::via(passed, admitted.http)?;
    let found = Forwarded::resolve(peer, &listener.trusted_proxies, fields);
    let host = authority(fields, host, admitted.port);
    found.apply(fields, told, host);
    if let Some(tls) = tls {
        identify(fields, tls);
    }
    Ok(Prepared { found, via, dropped })
}

/// The authority that the client asked for, if it named one: in most cases it is what the field Host says, byte for byte.
fn authority(fields: &HeaderMap, host: &str, port: Option<u16>) -> Option<HeaderValue> {
    if host.is_empty() {
        return None;
    }
    let sent = fields.get(header::HOST).filter(|sent| port.is_none() && sent.as_bytes() == host.as_bytes());
    match (sent, port) {
        (Some(sent), _) => Some(sent.clone()),
        (None, None) => HeaderValue::from_str(host).ok(),
        (None, Some(port)) => HeaderValue::from_maybe_shared(Bytes::from(format!("{host}:{port}"))).ok(),
    }
}

/// Tells the endpoint whose certificate the client has shown. What a client itself sends under these names is gone by now.
fn identify(fields: &mut HeaderMap, tls: &TlsClient) {
    for (name, text) in [(CERT_SUBJECT, &tls.subject), (CERT_FINGERPRINT, &tls.fingerprint)] {
        if let Some(value) = text.as_deref().and_then(|text| HeaderValue::from_str(text).ok()) {
            fields.insert(name, value);
        }
    }
    if let Some(certificate) = &tls.certificate {
        fields.insert(CERTIFICATE, certificate.clone());
    }
}

fn text(value: Option<&HeaderValue>) -> Option<CompactString> {
    value.map(|value| match value.to_str() {
        Ok(text) => text.into(),
        Err(_) => CompactString::from_utf8_lossy(value.as_bytes()),
    })
}
