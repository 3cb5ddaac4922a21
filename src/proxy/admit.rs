//! The first phase: limits of this exchange, who the client is, and the fields that go no further.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, header, request::Parts};
use pingora_core::Result;
use pingora_http::RequestHeader;
use pingora_proxy::Session;

use super::{RequestCtx, caching, told, trace};
use crate::{
    gate::{
        Admitted, BodyFraming, Refusal,
        hop::{self, Dropped, Forwarded, Onward, Peer},
    },
    snapshot::Listener,
    types::{Reply, TlsClient, Who},
};

/// What is left of a request body when its answer is complete is read for this long, so that the connection can live on.
const DRAIN: Duration = Duration::from_secs(5);

const CERT_SUBJECT: HeaderName = HeaderName::from_static("x-client-cert-subject");
const CERT_FINGERPRINT: HeaderName = HeaderName::from_static("x-client-cert-fingerprint");

/// Prepares the session and the request's head.
pub(super) fn admit(session: &mut Session, ctx: &mut RequestCtx) -> Result<()> {
    if caching::resume(session, ctx)? {
        return Ok(());
    }
    limits(session, ctx);
    if ctx.arrival.admitted.body == BodyFraming::Stream && session.as_downstream_mut().is_body_empty() {
        // Its head was the end of the stream.
        ctx.arrival.admitted.body = BodyFraming::None;
    }
    ctx.uploaded = matches!(ctx.arrival.admitted.body, BodyFraming::None | BodyFraming::Length(0));
    let request = session.req_header_mut();
    // Policy edits plain parts: Pingora's header also keeps the case that names were sent in, which nobody may rely on.
    let placeholder = RequestHeader::build_no_case("GET", b"/", Some(0))?;
    let mut parts = Parts::from(std::mem::replace(request, placeholder));
    let edited = edit(&mut parts, ctx);
    *request = RequestHeader::from(parts);
    edited.map_err(|refusal| ctx.decide(Reply::status(refusal.status()), refusal.cause(), refusal.reason(), Who::Client))
}

fn limits(session: &mut Session, ctx: &RequestCtx) {
    let http = &ctx.arrival.connection.listener.http;
    session.set_read_timeout(http.body_idle_timeout.limit());
    // The stream of an HTTP/1 client times its writes itself, by what the client takes and not by the piece.
    let writes = http.body_idle_timeout.limit().filter(|_| ctx.arrival.link.is_none());
    session.set_write_timeout(writes);
    session.as_downstream_mut().set_total_drain_timeout(Some(DRAIN));
    let keep = ctx.arrival.admitted.keep_alive && !ctx.arrival.last && ctx.arrival.connection.stays_open();
    // The driver times idle connections itself; for Pingora it only matters that there is a next request.
    session.set_keepalive(keep.then_some(http.keepalive_timeout.get().as_secs().max(1)));
    // An answer that needs no body leaves the rest of it to be drained, unless the client still waits to be told to
    // send it: closing on unread bytes would reset the connection and may destroy the answer on its way.
    session.as_downstream_mut().set_close_on_response_before_downstream_finish(ctx.arrival.admitted.expect_continue);
    // An expectation means nothing in HTTP/1.0, and its clients understand no 1xx.
    session.set_ignore_info_resp(ctx.arrival.admitted.http == "1.0");
}

fn edit(request: &mut Parts, ctx: &mut RequestCtx) -> std::result::Result<(), Refusal> {
    let admitted = &ctx.arrival.admitted;
    let fields = &mut request.headers;
    ctx.outcome.method = request.method.as_str().to_owned();
    ctx.outcome.user_agent = text(fields.get(header::USER_AGENT));
    ctx.outcome.referer = text(fields.get(header::REFERER));
    ctx.told = told::asked(fields, &ctx.snapshot);
    let connection = &ctx.arrival.connection;
    let peer = Peer { ip: connection.peer, port: connection.port, scheme: connection.scheme() };
    let Prepared { found, via, dropped } =
        prepare(fields, admitted, &ctx.outcome.host, peer, &connection.listener, connection.tls.as_deref())?;
    told_of(&dropped, ctx);
    ctx.onward.via = Some(via);
    (ctx.client.ip, ctx.client.port, ctx.client.scheme) = (found.ip, found.port, found.scheme);
    (ctx.outcome.client, ctx.outcome.client_port) = (found.ip, found.port);
    trace::begin(fields, ctx, found.trusted());
    Ok(())
}

/// Counts the fields that services could take for others, and says which they were.
fn told_of(dropped: &Dropped, ctx: &RequestCtx) {
    let listener = &ctx.arrival.connection.listener.name;
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
/// who it is.
pub fn prepare(
    fields: &mut HeaderMap,
    admitted: &Admitted,
    host: &str,
    peer: Peer,
    listener: &Listener,
    tls: Option<&TlsClient>,
) -> std::result::Result<Prepared, Refusal> {
    let dropped = if admitted.underscores { listener.http.underscore_fields.apply(fields) } else { Dropped::default() };
    hop::strip_request(fields, Onward { upgrade: admitted.upgrade, trailers: false });
    if admitted.http == "1.0" {
        fields.remove(header::EXPECT);
    }
    if admitted.http == "2" {
        hop::join_cookies(fields)?;
    }
    let passed = fields.get_all(header::VIA).iter().map(HeaderValue::as_bytes);
    let via = hop::via(passed, admitted.http)?;
    let found = Forwarded::resolve(peer, &listener.trusted_proxies, fields);
    match admitted.port {
        None => found.apply(fields, host),
        Some(port) => found.apply(fields, &format!("{host}:{port}")),
    }
    if let Some(tls) = tls {
        identify(fields, tls);
    }
    Ok(Prepared { found, via, dropped })
}

/// Tells the endpoint whose certificate the client has shown. What a client itself sends under these names is gone by now.
fn identify(fields: &mut HeaderMap, tls: &TlsClient) {
    for (name, text) in [(CERT_SUBJECT, &tls.subject), (CERT_FINGERPRINT, &tls.fingerprint)] {
        if let Some(value) = text.as_deref().and_then(|text| HeaderValue::from_str(text).ok()) {
            fields.insert(name, value);
        }
    }
}

fn text(value: Option<&HeaderValue>) -> Option<String> {
    value.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}
