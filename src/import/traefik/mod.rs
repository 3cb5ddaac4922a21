//! Traefik: the file provider, and the labels of a Compose file.
//!
//! Labels and files say the same, so labels are put into a tree like that of a file. Routers are asked by priority, which is the
//! length of their rule unless one is written, and become routes in [`super::order`].

mod middleware;
mod read;
mod rule;
mod service;
mod tree;

use std::{collections::BTreeMap, path::Path};

use serde_yaml::Value;

use super::{
    Imported,
    draft::{Action, Body, Draft, Listener, Names, Route, Tls},
    matching::Match,
    order::{Rule, ordered, without_exceptions},
    report::{ImportError, Place, Report},
    yaml::Node,
};
use tree::{at, entries, get, is_true, text_at, texts_at};

/// What is known while a configuration is read.
#[derive(Debug, Default)]
struct Ctx {
    report: Report,
    draft: Draft,
    names: Names,
    /// `http`, `tcp`, `tls` and so on, from files and labels.
    dynamic: Value,
    /// `entryPoints`.
    fixed: Value,
    /// Where things stand.
    places: read::Places,
    /// Our upstreams, by service.
    used: BTreeMap<String, Result<service::Target, String>>,
    /// Our listeners, by entry point and TLS.
    listeners: BTreeMap<(String, bool), String>,
}

/// A router.
#[derive(Debug)]
struct Router {
    name: String,
    rule: String,
    priority: i64,
    place: Place,
    value: Value,
}

/// Imports a file of the file provider, a static configuration with its files, or a Compose file.
pub(super) fn import(path: &Path) -> Result<Imported, ImportError> {
    let mut ctx = Ctx { dynamic: Value::Null, fixed: Value::Null, ..Ctx::default() };
    read::read(&mut ctx, path)?;
    ctx.certificates_of_options();
    let routers = ctx.routers();
    let mut all = Vec::new();
    for router in &routers {
        ctx.router(router, &mut all);
    }
    ctx.redirections(&mut all);
    ctx.layer4();
    ctx.unused();
    ctx.finish(all);
    Ok(Imported { draft: ctx.draft, report: ctx.report })
}

impl Ctx {
    fn place(&self, keys: &[&str]) -> Place {
        self.places.find(keys)
    }

    /// All routers of HTTP, in the order in which Traefik asks them.
    fn routers(&mut self) -> Vec<Router> {
        let dynamic = self.dynamic.clone();
        let mut found = Vec::new();
        for (name, value) in entries(at(&dynamic, &["http", "routers"])) {
            let place = self.place(&["routers", &name]);
            let Some(rule) = text_at(value, "rule") else {
                let comment = self.report.left(&place, &format!("router {name}"), "it has no rule");
                self.draft.comments.push(comment);
                continue;
            };
            let written = text_at(value, "priority").and_then(|priority| priority.parse().ok()).filter(|priority| *priority != 0);
            found.push(Router { priority: written.unwrap_or(rule.len() as i64), name, rule, place, value: value.clone() });
        }
        found.sort_by(|one, other| other.priority.cmp(&one.priority).then_with(|| one.name.cmp(&other.name)));
        found
    }

    fn router(&mut self, router: &Router, all: &mut Vec<(Rule<Body>, Vec<Match>)>) {
        let words = format!("router {}: {}", router.name, router.rule);
        let service =
            text_at(&router.value, "service").map(|name| bare(&name)).unwrap_or_else(|| self.only_service(&router.name));
        if matches!(service.as_str(), "api" | "dashboard" | "prometheus" | "ping")
            && text_at(&router.value, "service").is_some_and(|name| name.ends_with("@internal"))
        {
            return self.report.unneeded(&format!("router {} (the admin listener has the API and a dashboard)", router.name));
        }
        let ways = match rule::parse(&router.rule) {
            Ok(ways) => ways,
            Err(why) => {
                let comment = self.report.left(&router.place, &words, why);
                return self.draft.comments.push(comment);
            }
        };
        self.report.carried(&router.place, &words);
        let tls =
            get(&router.value, "tls").cloned().filter(|tls| !matches!(tls, Value::Bool(false)) && tls.as_str() != Some("false"));
        let mut body = Body::new(&router.name, Action::status(503));
        match self.target(&service) {
            Ok(target) => {
                body.action = target.action;
                body.filters.extend(target.filters);
            }
            Err(why) => {
                // `noop@internal` is there for routers that only redirect.
                if service != "noop" {
                    body.comments.push(self.report.left(&router.place, &words, why));
                }
            }
        }
        let names = texts_at(&router.value, "middlewares");
        self.middlewares(&names.iter().map(|name| bare(name)).collect::<Vec<_>>(), &mut body, 0);
        let points = texts_at(&router.value, "entryPoints");
        let listeners = self.points(&points, tls.as_ref(), &ways, router, &mut body);
        for way in ways {
            let matches = Match { listeners: listeners.clone(), ..way.matches };
            all.push((Rule::new(matches, body.clone()), way.except));
        }
    }

    /// The service that a router of labels does not name: the only one of its container.
    fn only_service(&self, router: &str) -> String {
        self.places.services.get(router).cloned().unwrap_or_else(|| router.to_owned())
    }

    /// The listeners of a router's entry points, which are put into the draft.
    fn points(
        &mut self,
        points: &[String],
        tls: Option<&Value>,
        ways: &[rule::Way],
        router: &Router,
        body: &mut Body,
    ) -> Vec<String> {
        let mut names = points.to_vec();
        if names.is_empty() {
            names = entries(get(&self.fixed, "entryPoints"))
                .into_iter()
                .map(|(name, _)| name)
                .filter(|name| name != "traefik")
                .collect();
        }
        if names.is_empty() {
            names.push(if tls.is_some() { "websecure".into() } else { "web".into() });
        }
        let mut listeners = Vec::new();
        for name in names {
            let own = at(&self.fixed, &["entryPoints", &name, "http", "tls"]).is_some();
            let secure = tls.is_some() || own;
            let listener = self.point(&name, secure, body);
            if secure {
                self.certificate(&listener, tls, ways, router, body);
            }
            if !listeners.contains(&listener) {
                listeners.push(listener);
            }
        }
        listeners
    }

    /// The listener of an entry point.
    fn point(&mut self, name: &str, secure: bool, body: &mut Body) -> String {
        let key = (name.to_owned(), secure);
        if let Some(known) = self.listeners.get(&key) {
            return known.clone();
        }
        let written = at(&self.fixed, &["entryPoints", name]).and_then(|point| text_at(point, "address"));
        let address = match (&written, name) {
            (Some(address), _) => address.split('/').next().unwrap_or_default().to_owned(),
            (None, "web" | "http") => ":80".into(),
            (None, "websecure" | "https" | "web-secure" | "web-secured") => ":443".into(),
            (None, _) => {
                let address = if secure { ":443" } else { ":80" };
                let how = format!("the address of the entry point `{name}` is not in this file; it is taken for `{address}`");
                body.comments.push(self.report.differs(&self.places.top(), &format!("entryPoints: {name}"), how));
                address.into()
            }
        };
        let (ip, port) = address.rsplit_once(':').unwrap_or(("", "80"));
        let ip = if ip.is_empty() { "0.0.0.0" } else { ip };
        let address = format!("{ip}:{port}");
        // Two entry points at one address are one listener.
        let twin = self
            .draft
            .listeners
            .iter()
            .find(|listener| listener.addresses == [address.clone()] && listener.tls.is_some() == secure);
        if let Some(listener) = twin {
            let listener = listener.name.clone();
            self.listeners.insert(key, listener.clone());
            return listener;
        }
        if self.draft.listeners.iter().any(|listener| listener.addresses == [address.clone()]) {
            // One address has TLS or has none: the one with TLS counts.
            let how = "routers with and without TLS share this address: all of it is over TLS";
            body.comments.push(self.report.differs(&self.places.top(), &format!("entryPoints: {name}"), how));
            let listener = self.draft.listeners.iter_mut().find(|listener| listener.addresses == [address.clone()]);
            if let Some(listener) = listener {
                listener.tls.get_or_insert_default();
                self.listeners.insert(key, listener.name.clone());
                return listener.name.clone();
            }
        }
        let mut listener = Listener {
            name: super::draft::name_of(name),
            addresses: vec![address],
            tls: secure.then(Tls::default),
            ..Listener::default()
        };
        let point = at(&self.fixed, &["entryPoints", name]).cloned().unwrap_or_default();
        let trusted = at(&point, &["forwardedHeaders"]).map(|value| texts_at(value, "trustedIPs")).unwrap_or_default();
        let ranges: Vec<String> = trusted.iter().filter(|range| range.parse::<crate::types::Cidr>().is_ok()).cloned().collect();
        if !ranges.is_empty() {
            listener.more.push(("trusted_proxies".into(), Node::texts(ranges)));
        }
        self.listeners.insert(key, listener.name.clone());
        let name = listener.name.clone();
        self.draft.listeners.push(listener);
        name
    }

    /// A certificate for the hosts of a router, where there are no files.
    fn certificate(&mut self, listener: &str, tls: Option<&Value>, ways: &[rule::Way], router: &Router, body: &mut Body) {
        let hosts =
            ways.iter().flat_map(|way| &way.matches.hosts).map(|host| host.to_string().trim_start_matches("*.").to_owned());
        let hosts: Vec<String> = hosts.filter(|host| host != "*").collect();
        let resolver = tls.and_then(|tls| text_at(tls, "certResolver"));
        let dns = resolver.as_ref().and_then(|name| at(&self.fixed, &["certificatesResolvers", name, "acme", "dnsChallenge"]));
        let (dns, fixed) = (dns.is_some(), self.fixed.clone());
        let Some(listener) = self.draft.listeners.iter_mut().find(|known| known.name == listener) else { return };
        let Some(ours) = listener.tls.as_mut() else { return };
        if let Some(resolver) = resolver {
            ours.automatic = true;
            let what = format!("router {}: tls.certResolver: {resolver}", router.name);
            match dns {
                false => self.report.carried(&router.place, &what),
                true => {
                    let why = "write `acme.dns`: names are proven by the DNS";
                    body.comments.push(self.report.left(&router.place, &what, why));
                }
            }
            for (key, ours) in [("email", "contact"), ("caServer", "directory")] {
                let written = at(&fixed, &["certificatesResolvers", &resolver, "acme"]).and_then(|acme| text_at(acme, key));
                if let Some(value) = written {
                    self.draft.acme(ours, &value);
                }
            }
            return;
        }
        for host in hosts {
            if !ours.self_signed.contains(&host) {
                ours.self_signed.push(host);
            }
        }
    }

    /// `tls.certificates` and `tls.stores.default`.
    fn certificates_of_options(&mut self) {
        let dynamic = self.dynamic.clone();
        for (name, _) in entries(at(&dynamic, &["tls", "options"])) {
            let comment = self.report.left(
                &self.place(&["options", &name]),
                &format!("tls.options.{name}"),
                "write `min_version` and `client_certificates` in `tls` of a listener",
            );
            self.draft.comments.push(comment);
        }
    }

    /// Entry points that send everything to another one.
    fn redirections(&mut self, all: &mut Vec<(Rule<Body>, Vec<Match>)>) {
        let fixed = self.fixed.clone();
        for (name, point) in entries(get(&fixed, "entryPoints")) {
            let Some(to) = at(point, &["http", "redirections", "entryPoint"]) else { continue };
            let mut body = Body::new(format!("{name}-to-https"), Action::status(404));
            let listener = self.point(&name, false, &mut body);
            let scheme = text_at(to, "scheme").unwrap_or_else(|| "https".into());
            let status = if text_at(to, "permanent").as_deref() == Some("false") { 302 } else { 308 };
            body.action = Action::Redirect { to: format!("{scheme}://{{host}}{{path}}{{query}}"), status };
            self.report.carried(&self.place(&["entryPoints", &name]), &format!("entryPoints.{name}.http.redirections"));
            let matches = Match { listeners: vec![listener], ..Match::default() };
            // It comes before every router of its entry point.
            all.insert(0, (Rule::new(matches, body), Vec::new()));
        }
    }

    /// Routers of TCP: by the name in a TLS greeting.
    fn layer4(&mut self) {
        let dynamic = self.dynamic.clone();
        for kind in ["tcp", "udp"] {
            for (name, router) in entries(at(&dynamic, &[kind, "routers"])) {
                let words = format!("{kind} router {name}: {}", text_at(router, "rule").unwrap_or_default());
                let comment =
                    self.report.left(&self.place(&["routers", &name]), &words, "write a listener with `tcp`: docs/layer4.md");
                self.draft.comments.push(comment);
            }
        }
    }

    /// Services that no router names are carried over too.
    fn unused(&mut self) {
        let dynamic = self.dynamic.clone();
        for (name, _) in entries(at(&dynamic, &["http", "services"])) {
            if !self.used.contains_key(&name)
                && let Err(why) = self.target(&name)
            {
                let comment = self.report.left(&self.place(&["services", &name]), &format!("service {name}"), why);
                self.draft.comments.push(comment);
            }
        }
    }

    fn finish(&mut self, all: Vec<(Rule<Body>, Vec<Match>)>) {
        let dynamic = self.dynamic.clone();
        let mut pairs: Vec<(String, String)> = Vec::new();
        let listed = at(&dynamic, &["tls", "certificates"]).and_then(Value::as_sequence).cloned().unwrap_or_default();
        let default = at(&dynamic, &["tls", "stores", "default", "defaultCertificate"]).cloned();
        for certificate in default.iter().chain(&listed) {
            if let (Some(cert), Some(key)) = (text_at(certificate, "certFile"), text_at(certificate, "keyFile")) {
                self.report.carried(&self.place(&["certificates"]), &format!("tls.certificates: {cert}"));
                pairs.push((cert, key));
            }
        }
        for tls in self.draft.listeners.iter_mut().filter_map(|listener| listener.tls.as_mut()) {
            tls.certificates.clone_from(&pairs);
            if pairs.is_empty() && tls.self_signed.is_empty() && !tls.automatic {
                tls.self_signed.push("localhost".into());
            }
        }
        let names: Vec<String> = all.iter().map(|(rule, _)| rule.body.name.clone()).collect();
        let mut all = all;
        // What a rule with `!` leaves out and no other takes is 404.
        if all.iter().any(|(_, except)| !except.is_empty()) {
            all.push((Rule::new(Match::default(), Body::new("nothing", Action::status(404))), Vec::new()));
        }
        let (mut rules, failed) = without_exceptions(all);
        for index in failed {
            self.draft.comments.push(format!("check the route `{}`: not all of its `!` can be told", names[index]));
        }
        if self.draft.listeners.len() == 1 {
            rules.iter_mut().for_each(|rule| rule.matches.listeners.clear());
        }
        let done = ordered(rules);
        for dead in done.dead {
            self.draft.comments.extend(dead.body.comments);
            self.draft.comments.push(format!("never reached, so left out: the router `{}`", dead.body.name));
        }
        if done.too_many {
            self.draft
                .comments
                .push("there are too many routers to compare them all: check their order by `weir explain`".into());
        }
        self.draft.routes = done
            .rules
            .into_iter()
            .map(|rule| {
                let mut body = rule.body;
                if rule.derived {
                    body.comments = vec![format!("as `{}`, which Traefik asks first", body.name)];
                }
                Route { matches: rule.matches, body }
            })
            .collect();
    }
}

/// `name@docker` as `name`.
fn bare(name: &str) -> String {
    name.split('@').next().unwrap_or_default().trim().to_owned()
}

/// Is it there, and not `false`?
fn is_on(value: &Value, key: &str) -> bool {
    get(value, key).is_some() && !matches!(text_at(value, key).as_deref(), Some("false")) || is_true(value, key)
}
