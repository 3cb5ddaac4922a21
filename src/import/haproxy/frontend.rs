//! `frontend` and `listen` sections: listeners, and rules in the order in which they are asked.

use super::{
    super::{
        draft::{Action, Body, Filter, Listener, Tls},
        matching::Match,
        order::Rule,
        yaml::Node,
    },
    Ctx, Line, Section,
    acl::{Acls, Listeners, Way, condition, criterion},
    rules::{Effect, split},
};

/// Requests that have come so far, in the order in which they are told apart, with what was changed on the way.
type Branch = (Way, Vec<Filter>);

/// More than this are not told apart.
const MAX_BRANCHES: usize = 8;

type Rules = Vec<(Rule<Body>, Vec<Match>)>;

impl Ctx {
    /// The rules of a frontend; `among` others, they are for its listeners only.
    pub(super) fn frontend(&mut self, section: &Section, among: bool) -> Rules {
        let listeners = self.listeners(section);
        let names: Vec<String> = listeners.clear.iter().chain(&listeners.tls).map(|(name, _)| name.clone()).collect();
        if names.is_empty() {
            if section.kind == "listen" || section.lines.iter().any(|line| line.word(0) == "bind") {
                for line in section.lines.iter().filter(|line| matches!(line.word(0), "stats" | "mode")) {
                    let comment = self.account(line);
                    self.draft.comments.extend(comment);
                }
            }
            return Vec::new();
        }
        let has = |word: &str| section.lines.iter().any(|line| line.word(0) == word);
        if section.kind == "listen" && has("stats") && !has("server") && !has("default_backend") && !has("use_backend") {
            self.draft.listeners.retain(|listener| !names.contains(&listener.name));
            self.report.unneeded("listen stats (the admin listener has a dashboard)");
            return Vec::new();
        }
        if section.is_tcp() {
            self.tcp(section, &names);
            return Vec::new();
        }
        let base =
            Way { matches: Match { listeners: if among { names } else { Vec::new() }, ..Match::default() }, except: Vec::new() };
        let mut rules = Vec::new();
        let mut comments = Vec::new();
        let mut branches: Vec<Branch> = vec![(base, compression(section))];
        let acls = acls(section, &listeners);
        let mut routed = Vec::new();
        for line in &section.lines {
            match line.word(0) {
                "http-request" | "redirect" | "http-response" => {
                    self.report.carried(&line.place, &line.text());
                    let comment = self.step(line, &acls, &listeners, &section.name, &mut branches, &mut rules);
                    comments.extend(comment);
                }
                // Asked when all of the above were.
                "use_backend" => routed.push(line),
                "acl" => {
                    let known = criterion(&line.words[2.min(line.words.len())..], &listeners);
                    match known {
                        Ok(_) => self.report.carried(&line.place, &line.text()),
                        Err(why) => comments.push(self.left(line, why)),
                    }
                }
                _ => comments.extend(self.account(line)),
            }
        }
        for line in routed {
            self.report.carried(&line.place, &line.text());
            let (words, cond) = split(line);
            let backend = words.get(1).cloned().unwrap_or_default();
            // One that is not found there is passed over.
            if backend.contains('%') {
                comments.push(
                    self.left(line, "a backend is named in the configuration, and not by the request: write a route for each"),
                );
                continue;
            }
            match condition(cond, &acls, &listeners) {
                Ok(ways) => self.forward(&backend, line, &ways, &branches, &listeners, &mut rules),
                Err(why) => comments.push(self.left(line, why)),
            }
        }
        let default = section.one(&["default_backend"]).cloned();
        let all = [Way::default()];
        match (&default, section.kind.as_str()) {
            (Some(line), _) => self.forward(line.word(1), line, &all, &branches, &listeners, &mut rules),
            (None, "listen") => self.forward(&section.name, &section.head, &all, &branches, &listeners, &mut rules),
            _ => {
                // Nobody is there.
                for (way, _) in &branches {
                    rules.push((
                        Rule::new(way.matches.clone(), Body::new(&section.name, Action::status(503))),
                        way.except.clone(),
                    ));
                }
            }
        }
        if let Some((rule, _)) = rules.first_mut() {
            rule.body.comments.splice(0..0, comments);
        }
        rules
    }

    /// One `http-request` and the like: ends requests, or changes them. A comment where it does neither.
    fn step(
        &mut self,
        line: &Line,
        acls: &Acls,
        listeners: &Listeners,
        name: &str,
        branches: &mut Vec<Branch>,
        rules: &mut Rules,
    ) -> Option<String> {
        let (words, cond) = split(line);
        let effect = self.effect(line, words, name);
        let ways = condition(cond, acls, listeners);
        let guards = words.get(1).is_some_and(|word| matches!(word.as_str(), "auth" | "deny" | "reject" | "tarpit"));
        let (effect, ways) = match (effect, ways) {
            (Ok(Effect::Nothing), _) => {
                self.report.unneeded(&words.iter().take(3).cloned().collect::<Vec<_>>().join(" "));
                return None;
            }
            (Ok(effect), Ok(ways)) => (effect, ways),
            // Who must show a password is not let in without one.
            (Err(why), Ok(ways)) if guards => {
                let mut body = Body::new(name, Action::status(403));
                body.comments.push(self.left(line, why));
                (Effect::Ends(body), if words.get(1).is_some_and(|word| word == "auth") { vec![Way::default()] } else { ways })
            }
            (Ok(Effect::Ends(_)) | Err(_), Err(_)) if words.get(1).is_some_and(|word| word == "auth") => {
                let mut body = Body::new(name, Action::status(403));
                body.comments.push(
                    self.left(line, "write `basic_auth` with a file of users (`htpasswd -B`); until then nobody is let in"),
                );
                (Effect::Ends(body), vec![Way::default()])
            }
            (Err(why), _) | (_, Err(why)) => return Some(self.left(line, why)),
        };
        match effect {
            Effect::Ends(body) => {
                for (way, filters) in branches.iter() {
                    for own in &ways {
                        let Some(matches) = way.matches.meet(&own.matches) else { continue };
                        let mut body = body.clone();
                        // What was changed in the request does not show in an answer.
                        body.filters.splice(0..0, filters.iter().filter(|filter| is_of_response(filter)).cloned());
                        rules.push((Rule::new(matches, body), [way.except.clone(), own.except.clone()].concat()));
                    }
                }
            }
            Effect::Changes(filter) if cond.is_empty() => {
                branches.iter_mut().for_each(|(_, filters)| filters.push(filter.clone()))
            }
            Effect::Changes(filter) => {
                if branches.len() * (ways.len() + 1) > MAX_BRANCHES {
                    return Some(self.left(line, "there are too many conditions for one change after the other"));
                }
                let mut all = Vec::new();
                for (way, filters) in branches.iter() {
                    for own in &ways {
                        let Some(matches) = way.matches.meet(&own.matches) else { continue };
                        let except = [way.except.clone(), own.except.clone()].concat();
                        all.push((Way { matches, except }, [filters.clone(), vec![filter.clone()]].concat()));
                    }
                    all.push((way.clone(), filters.clone()));
                }
                *branches = all;
            }
            Effect::Nothing => {}
        }
        None
    }

    /// Requests that go to a backend, with what that does to them itself.
    fn forward(
        &mut self,
        backend: &str,
        line: &Line,
        ways: &[Way],
        branches: &[Branch],
        listeners: &Listeners,
        rules: &mut Rules,
    ) {
        let upstream = if backend.contains('%') {
            Err("a backend is named in the configuration".to_owned())
        } else {
            self.upstream(backend)
        };
        let section = self.backends.get(backend).filter(|section| section.kind == "backend").cloned();
        for (way, filters) in branches {
            for own in ways {
                let Some(matches) = way.matches.meet(&own.matches) else { continue };
                let way = Way { matches, except: [way.except.clone(), own.except.clone()].concat() };
                let mut inner: Vec<Branch> = vec![(way, filters.clone())];
                let mut comments = Vec::new();
                let mut own_rules = Vec::new();
                if let Some(section) = &section {
                    let acls = acls(section, listeners);
                    inner.iter_mut().for_each(|(_, filters)| filters.extend(compression(section)));
                    for line in
                        section.lines.iter().filter(|line| matches!(line.word(0), "http-request" | "redirect" | "http-response"))
                    {
                        self.report.carried(&line.place, &line.text());
                        comments.extend(self.step(line, &acls, listeners, backend, &mut inner, &mut own_rules));
                    }
                }
                rules.append(&mut own_rules);
                for (way, filters) in inner {
                    let mut body = match &upstream {
                        Ok(upstream) => Body::new(backend, Action::Upstream(upstream.clone())),
                        Err(why) => {
                            let mut body = Body::new(backend, Action::status(503));
                            body.comments.push(self.left(line, why.clone()));
                            body
                        }
                    };
                    body.comments.append(&mut comments);
                    body.filters = merged(filters);
                    if let Some(retry) = section.as_ref().and_then(retry) {
                        body.more.push(("retry".into(), retry));
                    }
                    rules.push((Rule::new(way.matches, body), way.except));
                }
            }
        }
    }

    /// The listeners of a section, which are put into the draft.
    fn listeners(&mut self, section: &Section) -> Listeners {
        let mut found = Listeners::default();
        let mut clear = Listener::default();
        let mut tls = Listener { tls: Some(Tls::default()), ..Listener::default() };
        for line in section.lines.iter().filter(|line| line.word(0) == "bind") {
            self.report.carried(&line.place, &line.text());
            let over_tls = line.has("ssl");
            let listener = if over_tls { &mut tls } else { &mut clear };
            for text in line.word(1).split(',') {
                match address(text) {
                    Some(address) => listener.addresses.push(address),
                    None => listener.comments.push(self.left(line, "a listener has an address and one port")),
                }
            }
            if over_tls {
                self.bind_tls(line, listener);
            }
            if line.has("accept-proxy") && !listener.more.iter().any(|(key, _)| key == "proxy_protocol") {
                listener.more.push(("proxy_protocol".into(), Node::map([("from", Node::texts(["0.0.0.0/0", "::/0"]))])));
            }
        }
        let both = !clear.addresses.is_empty() && !tls.addresses.is_empty();
        for (mut listener, is_tls) in [(clear, false), (tls, true)] {
            if listener.addresses.is_empty() {
                self.draft.comments.append(&mut listener.comments);
                continue;
            }
            let wished = if both && is_tls { format!("{}-tls", section.name) } else { section.name.clone() };
            listener.name = self.listener_name(&wished);
            let mut http = Vec::new();
            if !section.is_tcp() {
                for (theirs, ours) in [
                    ("client", "body_idle_timeout"),
                    ("http-request", "header_timeout"),
                    ("http-keep-alive", "keepalive_timeout"),
                ] {
                    http.extend(section.timeout(theirs).map(|time| (ours.to_owned(), Node::text(time))));
                }
            }
            if !http.is_empty() {
                listener.more.push(("http".into(), Node::Map(http)));
            }
            if let Some(max) = section.one(&["maxconn"]).and_then(|line| line.word(1).parse::<u32>().ok()).filter(|max| *max > 0)
            {
                listener.more.push(("max_connections".into(), Node::bare(max)));
            }
            if let Some(tls) = listener.tls.as_mut().filter(|tls| tls.certificates.is_empty()) {
                listener.comments.push("no certificate was found: this one is for trying things out".into());
                tls.self_signed = vec!["localhost".into()];
            }
            for address in &listener.addresses {
                let port = address.rsplit(':').next().unwrap_or_default().to_owned();
                let list = if is_tls { &mut found.tls } else { &mut found.clear };
                if !list.iter().any(|(name, known)| *name == listener.name && *known == port) {
                    list.push((listener.name.clone(), port));
                }
            }
            self.draft.listeners.push(listener);
        }
        found
    }

    fn listener_name(&self, wished: &str) -> String {
        let wished = super::super::draft::name_of(wished);
        let taken = |name: &str| self.draft.listeners.iter().any(|listener| listener.name == name);
        (2..).map(|count| format!("{wished}-{count}")).find(|name| !taken(name)).filter(|_| taken(&wished)).unwrap_or(wished)
    }

    fn bind_tls(&mut self, line: &Line, listener: &mut Listener) {
        let Some(tls) = listener.tls.as_mut() else { return };
        let mut words = line.words.iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "crt" => {
                    let path = words.next().cloned().unwrap_or_default();
                    if path.ends_with(".pem") || path.ends_with(".crt") {
                        // One file has both.
                        let pair = (path.clone(), path);
                        if !tls.certificates.contains(&pair) {
                            tls.certificates.push(pair);
                        }
                    } else {
                        listener.comments.push(self.report.left(
                            &line.place,
                            &format!("crt {path}"),
                            "certificates are files: list those of the directory",
                        ));
                    }
                }
                "crt-list" => {
                    let path = words.next().cloned().unwrap_or_default();
                    listener.comments.push(self.report.left(
                        &line.place,
                        &format!("crt-list {path}"),
                        "list the certificates in `tls.certificates`",
                    ));
                }
                "ssl-min-ver" if words.next().is_some_and(|version| version == "TLSv1.3") => {
                    tls.more.push(("min_version".into(), Node::text("1.3")))
                }
                _ => {}
            }
        }
        if let Some(ca) = line.after("ca-file") {
            let mut client = vec![("ca".to_owned(), Node::text(ca))];
            if line.after("verify") == Some("optional") {
                client.push(("required".into(), Node::bare(false)));
            }
            if line.after("verify").is_some_and(|verify| verify != "none")
                && !tls.more.iter().any(|(key, _)| key == "client_certificates")
            {
                tls.more.push(("client_certificates".into(), Node::Map(client)));
            }
        }
    }

    /// Bytes to one backend, or to several by the name in a TLS greeting.
    fn tcp(&mut self, section: &Section, names: &[String]) {
        let mut comments = Vec::new();
        let mut by_name: Vec<(String, Node)> = Vec::new();
        let mut used: Vec<String> = Vec::new();
        let mut acls: std::collections::BTreeMap<&str, Vec<String>> = Default::default();
        let sni = |words: &[String]| {
            let fetch = words.first().is_some_and(|fetch| fetch.starts_with("req_ssl_sni") || fetch.starts_with("req.ssl_sni"));
            let end = words.iter().any(|word| word == "end") || words.first().is_some_and(|fetch| fetch.ends_with("_end"));
            let hosts = words[1.min(words.len())..]
                .iter()
                .filter(|word| !word.starts_with('-') && !matches!(word.as_str(), "end" | "str"));
            fetch.then(|| {
                hosts
                    .map(|host| if end { format!("*.{}", host.trim_start_matches('.')) } else { host.clone() })
                    .collect::<Vec<_>>()
            })
        };
        for line in &section.lines {
            match line.word(0) {
                "acl" if sni(&line.words[2.min(line.words.len())..]).is_some() => {
                    self.report.carried(&line.place, &line.text());
                    let hosts = sni(&line.words[2.min(line.words.len())..]).unwrap_or_default();
                    acls.entry(line.word(1)).or_default().extend(hosts);
                }
                "use_backend" => {
                    let (words, cond) = split(line);
                    let hosts = match cond {
                        [word, open, inside @ .., close] if word == "if" && open == "{" && close == "}" => sni(inside),
                        [word, acl] if word == "if" => acls.get(acl.as_str()).cloned(),
                        _ => None,
                    };
                    let backend = words.get(1).cloned().unwrap_or_default();
                    match (hosts, self.upstream(&backend)) {
                        (Some(hosts), Ok(upstream)) => {
                            used.push(backend);
                            self.report.carried(&line.place, &line.text());
                            for host in hosts.iter().filter(|host| host.parse::<crate::types::HostPattern>().is_ok()) {
                                if !by_name.iter().any(|(known, _)| known == host) {
                                    by_name.push((host.clone(), Node::text(&upstream)));
                                }
                            }
                        }
                        (_, Err(why)) => comments.push(self.left(line, why)),
                        (None, _) => {
                            comments.push(self.left(line, "connections are told apart by the name in a TLS greeting only"))
                        }
                    }
                }
                _ => comments.extend(self.account(line)),
            }
        }
        let backend = match section.one(&["default_backend"]) {
            Some(line) => Some(line.word(1).to_owned()),
            None => (section.kind == "listen").then(|| section.name.clone()),
        };
        used.extend(backend.clone());
        let default = backend.map(|backend| self.upstream(&backend));
        let mut tcp = Vec::new();
        match default {
            Some(Ok(upstream)) if by_name.is_empty() => tcp.push(("upstream".to_owned(), Node::text(upstream))),
            Some(Ok(upstream)) => by_name.push(("*".into(), Node::text(upstream))),
            Some(Err(why)) => comments.push(self.left(&section.head, why)),
            None => {}
        }
        if !by_name.is_empty() {
            tcp.push(("sni".into(), Node::Map(by_name)));
        }
        if tcp.is_empty() {
            // A listener without anywhere to go to is none.
            self.draft.listeners.retain(|listener| !names.contains(&listener.name));
            return self.draft.comments.extend(comments);
        }
        if let Some(time) = section.timeout("client") {
            tcp.push(("idle_timeout".into(), Node::text(time)));
        }
        let sends = used
            .iter()
            .filter_map(|name| self.backends.get(name))
            .flat_map(|section| &section.lines)
            .find(|line| line.word(0) == "server" && (line.has("send-proxy") || line.has("send-proxy-v2")));
        if let Some(server) = sends {
            tcp.push(("send_proxy_protocol".into(), Node::text(if server.has("send-proxy-v2") { "v2" } else { "v1" })));
        }
        for listener in self.draft.listeners.iter_mut().filter(|listener| names.contains(&listener.name)) {
            listener.comments.append(&mut comments);
            // Names can be read only where TLS is not terminated.
            if tcp.iter().any(|(key, _)| key == "sni") {
                listener.tls = None;
            }
            listener.more.push(("tcp".into(), Node::Map(tcp.clone())));
        }
    }
}

/// The ACLs of a section. Lines of the same name are alternatives.
fn acls(section: &Section, listeners: &Listeners) -> Acls {
    let mut acls = Acls::new();
    for line in section.lines.iter().filter(|line| line.word(0) == "acl") {
        let found = criterion(&line.words[2.min(line.words.len())..], listeners);
        let known = acls.entry(line.word(1).to_owned()).or_insert_with(|| Ok(Vec::new()));
        match (known, found) {
            (Ok(known), Ok(found)) => known.extend(found),
            (known, Err(why)) => *known = Err(why),
            (Err(_), Ok(_)) => {}
        }
    }
    acls
}

fn is_of_response(filter: &Filter) -> bool {
    matches!(&filter.options, Node::Map(entries) if filter.kind == "headers" && entries.iter().all(|(key, _)| key == "response"))
}

/// `retry-on`.
fn retry(section: &Section) -> Option<Node> {
    let line = section.one(&["retry-on"])?;
    let mut on = Vec::new();
    for word in &line.words[1..] {
        match word.as_str() {
            "conn-failure" => on.push(Node::text("connect")),
            "empty-response" | "0rtt-rejected" | "junk-response" => on.push(Node::text("reset")),
            "response-timeout" => on.push(Node::bare(504)),
            "all-retryable-errors" => on.extend([
                Node::text("connect"),
                Node::text("reset"),
                Node::bare(500),
                Node::bare(502),
                Node::bare(503),
                Node::bare(504),
            ]),
            status if matches!(status.parse(), Ok(429 | 500..=599)) => on.push(Node::bare(status)),
            "none" => return Some(Node::map([("attempts", Node::bare(0))])),
            _ => {}
        }
    }
    let mut unique: Vec<Node> = Vec::new();
    on.into_iter().for_each(|node| {
        if !unique.contains(&node) {
            unique.push(node)
        }
    });
    let attempts = section.one(&["retries"]).and_then(|line| line.word(1).parse::<u32>().ok()).unwrap_or(3).min(10);
    Some(Node::map([("attempts", Node::bare(attempts)), ("on", Node::List(unique))]))
}

/// `compression algo gzip`, `compression type ...`.
fn compression(section: &Section) -> Vec<Filter> {
    let gzip = section
        .one(&["compression", "algo"])
        .is_some_and(|line| line.has("gzip") || line.has("deflate") || line.has("raw-deflate"));
    if !gzip {
        return Vec::new();
    }
    let mut options = vec![("algorithms".to_owned(), Node::text("gzip"))];
    let types: Vec<String> = section.one(&["compression", "type"]).map(|line| line.words[2..].to_vec()).unwrap_or_default();
    let types: Vec<String> = types
        .into_iter()
        .filter(|kind| kind.split_once('/').is_some_and(|(one, other)| !one.is_empty() && !other.is_empty()))
        .collect();
    if !types.is_empty() {
        options.push(("types".into(), Node::one_or_many(&types)));
    }
    vec![Filter::new("compress", Node::Map(options))]
}

/// One `headers` instead of one for each field, where nothing stands in between.
fn merged(filters: Vec<Filter>) -> Vec<Filter> {
    fn add(into: &mut Node, from: Node) -> bool {
        let (Node::Map(into), Node::Map(from)) = (into, from) else { return false };
        from.into_iter().all(|(key, value)| match into.iter_mut().find(|(known, _)| *known == key) {
            Some((_, known)) => add(known, value),
            None => {
                into.push((key, value));
                true
            }
        })
    }
    let mut out: Vec<Filter> = Vec::new();
    for filter in filters {
        if let Some(last) = out.last_mut().filter(|last| last.kind == "headers" && filter.kind == "headers") {
            let mut both = last.options.clone();
            // `remove` comes before `set` in a filter, whatever was said first.
            let removes = format!("{:?}{:?}", last.options, filter.options).contains("\"remove\"");
            if !removes && add(&mut both, filter.options.clone()) {
                last.options = both;
                continue;
            }
        }
        out.push(filter);
    }
    out
}

/// `*:80`, `:80`, `1.2.3.4:80`, `:::80`, `[::]:80`, `unix@/path`.
fn address(text: &str) -> Option<String> {
    let text = ["ipv4@", "ipv6@"].iter().find_map(|kind| text.strip_prefix(kind)).unwrap_or(text);
    if let Some(path) = text.strip_prefix("unix@").or_else(|| text.starts_with('/').then_some(text)) {
        return Some(format!("unix:{path}"));
    }
    let (host, port) = text.rsplit_once(':')?;
    let port: u16 = port.parse().ok()?;
    let host = match host {
        "" | "*" | "0.0.0.0" => "0.0.0.0".to_owned(),
        "::" | "[::]" => "[::]".to_owned(),
        "localhost" => "127.0.0.1".to_owned(),
        host => match host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().ok()? {
            std::net::IpAddr::V6(ip) => format!("[{ip}]"),
            std::net::IpAddr::V4(ip) => ip.to_string(),
        },
    };
    Some(format!("{host}:{port}"))
}
