//! What stands in front of the content: limits, who may come in, header fields of responses, compression.

use super::{
    super::{
        draft::{Action, Body, Filter},
        yaml::Node,
    },
    Ctx, Directive, Scope,
    server::Site,
    value::{self, Use, template},
};

impl Ctx {
    /// Adds the filters. False when nobody comes in, so that the content does not matter.
    pub(super) fn access(&mut self, site: &Site<'_>, scope: &Scope<'_>, body: &mut Body) -> bool {
        self.error_pages(site, scope, body);
        self.response_headers(scope, body);
        compress(scope, body);
        self.limits(scope, body);
        if !self.addresses(scope, body) {
            return false;
        }
        self.passwords(scope, body);
        self.asked(site, scope, body);
        if let Some(max) = scope.one("client_max_body_size") {
            match value::size(max.arg(0)) {
                Some(size) if size != "0B" => {
                    body.filters.push(Filter::new("body_limit", Node::map([("max", Node::text(size))])))
                }
                Some(_) => {}
                None => body.comments.push(self.left(max, "this is no size")),
            }
        }
        true
    }

    /// The header fields of an answer that a `return` makes.
    pub(super) fn with_headers(&mut self, site: &Site<'_>, block: &[Directive], mut body: Body) -> Body {
        let scope = site.scope.inner(block);
        let mut headers = Body::new("", Action::status(404));
        self.response_headers(&scope, &mut headers);
        body.filters.splice(0..0, headers.filters);
        body.comments.extend(headers.comments);
        body
    }

    fn response_headers(&mut self, scope: &Scope<'_>, body: &mut Body) {
        let (mut set, mut add, mut remove) = (Vec::new(), Vec::new(), Vec::new());
        for directive in scope.all(&["proxy_hide_header", "more_clear_headers"]) {
            remove.extend(directive.args.iter().map(|name| name.to_ascii_lowercase()).filter(|name| name != "date"));
        }
        let field = |ctx: &mut Self, directive: &Directive, value: &str, body: &mut Body| match template(
            &scope.text(value),
            Use::Response,
        ) {
            Ok(value) => Some(Node::text(value)),
            Err(name) => {
                body.comments.push(ctx.left(directive, format!("there is no `${name}` in a field of a response")));
                None
            }
        };
        for directive in scope.all(&["add_header"]) {
            let name = directive.arg(0).to_ascii_lowercase();
            if matches!(name.as_str(), "date" | "connection" | "content-length" | "transfer-encoding")
                || directive.arg(1).is_empty()
            {
                body.comments.push(self.left(directive, "Weir writes this field itself"));
            } else if let Some(value) = field(self, directive, directive.arg(1), body) {
                // A type is one, whatever was said before.
                if name == "content-type" { put(&mut set, name, value) } else { put_beside(&mut add, name, value) }
            }
        }
        for directive in scope.all(&["more_set_headers"]) {
            for (name, value) in directive.args.iter().filter_map(|arg| arg.split_once(':')) {
                if let Some(value) = field(self, directive, value.trim(), body) {
                    put(&mut set, name.trim().to_ascii_lowercase(), value);
                }
            }
        }
        if let Some(expires) = scope.one("expires").filter(|directive| directive.arg(0) != "off") {
            match cache_control(expires.arg(0)) {
                Some(value) => put(&mut set, "cache-control".into(), Node::text(value)),
                None => body.comments.push(self.left(expires, "write the `cache-control` that is meant in the filter `headers`")),
            }
        }
        let mut response = Vec::new();
        for (key, entries) in [("set", set), ("add", add)] {
            if !entries.is_empty() {
                response.push((key.to_owned(), Node::Map(entries)));
            }
        }
        if !remove.is_empty() {
            response.push(("remove".into(), Node::one_or_many(&remove)));
        }
        if !response.is_empty() {
            body.filters.push(Filter::new("headers", Node::map([("response", Node::Map(response))])));
        }
    }

    /// `error_page CODES /page.html`, for pages that are files.
    fn error_pages(&mut self, site: &Site<'_>, scope: &Scope<'_>, body: &mut Body) {
        let mut pages = Vec::new();
        for directive in scope.all(&["error_page"]) {
            let Some((page, codes)) = directive.args.split_last() else { continue };
            let codes: Vec<&str> = codes.iter().map(String::as_str).filter(|code| !code.starts_with('=')).collect();
            let known =
                codes.iter().all(|code| matches!(code.parse(), Ok(400..=599)) && !matches!(*code, "494" | "495" | "496" | "497"));
            let scope = site.find(page).map_or(scope, |location| &location.scope);
            match scope.value("root").map(|root| scope.text(root)).filter(|root| !root.contains('$')) {
                Some(root) if known && page.starts_with('/') && !page.contains('$') && page.ends_with("html") => {
                    let statuses = codes.iter().map(Node::bare).collect();
                    let file = format!("{}{page}", root.trim_end_matches('/'));
                    pages.push(Node::map([("status", Node::List(statuses)), ("html", Node::text(file))]));
                }
                _ => {
                    body.comments.push(self.left(directive, "the filter `error_pages` sends files, and a route has a `fallback`"))
                }
            }
        }
        if pages.is_empty() {
            return;
        }
        let mut options = vec![("pages".to_owned(), Node::List(pages))];
        if scope.is_on("proxy_intercept_errors") {
            options.push(("intercept".into(), Node::bare(true)));
        }
        body.filters.push(Filter::new("error_pages", Node::Map(options)));
    }

    /// `limit_req` and `limit_conn`.
    fn limits(&mut self, scope: &Scope<'_>, body: &mut Body) {
        for directive in scope.all(&["limit_req", "limit_conn"]) {
            let option = |name: &str| directive.args.iter().find_map(|arg| arg.strip_prefix(name));
            let conn = directive.name == "limit_conn";
            let zone = if conn { directive.arg(0) } else { option("zone=").unwrap_or_default() };
            let Some((key, rate)) = self.zones.get(zone).cloned() else {
                body.comments.push(self.left(directive, format!("there is no zone `{zone}`")));
                continue;
            };
            let Some(key) = limit_key(&key) else {
                body.comments.push(self.left(directive, format!("requests are not counted by `{key}`")));
                continue;
            };
            let mut options = Vec::new();
            let kind = if conn {
                options.push(("max".to_owned(), Node::bare(directive.arg(1).parse::<u32>().unwrap_or(1))));
                if scope.value("limit_conn_status").is_none_or(|status| status == "503") {
                    options.push(("status".to_owned(), Node::bare(503)));
                }
                "concurrency"
            } else {
                if rate.parse::<crate::types::Rate>().is_err() {
                    body.comments.push(self.left(directive, format!("the zone `{zone}` has no rate")));
                    continue;
                }
                let burst = option("burst=").and_then(|burst| burst.parse::<u32>().ok()).unwrap_or(0);
                options.push(("rate".to_owned(), Node::text(rate)));
                options.push(("burst".to_owned(), Node::bare(burst.saturating_add(1))));
                if scope.value("limit_req_status").is_none_or(|status| status != "429") {
                    let status = scope.value("limit_req_status").unwrap_or("503");
                    body.comments.push(self.differs(directive, format!("the status of refused requests is 429, not {status}")));
                }
                "rate_limit"
            };
            if key != "client_ip" {
                options.push(("key".to_owned(), Node::text(key)));
            }
            body.filters.push(Filter::new(kind, Node::Map(options)));
        }
    }

    /// `allow` and `deny`, of which the first that fits counts. False when nobody comes in.
    fn addresses(&mut self, scope: &Scope<'_>, body: &mut Body) -> bool {
        let (mut allow, mut deny) = (Vec::new(), Vec::new());
        for directive in scope.all(&["allow", "deny"]) {
            let is_allow = directive.name == "allow";
            match directive.arg(0) {
                "all" if is_allow => break,
                "all" if allow.is_empty() => {
                    body.action = Action::status(403);
                    return false;
                }
                "all" => {
                    let mut options = vec![("allow".to_owned(), Node::one_or_many(&allow))];
                    if !deny.is_empty() {
                        options.push(("deny".into(), Node::one_or_many(&deny)));
                    }
                    body.filters.push(Filter::new("ip_access", Node::Map(options)));
                    return true;
                }
                range => match range
                    .parse::<ipnet::IpNet>()
                    .map(|net| net.trunc().to_string())
                    .or_else(|_| range.parse::<std::net::IpAddr>().map(|ip| ip.to_string()))
                {
                    Ok(range) if is_allow => allow.push(range),
                    Ok(range) => deny.push(range),
                    Err(_) => body.comments.push(self.left(directive, "clients are told by address ranges")),
                },
            }
        }
        if !deny.is_empty() {
            body.filters.push(Filter::new("ip_access", Node::map([("deny", Node::one_or_many(&deny))])));
        }
        true
    }

    fn passwords(&mut self, scope: &Scope<'_>, body: &mut Body) {
        let (Some(realm), Some(users)) = (scope.one("auth_basic"), scope.one("auth_basic_user_file")) else { return };
        if realm.arg(0) == "off" {
            return;
        }
        let file = scope.text(users.arg(0));
        let mut filter = Filter::new(
            "basic_auth",
            Node::map([
                ("users", Node::text(&file)),
                ("realm", Node::text(realm.arg(0))),
                ("forward_password", Node::bare(true)),
            ]),
        );
        filter.comments.push(self.differs(users, "passwords are hashed with bcrypt or argon2id: `htpasswd -B`"));
        body.filters.push(filter);
    }

    /// `auth_request /path`: the location of that path says who is asked.
    fn asked(&mut self, site: &Site<'_>, scope: &Scope<'_>, body: &mut Body) {
        let Some(request) = scope.one("auth_request").filter(|directive| directive.arg(0) != "off") else { return };
        let location = site.find(request.arg(0)).cloned();
        let pass = location.as_ref().and_then(|location| {
            let pass = location.directive.inside().iter().find(|directive| directive.name == "proxy_pass")?;
            Some((location.scope.text(pass.arg(0)), &location.scope, pass.place.clone()))
        });
        let asked = pass.and_then(|(url, scope, place)| {
            let (scheme, rest) = url.split_once("://")?;
            let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let upstream = self.upstream(scheme, host, scope, &place).ok()?;
            Some((upstream, if path.is_empty() { request.arg(0).to_owned() } else { path.to_owned() }))
        });
        let Some((upstream, path)) = asked.filter(|(_, path)| !path.contains('$')) else {
            body.comments.push(self.left(
                request,
                "the service that is asked could not be told; requests are refused until `forward_auth` is written",
            ));
            body.filters.push(Filter::new("ip_access", Node::map([("deny", Node::texts(["0.0.0.0/0", "::/0"]))])));
            return;
        };
        let mut options = vec![("upstream".to_owned(), Node::text(upstream)), ("path".to_owned(), Node::text(path))];
        let fields: Vec<String> = scope
            .all(&["auth_request_set"])
            .iter()
            .filter_map(|set| set.arg(1).strip_prefix("$upstream_http_").map(|name| name.replace('_', "-")))
            .filter(|name| !matches!(name.as_str(), "set-cookie" | "location"))
            .collect();
        if !fields.is_empty() {
            options.push(("response_headers".into(), Node::one_or_many(&fields)));
        }
        let mut filter = Filter::new("forward_auth", Node::Map(options));
        filter.comments.push(
            self.differs(request, "the service sees the fields of `request_headers`, and its answer of 3xx or 4xx is passed on"),
        );
        body.filters.push(filter);
    }
}

/// A field that is there once.
fn put(entries: &mut Vec<(String, Node)>, name: String, value: Node) {
    entries.retain(|(known, _)| *known != name);
    entries.push((name, value));
}

/// A field beside those of its name.
fn put_beside(entries: &mut Vec<(String, Node)>, name: String, value: Node) {
    match entries.iter_mut().find(|(known, _)| *known == name) {
        Some((_, Node::List(values))) => values.push(value),
        Some((_, one)) => *one = Node::List(vec![one.clone(), value]),
        None => entries.push((name, value)),
    }
}

/// What `expires` says in `Cache-Control`.
fn cache_control(text: &str) -> Option<String> {
    Some(match text {
        "epoch" => "no-cache".into(),
        "max" => "max-age=315360000".into(),
        text if text.starts_with('-') => "no-cache".into(),
        text if text.starts_with(['@', '$']) => return None,
        text => {
            // Months and years are units of nginx alone.
            let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
            let number: u64 = digits.parse().ok()?;
            let seconds = match unit {
                "" | "s" => 1,
                "m" => 60,
                "h" => 3600,
                "d" => 86_400,
                "w" => 7 * 86_400,
                "M" => 30 * 86_400,
                "y" => 365 * 86_400,
                _ => return None,
            };
            format!("max-age={}", number.saturating_mul(seconds))
        }
    })
}

/// The key of a zone as one of ours.
fn limit_key(text: &str) -> Option<String> {
    Some(match text.strip_prefix('$')? {
        "binary_remote_addr" | "remote_addr" => "client_ip".to_owned(),
        "server_name" | "host" => "route".to_owned(),
        name => match name.split_once('_')? {
            ("http", name) => format!("header:{}", name.replace('_', "-")),
            ("cookie", name) => format!("cookie:{name}"),
            _ => return None,
        },
    })
}

/// `gzip` and `brotli`.
fn compress(scope: &Scope<'_>, body: &mut Body) {
    let algorithms: Vec<&str> =
        [("brotli", "br"), ("gzip", "gzip")].iter().filter(|(name, _)| scope.is_on(name)).map(|(_, ours)| *ours).collect();
    if algorithms.is_empty() {
        return;
    }
    let mut options = vec![("algorithms".to_owned(), Node::one_or_many(&algorithms))];
    let one = |suffix: &str| ["gzip", "brotli"].iter().find_map(|name| scope.one(&format!("{name}_{suffix}")));
    options.extend(
        one("min_length").and_then(|size| value::size(size.arg(0))).map(|size| ("min_size".to_owned(), Node::text(size))),
    );
    let mut types = vec!["text/html".to_owned()];
    for kind in one("types").map(|types| types.args.as_slice()).unwrap_or_default() {
        let media = kind.split_once('/').is_some_and(|(one, other)| !one.is_empty() && !other.is_empty());
        if media && !types.contains(kind) && kind.chars().all(|c| c.is_ascii_graphic()) {
            types.push(kind.clone());
        }
    }
    let all = one("types").is_some_and(|types| types.arg(0) == "*");
    options.push(("types".into(), if all { Node::text("*/*") } else { Node::one_or_many(&types) }));
    let level = |name: &str| scope.value(name).and_then(|level| level.parse::<u8>().ok()).filter(|level| (1..=9).contains(level));
    let levels: Vec<(String, Node)> = [
        ("gzip", level("gzip_comp_level").filter(|_| algorithms.contains(&"gzip"))),
        ("br", level("brotli_comp_level").map(|level| level.min(6)).filter(|_| algorithms.contains(&"br"))),
    ]
    .into_iter()
    .filter_map(|(name, level)| Some((name.to_owned(), Node::bare(level?))))
    .collect();
    if !levels.is_empty() {
        options.push(("level".into(), Node::Map(levels)));
    }
    body.filters.push(Filter::new("compress", Node::Map(options)));
}
