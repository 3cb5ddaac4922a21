//! `upstream` blocks, and servers that a `proxy_pass` names itself.

use super::{
    super::draft::{Endpoint, Upstream},
    super::report::Place,
    super::yaml::Node,
    Ctx, Directive, Scope, value,
};

impl Ctx {
    /// The name of our upstream for `scheme://place`, which is declared when it is first asked for. `Err` says what is wrong with it.
    pub(super) fn upstream(&mut self, scheme: &str, place: &str, scope: &Scope<'_>, from: &Place) -> Result<String, String> {
        let key = format!("{scheme}://{place}");
        let index = match self.used.get(&key) {
            Some(index) => *index,
            None => {
                let declared = self.declared.get(place).cloned();
                let mut upstream = match &declared {
                    Some(block) => self.declared_upstream(block, scheme)?,
                    None => Upstream { endpoints: vec![endpoint(place, scheme)?], ..Upstream::default() },
                };
                let wished = match declared {
                    Some(_) if matches!(scheme, "https" | "grpcs") => format!("{place}-tls"),
                    _ => place.trim_start_matches("unix:").to_owned(),
                };
                upstream.name = self.names.take(&wished);
                if matches!(scheme, "https" | "grpcs") {
                    self.upstream_tls(&mut upstream, place, scope, from);
                }
                match scheme {
                    "grpc" => _ = upstream.connections.insert("protocol".into(), Node::text("h2c")),
                    "grpcs" => _ = upstream.connections.insert("protocol".into(), Node::text("h2")),
                    _ => {}
                }
                self.used.insert(key, self.draft.upstreams.len());
                self.draft.upstreams.push(upstream);
                self.draft.upstreams.len() - 1
            }
        };
        self.timeouts(index, scope);
        Ok(self.draft.upstreams[index].name.clone())
    }

    /// The longest of what the locations say that use it.
    fn timeouts(&mut self, index: usize, scope: &Scope<'_>) {
        let protocols = ["proxy", "grpc"];
        for (suffix, key) in
            [("connect_timeout", "connect_timeout"), ("read_timeout", "response_timeout"), ("send_timeout", "response_timeout")]
        {
            let found = protocols.iter().find_map(|protocol| scope.value(&format!("{protocol}_{suffix}")));
            let Some(wanted) = found.and_then(value::duration) else { continue };
            let connections = &mut self.draft.upstreams[index].connections;
            let longer = match connections.get(key) {
                Some(Node::Text(known)) => value::millis(known) < value::millis(&wanted),
                _ => true,
            };
            if longer {
                connections.insert(key.into(), Node::text(wanted));
            }
        }
    }

    /// nginx verifies the certificate of no server, unless it is told to.
    fn upstream_tls(&mut self, upstream: &mut Upstream, place: &str, scope: &Scope<'_>, from: &Place) {
        let mut tls = std::collections::BTreeMap::new();
        let name = scope.value("proxy_ssl_name").map(|name| scope.text(name));
        let host = place.rsplit_once(':').map_or(place, |(host, _)| host);
        let is_name =
            host.parse::<crate::types::HostPattern>().is_ok() && host.parse::<std::net::IpAddr>().is_err() && host.contains('.');
        match name.filter(|name| !name.contains('$')) {
            Some(name) => _ = tls.insert("sni".to_owned(), Node::text(name)),
            None if is_name => _ = tls.insert("sni".to_owned(), Node::text(host)),
            None => {}
        }
        for (theirs, ours) in [("proxy_ssl_certificate", "client_cert"), ("proxy_ssl_certificate_key", "client_key")] {
            if let Some(path) = scope.value(theirs) {
                tls.insert(ours.to_owned(), Node::text(path));
            }
        }
        if scope.is_on("proxy_ssl_verify") {
            if let Some(path) = scope.value("proxy_ssl_trusted_certificate") {
                tls.insert("ca".to_owned(), Node::text(path));
            }
        } else {
            tls.insert("verify".to_owned(), Node::bare(false));
            let how = "nginx verifies no certificate unless `proxy_ssl_verify on`; remove `verify: false` to have it verified";
            upstream.comments.push(self.report.differs(from, &format!("proxy_pass https://{place}"), how));
        }
        upstream.tls = Some(tls);
    }

    fn declared_upstream(&mut self, block: &Directive, scheme: &str) -> Result<Upstream, String> {
        let mut upstream = Upstream::default();
        let mut fails: Vec<(String, String)> = Vec::new();
        for directive in block.inside() {
            let option = |name: &str| directive.args.iter().find_map(|arg| arg.strip_prefix(name)).map(str::to_owned);
            let strategy = match directive.name.as_str() {
                "server" => {
                    if let Some(comment) = self.server_of(directive, scheme, &mut upstream) {
                        upstream.comments.push(comment);
                    }
                    fails.push((option("max_fails=").unwrap_or_default(), option("fail_timeout=").unwrap_or_default()));
                    continue;
                }
                "least_conn" => Node::text("least_connections"),
                "ip_hash" => Node::text("ip_hash"),
                "random" if directive.arg(0) == "two" => Node::text("power_of_two"),
                "random" => Node::text("random"),
                "least_time" => Node::text("least_response_time"),
                "hash" => match hash_key(directive.arg(0)) {
                    Some(key) => Node::map([("consistent_hash", Node::map([("key", Node::text(key))]))]),
                    None => {
                        upstream.comments.push(self.left(directive, "there is no such key of `consistent_hash`"));
                        continue;
                    }
                },
                "sticky" if directive.arg(0) == "cookie" => {
                    let mut sticky = vec![("cookie".to_owned(), Node::text(directive.arg(1)))];
                    sticky.extend(
                        option("expires=").and_then(|ttl| value::duration(&ttl)).map(|ttl| ("ttl".to_owned(), Node::text(ttl))),
                    );
                    self.report.carried(&directive.place, &directive.words());
                    upstream.more.insert("sticky".into(), Node::Map(sticky));
                    continue;
                }
                _ => {
                    upstream.comments.extend(self.account(std::slice::from_ref(directive)));
                    continue;
                }
            };
            self.report.carried(&directive.place, &directive.words());
            upstream.more.insert("strategy".into(), strategy);
        }
        if upstream.endpoints.is_empty() {
            return Err(format!("the upstream `{}` has no server that can be carried over", block.arg(0)));
        }
        breaker(&fails, &mut upstream);
        Ok(upstream)
    }

    /// `server address options;` as an endpoint; a comment where something of it is left.
    fn server_of(&mut self, directive: &Directive, scheme: &str, upstream: &mut Upstream) -> Option<String> {
        let mut endpoint = match endpoint(directive.arg(0), scheme) {
            Ok(endpoint) => endpoint,
            Err(reason) => return Some(self.left(directive, reason)),
        };
        self.report.carried(&directive.place, &directive.words());
        let mut left = Vec::new();
        for option in &directive.args[1..] {
            match option.split_once('=').unwrap_or((option, "")) {
                ("weight", weight) if weight.parse::<u16>().is_ok() => endpoint.more.push(("weight".into(), Node::bare(weight))),
                ("backup", _) => endpoint.more.push(("priority".into(), Node::bare(1))),
                ("down", _) => endpoint.more.push(("disabled".into(), Node::bare(true))),
                ("max_fails" | "fail_timeout" | "resolve" | "service", _) => {}
                ("slow_start", time) => {
                    if let Some(time) = value::duration(time) {
                        upstream.more.insert("slow_start".into(), Node::text(time));
                    }
                }
                _ => left.push(option.as_str()),
            }
        }
        upstream.endpoints.push(endpoint);
        let words = left.join(" ");
        (!left.is_empty()).then(|| self.report.left(&directive.place, &words, "endpoints have no such option"))
    }
}

/// `max_fails` and `fail_timeout`, where all servers say the same of them.
fn breaker(fails: &[(String, String)], upstream: &mut Upstream) {
    let Some((max, timeout)) = fails.first().filter(|first| fails.iter().all(|other| other == *first)) else { return };
    if max == "0" {
        upstream.more.insert("circuit_breaker".into(), Node::text("off"));
        return;
    }
    let mut breaker = Vec::new();
    if max.parse::<u32>().is_ok() {
        breaker.push(("failure_threshold".to_owned(), Node::bare(max)));
    }
    breaker.extend(value::duration(timeout).map(|time| ("recovery_timeout".to_owned(), Node::text(time))));
    if !breaker.is_empty() {
        upstream.more.insert("circuit_breaker".into(), Node::Map(breaker));
    }
}

/// The key of a `hash`, as a key of ours.
fn hash_key(text: &str) -> Option<String> {
    let name = text.strip_prefix('$')?;
    Some(match name {
        "remote_addr" | "binary_remote_addr" => "client_ip".to_owned(),
        "request_uri" | "uri" => "path".to_owned(),
        name => match name.split_once('_')? {
            ("http", name) => format!("header:{}", name.replace('_', "-")),
            ("cookie", name) => format!("cookie:{name}"),
            ("arg", name) => format!("query:{name}"),
            _ => return None,
        },
    })
}

/// An address as nginx writes it, as an endpoint.
fn endpoint(text: &str, scheme: &str) -> Result<Endpoint, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        return Endpoint::checked(format!("unix:{}", path.trim_end_matches(':')));
    }
    let default = if matches!(scheme, "https" | "grpcs") { 443 } else { 80 };
    let has_port = text
        .rsplit_once(':')
        .is_some_and(|(host, port)| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) && !host.ends_with(':'));
    let bare = if has_port { text.to_owned() } else { format!("{}:{default}", text.trim_end_matches(':')) };
    Endpoint::checked(bare)
}
