//! Services: upstreams, or shares of several.

use serde_yaml::Value;

use super::{
    super::{
        draft::{Action, Endpoint, Filter, Upstream},
        yaml::Node,
    },
    Ctx, bare,
    tree::{at, entries, get, is_true, text_at, texts_at},
};

/// Where a service leads.
#[derive(Debug, Clone)]
pub struct Target {
    /// To an upstream, or to several.
    pub action: Action,
    /// What it changes on the way.
    pub filters: Vec<Filter>,
}

impl Ctx {
    /// Where a service leads; `Err` says why nowhere.
    pub(super) fn target(&mut self, name: &str) -> Result<Target, String> {
        if let Some(known) = self.used.get(name) {
            return known.clone();
        }
        // One that names itself finds this.
        self.used.insert(name.to_owned(), Err(format!("the service `{name}` leads to itself")));
        let made = self.service(name);
        self.used.insert(name.to_owned(), made.clone());
        made
    }

    fn service(&mut self, name: &str) -> Result<Target, String> {
        let dynamic = self.dynamic.clone();
        let service =
            at(&dynamic, &["http", "services", name]).cloned().ok_or_else(|| format!("there is no service `{name}` here"))?;
        let place = self.place(&["services", name]);
        if let Some(weighted) = get(&service, "weighted") {
            self.report.carried(&place, &format!("service {name}: weighted"));
            let mut shares = Vec::new();
            for share in get(weighted, "services").and_then(Value::as_sequence).into_iter().flatten() {
                let inner = text_at(share, "name").map(|name| bare(&name)).unwrap_or_default();
                let weight = text_at(share, "weight").and_then(|weight| weight.parse::<u16>().ok()).unwrap_or(1);
                match self.target(&inner)?.action {
                    Action::Upstream(upstream) if shares.iter().all(|(known, _)| *known != upstream) => {
                        shares.push((upstream, u32::from(weight)))
                    }
                    _ => return Err("a share is one upstream, once".into()),
                }
            }
            if shares.iter().all(|(_, weight)| *weight == 0) {
                return Err("no share has a weight".into());
            }
            return Ok(Target { action: Action::Split(shares), filters: Vec::new() });
        }
        if let Some(mirroring) = get(&service, "mirroring") {
            self.report.carried(&place, &format!("service {name}: mirroring"));
            let mut target = self.target(&bare(&text_at(mirroring, "service").unwrap_or_default()))?;
            for mirror in get(mirroring, "mirrors").and_then(Value::as_sequence).into_iter().flatten() {
                let inner = bare(&text_at(mirror, "name").unwrap_or_default());
                if let Action::Upstream(upstream) = self.target(&inner)?.action {
                    let share = text_at(mirror, "percent").and_then(|share| share.parse::<u8>().ok()).unwrap_or(100).min(100);
                    target.filters.push(Filter::new(
                        "mirror",
                        Node::map([("upstream", Node::text(upstream)), ("share", Node::text(format!("{share}%")))]),
                    ));
                }
            }
            return Ok(target);
        }
        let Some(balancer) = get(&service, "loadBalancer") else {
            return Err(format!("the service `{name}` is of a kind that there is none of: write an upstream with `priority`"));
        };
        self.report.carried(&place, &format!("service {name}: loadBalancer"));
        self.balancer(name, balancer)
    }

    fn balancer(&mut self, name: &str, balancer: &Value) -> Result<Target, String> {
        let place = self.place(&["services", name]);
        let mut upstream = Upstream::default();
        let mut filters = Vec::new();
        let mut urls: Vec<(String, Option<String>)> = Vec::new();
        urls.extend(text_at(balancer, "containers").map(|url| (url, None)));
        for server in get(balancer, "servers").and_then(Value::as_sequence).into_iter().flatten() {
            urls.extend(text_at(server, "url").map(|url| (url, text_at(server, "weight"))));
        }
        let mut tls = false;
        let mut path = None;
        for (url, weight) in &urls {
            let (scheme, rest) = url.split_once("://").ok_or_else(|| format!("`{url}` is no URL"))?;
            let (host, behind) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            tls |= scheme == "https";
            if scheme == "h2c" {
                upstream.connections.insert("protocol".into(), Node::text("h2c"));
            }
            let port =
                host.rsplit_once(':').is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
            let address = match (scheme, port) {
                ("https", _) => format!("https://{host}"),
                (_, true) => host.to_owned(),
                (_, false) => format!("{host}:80"),
            };
            if behind.len() > 1 {
                path.get_or_insert_with(|| behind.trim_end_matches('/').to_owned());
            }
            let mut endpoint = Endpoint::checked(address)?;
            endpoint.more.extend(
                weight
                    .as_ref()
                    .filter(|weight| weight.parse::<u16>().is_ok())
                    .map(|weight| ("weight".to_owned(), Node::bare(weight))),
            );
            upstream.endpoints.push(endpoint);
        }
        if upstream.endpoints.is_empty() {
            return Err(format!("the service `{name}` has no server here"));
        }
        if tls && upstream.endpoints.iter().any(|endpoint| !endpoint.address.starts_with("https://")) {
            return Err(format!("the servers of `{name}` are over TLS in part: an upstream is over TLS or is not"));
        }
        if let Some(path) = path {
            filters.push(Filter::new("rewrite", Node::map([("add_prefix", Node::text(path))])));
        }
        if let Some(check) = get(balancer, "healthCheck") {
            let mut http = vec![("path".to_owned(), Node::text(text_at(check, "path").unwrap_or_else(|| "/".into())))];
            http.extend(text_at(check, "hostname").map(|host| ("host".to_owned(), Node::text(host))));
            http.extend(
                text_at(check, "port")
                    .and_then(|port| port.parse::<u16>().ok())
                    .map(|port| ("port".to_owned(), Node::bare(port))),
            );
            http.push((
                "status".to_owned(),
                Node::text(text_at(check, "status").filter(|status| status != "0").unwrap_or_else(|| "200-399".into())),
            ));
            let mut options = vec![("http".to_owned(), Node::Map(http))];
            for key in ["interval", "timeout"] {
                options
                    .extend(text_at(check, key).and_then(|time| duration(&time)).map(|time| (key.to_owned(), Node::text(time))));
            }
            upstream.more.insert("health_check".into(), Node::Map(options));
        }
        if let Some(sticky) = get(balancer, "sticky") {
            let name = at(sticky, &["cookie"]).and_then(|cookie| text_at(cookie, "name"));
            let options = name.map(|name| ("cookie".to_owned(), Node::text(name)));
            upstream.more.insert("sticky".into(), Node::Map(options.into_iter().collect()));
        }
        if text_at(balancer, "passHostHeader").as_deref() == Some("false") {
            let host = upstream.endpoints[0].address.trim_start_matches("https://").to_owned();
            filters.push(Filter::new(
                "headers",
                Node::map([("request", Node::map([("set", Node::map([("host", Node::text(host))]))]))]),
            ));
        }
        if let Some(transport) = text_at(balancer, "serversTransport").map(|name| bare(&name)) {
            let dynamic = self.dynamic.clone();
            let found = at(&dynamic, &["http", "serversTransports", &transport]).cloned().unwrap_or_default();
            let options = upstream.tls.get_or_insert_default();
            if is_true(&found, "insecureSkipVerify") {
                options.insert("verify".into(), Node::bare(false));
            }
            options.extend(text_at(&found, "serverName").map(|name| ("sni".to_owned(), Node::text(name))));
            options.extend(texts_at(&found, "rootCAs").first().map(|ca| ("ca".to_owned(), Node::text(ca))));
            if options.is_empty() && !tls {
                upstream.tls = None;
            }
        }
        for (key, _) in entries(Some(balancer)) {
            match key.to_ascii_lowercase().as_str() {
                "servers" | "server" | "containers" | "healthcheck" | "sticky" | "passhostheader" | "serverstransport" => {}
                "responseforwarding" | "strategy" => self.report.unneeded(&format!("loadBalancer.{key}")),
                _ => upstream.comments.push(self.report.left(&place, &format!("service {name}: {key}"), "no counterpart")),
            }
        }
        upstream.name = self.names.take(name);
        let action = Action::Upstream(upstream.name.clone());
        self.draft.upstreams.push(upstream);
        Ok(Target { action, filters })
    }
}

/// A length of time: seconds unless there is a unit.
pub(super) fn duration(text: &str) -> Option<String> {
    let text = if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) { format!("{text}s") } else { text.to_owned() };
    text.parse::<crate::types::Span>().ok().map(|_| text)
}
