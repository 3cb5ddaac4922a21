//! The first phase: limits of this exchange, who the client is, and the fields that go no further.

use std::time::Duration;

use http::{HeaderName, HeaderValue, header};
use pingora_core::Result;
use pingora_proxy::Session;

use super::RequestCtx;
use crate::{gate, types::Scheme};

/// What is left of a request body when its answer is complete is read for this long, so that the connection can live on.
const DRAIN: Duration = Duration::from_secs(5);

/// Prepares the session and the request's head.
pub(super) fn admit(session: &mut Session, ctx: &mut RequestCtx) -> Result<()> {
    limits(session, ctx);
    let request = session.req_header_mut();
    ctx.outcome.method = request.method.as_str().to_owned();
    ctx.outcome.user_agent = text(request.headers.get(header::USER_AGENT));
    ctx.outcome.referer = text(request.headers.get(header::REFERER));
    if ctx.arrival.admitted.underscores {
        let dropped: Vec<HeaderName> = request.headers.keys().filter(|name| name.as_str().contains('_')).cloned().collect();
        for name in dropped {
            request.remove_header(&name);
        }
    }
    let upgrade = ctx.arrival.admitted.upgrade.is_some();
    for name in gate::hop::request_removals(&request.headers, upgrade) {
        request.remove_header(&name);
    }
    if upgrade {
        let _ = request.insert_header(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    }
    if ctx.arrival.admitted.http == "1.0" {
        // An expectation means nothing in HTTP/1.0, and its clients understand no 1xx.
        request.remove_header(&header::EXPECT);
        session.set_ignore_info_resp(true);
    }
    forwarding(session, ctx);
    Ok(())
}

fn limits(session: &mut Session, ctx: &RequestCtx) {
    let http = &ctx.arrival.connection.listener.http;
    session.set_read_timeout(http.body_idle_timeout.limit());
    session.set_write_timeout(http.body_idle_timeout.limit());
    session.as_downstream_mut().set_total_drain_timeout(Some(DRAIN));
    let keep = ctx.arrival.admitted.keep_alive && !ctx.arrival.last;
    // The driver times idle connections itself; for Pingora it only matters that there is a next request.
    session.set_keepalive(keep.then_some(http.keepalive_timeout.get().as_secs().max(1)));
}

/// Finds the client behind trusted proxies, and writes down for the endpoint who it is.
fn forwarding(session: &mut Session, ctx: &mut RequestCtx) {
    let connection = &ctx.arrival.connection;
    let request = session.req_header_mut();
    let found =
        gate::forwarding::client(&request.headers, connection.peer, connection.port, &connection.listener.trusted_proxies);
    ctx.client.ip = found.ip;
    ctx.client.port = found.port;
    if let Some(scheme) = found.scheme {
        ctx.client.scheme = scheme;
    }
    ctx.outcome.client = found.ip;
    ctx.outcome.client_port = found.port;
    let https = ctx.client.scheme == Scheme::Https;
    for name in gate::forwarding::removals(&request.headers) {
        request.remove_header(&name);
    }
    for (name, value) in gate::forwarding::fields(
        &found,
        connection.peer,
        &ctx.outcome.host,
        ctx.arrival.admitted.port,
        https,
        connection.tls.as_deref(),
    ) {
        let _ = request.insert_header(name, value);
    }
}

fn text(value: Option<&HeaderValue>) -> Option<String> {
    value.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}
