//! `backend` sections as upstreams.

use super::{
    super::draft::{Endpoint, Upstream},
    super::yaml::Node,
    Ctx, Line, Section, duration,
};

impl Ctx {
    /// The name of our upstream for a backend; `Err` says why there is none.
    pub(super) fn upstream(&mut self, name: &str) -> Result<String, String> {
        if let Some(known) = self.used.get(name) {
            return known.clone();
        }
        let Some(section) = self.backends.get(name).cloned() else { return Err(format!("there is no backend `{name}`")) };
        let made = self.backend(&section);
        self.used.insert(name.to_owned(), made.clone());
        made
    }

    fn backend(&mut self, section: &Section) -> Result<String, String> {
        let mut upstream = Upstream::default();
        let own = section.kind == "backend";
        let mut checked = None;
        let mut cookie_of_servers = false;
        for line in &section.lines {
            match line.word(0) {
                "server" | "server-template" => {
                    self.report.carried(&line.place, &line.text());
                    let comment = self.server(line, section, &mut upstream);
                    upstream.comments.extend(comment);
                    let defaults = section.one(&["default-server"]);
                    if line.has("check") || defaults.is_some_and(|line| line.has("check")) {
                        checked.get_or_insert_with(|| line.clone());
                    }
                    cookie_of_servers |= line.has("cookie");
                }
                "http-request" | "http-response" | "redirect" | "acl" | "use_backend" | "default_backend" | "bind" => {}
                _ if own => {
                    let comment = self.account(line);
                    upstream.comments.extend(comment);
                }
                _ => {}
            }
        }
        let plain = section.lines.iter().filter(|line| line.word(0) == "server" && !line.has("ssl"));
        let defaults = section.one(&["default-server"]).is_some_and(|line| line.has("ssl"));
        if let Some(line) = plain.clone().next().filter(|_| upstream.tls.is_some() && !defaults) {
            upstream
                .comments
                .push(self.left(&line.clone(), "an upstream is over TLS as a whole: give these servers one of their own"));
        }
        if upstream.endpoints.is_empty() {
            return Err(format!("the backend `{}` has no server", section.name));
        }
        if let Some(balance) = section.one(&["balance"]) {
            match strategy(balance) {
                Ok(Some(strategy)) => _ = upstream.more.insert("strategy".into(), strategy),
                Ok(None) => {}
                Err(why) => upstream.comments.push(self.left(balance, why)),
            }
        }
        if let Some(cookie) = section.one(&["cookie"]).filter(|_| cookie_of_servers) {
            if cookie.has("insert") {
                upstream.more.insert("sticky".into(), Node::map([("cookie", Node::text(cookie.word(1)))]));
            } else {
                upstream.comments.push(self.left(cookie, "a session has a cookie of its own: write `sticky`"));
            }
        }
        if let Some(stick) = section.one(&["stick", "on"]) {
            if stick.word(2) == "src" && !upstream.more.contains_key("strategy") {
                upstream.more.insert("strategy".into(), Node::text("ip_hash"));
            } else if stick.word(2) != "src" {
                upstream.comments.push(self.left(stick, "write `sticky`, or a strategy that goes by a part of the request"));
            }
        }
        if let Some(server) = checked {
            upstream.more.insert("health_check".into(), health_check(section, &server));
        }
        for (theirs, ours) in [("connect", "connect_timeout"), ("server", "response_timeout")] {
            if let Some(time) = section.timeout(theirs).filter(|_| theirs == "connect" || !section.is_tcp()) {
                upstream.connections.insert(ours.into(), Node::text(time));
            }
        }
        upstream.name = self.names.take(&section.name);
        let name = upstream.name.clone();
        self.draft.upstreams.push(upstream);
        Ok(name)
    }

    /// `server NAME ADDRESS OPTIONS`; a comment where something of it is left.
    fn server(&mut self, line: &Line, section: &Section, upstream: &mut Upstream) -> Option<String> {
        let address = if line.word(0) == "server-template" { line.word(3) } else { line.word(2) };
        let address = ["ipv4@", "ipv6@", "tcp@"].iter().find_map(|kind| address.strip_prefix(kind)).unwrap_or(address);
        let address = address.strip_prefix("unix@").map_or_else(|| address.to_owned(), |path| format!("unix:{path}"));
        let port = address.rsplit_once(':').map(|(_, port)| port);
        if port.is_none_or(|port| port.is_empty()) && !address.starts_with("unix:") {
            return Some(self.left(line, "an endpoint has a port"));
        }
        let mut endpoint = match Endpoint::checked(address) {
            Ok(endpoint) => endpoint,
            Err(why) => return Some(self.left(line, why)),
        };
        let defaults = section.one(&["default-server"]).cloned();
        let option = |name: &str| line.after(name).or_else(|| defaults.as_ref().and_then(|line| line.after(name)));
        let has = |name: &str| line.has(name) || defaults.as_ref().is_some_and(|line| line.has(name));
        if let Some(weight) = option("weight").filter(|weight| weight.parse::<u16>().is_ok_and(|weight| weight != 1)) {
            endpoint.more.push(("weight".into(), Node::bare(weight)));
        }
        if has("backup") {
            endpoint.more.push(("priority".into(), Node::bare(1)));
        }
        if has("disabled") {
            endpoint.more.push(("disabled".into(), Node::bare(true)));
        }
        upstream.endpoints.push(endpoint);
        if let Some(time) = option("slowstart").and_then(duration) {
            upstream.more.insert("slow_start".into(), Node::text(time));
        }
        if has("ssl") && !section.is_tcp() {
            let tls = upstream.tls.get_or_insert_default();
            let sni = option("sni").and_then(|sni| sni.strip_prefix("str(")).map(|sni| sni.trim_end_matches(')'));
            if let Some(name) = option("verifyhost").or(sni) {
                tls.insert("sni".into(), Node::text(name));
            }
            if let Some(ca) = option("ca-file").filter(|ca| *ca != "@system-ca") {
                tls.insert("ca".into(), Node::text(ca));
            }
            if let Some(certificate) = option("crt") {
                tls.insert("client_cert".into(), Node::text(certificate));
                tls.insert("client_key".into(), Node::text(certificate));
            }
            if option("verify") == Some("none") {
                tls.insert("verify".into(), Node::bare(false));
            }
            let h2 = option("alpn").is_some_and(|alpn| alpn.contains("h2"));
            if h2 {
                upstream.connections.insert("protocol".into(), Node::text("h2"));
            }
        } else if option("proto") == Some("h2") {
            upstream.connections.insert("protocol".into(), Node::text("h2c"));
        }
        let left: Vec<&str> = ["send-proxy", "send-proxy-v2", "maxconn", "track", "source", "agent-check", "redir"]
            .into_iter()
            .filter(|name| has(name))
            .collect();
        // That one belongs to the listener of layer 4, where it is read.
        let left: Vec<&str> = left.into_iter().filter(|name| !(section.is_tcp() && name.starts_with("send-proxy"))).collect();
        (!left.is_empty()).then(|| {
            self.report.left(
                &line.place,
                &format!("server {}: {}", line.word(1), left.join(" ")),
                "endpoints have no such option",
            )
        })
    }
}

fn strategy(line: &Line) -> Result<Option<Node>, &'static str> {
    let hashed = |key: String| Ok(Some(Node::map([("consistent_hash", Node::map([("key", Node::text(key))]))])));
    let word = line.word(1);
    match word {
        "roundrobin" | "static-rr" => Ok(None),
        "leastconn" => Ok(Some(Node::text("least_connections"))),
        "source" => Ok(Some(Node::text("ip_hash"))),
        "uri" => hashed("path".into()),
        "url_param" => hashed(format!("query:{}", line.word(2))),
        word if word.starts_with("random") => Ok(Some(Node::text("power_of_two"))),
        word => match word.strip_prefix("hdr(").map(|name| name.trim_end_matches(')')) {
            Some(name) if !name.contains([',', '(']) => hashed(format!("header:{}", name.to_ascii_lowercase())),
            _ => Err("there is no such strategy: requests go to the endpoints in turn"),
        },
    }
}

/// `check` with what `option httpchk` and `http-check` say.
fn health_check(section: &Section, server: &Line) -> Node {
    let mut check = Vec::new();
    let http = section.one(&["option", "httpchk"]);
    match http.filter(|_| !section.is_tcp()) {
        Some(line) => {
            let words: Vec<&str> = line.words[2..].iter().map(String::as_str).collect();
            let (mut method, mut path) = match words.as_slice() {
                [] => ("OPTIONS", "/"),
                [path] => ("OPTIONS", *path),
                [method, path, ..] => (*method, *path),
            };
            let mut host = None;
            if let Some(send) = section.one(&["http-check", "send"]) {
                method = send.after("meth").unwrap_or(method);
                path = send.after("uri").unwrap_or(path);
                host = send
                    .words
                    .windows(3)
                    .find(|words| words[0] == "hdr" && words[1].eq_ignore_ascii_case("host"))
                    .map(|words| words[2].clone());
            }
            let mut options = Vec::new();
            if method != "GET" {
                options.push(("method".to_owned(), Node::text(method)));
            }
            let path = path.split(char::is_whitespace).next().unwrap_or("/");
            options.push(("path".to_owned(), Node::text(if path.starts_with('/') { path } else { "/" })));
            options.extend(host.map(|host| ("host".to_owned(), Node::text(host))));
            let status = match section.one(&["http-check", "expect"]) {
                Some(expect) if expect.has("status") => expect.after("status").unwrap_or("200").to_owned(),
                Some(expect) if expect.has("rstatus") => "2xx".to_owned(),
                _ => "200-399".to_owned(),
            };
            let statuses: Vec<String> = status.split(',').map(str::to_owned).collect();
            options.push(("status".to_owned(), Node::one_or_many(&statuses)));
            check.push(("http".to_owned(), Node::Map(options)));
        }
        None => check.push(("tcp".to_owned(), Node::Map(Vec::new()))),
    }
    let defaults = section.one(&["default-server"]);
    let option = |name: &str| server.after(name).or_else(|| defaults.and_then(|line| line.after(name)));
    if let Some(time) = option("inter").and_then(duration) {
        check.push(("interval".to_owned(), Node::text(time)));
    }
    // Without a timeout of its own, a check has the time until the next one.
    let interval = option("inter").and_then(duration).filter(|time| super::super::text::millis(time) < 3000);
    if let Some(time) = section.timeout("check").or(interval) {
        check.push(("timeout".to_owned(), Node::text(time)));
    }
    for (theirs, ours) in [("rise", "healthy_after"), ("fall", "unhealthy_after")] {
        if let Some(count) = option(theirs).filter(|count| count.parse::<u32>().is_ok_and(|count| count > 0)) {
            check.push((ours.to_owned(), Node::bare(count)));
        }
    }
    Node::Map(check)
}
