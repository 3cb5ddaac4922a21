//! Requests of an access log, routed by another configuration.
//!
//! A log does not hold everything that a request was: of its header fields only User-Agent and Referer, of its target no
//! query. Where the route depends on what is missing, the logged route is believed if it could still take the request,
//! and the request is counted as `assumed`; otherwise it is `uncertain`. Neither counts as a difference.

use std::{borrow::Cow, collections::BTreeMap, net::IpAddr, sync::Arc};

use http::{HeaderMap, HeaderValue, header};
use serde::{Deserialize, Serialize};

use crate::{
    exchange::{self, Asked, Way},
    route::{Action, HeaderMatch, Miss, Route},
    snapshot::{Listener, Snapshot},
    types::{Client, RequestHead, Scheme, TlsClient, Whereabouts},
};

/// Kinds of differences that are told apart. A log's names come from its writer: without a bound, a log of something
/// else could fill the memory.
const MAX_KINDS: usize = 1000;

/// As much of a path as an access log holds: of a longer one the rest is unknown.
const LOGGED_PATH: usize = 2048;

/// One line of the JSON access log, as far as it matters here.
#[derive(Debug, Deserialize)]
struct Line<'l> {
    #[serde(borrow)]
    listener: Cow<'l, str>,
    client: IpAddr,
    #[serde(borrow)]
    sni: Option<Cow<'l, str>>,
    #[serde(borrow)]
    tls: Option<Cow<'l, str>>,
    #[serde(borrow)]
    method: Option<Cow<'l, str>>,
    #[serde(borrow)]
    host: Option<Cow<'l, str>>,
    #[serde(borrow)]
    path: Option<Cow<'l, str>>,
    #[serde(borrow)]
    route: Option<Cow<'l, str>>,
    #[serde(borrow)]
    upstream: Option<Cow<'l, str>>,
    status: u16,
    #[serde(borrow)]
    user_agent: Option<Cow<'l, str>>,
    #[serde(borrow)]
    referer: Option<Cow<'l, str>>,
    end: End<'l>,
}

#[derive(Debug, Deserialize)]
struct End<'l> {
    #[serde(borrow)]
    phase: Cow<'l, str>,
    #[serde(borrow)]
    reason: Option<Cow<'l, str>>,
}

/// What came of a replay.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Lines that were read.
    pub lines: u64,
    /// Requests that would go the same way.
    pub same: u64,
    /// Requests that would go another way.
    pub different: u64,
    /// Requests that are taken to go the same way, since their route depends on what the log does not hold.
    pub assumed: u64,
    /// Requests of which the log holds too little to say.
    pub uncertain: u64,
    /// Requests that never came to routing: refused by the gate, or broken off.
    pub unrouted: u64,
    /// Lines that are none of an access log in JSON.
    pub foreign: u64,
    /// The differences by kind, the most frequent first.
    pub differences: Vec<Difference>,
    /// Requests whose kind of difference is not listed, for there are so many.
    pub unlisted: u64,
}

/// Requests that differ in the same way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// `listener`, `route`, `upstream` or `status`.
    pub what: &'static str,
    /// As it was logged.
    pub old: String,
    /// As it would be.
    pub new: String,
    /// How many requests.
    pub count: u64,
    /// The first of them.
    pub examples: Vec<Example>,
}

/// A request that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Example {
    /// The line, from 1.
    pub line: u64,
    /// Its method, host and path.
    pub request: String,
}

/// A replay under way.
pub struct Replay<'s> {
    snapshot: &'s Snapshot,
    report: Report,
    kinds: BTreeMap<(&'static str, String, String), Difference>,
    examples: usize,
}

/// What the configuration would do with a request.
enum Fate<'s> {
    /// Answered before routing, with this status.
    Answered(u16),
    /// Served by this route.
    Served(&'s Arc<Route>),
}

impl<'s> Replay<'s> {
    /// A replay by this configuration, which keeps so many examples of each kind of difference.
    pub fn new(snapshot: &'s Snapshot, examples: usize) -> Self {
        Self { snapshot, report: Report::default(), kinds: BTreeMap::new(), examples }
    }

    /// One more line, without its end.
    pub fn line(&mut self, line: &[u8]) {
        self.report.lines += 1;
        if line.trim_ascii().is_empty() {
            self.report.lines -= 1;
            return;
        }
        let Ok(logged) = serde_json::from_slice::<Line<'_>>(line) else {
            self.report.foreign += 1;
            return;
        };
        let (Some(method), Some(path)) = (&logged.method, &logged.path) else {
            self.report.unrouted += 1;
            return;
        };
        // HTTP/1.0 clients may name none.
        let host = logged.host.as_deref().unwrap_or_default();
        if is_before_routing(&logged) {
            self.report.unrouted += 1;
            return;
        }
        let listener = self.snapshot.listeners.iter().find(|(name, _)| name.as_str() == logged.listener);
        let Some((_, listener)) = listener else {
            self.differs(&logged, "listener", &logged.listener, "none");
            return;
        };
        let client = client(&logged, listener, self.snapshot.whereabouts());
        let fields = fields(&logged);
        let head = RequestHead { method, host, path, query: None, fields: &fields };
        self.compare(&logged, listener, &head, &client);
    }

    /// A line that is too long to be one.
    pub fn too_long(&mut self) {
        self.report.lines += 1;
        self.report.foreign += 1;
    }

    fn compare(&mut self, logged: &Line<'_>, listener: &Listener, head: &RequestHead<'_>, client: &Client) {
        let mut open = head.path.len() >= LOGGED_PATH;
        let mut plausible = false;
        let asked = Asked {
            listener,
            sni: logged.sni.as_deref(),
            target: head.path,
            // What no log holds.
            max_forwards: None,
            upgrade: false,
        };
        let way = exchange::way(self.snapshot, head, client, asked, |route, miss| {
            let unknown = miss.is_some_and(|miss| is_unlogged(&miss)) || miss.is_none() && has_unlogged(route);
            open |= unknown;
            plausible |= unknown && Some(route.name.as_str()) == logged.route.as_deref();
        });
        let fate = match way {
            Way::Refused(refusal) => Fate::Answered(refusal.status()),
            Way::ToHttps(_) => Fate::Answered(308),
            Way::ForUs => Fate::Answered(204),
            Way::NoRoute => Fate::Answered(404),
            Way::NoUpgrade(route) => Fate::Served(route),
            Way::Route(found) => Fate::Served(found.route),
        };
        let (route, upstreams, status) = match &fate {
            Fate::Answered(status) => (None, Vec::new(), Some(*status)),
            Fate::Served(route) => (Some(route.name.as_str()), names(route), own_status(route)),
        };
        let old = logged.route.as_deref();
        if old != route {
            return match (plausible, open) {
                (true, _) => self.report.assumed += 1,
                (false, true) => self.report.uncertain += 1,
                // Both say that no route was asked: the statuses tell what is different.
                (false, false) => self.differs(logged, "route", old.unwrap_or("none"), route.unwrap_or("none")),
            };
        }
        let may_have_answered = matches!(&fate, Fate::Served(route) if !route.chain.is_empty())
            || self.snapshot.listener_filters.contains_key(&client.listener);
        // What a filter, or a failure, answered says nothing about the route's own answer.
        let by_route = matches!(logged.end.reason.as_deref(), None | Some("no_route" | "misdirected"));
        match (logged.upstream.as_deref(), status) {
            (Some(was), _) if !upstreams.contains(&was) => {
                let now = if upstreams.is_empty() { "none".to_owned() } else { upstreams.join(" or ") };
                self.differs(logged, "upstream", was, &now);
            }
            (None, Some(now)) if now == logged.status && !open => self.report.same += 1,
            (None, _) if may_have_answered || open => self.report.assumed += 1,
            (None, None) if by_route => self.differs(logged, "upstream", "none", &upstreams.join(" or ")),
            (None, Some(now)) if by_route => {
                self.differs(logged, "status", &logged.status.to_string(), &now.to_string());
            }
            _ if open => self.report.assumed += 1,
            _ => self.report.same += 1,
        }
    }

    fn differs(&mut self, logged: &Line<'_>, what: &'static str, old: &str, new: &str) {
        self.report.different += 1;
        let key = (what, old.to_owned(), new.to_owned());
        if self.kinds.len() >= MAX_KINDS && !self.kinds.contains_key(&key) {
            self.report.unlisted += 1;
            return;
        }
        let (old, new) = (key.1.clone(), key.2.clone());
        let kind = self.kinds.entry(key).or_insert_with(|| Difference { what, old, new, count: 0, examples: Vec::new() });
        kind.count += 1;
        if kind.examples.len() < self.examples {
            let part = |text: &Option<Cow<'_, str>>| text.as_deref().unwrap_or("-").to_owned();
            let request = format!("{} {}{}", part(&logged.method), part(&logged.host), part(&logged.path));
            kind.examples.push(Example { line: self.report.lines, request });
        }
    }

    /// What came of it.
    pub fn report(self) -> Report {
        let mut differences: Vec<Difference> = self.kinds.into_values().collect();
        differences.sort_by_key(|difference| std::cmp::Reverse(difference.count));
        Report { differences, ..self.report }
    }
}

/// What ended before a route was looked for, whatever the configuration. What a redirect to https answers has no reason.
fn is_before_routing(logged: &Line<'_>) -> bool {
    let early = matches!(&*logged.end.phase, "admit");
    let by_us = matches!(logged.end.reason.as_deref(), None | Some("no_route" | "misdirected"));
    // Max-Forwards, which no log holds, lets an OPTIONS end here.
    let for_us = logged.method.as_deref() == Some("OPTIONS") && logged.status == 204;
    logged.route.is_none() && (early || !by_us || for_us)
}

fn client(logged: &Line<'_>, listener: &Listener, whereabouts: Whereabouts) -> Client {
    let scheme = if logged.tls.is_some() { Scheme::Https } else { Scheme::Http };
    let tls = logged
        .tls
        .as_ref()
        .map(|_| Arc::new(TlsClient { sni: logged.sni.as_deref().map(Arc::from), version: "TLSv1.3", ..TlsClient::default() }));
    Client { ip: logged.client, port: 0, scheme, listener: listener.name.clone(), tls, whereabouts }
}

fn fields(logged: &Line<'_>) -> HeaderMap {
    let known = [(header::USER_AGENT, &logged.user_agent), (header::REFERER, &logged.referer)];
    known.into_iter().filter_map(|(name, value)| Some((name, HeaderValue::from_str(value.as_deref()?).ok()?))).collect()
}

/// Does this depend on something that the log does not hold?
fn is_unlogged(miss: &Miss<'_>) -> bool {
    match miss {
        Miss::Header(name, _) => !matches!(*name, "user-agent" | "referer"),
        Miss::Query(..) => true,
        Miss::Host | Miss::Path(_) | Miss::Method(_) | Miss::ClientIp | Miss::Country(_) | Miss::Listener(_) => false,
    }
}

/// Does this route only match because of something that the log does not hold, which may have been there?
fn has_unlogged(route: &Route) -> bool {
    let absent = |want: &HeaderMatch| matches!(want, HeaderMatch::Present(false));
    route.predicates.fields().any(|(_, want)| absent(want))
}

fn names(route: &Route) -> Vec<&str> {
    match &route.action {
        Action::Split(split) => {
            split.shares().filter(|(_, share)| *share > 0.0).map(|(upstream, _)| upstream.name().as_str()).collect()
        }
        _ => route.upstreams().into_iter().map(|upstream| upstream.name().as_str()).collect(),
    }
}

fn own_status(route: &Route) -> Option<u16> {
    match &route.action {
        Action::Redirect(redirect) => Some(redirect.status()),
        Action::Respond(reply) => Some(reply.status.as_u16()),
        Action::Upstream(_) | Action::Split(_) => None,
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "{} lines: {} the same, {} different, {} assumed the same",
            self.lines, self.same, self.different, self.assumed
        )?;
        for (count, what) in [
            (self.uncertain, "uncertain: their route depends on header fields or a query, which the log does not hold"),
            (self.unrouted, "never came to routing: refused by the gate, or broken off"),
            (self.foreign, "foreign: no line of an access log in JSON"),
        ] {
            if count > 0 {
                writeln!(f, "{count} {what}")?;
            }
        }
        if self.assumed > 0 {
            writeln!(
                f,
                "assumed: the log does not hold what the decision depends on, and the logged route could still take them"
            )?;
        }
        for difference in &self.differences {
            let Difference { what, old, new, count, examples } = difference;
            writeln!(f, "\n{count} x {what}: {} -> {}", old.escape_debug(), new.escape_debug())?;
            for Example { line, request } in examples {
                writeln!(f, "  line {line}: {}", request.escape_debug())?;
            }
        }
        if self.unlisted > 0 {
            writeln!(f, "\nand {} more in other ways", self.unlisted)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, time::SystemTime};

    use serde_json::{Value, json};

    use super::*;
    use crate::{
        config,
        snapshot::{self, Registries},
        types::Problems,
    };

    const CONF: &str = "
listeners: {web: {address: 127.0.0.1:8080}, plain: {address: 127.0.0.1:8081, redirect_to_https: true}, edge: {address: 127.0.0.1:8443, tls: {self_signed: [a.test]}}}
routes:
- {name: beta, match: {path: /v1/*, headers: {x-channel: beta}}, upstream: two}
- {name: api, match: {path: /v1/*}, upstream: one}
- {name: bots, match: {path: /bots, headers: {user-agent: {regex: bot}}}, respond: {status: 403}}
- {name: split, match: {path: /split}, split: [{upstream: one, weight: 1}, {upstream: two, weight: 0}]}
- {name: inner, match: {path: /inner, client_ip: 10.0.0.0/8}, respond: {status: 204}}
- {name: guarded, match: {path: /guarded}, filters: [{ip_access: {deny: [192.0.2.0/24]}}], upstream: one}
upstreams: {one: {endpoints: ['127.0.0.1:1']}, two: {endpoints: ['127.0.0.1:2']}}
";

    fn replay(lines: &[String]) -> Report {
        crate::tls::install_provider();
        let loaded = config::parse_str("x.yaml", CONF, Path::new("/"), &|_| None);
        let (problems, registries) = (Problems::default(), Registries::default());
        let snapshot = snapshot::compile(loaded.spec.unwrap(), 1, &registries, SystemTime::now(), &problems).unwrap();
        let mut replay = Replay::new(&snapshot, 2);
        lines.iter().for_each(|line| replay.line(line.as_bytes()));
        replay.report()
    }

    /// A line like those that Weir writes, with these changes.
    fn line(changes: Value) -> String {
        let mut line = json!({"ts": "2026-01-01T00:00:00.123456Z", "client": "192.0.2.7", "listener": "web", "sni": null, "tls": null,
            "method": "GET", "host": "a.test", "path": "/v1/x", "route": "api", "upstream": "one", "status": 200,
            "end": {"who": "upstream", "phase": "done", "type": null, "reason": null}, "user_agent": "curl/8", "referer": null});
        for (key, value) in changes.as_object().unwrap() {
            line[key] = value.clone();
        }
        line.to_string()
    }

    fn one(changes: Value) -> Report {
        replay(&[line(changes)])
    }

    #[test]
    fn requests_that_go_the_same_way() {
        let ended = |reason: &str| json!({"who": "weir", "phase": "filter", "type": null, "reason": reason});
        for changes in [
            json!({"path": "/split", "route": "split"}),
            json!({"path": "/bots", "route": "bots", "upstream": null, "status": 403, "user_agent": "a bot"}),
            json!({"path": "/inner", "client": "10.0.0.1", "route": "inner", "upstream": null, "status": 204}),
            json!({"path": "/none", "route": null, "upstream": null, "status": 404, "end": ended("no_route")}),
            json!({"listener": "plain", "route": null, "upstream": null, "status": 308}),
            json!({"path": "/split", "host": null, "route": "split"}),
            json!({"listener": "edge", "tls": "TLSv1.3", "sni": "a.test", "path": "/split", "route": "split"}),
        ] {
            let report = one(changes.clone());
            assert_eq!((report.same, report.different), (1, 0), "{changes}: {report:?}");
        }
        let report =
            one(json!({"path": "/guarded", "route": "guarded", "upstream": null, "status": 403, "end": ended("ip_denied")}));
        assert_eq!((report.assumed, report.different), (1, 0), "{report:?}");
    }

    #[test]
    fn differences_are_counted_by_kind_with_examples() {
        let report = replay(&[
            line(json!({"path": "/split", "route": "old"})),
            line(json!({"path": "/split", "route": "old"})),
            line(json!({"path": "/split", "route": "old"})),
            line(json!({"path": "/split", "route": "split", "upstream": "two"})),
            line(json!({"path": "/bots", "user_agent": "bot", "route": "bots", "upstream": null, "status": 200})),
            line(json!({"path": "/none", "route": "gone"})),
            line(json!({"path": "/split", "route": null, "upstream": null, "status": 404})),
            line(json!({"listener": "elsewhere"})),
        ]);
        let kinds: Vec<_> = report.differences.iter().map(|d| (d.what, &*d.old, &*d.new, d.count)).collect();
        assert_eq!(
            kinds,
            [
                ("route", "old", "split", 3),
                ("listener", "elsewhere", "none", 1),
                ("route", "gone", "none", 1),
                ("route", "none", "split", 1),
                ("status", "200", "403", 1),
                ("upstream", "two", "one", 1),
            ]
        );
        assert_eq!(
            report.differences[0].examples,
            [Example { line: 1, request: "GET a.test/split".into() }, Example { line: 2, request: "GET a.test/split".into() },]
        );
        assert_eq!((report.lines, report.different, report.same), (8, 8, 0));
        assert!(report.to_string().contains("3 x route: old -> split\n  line 1: GET a.test/split\n"), "{report}");
    }

    #[test]
    fn what_the_log_does_not_hold_is_not_guessed() {
        let report = replay(&[
            line(json!({"route": "beta", "upstream": "two"})),
            line(json!({"route": "api"})),
            line(json!({"route": "other"})),
        ]);
        assert_eq!((report.assumed, report.uncertain, report.different), (2, 1, 0), "{report:?}");
        let long = one(json!({"path": format!("/split{}", "x".repeat(3000)), "route": "old"}));
        assert_eq!((long.uncertain, long.different), (1, 0));
    }

    #[test]
    fn other_lines_are_counted_and_nothing_else() {
        let report = replay(&[
            "192.0.2.7 - - [01/Jan/2026:00:00:00 +0000] \"GET / HTTP/1.1\" 200 5".into(),
            "{}".into(),
            "{\"listener\": 5}".into(),
            "".into(),
            "\u{1}\u{2}".into(),
            line(json!({"method": null, "host": null, "path": null, "status": 400})),
            line(json!({"route": null, "upstream": null, "status": 0, "end": {"phase": "admit", "reason": "cancelled"}})),
            line(json!({"route": null, "upstream": null, "status": 400, "end": {"phase": "admit", "reason": "backslash"}})),
        ]);
        assert_eq!((report.lines, report.foreign, report.unrouted, report.different), (7, 4, 3, 0), "{report:?}");
    }

    #[test]
    fn the_kinds_of_differences_are_bounded() {
        let lines: Vec<String> = (0..MAX_KINDS + 10).map(|n| line(json!({"path": "/split", "route": format!("r{n}")}))).collect();
        let report = replay(&lines);
        assert_eq!((report.differences.len(), report.unlisted, report.different), (MAX_KINDS, 10, MAX_KINDS as u64 + 10));
    }
}
