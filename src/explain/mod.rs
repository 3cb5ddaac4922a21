//! Layer 7: why a request goes where it goes.
//!
//! A described request passes the same code as a real one: the gate's parser, the route table, the upstream's strategy.
//! They are asked to tell what they do, and nothing happens: no filter runs, no turn is taken, nothing is connected
//! to. What that leaves open is said in `notes`.

mod candidates;
mod certificate;
mod described;
pub mod replay;
mod text;

use std::{net::IpAddr, sync::Arc, time::SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use candidates::{Candidate, Pick, Share};
pub use described::{DescribedRequest, DescriptionError};

use crate::{
    acme,
    exchange::{self, Asked, Prepared, Way},
    filter::{Back, Chain},
    gate::{
        self, Admitted, Limits, Refusal, head,
        hop::{DropReason, Peer},
    },
    route::{Action, Match, Route, why_not},
    snapshot::{Listener, Snapshot},
    types::{Client, Name, RequestHead, Scheme, TlsClient},
};
use described::Request;

/// Routes that were not tried are listed up to this number: nobody reads more, and they say only that host or path is
/// another.
const MAX_UNTRIED: usize = 1000;

/// What would become of a request, and why.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Explanation {
    /// The method.
    pub method: String,
    /// The host, as routes see it.
    pub host: String,
    /// The path, as routes see it.
    pub path: String,
    /// The client, after trusted proxies in front were believed.
    pub client: IpAddr,
    /// `http` or `https`, as the client used it.
    pub scheme: String,
    /// The listener that accepts it.
    pub listener: String,
    /// Why that one.
    pub listener_reason: String,
    /// What the gate says.
    pub gate: Gate,
    /// Every route, those that were tried first and in that order.
    pub routes: Vec<Considered>,
    /// Routes that are not listed, for there are so many: their host or path is another.
    pub routes_left_out: usize,
    /// The route that serves it.
    pub route: Option<String>,
    /// The filters of the listener, which run before anything is decided.
    pub listener_filters: Vec<String>,
    /// The filters of the route, in the order of requests.
    pub filters: Vec<String>,
    /// What Weir answers itself, where it forwards nothing.
    pub answer: Option<Answer>,
    /// The upstream that it is forwarded to; several where a split draws one of them.
    pub upstreams: Vec<Share>,
    /// What this cannot know.
    pub notes: Vec<String>,
}

/// What the gate says of a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Gate {
    /// It goes on to routing.
    pub admitted: bool,
    /// The word for the refusal, as in the log.
    pub refused: Option<String>,
}

/// One route, and how the request compares to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Considered {
    /// The route.
    pub route: String,
    /// How the request compares to it.
    pub verdict: Verdict,
    /// Its conditions were looked at; a look-up by host and path passes over all others.
    pub tried: bool,
    /// The verdict in words.
    pub reason: String,
}

/// How a request compares to a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// This one serves it.
    Serves,
    /// It does not match.
    Misses,
    /// It would match too, and comes later.
    Later,
}

/// An answer of Weir's own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Where a redirect goes.
    pub location: Option<String>,
    /// Why.
    pub reason: String,
}

impl Answer {
    fn new(status: u16, reason: impl Into<String>) -> Self {
        Self { status, location: None, reason: reason.into() }
    }
}

/// What would become of this request under this configuration, now.
pub fn explain(snapshot: &Snapshot, described: &DescribedRequest) -> Result<Explanation, DescriptionError> {
    let request = Request::of(described)?;
    let (listener, reason) = request.listener(snapshot)?;
    let secure = listener.tls.is_some();
    let mut told = Explanation {
        method: request.method.clone(),
        host: String::new(),
        path: String::new(),
        client: request.client,
        scheme: if secure { "https" } else { "http" }.into(),
        listener: listener.name.to_string(),
        listener_reason: reason,
        gate: Gate { admitted: false, refused: None },
        routes: Vec::new(),
        routes_left_out: 0,
        route: None,
        listener_filters: Vec::new(),
        filters: Vec::new(),
        answer: None,
        upstreams: Vec::new(),
        notes: Vec::new(),
    };
    match admit(&request, listener) {
        Ok((admitted, fields)) => decide(snapshot, listener, &request, admitted, fields, &mut told),
        Err(refusal) => refused(&mut told, refusal),
    }
    Ok(told)
}

fn refused(told: &mut Explanation, refusal: Refusal) {
    told.gate.refused = Some(refusal.reason().into());
    told.answer = Some(Answer::new(refusal.status(), format!("refused before routing: {}", refusal.reason())));
}

/// The gate, with the bytes that such a request would be.
fn admit(request: &Request, listener: &Listener) -> Result<(Admitted, HeaderMap), Refusal> {
    let limits = Limits::new(listener.http.max_header_bytes.get(), listener.http.max_header_count.get());
    let bytes = Bytes::from(request.bytes());
    head::scan(&bytes, &limits, &mut 0)?;
    let parsed = head::parse(&bytes, &limits)?;
    let admitted = gate::admit_h1(&parsed, listener.tls.is_some())?;
    listener.http.underscore_fields.judge(&admitted)?;
    let fields = parsed.request("/", &bytes)?.headers;
    Ok((admitted, fields))
}

fn decide(
    snapshot: &Snapshot,
    listener: &Arc<Listener>,
    request: &Request,
    admitted: Admitted,
    mut fields: HeaderMap,
    told: &mut Explanation,
) {
    let secure = listener.tls.is_some();
    let scheme = if secure { Scheme::Https } else { Scheme::Http };
    let sni = request.sni(&admitted.host).filter(|_| secure);
    let tls = secure.then(|| Arc::new(TlsClient { sni: sni.clone().map(Arc::from), version: "TLSv1.3", ..TlsClient::default() }));
    let peer = Peer { ip: request.client, port: 0, scheme };
    let prepared =
        exchange::prepare(&mut fields, &admitted, &admitted.host, peer, &Peer::told(peer.ip), listener, tls.as_deref());
    let Prepared { found, dropped, .. } = match prepared {
        Ok(prepared) => prepared,
        Err(refusal) => return refused(told, refusal),
    };
    let gone = |(name, reason): &(HeaderName, DropReason)| format!("the field `{name}` is dropped ({})", reason.word());
    told.notes.extend(dropped.iter().map(gone));
    let client = Client {
        ip: found.ip,
        port: found.port,
        scheme: found.scheme,
        listener: listener.name.clone(),
        tls,
        whereabouts: snapshot.whereabouts(),
    };
    told.gate.admitted = true;
    (told.client, told.scheme) = (client.ip, client.scheme.as_str().into());
    if client.ip != request.client {
        told.notes.push(format!("the client is {}, since {} is a trusted proxy", client.ip, request.client));
    }
    (told.host, told.path) = (admitted.host.to_string(), admitted.path.to_string());
    told.notes.extend(listener_notes(listener));
    told.notes.extend(proof_note(&admitted.path));
    told.notes.extend(sni.as_deref().and_then(|name| certificate::note(snapshot, listener, name)));
    if let Some(chain) = snapshot.listener_filters.get(&listener.name) {
        told.listener_filters = chain.kinds().map(str::to_owned).collect();
    }
    let head = RequestHead {
        method: &request.method,
        host: &admitted.host,
        path: &admitted.path,
        query: admitted.query.as_deref(),
        fields: &fields,
    };
    let asked = Asked {
        listener,
        sni: sni.as_deref(),
        target: admitted.origin_form.as_deref().unwrap_or(&request.target),
        max_forwards: admitted.max_forwards,
        upgrade: admitted.upgrade.is_some(),
    };
    match consider(snapshot, &head, &client, asked, told) {
        Way::Refused(refusal) => {
            told.gate.admitted = refusal != Refusal::Misdirected;
            refused(told, refusal);
        }
        Way::ToHttps(location) => {
            let location = Some(String::from_utf8_lossy(location.as_bytes()).into_owned());
            told.answer = Some(Answer { location, ..Answer::new(308, "this listener redirects to https") });
        }
        Way::ForUs => told.answer = Some(Answer::new(204, "Max-Forwards says that this request is for Weir itself")),
        Way::NoRoute => told.answer = Some(Answer::new(404, "no route matches")),
        Way::NoUpgrade(_) => told.answer = Some(Answer::new(403, "this route allows no upgrades")),
        Way::Route(found) => serve(snapshot, &found, &head, &client, told),
    }
}

/// What answers an authority goes before all that is configured.
fn proof_note(path: &str) -> Option<String> {
    let note = "a certificate authority that asks for a proof here is answered before anything else";
    acme::is_proof_path(path).then(|| note.to_owned())
}

fn listener_notes(listener: &Listener) -> Vec<String> {
    let mut notes = Vec::new();
    if listener.proxy_protocol.is_some() {
        notes.push("this listener wants the PROXY protocol from some peers: the client is taken as what it would say".to_owned());
    }
    notes
}

/// Asks for the way, and the routes that it passes over.
fn consider<'s>(
    snapshot: &'s Snapshot,
    head: &RequestHead<'s>,
    client: &Client,
    asked: Asked<'_>,
    told: &mut Explanation,
) -> Way<'s> {
    let mut seen = vec![false; snapshot.routes.routes().len()];
    let mut tried = Vec::new();
    let way = exchange::way(snapshot, head, client, asked, |route, miss| {
        // A route for several hosts may be asked once for each.
        if let Some(seen) = seen.get_mut(route.index).filter(|seen| !**seen) {
            *seen = true;
            let (verdict, reason) = match miss {
                None => (Verdict::Serves, "every condition holds".to_owned()),
                Some(miss) => (Verdict::Misses, miss.to_string()),
            };
            tried.push(Considered { route: route.name.to_string(), verdict, tried: true, reason });
        }
    });
    let found = match &way {
        Way::Route(Match { route, .. }) | Way::NoUpgrade(route) => Some(*route),
        Way::NoRoute => None,
        // No route was asked.
        Way::Refused(_) | Way::ToHttps(_) | Way::ForUs => return way,
    };
    let mut untried = Vec::new();
    for route in snapshot.routes.routes().iter().filter(|route| !seen.get(route.index).copied().unwrap_or_default()) {
        if untried.len() == MAX_UNTRIED {
            told.routes_left_out += 1;
            continue;
        }
        untried.push(passed_over(route, head, client, found));
    }
    // What nearly took the request says more than what is about something else.
    untried.sort_by_key(|considered| considered.verdict != Verdict::Later);
    tried.append(&mut untried);
    told.routes = tried;
    told.route = found.map(|route| route.name.to_string());
    way
}

fn passed_over(route: &Route, head: &RequestHead<'_>, client: &Client, winner: Option<&Arc<Route>>) -> Considered {
    let (verdict, reason) = match (why_not(route, head, client), winner) {
        (Some(miss), _) => (Verdict::Misses, miss.to_string()),
        (None, Some(winner)) => (Verdict::Later, format!("it would match too, but `{}` comes first", winner.name)),
        (None, None) => (Verdict::Later, "it would match too".to_owned()),
    };
    Considered { route: route.name.to_string(), verdict, tried: false, reason }
}

fn serve(snapshot: &Snapshot, found: &Match<'_>, head: &RequestHead<'_>, client: &Client, told: &mut Explanation) {
    let route = found.route;
    told.filters = route.chain.kinds().map(str::to_owned).collect();
    if !told.filters.is_empty() || !told.listener_filters.is_empty() {
        told.notes.push("filters are listed and do not run: one may answer by itself, or change what the endpoint gets".into());
    }
    match &route.action {
        Action::Upstream(upstream) => told.upstreams.push(Share::of(upstream, None, head, client)),
        Action::Split(split) => {
            let shares = split.shares();
            told.upstreams.extend(shares.map(|(upstream, share)| Share::of(upstream, Some(share), head, client)));
            told.notes.push("a split draws the upstream of each request by lot".into());
        }
        Action::Redirect(redirect) => {
            let reply = redirect.reply(head, client, found.tail);
            let location = reply.headers.iter().find(|(name, _)| *name == header::LOCATION);
            let location = location.map(|(_, value)| String::from_utf8_lossy(value.as_bytes()).into_owned());
            told.answer = Some(Answer { location, ..Answer::new(reply.status.as_u16(), "the route redirects") });
            if told.listener_filters.iter().chain(&told.filters).any(|kind| kind == "rewrite") {
                told.notes.push("`{path}` of the redirect is what `rewrite` makes of the path, which is not shown here".into());
            }
        }
        Action::Respond(reply) => told.answer = Some(Answer::new(reply.status.as_u16(), "the route answers by itself")),
    }
    if !told.upstreams.is_empty() {
        let listeners = snapshot.listener_filters.get(&client.listener).map(Chain::filters).unwrap_or_default();
        let (mut path, mut back) = (head.path.to_owned(), Back::default());
        listeners.iter().chain(route.chain.filters()).for_each(|filter| filter.foretell(&mut path, &mut back));
        told.notes.extend(back.note(&path));
    }
    if told.upstreams.iter().any(|share| share.pick.as_ref().is_some_and(|pick| !pick.certain)) {
        told.notes.push("endpoints are drawn by lot here: the next request may draw another".into());
    }
}

/// The time of a session's cookie is that of the request.
fn now() -> SystemTime {
    SystemTime::now()
}

/// The name of a listener that was asked for.
fn named<'s>(snapshot: &'s Snapshot, name: &str) -> Option<&'s Arc<Listener>> {
    snapshot.listeners.iter().find(|(known, _)| Name::as_str(known) == name).map(|(_, listener)| listener)
}

#[cfg(test)]
mod tests;
