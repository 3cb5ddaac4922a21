//! Caddy: sites of a Caddyfile.
//!
//! The directives of a site are taken in Caddy's own order, in which the first that answers counts, and become routes in [`super::order`].

mod address;
mod directives;
mod matcher;
mod parse;
mod proxy;
mod site;

use std::{collections::BTreeMap, path::Path};

use super::{
    Imported,
    directive::Directive,
    draft::{Action, Body, Draft, Listener, Names, Route, Tls},
    matching::Match,
    order::{Rule, ordered, without_exceptions},
    report::{ImportError, Place, Report},
    yaml::Node,
};
use crate::types::HostPattern;
use address::Address;
use parse::Site;

/// What is known while a file is read.
#[derive(Debug, Default)]
struct Ctx {
    report: Report,
    draft: Draft,
    names: Names,
    /// Our upstreams, by what they were made of.
    used: BTreeMap<String, String>,
    /// Who is believed to say who the client is.
    trusted: Vec<String>,
    /// Redirects to HTTPS are made by Caddy itself.
    redirects: bool,
    /// Certificates of its own authority are wanted.
    local_certs: bool,
}

impl Ctx {
    fn left(&mut self, directive: &Directive, why: impl Into<String>) -> String {
        self.report.left(&directive.place, &directive.words(), why)
    }

    fn carried(&mut self, directive: &Directive) {
        self.report.carried(&directive.place, &directive.words());
    }
}

/// Imports a file and what it imports.
pub(super) fn import(path: &Path) -> Result<Imported, ImportError> {
    let mut ctx = Ctx { redirects: true, ..Ctx::default() };
    let file = parse::read(path, &mut ctx.report)?;
    // What could not be imported was told before there was a place for it.
    let lost: Vec<String> = ctx.report.left.iter().map(|left| format!("not carried over: {left}")).collect();
    ctx.draft.comments.extend(lost);
    for option in &file.options {
        ctx.option(option);
    }
    let mut all = Vec::new();
    let mut redirected: Vec<HostPattern> = Vec::new();
    for site in &file.sites {
        let (places, https) = ctx.listeners(site);
        if places.is_empty() {
            continue;
        }
        let rules = ctx.site(site);
        for place in places {
            all.extend(rules.iter().filter_map(|(rule, except)| {
                Some((Rule { matches: rule.matches.meet(&place)?, ..rule.clone() }, except.clone()))
            }));
        }
        redirected.extend(https);
    }
    if ctx.redirects && !redirected.is_empty() {
        ctx.listener("0.0.0.0:80", false, None);
        let matches = Match { hosts: redirected, listeners: vec!["http".into()], ..Match::default() };
        let action = Action::Redirect { to: "https://{host}{path}{query}".into(), status: 308 };
        all.push((Rule::new(matches, Body::new("to-https", action)), Vec::new()));
    }
    for listener in ctx.draft.listeners.iter_mut().filter(|_| !ctx.trusted.is_empty()) {
        listener.more.push(("trusted_proxies".into(), Node::texts(ctx.trusted.clone())));
    }
    ctx.route(all);
    Ok(Imported { draft: ctx.draft, report: ctx.report })
}

impl Ctx {
    /// An option of the whole file.
    fn option(&mut self, option: &Directive) {
        match option.name.as_str() {
            "auto_https" if matches!(option.arg(0), "off" | "disable_redirects") => {
                self.redirects = false;
                self.carried(option);
            }
            "local_certs" => {
                self.local_certs = true;
                self.carried(option);
            }
            "servers" => {
                for inner in option.inside() {
                    match (inner.name.as_str(), inner.arg(0)) {
                        ("trusted_proxies", "static") => {
                            self.carried(inner);
                            self.trusted.extend(matcher::ranges(&inner.args[1..]).iter().map(ToString::to_string));
                        }
                        _ => self.report.unneeded(&format!("servers {}", inner.name)),
                    }
                }
            }
            "email" => self.acme(option, "contact"),
            "acme_ca" => self.acme(option, "directory"),
            "acme_ca_root" => self.acme(option, "ca"),
            "acme_dns" | "acme_eab" | "on_demand_tls" => {
                let comment = self.left(option, "see docs/certificates.md for `dns`, `eab` and `on_demand`");
                self.draft.comments.push(comment);
            }
            "admin" | "log" | "debug" | "grace_period" | "key_type" | "ocsp_stapling" | "storage" | "metrics" | "default_sni"
            | "persist_config" | "cert_issuer" | "skip_install_trust" | "renew_interval" | "shutdown_delay" | "order"
            | "preferred_chains" => self.report.unneeded(&option.name),
            _ => {
                let comment = self.left(option, "no counterpart");
                self.draft.comments.push(comment);
            }
        }
    }

    /// An option of how certificates are obtained, by our word for it.
    fn acme(&mut self, option: &Directive, key: &str) {
        self.carried(option);
        self.draft.acme(key, option.arg(0));
    }

    /// The places at which a site answers, and the hosts that Caddy sends from HTTP to HTTPS.
    fn listeners(&mut self, site: &Site) -> (Vec<Match>, Vec<HostPattern>) {
        let (mut places, mut redirected): (Vec<Match>, Vec<HostPattern>) = (Vec::new(), Vec::new());
        let tls = site.block.iter().find(|directive| directive.name == "tls");
        let bind = site
            .block
            .iter()
            .find(|directive| directive.name == "bind")
            .and_then(|bind| bind.arg(0).parse::<std::net::IpAddr>().ok());
        for text in &site.addresses {
            let address = match Address::parse(text, tls.is_some()) {
                Ok(address) => address,
                Err(why) => {
                    let comment = self.report.left(&site.place, text, why);
                    self.draft.comments.push(comment);
                    continue;
                }
            };
            self.report.carried(&site.place, text);
            let ip = bind.map_or_else(|| "0.0.0.0".to_owned(), |ip| ip.to_string());
            let ip = if ip.contains(':') { format!("[{ip}]") } else { ip };
            let certificate = address.tls.then_some((&address, tls, &site.place));
            let listener = self.listener(&format!("{ip}:{}", address.port), address.tls, certificate);
            let hosts: Vec<HostPattern> = address.host.clone().into_iter().collect();
            if address.tls && address.port == 443 {
                redirected.extend(hosts.iter().filter(|host| !redirected.contains(host)).cloned().collect::<Vec<_>>());
            }
            match places
                .iter_mut()
                .find(|place| place.listeners == [listener.clone()] && place.hosts.is_empty() == hosts.is_empty())
            {
                Some(place) => place.hosts.extend(hosts),
                None => places.push(Match { hosts, listeners: vec![listener], ..Match::default() }),
            }
        }
        (places, redirected)
    }

    /// The name of the listener at this address, which is put into the draft when it is new.
    fn listener(&mut self, address: &str, tls: bool, certificate: Option<(&Address, Option<&Directive>, &Place)>) -> String {
        let word = if tls { "https" } else { "http" };
        let port = address.rsplit(':').next().unwrap_or_default();
        let mut name =
            if matches!((tls, port), (false, "80") | (true, "443")) { word.to_owned() } else { format!("{word}-{port}") };
        if !address.starts_with("0.0.0.0:") {
            name = super::draft::name_of(&format!("{name}-{}", address.trim_end_matches(port)));
        }
        let index = self.draft.listeners.iter().position(|listener| listener.name == name).unwrap_or_else(|| {
            let tls = tls.then(Tls::default);
            self.draft.listeners.push(Listener {
                name: name.clone(),
                addresses: vec![address.to_owned()],
                tls,
                ..Listener::default()
            });
            self.draft.listeners.len() - 1
        });
        if let Some((site, tls, place)) = certificate {
            self.certificate(index, site, tls, place);
        }
        name
    }

    /// The certificate of a site: files, or one that Caddy would obtain.
    fn certificate(&mut self, index: usize, site: &Address, tls: Option<&Directive>, place: &Place) {
        let mut comments = Vec::new();
        let files = tls.filter(|tls| tls.args.len() == 2);
        if let Some(tls) = tls {
            self.carried(tls);
            for inner in tls.inside() {
                match inner.name.as_str() {
                    "protocols" | "ciphers" | "curves" | "alpn" | "dns" | "issuer" | "resolvers" | "ca" | "key_type"
                    | "on_demand" => {
                        self.report.unneeded(&format!("tls {}", inner.name));
                    }
                    "client_auth" => comments.push(self.left(inner, "write `client_certificates: {ca: ...}`")),
                    _ => comments.push(self.left(inner, "no counterpart")),
                }
            }
        }
        let own = tls.is_some_and(|tls| tls.arg(0) == "internal") || self.local_certs || site.is_local();
        let host = site.host.as_ref().map(ToString::to_string).unwrap_or_else(|| "localhost".into());
        if files.is_none() && !own && host.starts_with("*.") {
            let why = "write `acme.dns`: who can write records into the DNS of a name gets a certificate for all below it";
            comments.push(self.report.left(place, &format!("the certificate of {host}"), why));
        }
        let listener = &mut self.draft.listeners[index];
        listener.comments.extend(comments);
        let Some(ours) = listener.tls.as_mut() else { return };
        match files {
            Some(files) => {
                let pair = (files.arg(0).to_owned(), files.arg(1).to_owned());
                if !ours.certificates.contains(&pair) {
                    ours.certificates.push(pair);
                }
            }
            None if !own => ours.automatic = true,
            None => {
                let host = host.trim_start_matches("*.").to_owned();
                if !ours.self_signed.contains(&host) {
                    ours.self_signed.push(host);
                }
            }
        }
    }

    fn route(&mut self, mut all: Vec<(Rule<Body>, Vec<Match>)>) {
        let rank = |rule: &Rule<Body>| match rule.matches.hosts.as_slice() {
            [] => isize::MAX,
            [HostPattern::Suffix(suffix), ..] => 1000 - suffix.len() as isize,
            _ => 0,
        };
        all.sort_by_key(|(rule, _)| rank(rule));
        let names: Vec<String> = all.iter().map(|(rule, _)| rule.body.name.clone()).collect();
        let (mut rules, failed) = without_exceptions(all);
        for index in failed {
            let comment = format!("check the route `{}`: not all of its `not` can be told", names[index]);
            self.draft.comments.push(comment);
        }
        // One listener needs no telling.
        if self.draft.listeners.len() == 1 {
            rules.iter_mut().for_each(|rule| rule.matches.listeners.clear());
        }
        let done = ordered(rules);
        for dead in done.dead {
            self.draft.comments.extend(dead.body.comments);
            self.draft.comments.push(format!("never reached, so left out: `{}`", dead.body.name));
        }
        if done.too_many {
            self.draft.comments.push("there are too many rules to compare them all: check their order by `weir explain`".into());
        }
        self.draft.routes = done
            .rules
            .into_iter()
            .map(|rule| {
                let mut body = rule.body;
                if rule.derived {
                    body.comments = vec![format!("as `{}`, which Caddy asks first", body.name)];
                }
                Route { matches: rule.matches, body }
            })
            .collect();
    }
}
