//! The decision: from a request to Weir's own answer, or to the upstream that serves it.

use std::sync::Arc;

use http::{HeaderValue, header, request::Parts};

use super::{
    Answer, Exchange, Fresh,
    filters::{self, Level},
    told::Passed,
};
use crate::{
    acme,
    filter::Pass,
    gate::{
        Refusal,
        hop::{MaxForwards, max_forwards},
    },
    route::{Action, Match, Miss, Route, location},
    snapshot::{Listener, Snapshot},
    types::{Cause, Client, Phase, Reply, RequestHead, Scheme},
    upstream::{Attempts, Upstream},
};

/// What an edge lets through to services; each knows for itself what it takes of that.
const ALLOW: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");

/// What becomes of a request.
#[derive(Debug)]
pub enum Decision {
    /// Weir answers.
    Answer(Box<Answer>),
    /// A stored response answers it.
    Fresh(Box<Fresh>),
    /// It goes to an endpoint of [`Exchange::upstream`].
    Forward,
}

/// What is asked of the way to a route, beside the head.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The listener that the request came in by.
    pub listener: &'a Listener,
    /// The server name of the TLS handshake.
    pub sni: Option<&'a str>,
    /// The target as it was sent, in origin-form.
    pub target: &'a str,
    /// Max-Forwards of an OPTIONS request.
    pub max_forwards: Option<u8>,
    /// The request asks for an upgrade.
    pub upgrade: bool,
}

/// The way of a request, between the filters of its listener and those of its route.
#[derive(Debug)]
pub enum Way<'s> {
    /// To no route: it is refused.
    Refused(Refusal),
    /// To the same URL over TLS.
    ToHttps(HeaderValue),
    /// The client asks about us, not about what is behind us (RFC 9110 section 7.6.2).
    ForUs,
    /// No route serves it.
    NoRoute,
    /// The route allows no upgrades.
    NoUpgrade(&'s Arc<Route>),
    /// A route serves it.
    Route(Match<'s>),
}

/// Finds the way of a request. `tried` is told of every route whose conditions were asked, as by [`crate::route::Table::find_and_tell`].
pub fn way<'s>(
    snapshot: &'s Snapshot,
    head: &RequestHead<'s>,
    client: &Client,
    asked: Asked<'_>,
    tried: impl FnMut(&'s Arc<Route>, Option<Miss<'s>>),
) -> Way<'s> {
    if is_misdirected(asked.listener, asked.sni, head.host) {
        return Way::Refused(Refusal::Misdirected);
    }
    match https_location(asked.listener, client.scheme, head.host, asked.target) {
        None => {}
        Some(Ok(location)) => return Way::ToHttps(location),
        Some(Err(refusal)) => return Way::Refused(refusal),
    }
    if max_forwards(asked.max_forwards) == MaxForwards::Answer {
        return Way::ForUs;
    }
    match snapshot.routes.find_and_tell(head, client, tried) {
        None => Way::NoRoute,
        Some(found) if asked.upgrade && !found.route.websocket => Way::NoUpgrade(found.route),
        Some(found) => Way::Route(found),
    }
}

/// Does this listener serve another certificate for the server name of the handshake than for the request's host? The certificate that
/// was presented must be one that would be presented for the Host: else the client was misdirected, which happens when browsers share
/// connections between names (RFC 9110 section 15.5.20).
pub fn is_misdirected(listener: &Listener, sni: Option<&str>, host: &str) -> bool {
    let (Some(server), Some(sni)) = (&listener.tls, sni) else { return false };
    // An HTTP/1.0 request may name no host, which contradicts none.
    !host.is_empty() && sni != host && server.refuses_misdirected() && server.scope(Some(sni)) != server.scope(Some(host))
}

/// Where a listener that only redirects sends a request; `None` when it serves the request. HTTP/1.0 clients that name no host
/// cannot be sent anywhere.
fn https_location(listener: &Listener, scheme: Scheme, host: &str, target: &str) -> Option<Result<HeaderValue, Refusal>> {
    let port = listener.redirect_to_https.filter(|_| scheme == Scheme::Http)?;
    if host.is_empty() {
        return Some(Err(Refusal::MissingHost));
    }
    let port = if port == 443 { String::new() } else { format!(":{port}") };
    let path = if target.starts_with('/') { target } else { "/" };
    Some(location(&format!("https://{host}{port}{path}")).ok_or(Refusal::BadTarget))
}

impl Exchange {
    /// Decides what becomes of the request.
    pub async fn decide(&mut self, request: &mut Parts) -> Decision {
        match self.policy(request).await {
            Ok(()) => Decision::Forward,
            Err(answer) => Decision::Answer(answer),
        }
    }

    /// `Ok` to forward, `Err` to answer.
    async fn policy(&mut self, request: &mut Parts) -> Result<(), Box<Answer>> {
        self.prepare(request).map_err(Answer::refused)?;
        if acme::is_proof_path(&self.outcome.path) {
            self.prove().await?;
        }
        self.outcome.phase = Phase::Filter;
        filters::request(request, self, Level::Listener).await?;
        self.passed(Passed::ListenerFilters);
        self.outcome.phase = Phase::Route;
        let (route, tail) = self.choose(request)?;
        self.passed(Passed::Route);
        self.outcome.phase = Phase::Filter;
        if !route.chain.is_empty() {
            self.filters.route = Pass::new(route.chain.clone());
        }
        filters::request(request, self, Level::Route).await?;
        self.passed(Passed::RouteFilters);
        if self.settled.host {
            self.named = request.headers.get(header::HOST).cloned();
        }
        match &route.action {
            Action::Upstream(upstream) => {
                self.forward_to(upstream);
                Ok(())
            }
            Action::Split(split) => {
                // One for the whole request: its tries stay with it.
                self.forward_to(split.draw(&mut rand::rng()));
                Ok(())
            }
            Action::Redirect(redirect) if redirect.needs_host() && self.outcome.host.is_empty() => {
                Err(Answer::refused(Refusal::MissingHost))
            }
            Action::Redirect(redirect) => {
                let head = self.head(request);
                let tail = self.rewritten_path().unwrap_or_else(|| head.path.get(tail..).unwrap_or_default());
                Err(Answer::ordinary(redirect.reply(&head, &self.client, tail)))
            }
            Action::Respond(reply) => Err(Answer::ordinary(reply.clone())),
        }
    }

    /// Answers an authority that asks for a proof of this host, ahead of everything that an operator has configured. Whoever asks for one
    /// that no order waits for may mean a service behind us, which has certificates of its own.
    async fn prove(&self) -> Result<(), Box<Answer>> {
        let proof = self.snapshot.acme.http_proof(&self.outcome.path, &self.outcome.host).await;
        proof.map_or(Ok(()), |proof| Err(Answer::ordinary(Reply::text(200, "application/octet-stream", proof))))
    }

    /// The path that `rewrite` has made, if one did. A filter that takes a key out of the query leaves the path as it is.
    fn rewritten_path(&self) -> Option<&str> {
        let target = self.rewritten.as_deref()?;
        let path = target.split_once('?').map_or(target, |(path, _)| path);
        (path != &*self.outcome.path).then_some(path)
    }

    /// The route, and where in the path begins what [`Match::tail`] says.
    fn choose(&mut self, request: &Parts) -> Result<(Arc<Route>, usize), Box<Answer>> {
        let snapshot = self.snapshot.clone();
        let connection = self.connection.clone();
        let asked = Asked {
            listener: &connection.listener,
            sni: connection.tls.as_ref().and_then(|client| client.sni.as_deref()),
            target: request.uri.path_and_query().map_or("/", |target| target.as_str()),
            max_forwards: self.admitted.max_forwards,
            upgrade: self.upgrades(),
        };
        let head = self.head(request);
        let (route, tail, allowed) = match way(&snapshot, &head, &self.client, asked, |_, _| {}) {
            Way::Refused(refusal) => return Err(Answer::refused(refusal)),
            Way::ToHttps(location) => return Err(Answer::ordinary(Reply::status(308).with(header::LOCATION, location))),
            Way::ForUs => return Err(Answer::ordinary(Reply::status(204).with(header::ALLOW, ALLOW))),
            Way::NoRoute => return Err(Answer::weir(Reply::status(404), Cause::DestinationNotFound, "no_route")),
            Way::NoUpgrade(route) => (route.clone(), 0, false),
            Way::Route(found) => (found.route.clone(), head.path.len() - found.tail.len(), true),
        };
        self.outcome.route = Some(route.name.clone());
        self.in_flight = Some(self.observer.metrics().request(Some(&route.name)));
        self.route = Some(route.clone());
        if !allowed {
            return Err(Answer::weir(Reply::status(403), Cause::HttpUpgradeFailed, "upgrade_refused"));
        }
        // A tunnel lives as long as both sides like.
        self.deadline = route.timeout.filter(|_| !self.upgrades()).map(|timeout| self.began.at + timeout);
        Ok((route, tail))
    }

    fn forward_to(&mut self, upstream: &Arc<Upstream>) {
        self.outcome.upstream = Some(upstream.name().clone());
        self.attempts = Some(Attempts::new(upstream.clone()));
    }

    /// The request as policy sees it.
    pub fn head<'a>(&'a self, request: &'a Parts) -> RequestHead<'a> {
        RequestHead {
            method: request.method.as_str(),
            host: &self.outcome.host,
            path: &self.outcome.path,
            query: self.admitted.query.as_deref(),
            fields: &request.headers,
        }
    }
}
