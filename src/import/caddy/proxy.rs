//! `reverse_proxy` and `forward_auth`: upstreams.

use super::{
    super::{
        draft::{Endpoint, Filter, Upstream},
        yaml::Node,
    },
    Ctx, Directive,
    directives::{put, template},
};

impl Ctx {
    /// The upstream of a `reverse_proxy` with these addresses, and the filters that its options make. `Err` says why there is none.
    pub(super) fn upstream(
        &mut self,
        directive: &Directive,
        addresses: &[String],
        comments: &mut Vec<String>,
    ) -> Result<(String, Vec<Filter>), String> {
        let mut upstream = Upstream::default();
        let mut tls = false;
        let listed = directive.inside().iter().filter(|inner| inner.name == "to").flat_map(|inner| inner.args.clone());
        let all: Vec<String> = addresses.iter().cloned().chain(listed).collect();
        for text in &all {
            let (endpoint, scheme) = endpoint(text)?;
            tls |= scheme == "https";
            if scheme == "h2c" {
                upstream.connections.insert("protocol".into(), Node::text("h2c"));
            }
            upstream.endpoints.push(endpoint);
        }
        if upstream.endpoints.is_empty() {
            return Err("there is no address to go to".into());
        }
        if tls {
            upstream.tls.get_or_insert_default();
            upstream.connections.remove("protocol");
        }
        let (mut set, mut add, mut remove) = (Vec::new(), Vec::new(), Vec::new());
        let (mut out_set, mut out_remove) = (Vec::new(), Vec::new());
        let mut health = Vec::new();
        let mut interval = Vec::new();
        let mut breaker = Vec::new();
        for inner in directive.inside() {
            self.carried(inner);
            match inner.name.as_str() {
                "to" => {}
                "lb_policy" => match policy(inner) {
                    Some((key, node)) => _ = upstream.more.insert(key.into(), node),
                    None if matches!(inner.arg(0), "round_robin" | "weighted_round_robin" | "first") => {}
                    None => comments.push(self.left(inner, "there is no such strategy")),
                },
                "header_up" => self.header_up(inner, &all, &mut set, &mut add, &mut remove, comments),
                "header_down" => match inner.name_and_value() {
                    (name, None) if name.starts_with('-') => out_remove.push(name[1..].to_ascii_lowercase()),
                    (name, Some(value)) if !name.starts_with(['-', '+', '>']) && !value.contains('{') => {
                        put(&mut out_set, &name, value)
                    }
                    _ => comments.push(self.left(inner, "write the filter `headers`")),
                },
                "health_uri" | "health_path" => health.push(("path".to_owned(), Node::text(inner.arg(0)))),
                "health_status" => health.push(("status".to_owned(), Node::text(inner.arg(0)))),
                "health_interval" => interval.push(("interval".to_owned(), Node::text(inner.arg(0)))),
                "health_timeout" => interval.push(("timeout".to_owned(), Node::text(inner.arg(0)))),
                "max_fails" => {
                    breaker.push(("failure_threshold".to_owned(), Node::bare(inner.arg(0).parse::<u32>().unwrap_or(1).max(1))))
                }
                "fail_duration" if is_time(inner.arg(0)) => {
                    breaker.push(("recovery_timeout".to_owned(), Node::text(inner.arg(0))))
                }
                "transport" => self.transport(inner, &mut upstream, comments),
                "flush_interval" | "lb_try_duration" | "lb_try_interval" | "buffer_requests" | "buffer_responses"
                | "trusted_proxies" | "request_buffers" | "response_buffers" | "stream_timeout" | "stream_close_delay"
                | "lb_retries" | "verbose_logs" | "health_fails" | "health_passes" => {
                    self.report.unneeded(&format!("reverse_proxy {}", inner.name))
                }
                _ => comments.push(self.left(inner, "no counterpart")),
            }
        }
        if upstream.tls.is_some() && upstream.connections.get("protocol") == Some(&Node::text("h2c")) {
            upstream.connections.insert("protocol".into(), Node::text("h2"));
        }
        // Without a certificate's name there is nothing to verify it by.
        if upstream.tls.is_some() && upstream.endpoints.iter().all(|endpoint| !endpoint.address.starts_with("https://")) {
            let host = upstream.endpoints[0].address.rsplit_once(':').map(|(host, _)| host.to_owned()).unwrap_or_default();
            let named = host.parse::<std::net::IpAddr>().is_err() && host.parse::<crate::types::HostPattern>().is_ok();
            if let Some(tls) = upstream.tls.as_mut().filter(|tls| named && !tls.contains_key("sni")) {
                tls.insert("sni".into(), Node::text(host));
            }
        }
        if !health.is_empty() && interval.iter().all(|(_, node)| matches!(node, Node::Text(time) if is_time(time))) {
            let mut check = vec![("http".to_owned(), Node::Map(health))];
            check.extend(interval);
            upstream.more.insert("health_check".into(), Node::Map(check));
        }
        if !breaker.is_empty() {
            upstream.more.insert("circuit_breaker".into(), Node::Map(breaker));
        }
        let mut filters = Vec::new();
        for (side, set, add, remove) in [("request", set, add, remove), ("response", out_set, Vec::new(), out_remove)] {
            let mut changes = Vec::new();
            for (key, entries) in [("set", set), ("add", add)] {
                if !entries.is_empty() {
                    changes.push((key.to_owned(), Node::Map(entries)));
                }
            }
            if !remove.is_empty() {
                changes.push(("remove".into(), Node::one_or_many(&remove)));
            }
            if !changes.is_empty() {
                filters.push(Filter::new("headers", Node::map([(side, Node::Map(changes))])));
            }
        }
        let key = format!("{:?}", (&upstream.endpoints, &upstream.more, &upstream.connections, &upstream.tls));
        let name = match self.used.get(&key) {
            Some(name) => name.clone(),
            None => {
                let wished = upstream.endpoints[0].address.trim_start_matches("https://").trim_start_matches("unix:").to_owned();
                upstream.name = self.names.take(&wished);
                let name = upstream.name.clone();
                self.used.insert(key, name.clone());
                self.draft.upstreams.push(upstream);
                name
            }
        };
        Ok((name, filters))
    }

    fn header_up(
        &mut self,
        inner: &Directive,
        addresses: &[String],
        set: &mut Vec<(String, Node)>,
        add: &mut Vec<(String, Node)>,
        remove: &mut Vec<String>,
        comments: &mut Vec<String>,
    ) {
        let (name, value) = inner.name_and_value();
        let lower = name.trim_start_matches(['-', '+']).to_ascii_lowercase();
        let own = matches!(
            lower.as_str(),
            "x-real-ip" | "x-forwarded-for" | "x-forwarded-proto" | "x-forwarded-host" | "connection" | "upgrade"
        );
        if own && !name.starts_with('-') {
            return self.report.unneeded(&format!("header_up {name}"));
        }
        match value {
            None if name.starts_with('-') && lower != "host" => remove.push(lower),
            Some(value) if lower == "host" && value.contains("upstream") => match addresses {
                [one] => {
                    let host = one.split_once("://").map_or(one.as_str(), |(_, host)| host);
                    put(set, "host", host);
                }
                _ => comments.push(self.left(inner, "each endpoint gets the same host: write `set: {host: ...}`")),
            },
            Some(value)
                if lower == "host"
                    && matches!(value, "{host}" | "{http.request.host}" | "{hostport}" | "{http.request.hostport}") => {}
            Some(value) => match template(value) {
                Ok(value) if name.starts_with('+') => put(add, &lower, &value),
                Ok(value) => put(set, &lower, &value),
                Err(why) => comments.push(self.left(inner, why)),
            },
            None => comments.push(self.left(inner, "a field has a value")),
        }
    }

    fn transport(&mut self, transport: &Directive, upstream: &mut Upstream, comments: &mut Vec<String>) {
        if transport.arg(0) != "http" {
            comments.push(self.left(transport, "endpoints are spoken to over HTTP"));
            return;
        }
        for option in transport.inside() {
            self.carried(option);
            match option.name.as_str() {
                "tls" => _ = upstream.tls.get_or_insert_default(),
                "tls_insecure_skip_verify" => _ = upstream.tls.get_or_insert_default().insert("verify".into(), Node::bare(false)),
                "tls_server_name" if !option.arg(0).contains('{') => {
                    _ = upstream.tls.get_or_insert_default().insert("sni".into(), Node::text(option.arg(0)))
                }
                "tls_trusted_ca_certs" => _ = upstream.tls.get_or_insert_default().insert("ca".into(), Node::text(option.arg(0))),
                "dial_timeout" if is_time(option.arg(0)) => {
                    _ = upstream.connections.insert("connect_timeout".into(), Node::text(option.arg(0)))
                }
                "response_header_timeout" | "read_timeout" if is_time(option.arg(0)) => {
                    upstream.connections.insert("response_timeout".into(), Node::text(option.arg(0)));
                }
                "versions" if option.arg(0) == "h2c" => _ = upstream.connections.insert("protocol".into(), Node::text("h2c")),
                "versions"
                | "keepalive"
                | "keepalive_idle_conns"
                | "compression"
                | "write_timeout"
                | "read_buffer"
                | "write_buffer"
                | "max_conns_per_host"
                | "keepalive_idle_conns_per_host"
                | "dial_fallback_delay"
                | "keepalive_interval" => self.report.unneeded(&format!("transport {}", option.name)),
                _ => comments.push(self.left(option, "no counterpart")),
            }
        }
    }
}

fn is_time(text: &str) -> bool {
    text.parse::<crate::types::Span>().is_ok()
}

impl Directive {
    /// `Field value`, where a `value` may be missing.
    pub(super) fn name_and_value(&self) -> (String, Option<&str>) {
        (self.arg(0).to_owned(), self.args.get(1).map(String::as_str))
    }
}

/// An address as Caddy writes it, as an endpoint and its scheme.
fn endpoint(text: &str) -> Result<(Endpoint, &str), String> {
    if text.contains(['{', '$']) {
        return Err(format!("`{text}`: an endpoint is named in the configuration, and not by a variable"));
    }
    if let Some(path) = text.strip_prefix("unix/") {
        return Ok((Endpoint::checked(format!("unix:{path}"))?, "http"));
    }
    let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
    let rest = rest.trim_end_matches('/');
    let rest = if rest.starts_with(':') { format!("127.0.0.1{rest}") } else { rest.to_owned() };
    let port = rest.rsplit_once(':').is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
    let address = match (scheme, port) {
        ("https", false) => format!("https://{rest}"),
        (_, true) => rest,
        (_, false) => format!("{rest}:80"),
    };
    Ok((Endpoint::checked(address)?, scheme))
}

/// `lb_policy`, as a key of the upstream.
fn policy(directive: &Directive) -> Option<(&'static str, Node)> {
    let hashed = |key: String| Some(("strategy", Node::map([("consistent_hash", Node::map([("key", Node::text(key))]))])));
    match directive.arg(0) {
        "least_conn" => Some(("strategy", Node::text("least_connections"))),
        "random" => Some(("strategy", Node::text("random"))),
        "random_choose" => Some(("strategy", Node::text("power_of_two"))),
        "ip_hash" | "client_ip_hash" => Some(("strategy", Node::text("ip_hash"))),
        "uri_hash" => hashed("path".into()),
        "header" => hashed(format!("header:{}", directive.arg(1).to_ascii_lowercase())),
        "query" => hashed(format!("query:{}", directive.arg(1))),
        "cookie" => {
            Some(("sticky", Node::map([("cookie", Node::text(if directive.args.len() > 1 { directive.arg(1) } else { "lb" }))])))
        }
        _ => None,
    }
}
