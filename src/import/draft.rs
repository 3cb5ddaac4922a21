//! A configuration of ours while it is being put together, and the text that it is written as.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    matching::{Match, PathMatch, Value},
    yaml::{self, Node},
};

/// A configuration.
#[derive(Debug, Default)]
pub struct Draft {
    /// Said at the top.
    pub comments: Vec<String>,
    /// Further top-level keys: `server`, `observability`, `admin`.
    pub top: Vec<(String, Node)>,
    /// Where connections are accepted.
    pub listeners: Vec<Listener>,
    /// What happens to requests, in an order in which the first of equals counts.
    pub routes: Vec<Route>,
    /// Where they go.
    pub upstreams: Vec<Upstream>,
}

/// Where connections are accepted.
#[derive(Debug, Clone, Default)]
pub struct Listener {
    /// Its name.
    pub name: String,
    /// Said above it.
    pub comments: Vec<String>,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// Certificates and the rest, with TLS.
    pub tls: Option<Tls>,
    /// Its other keys.
    pub more: Vec<(String, Node)>,
    /// For all of its requests.
    pub filters: Vec<Filter>,
}

/// How TLS is terminated.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    /// Chain and key.
    pub certificates: Vec<(String, String)>,
    /// Certificates are obtained for the hosts of the routes.
    pub automatic: bool,
    /// For names without a certificate.
    pub self_signed: Vec<String>,
    /// Its other keys.
    pub more: Vec<(String, Node)>,
}

/// A filter.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    /// Said above it.
    pub comments: Vec<String>,
    /// Its kind.
    pub kind: &'static str,
    /// Its options.
    pub options: Node,
}

impl Filter {
    /// A filter with these options.
    pub fn new(kind: &'static str, options: Node) -> Self {
        Self { comments: Vec::new(), kind, options }
    }
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// It goes to this upstream.
    Upstream(String),
    /// It goes to one of these, by weight.
    Split(Vec<(String, u32)>),
    /// It is sent elsewhere.
    Redirect {
        /// The target. `{path}` in it is the whole path of the request.
        to: String,
        /// The status.
        status: u16,
    },
    /// It is answered.
    Respond {
        /// The status.
        status: u16,
        /// The body.
        body: String,
        /// Its type.
        content_type: Option<String>,
    },
}

impl Action {
    /// An answer without a body of its own.
    pub fn status(status: u16) -> Self {
        Action::Respond { status, body: String::new(), content_type: None }
    }
}

/// What happens to some requests.
#[derive(Debug, Clone, PartialEq)]
pub struct Body {
    /// The wished name of the route.
    pub name: String,
    /// Said above it.
    pub comments: Vec<String>,
    /// On the way.
    pub filters: Vec<Filter>,
    /// At its end.
    pub action: Action,
    /// Further keys of the route: `retry`, `timeout`, `websocket`.
    pub more: Vec<(String, Node)>,
}

impl Body {
    /// This and nothing else.
    pub fn new(name: impl Into<String>, action: Action) -> Self {
        Self { name: name.into(), comments: Vec::new(), filters: Vec::new(), action, more: Vec::new() }
    }
}

/// A route.
#[derive(Debug, Clone)]
pub struct Route {
    /// Which requests.
    pub matches: Match,
    /// What happens to them.
    pub body: Body,
}

/// A pool.
#[derive(Debug, Clone, Default)]
pub struct Upstream {
    /// Its name.
    pub name: String,
    /// Said above it.
    pub comments: Vec<String>,
    /// Its endpoints.
    pub endpoints: Vec<Endpoint>,
    /// Its other keys.
    pub more: BTreeMap<String, Node>,
    /// The keys of `connections`.
    pub connections: BTreeMap<String, Node>,
    /// The keys of `tls`, with TLS.
    pub tls: Option<BTreeMap<String, Node>>,
}

/// One address of a pool.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Endpoint {
    /// `IP:port`, `name:port`, `https://name`, `unix:/path`.
    pub address: String,
    /// Its further keys.
    pub more: Vec<(String, Node)>,
}

impl Endpoint {
    /// An address alone.
    pub fn new(address: impl Into<String>) -> Self {
        Self { address: address.into(), more: Vec::new() }
    }

    /// An address that an endpoint can have; `Err` says why this is none.
    pub fn checked(address: impl Into<String>) -> Result<Self, String> {
        let address = address.into();
        let target: crate::discovery::Target = address.parse()?;
        match target.name() {
            Some((name, _)) if name.contains('_') => {
                Err(format!("`{name}` is not a name in DNS, because of its `_`: write another name or the address"))
            }
            _ => Ok(Self::new(address)),
        }
    }

    fn node(&self) -> Node {
        if self.more.is_empty() {
            return Node::text(&self.address);
        }
        let mut entries = vec![("address".to_owned(), Node::text(&self.address))];
        entries.extend(self.more.clone());
        Node::Map(entries)
    }
}

/// A text as a name: other characters are dashes.
pub fn name_of(text: &str) -> String {
    let mut name = String::new();
    for c in text.chars() {
        match c {
            c if c.is_ascii_alphanumeric() || matches!(c, '_' | '.') => name.push(c),
            _ if name.ends_with('-') => {}
            _ => name.push('-'),
        }
    }
    let name = name.trim_matches(['-', '.']);
    let name: String = name.chars().take(56).collect();
    if name.is_empty() { "root".into() } else { name.trim_end_matches(['-', '.']).to_owned() }
}

/// Gives each name once: the second `api` is `api-2`.
#[derive(Debug, Default)]
pub struct Names(BTreeSet<String>);

impl Names {
    /// A name that nobody has yet.
    pub fn take(&mut self, wished: &str) -> String {
        let wished = name_of(wished);
        let mut name = wished.clone();
        let mut count = 1;
        while !self.0.insert(name.clone()) {
            count += 1;
            name = format!("{wished}-{count}");
        }
        name
    }
}

impl Draft {
    /// The file.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for line in &self.comments {
            yaml::comment(&mut out, 0, line);
        }
        for (key, value) in &self.top {
            out.push('\n');
            yaml::entry(&mut out, 0, key, value);
        }
        out.push_str("\nlisteners:\n");
        for listener in &self.listeners {
            listener.write(&mut out);
        }
        if self.listeners.is_empty() {
            yaml::comment(&mut out, 2, "none was found: this one is to have something to start from");
            yaml::entry(&mut out, 2, "web", &Node::map([("address", Node::text("127.0.0.1:8080"))]));
        }
        let only_tcp = !self.listeners.is_empty() && self.listeners.iter().all(Listener::is_tcp);
        if self.routes.is_empty() {
            if !only_tcp {
                out.push_str("\nroutes:\n  - name: nothing\n    respond: {status: 404}\n");
            }
        } else {
            out.push_str("\nroutes:\n");
            let mut names = Names::default();
            for route in &self.routes {
                route.write(&mut out, names.take(&route.body.name));
            }
        }
        if !self.upstreams.is_empty() {
            out.push_str("\nupstreams:\n");
            for upstream in &self.upstreams {
                upstream.write(&mut out);
            }
        }
        out
    }
}

impl Draft {
    /// An option of how certificates are obtained.
    pub fn acme(&mut self, key: &str, value: &str) {
        let entry = (key.to_owned(), Node::text(value));
        match self.top.iter_mut().find(|(key, _)| key == "acme") {
            // Of several, the first counts.
            Some((_, Node::Map(entries))) if entries.iter().any(|(known, _)| *known == entry.0) => {}
            Some((_, Node::Map(entries))) => entries.push(entry),
            _ => self.top.push(("acme".to_owned(), Node::Map(vec![entry]))),
        }
    }
}

impl Listener {
    /// Does it pass bytes on?
    pub fn is_tcp(&self) -> bool {
        self.more.iter().any(|(key, _)| key == "tcp")
    }

    fn write(&self, out: &mut String) {
        for comment in &self.comments {
            yaml::comment(out, 2, comment);
        }
        out.push_str(&format!("  {}:\n", self.name));
        yaml::entry(out, 4, "address", &Node::one_or_many(&self.addresses));
        if let Some(tls) = &self.tls {
            let pair = |(cert, key): &(String, String)| Node::map([("cert", Node::text(cert)), ("key", Node::text(key))]);
            let mut entries = Vec::new();
            if !tls.certificates.is_empty() {
                entries.push(("certificates".to_owned(), Node::List(tls.certificates.iter().map(pair).collect())));
            }
            if tls.automatic {
                entries.push(("acme".to_owned(), Node::text("auto")));
            }
            if !tls.self_signed.is_empty() {
                entries.push(("self_signed".to_owned(), Node::texts(tls.self_signed.clone())));
            }
            entries.extend(tls.more.clone());
            yaml::entry(out, 4, "tls", &Node::Map(entries));
        }
        for (key, value) in &self.more {
            yaml::entry(out, 4, key, value);
        }
        write_filters(out, &self.filters);
    }
}

fn write_filters(out: &mut String, filters: &[Filter]) {
    if filters.is_empty() {
        return;
    }
    out.push_str("    filters:\n");
    for filter in filters {
        for comment in &filter.comments {
            yaml::comment(out, 6, comment);
        }
        match matches!(filter.kind, "request_id" | "security_headers") && filter.options.is_empty() {
            true => yaml::item(out, 6, &Node::text(filter.kind)),
            false => {
                // The dash stands in the first of the columns that a key is indented by.
                let mut text = String::new();
                yaml::entry(&mut text, 8, filter.kind, &filter.options);
                text.replace_range(6..7, "-");
                out.push_str(&text);
            }
        }
    }
}

fn values(map: &BTreeMap<String, Value>) -> Node {
    let value = |value: &Value| match value {
        Value::Exact(text) => Node::text(text),
        Value::Present(there) => Node::map([("present", Node::bare(there))]),
        Value::Regex(regex) => Node::map([("regex", Node::text(regex))]),
    };
    Node::Map(map.iter().map(|(name, held)| (name.clone(), value(held))).collect())
}

impl Match {
    fn node(&self) -> Node {
        let hosts: Vec<String> = self.hosts.iter().map(ToString::to_string).collect();
        let clients: Vec<String> = self.clients.iter().map(ToString::to_string).collect();
        let path = match &self.path {
            PathMatch::Any => None,
            PathMatch::Exact(path) => Some(("path", path.clone())),
            PathMatch::Below(prefix) => Some(("path", format!("{prefix}/*"))),
            PathMatch::Begins(start) => Some(("path_regex", format!("^{}", regex::escape(start)))),
            PathMatch::Regex(regex) => Some(("path_regex", regex.clone())),
        };
        let mut entries = Vec::new();
        let mut add = |key: &str, node: Node| {
            if !node.is_empty() {
                entries.push((key.to_owned(), node));
            }
        };
        let many = |texts: &[String]| if texts.is_empty() { Node::List(Vec::new()) } else { Node::one_or_many(texts) };
        add("host", many(&hosts));
        if let Some((key, path)) = path {
            add(key, Node::text(path));
        }
        add("method", many(&self.methods));
        add("headers", values(&self.headers));
        add("query", values(&self.query));
        add("client_ip", many(&clients));
        add("listener", many(&self.listeners));
        Node::Map(entries)
    }
}

impl Route {
    fn write(&self, out: &mut String, name: String) {
        for comment in &self.body.comments {
            yaml::comment(out, 2, comment);
        }
        out.push_str(&format!("  - name: {name}\n"));
        let matches = self.matches.node();
        if !matches.is_empty() {
            yaml::entry(out, 4, "match", &matches);
        }
        write_filters(out, &self.body.filters);
        match &self.body.action {
            Action::Upstream(upstream) => yaml::entry(out, 4, "upstream", &Node::text(upstream)),
            Action::Split(shares) => {
                let share =
                    |(name, weight): &(String, u32)| Node::map([("upstream", Node::text(name)), ("weight", Node::bare(weight))]);
                yaml::entry(out, 4, "split", &Node::List(shares.iter().map(share).collect()));
            }
            Action::Redirect { to, status } => {
                // For a prefix, `{path}` is what follows it.
                let to = match &self.matches.path {
                    PathMatch::Below(prefix) if !self.rewrites() => to.replace("{path}", &format!("{prefix}{{path}}")),
                    _ => to.clone(),
                };
                yaml::entry(out, 4, "redirect", &Node::map([("to", Node::text(to)), ("status", Node::bare(status))]));
            }
            Action::Respond { status, body, content_type } => {
                let mut entries = vec![("status".to_owned(), Node::bare(status))];
                if !body.is_empty() {
                    entries.push(("body".to_owned(), Node::text(body)));
                    entries.extend(content_type.iter().map(|kind| ("content_type".to_owned(), Node::text(kind))));
                }
                yaml::entry(out, 4, "respond", &Node::Map(entries));
            }
        }
        for (key, value) in &self.body.more {
            yaml::entry(out, 4, key, value);
        }
    }

    fn rewrites(&self) -> bool {
        self.body.filters.iter().any(|filter| filter.kind == "rewrite")
    }
}

impl Upstream {
    fn write(&self, out: &mut String) {
        for comment in &self.comments {
            yaml::comment(out, 2, comment);
        }
        out.push_str(&format!("  {}:\n", self.name));
        for key in ["strategy", "sticky"] {
            if let Some(value) = self.more.get(key) {
                yaml::entry(out, 4, key, value);
            }
        }
        // An endpoint is in an upstream once.
        let mut seen = BTreeSet::new();
        let once: Vec<&Endpoint> = self.endpoints.iter().filter(|endpoint| seen.insert(&endpoint.address)).collect();
        if once.len() < self.endpoints.len() {
            yaml::comment(out, 4, "some of them were there twice: write a `weight` for a larger share");
        }
        yaml::entry(out, 4, "endpoints", &Node::List(once.into_iter().map(Endpoint::node).collect()));
        for (key, value) in self.more.iter().filter(|(key, _)| !matches!(key.as_str(), "strategy" | "sticky")) {
            yaml::entry(out, 4, key, value);
        }
        let map = |entries: &BTreeMap<String, Node>| {
            Node::Map(entries.iter().map(|(key, value)| (key.clone(), value.clone())).collect())
        };
        if !self.connections.is_empty() {
            yaml::entry(out, 4, "connections", &map(&self.connections));
        }
        if let Some(tls) = &self.tls {
            yaml::entry(out, 4, "tls", &map(tls));
        }
    }
}
