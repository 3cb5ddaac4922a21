//! A `server`: its names, and the rules that its requests are held against, in the order in which nginx asks them.

use std::collections::BTreeMap;

use super::{
    super::{
        draft::{Action, Body, Route},
        matching::{Match, PathMatch},
        order::{Rule, canonical, ordered},
    },
    Ctx, Directive, Scope,
    listen::{Group, Listen},
    location::{Kind, Location},
};
use crate::types::HostPattern;

/// A `server` block.
#[derive(Debug)]
pub struct Server<'d> {
    /// What is in it.
    pub block: &'d [Directive],
    /// Its names that can be matched.
    pub names: Vec<HostPattern>,
    /// Its sockets.
    pub listens: Vec<Listen>,
    /// What is to be said of it.
    pub comments: Vec<String>,
    /// What is to be said where its certificates are.
    pub tls_left: Vec<String>,
}

impl<'d> Server<'d> {
    /// What the block says of names and sockets.
    pub(super) fn read(ctx: &mut Ctx, directive: &'d Directive) -> Self {
        let block = directive.inside();
        let mut server = Self { block, names: Vec::new(), listens: Vec::new(), comments: Vec::new(), tls_left: Vec::new() };
        server.comments = ctx.account(block);
        let ssl_on = block.iter().any(|directive| directive.name == "ssl" && directive.arg(0) == "on");
        for directive in block {
            match directive.name.as_str() {
                "server_name" => server.named(ctx, directive),
                "listen" => match Listen::read(directive, ssl_on) {
                    Ok(listen) => server.listens.push(listen),
                    Err(why) => server.comments.push(ctx.left(directive, why)),
                },
                _ => {}
            }
        }
        if server.listens.is_empty() && !block.iter().any(|directive| directive.name == "listen") {
            server.listens.push(Listen {
                address: "0.0.0.0:80".into(),
                ssl: ssl_on,
                default: false,
                proxy_protocol: false,
                quic: false,
            });
        }
        server
    }

    fn named(&mut self, ctx: &mut Ctx, directive: &Directive) {
        for name in &directive.args {
            if let Some(expression) = name.strip_prefix('~') {
                match suffix(expression) {
                    Some(pattern) => {
                        let how = format!("hosts are not matched by expressions; `{pattern}` takes more of them");
                        self.comments.push(ctx.report.differs(&directive.place, &format!("server_name {name}"), how));
                        self.names.push(pattern);
                    }
                    None => self.comments.push(ctx.report.left(
                        &directive.place,
                        &format!("server_name {name}"),
                        "hosts are not matched by expressions; write them as names or as `*.example.com`",
                    )),
                }
                continue;
            }
            let both = name.strip_prefix('.').map(|name| vec![name.to_owned(), format!("*.{name}")]);
            for name in both.unwrap_or_else(|| vec![name.clone()]) {
                match name.to_ascii_lowercase().parse::<HostPattern>() {
                    // Names that are there to be no name.
                    _ if matches!(name.as_str(), "" | "_" | "-" | "\"\"") => {}
                    Ok(pattern) if !self.names.contains(&pattern) => self.names.push(pattern),
                    Ok(_) => {}
                    Err(_) => self.comments.push(ctx.report.left(
                        &directive.place,
                        &format!("server_name {name}"),
                        if name.ends_with(".*") {
                            "a wildcard stands at the front: write each name"
                        } else {
                            "a host is `example.com` or `*.example.com`"
                        },
                    )),
                }
            }
        }
    }
}

/// `^(?<name>.+)\.example\.com$` as `*.example.com`.
fn suffix(expression: &str) -> Option<HostPattern> {
    let body = expression.strip_suffix('$')?;
    let plain = body.replace("\\.", ".");
    let end = plain.rfind(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-')))? + 1;
    let rest = plain[end..].strip_prefix('.')?;
    // A dot that is no literal one, or a suffix that is a top-level domain, takes too much.
    (body.matches("\\.").count() > rest.matches('.').count() && rest.contains('.')).then(|| format!("*.{rest}").parse().ok())?
}

impl Ctx {
    /// All servers, as listeners and routes.
    pub(super) fn servers(&mut self, http: &Scope<'_>, servers: &[Server<'_>]) {
        let groups = self.listeners(http, servers);
        let mut rules: Vec<Rule<Body>> = Vec::new();
        for (index, server) in servers.iter().enumerate() {
            let own = self.server(&http.inner(server.block), server, &groups, index);
            // The same server may be the default one here, and one of many there.
            for place in places(index, servers, &groups) {
                rules.extend(own.iter().filter_map(|rule| Some(Rule { matches: rule.matches.meet(&place)?, ..rule.clone() })));
            }
            if !groups.iter().any(|group| group.servers.contains(&index)) {
                self.draft.comments.extend(server.comments.clone());
            }
        }
        // Exact names before wildcards, and the default server at the end, as nginx chooses: `places` keeps them apart.
        let rank = |rule: &Rule<Body>| match rule.matches.hosts.as_slice() {
            [] => isize::MAX,
            [HostPattern::Suffix(suffix), ..] => 1000 - suffix.len() as isize,
            _ => 0,
        };
        rules.sort_by_key(rank);
        let done = ordered(rules);
        for dead in done.dead {
            self.draft.comments.extend(dead.body.comments);
            self.draft.comments.push(format!("never reached, so left out: the rule `{}`", dead.body.name));
        }
        if done.too_many {
            self.draft
                .comments
                .push("there are too many locations to compare them all: check their order by `weir explain`".into());
        }
        self.draft.routes.extend(done.rules.into_iter().map(|rule| {
            let mut body = rule.body;
            if rule.derived {
                body.comments = vec![format!("as `{}`, which nginx asks first", body.name)];
            }
            Route { matches: rule.matches, body }
        }));
    }

    /// The rules of a server, for any of its hosts.
    fn server(&mut self, scope: &Scope<'_>, server: &Server<'_>, groups: &[Group], index: usize) -> Vec<Rule<Body>> {
        let mut locations = Vec::new();
        let mut named = BTreeMap::new();
        let mut comments = server.comments.clone();
        self.locations(server.block, scope, None, &mut locations, &mut named, &mut comments);
        let site = Site { locations, named, scope: scope.clone(), names: server.names.clone(), clear: clear(groups, index) };
        let title = server.names.first().map_or_else(|| "default".to_owned(), |name| name.to_string().replace("*.", "any."));
        let mut rules = Vec::new();
        let ends = self.rewrites(server.block, &site, &Match::default(), &title, &mut rules);
        if !ends {
            self.location_rules(&site, &title, &mut rules);
        }
        if let Some(first) = rules.first_mut() {
            comments.append(&mut first.body.comments);
            first.body.comments = comments;
        }
        rules
    }

    fn location_rules(&mut self, site: &Site<'_>, title: &str, rules: &mut Vec<Rule<Body>>) {
        let mut exact = Vec::new();
        let mut stopping = Vec::new();
        let mut expressions = Vec::new();
        let mut prefixes = Vec::new();
        for location in &site.locations {
            match &location.kind {
                Kind::Exact => exact.push(location),
                Kind::Regex(_) => expressions.push(location),
                Kind::Stopping => stopping.push(location),
                Kind::Prefix => {
                    let below = |other: &Location<'_>| other.kind == Kind::Stopping && location.path.starts_with(&other.path);
                    if site.locations.iter().any(below) { stopping.push(location) } else { prefixes.push(location) }
                }
            }
        }
        let longest = |list: &mut Vec<&Location<'_>>| list.sort_by_key(|location| std::cmp::Reverse(location.path.len()));
        longest(&mut stopping);
        longest(&mut prefixes);
        for location in &exact {
            self.rules_of(site, location, PathMatch::Exact(location.path.clone()), title, rules);
        }
        // Without its slash, a location that is proxied sends to itself with it.
        for location in stopping.iter().chain(&prefixes) {
            let parent = location.path.trim_end_matches('/');
            let taken = exact.iter().any(|exact| exact.path == parent);
            if location.path.len() == parent.len() + 1
                && !parent.is_empty()
                && !taken
                && location.is_proxied()
                && canonical(parent).is_some()
            {
                let to = format!("{}/{{query}}", parent.replace('{', "{{").replace('}', "}}"));
                let body = Body::new(format!("{title}{parent}-slash"), Action::Redirect { to, status: 301 });
                rules.push(Rule::new(Match { path: PathMatch::Exact(parent.to_owned()), ..Match::default() }, body));
            }
        }
        for location in stopping {
            self.rules_of(site, location, begins(&location.path), title, rules);
        }
        for location in expressions {
            let Kind::Regex(expression) = &location.kind else { continue };
            self.rules_of(site, location, PathMatch::Regex(expression.clone()), title, rules);
        }
        for location in &prefixes {
            self.rules_of(site, location, begins(&location.path), title, rules);
        }
        if !prefixes.iter().any(|location| location.path == "/") {
            let body = self.rest(site, title);
            rules.push(Rule::new(Match::default(), body));
        }
    }

    fn rules_of(&mut self, site: &Site<'_>, location: &Location<'_>, path: PathMatch, title: &str, rules: &mut Vec<Rule<Body>>) {
        let name = format!("{title}{}", location.path);
        let matches = Match { path, ..Match::default() };
        if let PathMatch::Exact(path) = &matches.path
            && canonical(path).is_none()
        {
            let comment = self.report.left(&location.directive.place, &location.directive.words(), "no request has such a path");
            self.draft.comments.push(comment);
            return;
        }
        let from = rules.len();
        if !self.rewrites(location.directive.inside(), site, &matches, &name, rules) {
            let mut body = self.content(site, location, &name, 0);
            body.comments.splice(0..0, location.comments.clone());
            rules.push(Rule::new(matches, body));
        } else if let Some(first) = rules.get_mut(from) {
            first.body.comments.splice(0..0, location.comments.clone());
        }
    }
}

/// Paths that begin with these characters.
fn begins(path: &str) -> PathMatch {
    if path == "/" { PathMatch::Any } else { PathMatch::Begins(path.to_owned()) }
}

/// What a location is looked up in.
pub(super) struct Site<'d> {
    /// All locations, those inside of others too.
    pub(super) locations: Vec<Location<'d>>,
    /// `@name`.
    pub(super) named: BTreeMap<String, Location<'d>>,
    /// Of the server.
    pub(super) scope: Scope<'d>,
    /// Its hosts.
    pub(super) names: Vec<HostPattern>,
    /// Its listeners without TLS, and those with it.
    pub(super) clear: (Vec<String>, Vec<String>),
}

/// The listeners of a server in cleartext, and those over TLS.
fn clear(groups: &[Group], index: usize) -> (Vec<String>, Vec<String>) {
    let of = |ssl: bool| {
        let own = groups.iter().filter(|group| group.ssl == ssl && group.servers.contains(&index));
        own.map(|group| group.name.clone()).collect()
    };
    (of(false), of(true))
}

/// Under which hosts and listeners a server answers: for its names, for each of its wildcards, and for everybody else.
fn places(index: usize, servers: &[Server<'_>], groups: &[Group]) -> Vec<Match> {
    let mut found = Vec::new();
    for as_default in [true, false] {
        let own: Vec<&Group> =
            groups.iter().filter(|group| group.servers.contains(&index) && (group.servers[0] == index) == as_default).collect();
        if own.is_empty() {
            continue;
        }
        let names = &servers[index].names;
        let wildcards =
            own.iter().flat_map(|group| &group.servers).filter(|other| **other != index).flat_map(|other| &servers[*other].names);
        // Where nobody else has a wildcard for its names, those of the default server need not be told.
        let contested = wildcards.into_iter().any(|pattern| names.iter().any(|name| pattern != name && pattern.covers(name)));
        let all = own.len() == groups.len();
        let listeners = if all { Vec::new() } else { own.iter().map(|group| group.name.clone()).collect() };
        let mut add = |hosts: Vec<HostPattern>| found.push(Match { hosts, listeners: listeners.clone(), ..Match::default() });
        if !as_default || contested {
            let (exact, suffixes): (Vec<_>, Vec<_>) =
                names.iter().cloned().partition(|name| matches!(name, HostPattern::Exact(_)));
            if !exact.is_empty() {
                add(exact);
            }
            suffixes.into_iter().for_each(|suffix| add(vec![suffix]));
        }
        if as_default {
            add(Vec::new());
        }
    }
    found
}
