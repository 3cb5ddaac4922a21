//! Middlewares: filters, and a few that decide what becomes of a request.

use serde_yaml::Value;

use super::{
    super::{
        draft::{Action, Body, Endpoint, Filter, Upstream},
        report::Place,
        text::{expression, whole},
        yaml::Node,
    },
    Ctx, bare, is_on,
    tree::{at, entries, get, is_true, text, text_at, texts_at},
};

/// Chains in chains.
const MAX_DEPTH: usize = 8;

impl Ctx {
    /// Adds what these middlewares do, in their order, in front of what the service does.
    pub(super) fn middlewares(&mut self, names: &[String], body: &mut Body, depth: usize) {
        let behind = if depth == 0 { std::mem::take(&mut body.filters) } else { Vec::new() };
        for name in names {
            let dynamic = self.dynamic.clone();
            let place = self.place(&["middlewares", name]);
            let Some(middleware) = at(&dynamic, &["http", "middlewares", name]) else {
                let place = self.place(&["routers", &body.name]);
                let words = format!("router {}: middleware {name}", body.name);
                body.comments.push(self.report.left(
                    &place,
                    &words,
                    "it is not declared here: requests are refused until it is known what it did",
                ));
                // Nobody knows whether it let everybody in.
                body.action = Action::status(403);
                continue;
            };
            for (kind, options) in entries(Some(middleware)) {
                let words = format!("middleware {name}: {kind}");
                self.report.carried(&place, &words);
                if let Err(why) = self.middleware(&kind.to_ascii_lowercase(), options, &place, &words, body, depth) {
                    body.comments.push(self.report.left(&place, &words, why));
                }
            }
        }
        body.filters.extend(behind);
    }

    fn middleware(
        &mut self,
        kind: &str,
        options: &Value,
        place: &Place,
        words: &str,
        body: &mut Body,
        depth: usize,
    ) -> Result<(), String> {
        let one = |key: &str| text_at(options, key);
        let rewrite = |body: &mut Body, regex: String, replace: String| {
            body.filters
                .push(Filter::new("rewrite", Node::map([("regex", Node::text(regex)), ("replace", Node::text(replace))])));
        };
        match kind {
            "chain" if depth < MAX_DEPTH => {
                let names: Vec<String> = texts_at(options, "middlewares").iter().map(|name| bare(name)).collect();
                self.middlewares(&names, body, depth + 1);
            }
            "stripprefix" => {
                let prefixes = texts_at(options, "prefixes");
                // The first that fits is taken off, and the others are not looked for behind it.
                let all: Vec<String> = prefixes
                    .iter()
                    .map(|prefix| regex::escape(prefix.trim_end_matches('/')))
                    .filter(|prefix| !prefix.is_empty())
                    .collect();
                match all.as_slice() {
                    [] => return Err("it has no prefix".into()),
                    [_] => body.filters.push(Filter::new(
                        "rewrite",
                        Node::map([("strip_prefix", Node::text(prefixes[0].trim_end_matches('/')))]),
                    )),
                    many => rewrite(body, format!("^(?:{})", many.join("|")), "/".into()),
                }
            }
            "stripprefixregex" => {
                let regexes = texts_at(options, "regex");
                let [regex] = regexes.as_slice() else { return Err("it has one expression".into()) };
                rewrite(
                    body,
                    expression(&format!("^(?:{})", regex.trim_start_matches('^')), false)
                        .ok_or("this is no expression of ours")?,
                    "/".into(),
                );
            }
            "addprefix" => {
                let prefix = one("prefix").unwrap_or_default();
                body.filters.push(Filter::new(
                    "rewrite",
                    Node::map([("add_prefix", Node::text(format!("/{}", prefix.trim_matches('/'))))]),
                ));
            }
            "replacepath" => rewrite(body, "^.*$".into(), path(&one("path").unwrap_or_default())?),
            "replacepathregex" => {
                let regex = expression(&one("regex").unwrap_or_default(), false).ok_or("this is no expression of ours")?;
                rewrite(body, regex, path(&one("replacement").unwrap_or_default())?);
            }
            "redirectscheme" => {
                let scheme = one("scheme").unwrap_or_else(|| "https".into());
                let port = one("port")
                    .filter(|port| !matches!((scheme.as_str(), port.as_str()), ("https", "443") | ("http", "80")))
                    .map(|port| format!(":{port}"));
                let status = if is_true(options, "permanent") { 301 } else { 302 };
                body.action =
                    Action::Redirect { to: format!("{scheme}://{{host}}{}{{path}}{{query}}", port.unwrap_or_default()), status };
            }
            "redirectregex" => {
                let status = if is_true(options, "permanent") { 301 } else { 302 };
                let (filter, to) = redirect(&one("regex").unwrap_or_default(), &one("replacement").unwrap_or_default())?;
                body.filters.extend(filter);
                body.action = Action::Redirect { to, status };
                body.comments.push(self.report.differs(
                    place,
                    words,
                    "it is for all requests of the route, whether the expression matches their URL or not",
                ));
            }
            "headers" => headers(options, body)?,
            "basicauth" => {
                let (file, list) = (one("usersFile"), texts_at(options, "users"));
                let users: Vec<String> =
                    list.iter().filter_map(|user| user.split(':').next()).map(|name| format!("{name}:HASH")).collect();
                let mut filter = vec![("users".to_owned(), Node::text(file.clone().unwrap_or_else(|| "users.htpasswd".into())))];
                filter.extend(one("realm").map(|realm| ("realm".to_owned(), Node::text(realm))));
                if !is_true(options, "removeHeader") {
                    filter.push(("forward_password".into(), Node::bare(true)));
                }
                let mut filter = Filter::new("basic_auth", Node::Map(filter));
                let how = match file {
                    Some(_) => "passwords are hashed with bcrypt or argon2id: `htpasswd -B`".to_owned(),
                    None => format!("users are in a file, one to a line, hashed with bcrypt: {}", users.join(", ")),
                };
                filter.comments.push(self.report.differs(place, words, how));
                body.filters.push(filter);
            }
            "digestauth" => {
                body.action = Action::status(403);
                return Err("write `basic_auth`; until then nobody is let in".into());
            }
            "forwardauth" => {
                let (upstream, path, host) = self.service_of(&one("address").unwrap_or_default())?;
                let mut filter = vec![("upstream".to_owned(), Node::text(upstream)), ("path".to_owned(), Node::text(path))];
                filter.extend(host.map(|host| ("host".to_owned(), Node::text(host))));
                let fields: Vec<String> =
                    texts_at(options, "authResponseHeaders").iter().map(|name| name.to_ascii_lowercase()).collect();
                if !fields.is_empty() {
                    filter.push(("response_headers".into(), Node::one_or_many(&fields)));
                }
                // Traefik shows the service all fields, unless there is a list.
                let shown: Vec<String> =
                    texts_at(options, "authRequestHeaders").iter().map(|name| name.to_ascii_lowercase()).collect();
                filter.push((
                    "request_headers".into(),
                    if shown.is_empty() { Node::text("all") } else { Node::one_or_many(&shown) },
                ));
                body.filters.push(Filter::new("forward_auth", Node::Map(filter)));
            }
            "ratelimit" => {
                let average = one("average")
                    .and_then(|average| average.parse::<u32>().ok())
                    .filter(|average| *average > 0)
                    .ok_or("it has no `average`")?;
                let period = one("period").unwrap_or_else(|| "1s".into());
                let unit = match period.as_str() {
                    "1s" | "1" | "" => "s",
                    "1m" | "60s" | "60" => "m",
                    "1h" | "60m" | "3600s" => "h",
                    _ => return Err("a rate is for one second, minute or hour".into()),
                };
                let burst = one("burst").and_then(|burst| burst.parse::<u32>().ok()).unwrap_or(1).max(1);
                body.filters.push(Filter::new(
                    "rate_limit",
                    Node::map([("rate", Node::text(format!("{average}/{unit}"))), ("burst", Node::bare(burst))]),
                ));
            }
            "ipallowlist" | "ipwhitelist" => {
                let ranges: Vec<String> = texts_at(options, "sourceRange")
                    .iter()
                    .filter_map(|range| {
                        Some(
                            range
                                .parse::<ipnet::IpNet>()
                                .map(|net| net.trunc())
                                .ok()
                                .or_else(|| range.parse::<std::net::IpAddr>().ok().map(Into::into))?
                                .to_string(),
                        )
                    })
                    .collect();
                if ranges.is_empty() {
                    body.action = Action::status(403);
                    return Err("it allows no address".into());
                }
                body.filters.push(Filter::new("ip_access", Node::map([("allow", Node::one_or_many(&ranges))])));
            }
            "compress" => body.filters.push(Filter::new("compress", Node::Map(Vec::new()))),
            "inflightreq" => {
                let amount = one("amount").and_then(|amount| amount.parse::<u32>().ok()).unwrap_or(1);
                body.filters.push(Filter::new("concurrency", Node::map([("max", Node::bare(amount))])));
            }
            "retry" => {
                let attempts =
                    one("attempts").and_then(|attempts| attempts.parse::<u32>().ok()).unwrap_or(2).saturating_sub(1).min(10);
                body.more.retain(|(key, _)| key != "retry");
                body.more.push((
                    "retry".into(),
                    Node::map([("attempts", Node::bare(attempts)), ("on", Node::texts(["connect", "reset"]))]),
                ));
            }
            "buffering" => {
                let max = one("maxRequestBodyBytes")
                    .filter(|max| max.parse::<u64>().is_ok_and(|max| max > 0))
                    .ok_or("only `maxRequestBodyBytes` is carried over")?;
                body.filters.push(Filter::new("body_limit", Node::map([("max", Node::text(format!("{max}B")))])));
            }
            "circuitbreaker" => return Err("upstreams have a circuit breaker: see `circuit_breaker`".into()),
            "contenttype" | "grpcweb" => self.report.unneeded(&format!("middleware {kind}")),
            "errors" => return Err("write the filter `error_pages` with files".into()),
            "passtlsclientcert" => return Err("write `{client_cert}` in the filter `headers`".into()),
            "plugin" => return Err("Weir has no plugins".into()),
            _ => return Err("no counterpart".into()),
        }
        Ok(())
    }

    /// The upstream, the path and the host of a URL that is asked.
    fn service_of(&mut self, url: &str) -> Result<(String, String, Option<String>), String> {
        let (scheme, rest) = url.split_once("://").ok_or_else(|| format!("`{url}` is no URL"))?;
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let address = match (scheme, host.contains(':')) {
            ("https", _) => format!("https://{host}"),
            (_, true) => host.to_owned(),
            (_, false) => format!("{host}:80"),
        };
        let endpoint = Endpoint::checked(address)?;
        let known =
            self.draft.upstreams.iter().find(|upstream| upstream.endpoints == [endpoint.clone()] && upstream.more.is_empty());
        let name = match known {
            Some(upstream) => upstream.name.clone(),
            None => {
                let name = self.names.take(host);
                self.draft.upstreams.push(Upstream { name: name.clone(), endpoints: vec![endpoint], ..Upstream::default() });
                name
            }
        };
        Ok((name, if path.is_empty() { "/".into() } else { path.to_owned() }, None))
    }
}

/// `$1` and `${1}` in a path.
fn path(text: &str) -> Result<String, String> {
    if !text.starts_with(['/', '$']) || text.contains(['?', '#', ' ', '<', '>', '\\', '`']) || !text.is_ascii() {
        return Err("what is put in its place is no path".into());
    }
    Ok(text.to_owned())
}

/// `^https?://www\.(.+)/(.*)` to `https://example.com/${2}`: where only the path is kept, as a rewrite and a target.
fn redirect(regex: &str, replacement: &str) -> Result<(Option<Filter>, String), String> {
    let from = replacement.find("://").map_or(0, |at| at + 3);
    let start = replacement[from..].find('/').map_or(replacement.len(), |at| from + at);
    let (front, path) = replacement.split_at(start);
    if front.contains('$') {
        return Err("the host of a redirect is a fixed one".into());
    }
    if !path.contains('$') {
        return Ok((None, format!("{front}{path}").replace('{', "{{").replace('}', "}}")));
    }
    // What the expression asks of scheme and host is for the route to match; the rest is the path.
    let at = regex.find("://").map_or(0, |at| at + 3);
    let slash = regex[at..].find('/').map_or(regex.len(), |slash| at + slash);
    let (host, rest) = regex.split_at(slash);
    let before =
        host.matches('(').count() - host.matches("(?").count() - host.matches("\\(").count().min(host.matches('(').count());
    let ours = expression(&format!("^{rest}"), false).ok_or("this is no expression of ours")?;
    let mut replace = String::new();
    let mut chars = path.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '$' {
            replace.push(c);
            continue;
        }
        let digits: String = std::iter::from_fn(|| chars.next_if(|c| c.is_ascii_digit() || matches!(c, '{' | '}'))).collect();
        let number: usize = digits.trim_matches(['{', '}']).parse().map_err(|_| "groups have numbers")?;
        let number = number.checked_sub(before).filter(|number| *number > 0).ok_or("a group of the host is not at hand")?;
        replace.push_str(&format!("${{{number}}}"));
    }
    let filter = Filter::new("rewrite", Node::map([("regex", Node::text(whole(&ours))), ("replace", Node::text(replace))]));
    Ok((Some(filter), format!("{front}{{path}}{{query}}")))
}

/// `customRequestHeaders` and the rest of `headers`.
fn headers(options: &Value, body: &mut Body) -> Result<(), String> {
    let template = |text: String| text.replace('{', "{{").replace('}', "}}");
    let mut sides = Vec::new();
    for (side, key) in [("request", "customRequestHeaders"), ("response", "customResponseHeaders")] {
        let (mut set, mut remove) = (Vec::new(), Vec::new());
        for (name, value) in entries(get(options, key)) {
            let lower = name.to_ascii_lowercase();
            let ours =
                matches!(lower.as_str(), "connection" | "content-length" | "transfer-encoding" | "upgrade" | "te" | "expect")
                    || side == "response" && lower == "date";
            if ours || http::HeaderName::from_bytes(lower.as_bytes()).is_err() {
                continue;
            }
            match text(value).filter(|text| !text.is_empty()) {
                Some(value) => set.push((lower, Node::text(template(value)))),
                None if lower != "host" => remove.push(lower),
                None => {}
            }
        }
        let mut changes = Vec::new();
        if !set.is_empty() {
            changes.push(("set".to_owned(), Node::Map(set)));
        }
        if !remove.is_empty() {
            changes.push(("remove".to_owned(), Node::one_or_many(&remove)));
        }
        if !changes.is_empty() {
            sides.push((side.to_owned(), Node::Map(changes)));
        }
    }
    let origins = texts_at(options, "accessControlAllowOriginList");
    if !origins.is_empty() {
        let mut cors = vec![("origins".to_owned(), Node::one_or_many(&origins))];
        for (theirs, ours) in [
            ("accessControlAllowMethods", "methods"),
            ("accessControlAllowHeaders", "headers"),
            ("accessControlExposeHeaders", "expose_headers"),
        ] {
            let list = texts_at(options, theirs);
            if !list.is_empty() {
                cors.push((ours.to_owned(), Node::one_or_many(&list)));
            }
        }
        if is_true(options, "accessControlAllowCredentials") && !origins.contains(&"*".to_owned()) {
            cors.push(("credentials".into(), Node::bare(true)));
        }
        cors.extend(
            text_at(options, "accessControlMaxAge")
                .filter(|age| age.parse::<u32>().is_ok())
                .map(|age| ("max_age".to_owned(), Node::text(format!("{age}s")))),
        );
        body.filters.push(Filter::new("cors", Node::Map(cors)));
    }
    let mut security = Vec::new();
    let seconds = text_at(options, "stsSeconds").and_then(|seconds| seconds.parse::<u64>().ok()).filter(|seconds| *seconds > 0);
    match seconds {
        Some(seconds) => {
            let mut hsts = vec![("max_age".to_owned(), Node::text(format!("{}s", seconds.min(366 * 24 * 3600))))];
            let subdomains = is_true(options, "stsIncludeSubdomains");
            if subdomains {
                hsts.push(("include_subdomains".into(), Node::bare(true)));
            }
            if subdomains && is_true(options, "stsPreload") && seconds >= 31_536_000 {
                hsts.push(("preload".into(), Node::bare(true)));
            }
            security.push(("hsts".to_owned(), Node::Map(hsts)));
        }
        None => security.push(("hsts".to_owned(), Node::text("off"))),
    }
    security.push(("nosniff".into(), Node::bare(is_true(options, "contentTypeNosniff"))));
    security.push(("frame_options".into(), Node::text(if is_true(options, "frameDeny") { "deny" } else { "off" })));
    let policy = text_at(options, "referrerPolicy").filter(|policy| !policy.is_empty());
    security.push(("referrer_policy".into(), Node::text(policy.clone().unwrap_or_else(|| "off".into()))));
    for (theirs, ours) in [("contentSecurityPolicy", "content_security_policy"), ("permissionsPolicy", "permissions_policy")] {
        security.extend(text_at(options, theirs).filter(|text| !text.is_empty()).map(|text| (ours.to_owned(), Node::text(text))));
    }
    security.push(("remove".into(), Node::List(Vec::new())));
    let asked = seconds.is_some()
        || policy.is_some()
        || ["contentTypeNosniff", "frameDeny", "contentSecurityPolicy", "permissionsPolicy"]
            .iter()
            .any(|key| is_on(options, key));
    if asked {
        body.filters.push(Filter::new("security_headers", Node::Map(security)));
    }
    if !sides.is_empty() {
        body.filters.push(Filter::new("headers", Node::Map(sides)));
    }
    Ok(())
}
