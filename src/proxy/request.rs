//! The decision: redirect, route, filters, and what the route does.

use std::sync::Arc;

use http::{HeaderValue, header};
use pingora_core::Result;
use pingora_http::RequestHeader;
use pingora_proxy::Session;

use super::{
    RequestCtx,
    filters::{self, Level},
    reply,
    told::Passed,
};
use crate::{
    filter::Pass,
    gate::{
        Refusal,
        hop::{MaxForwards, max_forwards},
    },
    route::{Action, Route, location},
    snapshot::Listener,
    types::{BodyStream, Cause, Phase, Reply, RequestHead, Scheme, Who},
    upstream::Upstream,
};

/// What an edge lets through to services; each knows for itself what it takes of that.
const ALLOW: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");

/// Decides what becomes of the request. `true` when it was answered.
pub(super) async fn decide(session: &mut Session, ctx: &mut RequestCtx) -> Result<bool> {
    if ctx.is_behind() {
        // Decided for the request that it is made behind.
        return Ok(false);
    }
    let Err(answer) = policy(session, ctx).await else { return Ok(false) };
    let Answer { reply, stream, cause, reason, who } = *answer;
    ctx.outcome.status = reply.status.as_u16();
    ctx.outcome.cause = cause;
    ctx.outcome.reason = reason;
    ctx.outcome.who = who;
    // With an error the connection ends as it is. Otherwise Pingora would close the body in order, complete or not.
    reply::send(session, ctx, reply, stream).await?;
    Ok(true)
}

/// An answer of Weir's own, before anything was forwarded.
pub(super) struct Answer {
    pub(super) reply: Reply,
    /// The body, where it is not in the reply.
    pub(super) stream: Option<BodyStream>,
    pub(super) cause: Option<Cause>,
    pub(super) reason: Option<&'static str>,
    pub(super) who: Who,
}

impl Answer {
    fn refused(refusal: Refusal) -> Box<Self> {
        let mut reply = Reply::status(refusal.status());
        if let Some(allow) = refusal.allow() {
            reply = reply.with(header::ALLOW, HeaderValue::from_static(allow));
        }
        let (cause, reason) = (Some(refusal.cause()), Some(refusal.reason()));
        Box::new(Self { reply, stream: None, cause, reason, who: Who::Client })
    }
    /// Weir says no.
    pub(super) fn weir(reply: Reply, cause: Cause, reason: &'static str) -> Box<Self> {
        Box::new(Self { reply, stream: None, cause: Some(cause), reason: Some(reason), who: Who::Weir })
    }
    /// Weir answers, which is no refusal: a redirect, a fixed response, a preflight.
    pub(super) fn ordinary(reply: Reply) -> Box<Self> {
        Box::new(Self { reply, stream: None, cause: None, reason: None, who: Who::Weir })
    }
}

/// `Ok` to forward, `Err` to answer.
async fn policy(session: &mut Session, ctx: &mut RequestCtx) -> Result<(), Box<Answer>> {
    ctx.outcome.phase = Phase::Filter;
    filters::request(session, ctx, Level::Listener).await?;
    ctx.passed(Passed::ListenerFilters);
    ctx.outcome.phase = Phase::Route;
    let (route, tail) = choose(session.req_header(), ctx)?;
    ctx.passed(Passed::Route);
    ctx.outcome.phase = Phase::Filter;
    if !route.chain.is_empty() {
        ctx.filters.route = Pass::new(route.chain.clone());
    }
    filters::request(session, ctx, Level::Route).await?;
    ctx.passed(Passed::RouteFilters);
    match &route.action {
        Action::Upstream(upstream) => {
            forward(upstream, ctx);
            Ok(())
        }
        Action::Split(split) => {
            // One for the whole request: its tries stay with it.
            forward(split.draw(&mut rand::rng()), ctx);
            Ok(())
        }
        Action::Redirect(redirect) if redirect.needs_host() && ctx.outcome.host.is_empty() => {
            Err(Answer::refused(Refusal::MissingHost))
        }
        Action::Redirect(redirect) => {
            let head = head(session.req_header(), ctx);
            let tail = rewritten(ctx).unwrap_or_else(|| head.path.get(tail..).unwrap_or_default());
            Err(Answer::ordinary(redirect.reply(&head, &ctx.client, tail)))
        }
        Action::Respond(reply) => Err(Answer::ordinary(reply.clone())),
    }
}

/// The path that `rewrite` has made, if one did. A filter that takes a key out of the query leaves the path as it is.
fn rewritten(ctx: &RequestCtx) -> Option<&str> {
    let target = ctx.onward.rewritten.as_deref()?;
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    (path != &*ctx.outcome.path).then_some(path)
}

/// The route, and where in the path begins what [`crate::route::Match::tail`] says.
fn choose(request: &RequestHeader, ctx: &mut RequestCtx) -> Result<(Arc<Route>, usize), Box<Answer>> {
    misdirected(ctx)?;
    redirect_to_https(request, ctx)?;
    if max_forwards(ctx.arrival.admitted.max_forwards) == MaxForwards::Answer {
        // The client asks about us, not about what is behind us (RFC 9110 section 7.6.2).
        return Err(Answer::ordinary(Reply::status(204).with(header::ALLOW, ALLOW)));
    }
    let snapshot = ctx.snapshot.clone();
    let head = head(request, ctx);
    let Some(found) = snapshot.routes.find(&head, &ctx.client) else {
        return Err(Answer::weir(Reply::status(404), Cause::DestinationNotFound, "no_route"));
    };
    let route = found.route.clone();
    let tail = head.path.len() - found.tail.len();
    ctx.outcome.route = Some(route.name.clone());
    ctx.in_flight = Some(ctx.observer.metrics().request(Some(&route.name)));
    ctx.deadline = route.timeout.map(|timeout| ctx.arrival.began.at + timeout);
    ctx.route = Some(route.clone());
    if ctx.arrival.admitted.upgrade.is_some() {
        if !route.websocket {
            return Err(Answer::weir(Reply::status(403), Cause::HttpUpgradeFailed, "upgrade_refused"));
        }
        // A tunnel lives as long as both sides like.
        ctx.deadline = None;
    }
    Ok((route, tail))
}

fn forward(upstream: &Arc<Upstream>, ctx: &mut RequestCtx) {
    ctx.outcome.upstream = Some(upstream.name().clone());
    ctx.onward.upstream = Some(upstream.clone());
}

/// The request as policy sees it.
pub(super) fn head<'a>(request: &'a RequestHeader, ctx: &'a RequestCtx) -> RequestHead<'a> {
    RequestHead {
        method: request.method.as_str(),
        host: &ctx.outcome.host,
        path: &ctx.outcome.path,
        query: ctx.arrival.admitted.query.as_deref(),
        fields: &request.headers,
    }
}

/// The certificate that was presented must be one that would be presented for the Host: else the client was
/// misdirected, which happens when browsers share connections between names (RFC 9110 section 15.5.20).
fn misdirected(ctx: &RequestCtx) -> Result<(), Box<Answer>> {
    let connection = &ctx.arrival.connection;
    let sni = connection.tls.as_ref().and_then(|client| client.sni.as_deref());
    match is_misdirected(&connection.listener, sni, &ctx.outcome.host) {
        true => Err(Answer::refused(Refusal::Misdirected)),
        false => Ok(()),
    }
}

/// Does this listener serve another certificate for the server name of the handshake than for the request's host?
pub fn is_misdirected(listener: &Listener, sni: Option<&str>, host: &str) -> bool {
    let (Some(server), Some(sni)) = (&listener.tls, sni) else { return false };
    // An HTTP/1.0 request may name no host, which contradicts none.
    !host.is_empty() && sni != host && server.scope(Some(sni)) != server.scope(Some(host))
}

/// 308 to the same host and path over TLS, on listeners that do only that.
fn redirect_to_https(request: &RequestHeader, ctx: &RequestCtx) -> Result<(), Box<Answer>> {
    let target = request.uri.path_and_query().map_or("/", |target| target.as_str());
    let listener = &ctx.arrival.connection.listener;
    match https_location(listener, ctx.client.scheme, &ctx.outcome.host, target) {
        None => Ok(()),
        Some(Ok(location)) => Err(Answer::ordinary(Reply::status(308).with(header::LOCATION, location))),
        Some(Err(refusal)) => Err(Answer::refused(refusal)),
    }
}

/// Where a listener that only redirects sends a request; `None` when it serves the request. HTTP/1.0 clients that name no host
/// cannot be sent anywhere.
pub fn https_location(listener: &Listener, scheme: Scheme, host: &str, target: &str) -> Option<Result<HeaderValue, Refusal>> {
    let port = listener.redirect_to_https.filter(|_| scheme == Scheme::Http)?;
    if host.is_empty() {
        return Some(Err(Refusal::MissingHost));
    }
    let port = if port == 443 { String::new() } else { format!(":{port}") };
    let path = if target.starts_with('/') { target } else { "/" };
    Some(location(&format!("https://{host}{port}{path}")).ok_or(Refusal::BadTarget))
}
