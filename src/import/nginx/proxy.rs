//! `proxy_pass` and `grpc_pass`: where to, by which path, with which fields.

use super::{
    super::{
        draft::{Action, Body, Filter},
        yaml::Node,
    },
    Ctx, Directive, Scope,
    content::strip,
    location::{Kind, Location},
    value::{self, Part, Use, parts, template},
};

impl Ctx {
    /// Sends the requests of a location to an upstream.
    pub(super) fn proxy(&mut self, location: &Location<'_>, pass: &Directive, body: &mut Body) {
        let scope = &location.scope;
        let text = scope.text(pass.arg(0));
        let refused = |ctx: &mut Self, body: &mut Body, why: String| {
            body.comments.push(ctx.left(pass, why));
            body.action = Action::status(501);
        };
        let url = if text.contains("://") {
            text.clone()
        } else {
            format!("{}://{text}", if pass.name == "grpc_pass" { "grpc" } else { "http" })
        };
        let Some((scheme, rest)) =
            url.split_once("://").filter(|(scheme, _)| matches!(*scheme, "http" | "https" | "grpc" | "grpcs"))
        else {
            return refused(self, body, format!("there is no such scheme: `{url}`"));
        };
        // A unix socket's path goes on to the next colon.
        let start = if let Some(path) = rest.strip_prefix("unix:") {
            path.find(':').map_or(rest.len(), |at| at + 6)
        } else {
            rest.find(['/', '?']).or_else(|| rest.find("${request_uri}").or_else(|| rest.find("${uri}"))).unwrap_or(rest.len())
        };
        let (place, uri) = rest.split_at(start);
        let place = place.trim_end_matches(':');
        if place.contains('$') {
            return refused(self, body, "an upstream is named in the configuration, and not by a variable of the request".into());
        }
        let upstream = match self.upstream(scheme, place, scope, &pass.place) {
            Ok(upstream) => upstream,
            Err(why) => return refused(self, body, why),
        };
        if let Err(why) = self.path(location, uri, body) {
            body.comments.push(self.report.left(&pass.place, &pass.words(), why));
        }
        self.request_headers(scope, place, body);
        self.map_back(scope, body);
        self.next_upstream(scope, body);
        body.action = Action::Upstream(upstream);
    }

    /// What the part behind the host does to the path.
    fn path(&mut self, location: &Location<'_>, uri: &str, body: &mut Body) -> Result<(), String> {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let bare = uri.replace("${", "$").replace('}', "");
        let (path, query) = match bare.as_str() {
            "" | "$request_uri" | "$uri" | "$uri$is_args$args" | "/$request_uri" => return Ok(()),
            _ if path.ends_with("${is_args}${args}") => (path.trim_end_matches("${is_args}${args}"), ""),
            _ => (path, query),
        };
        if !query.is_empty() && !matches!(query, "${args}" | "${query_string}") {
            return Err(format!("the query is kept as it is: `{query}` is not put into it"));
        }
        let filter = match &location.kind {
            Kind::Regex(expression) => {
                if !parts(path).iter().any(|part| matches!(part, Part::Variable(_))) {
                    return Err("the path of requests is kept".into());
                }
                let replace = super::rewrite::replacement(path)?;
                regex_filter(value::whole(expression), replace)
            }
            _ if path.contains('$') => {
                if path == "/${1}" && body.filters.iter().any(|filter| filter.kind == "rewrite") {
                    return Ok(());
                }
                return Err("there are no such variables in a path".into());
            }
            Kind::Exact => regex_filter(format!("^{}$", regex::escape(&location.path)), path.replace('$', "$$")),
            Kind::Prefix | Kind::Stopping => {
                let (from, to) = (location.path.as_str(), path);
                if from == to {
                    return Ok(());
                }
                let segments = from.ends_with('/') && to.ends_with('/');
                let sound = |path: &str| path == "/" || super::super::order::canonical(path.trim_end_matches('/')).is_some();
                if segments && to == "/" {
                    strip(from, body);
                    return Ok(());
                }
                if segments && sound(from) && sound(to) {
                    let mut options = Vec::new();
                    if from != "/" {
                        options.push(("strip_prefix".to_owned(), Node::text(from.trim_end_matches('/'))));
                    }
                    options.push(("add_prefix".to_owned(), Node::text(to.trim_end_matches('/'))));
                    Filter::new("rewrite", Node::Map(options))
                } else {
                    regex_filter(format!("^{}", regex::escape(from)), path.replace('$', "$$"))
                }
            }
        };
        body.filters.push(filter);
        Ok(())
    }

    fn request_headers(&mut self, scope: &Scope<'_>, place: &str, body: &mut Body) {
        let (mut set, mut remove) = (Vec::new(), Vec::new());
        let mut host = None;
        let mut asks_id = false;
        for directive in scope.all(&["proxy_set_header", "grpc_set_header"]) {
            let name = directive.arg(0).to_ascii_lowercase();
            let text = scope.text(directive.arg(1));
            let plain = text.replace("${", "$").replace('}', "");
            match (name.as_str(), plain.as_str()) {
                ("host", "$host" | "$http_host" | "$host:$server_port" | "$host:$proxy_port" | "$http_host:$server_port") => {
                    host = Some(None)
                }
                ("host", "$proxy_host") => host = None,
                (
                    "connection" | "upgrade" | "te" | "x-real-ip" | "x-forwarded-for" | "x-forwarded-proto" | "x-forwarded-host"
                    | "proxy-connection",
                    value,
                ) if ours(&name, value) => {
                    self.report.unneeded(&format!("proxy_set_header {}", directive.arg(0)));
                }
                ("accept-encoding", "") => remove.push(name),
                (_, "") => remove.push(name),
                (_, _)
                    if matches!(
                        name.as_str(),
                        "content-length" | "transfer-encoding" | "expect" | "trailer" | "keep-alive" | "connection" | "upgrade"
                    ) =>
                {
                    body.comments.push(self.left(directive, "Weir writes this field itself"));
                }
                _ => match template(&text, Use::Request) {
                    Ok(value) if name == "host" => host = Some(Some(value)),
                    Ok(value) => {
                        asks_id |= value.contains("{request_id}");
                        set.retain(|(known, _): &(String, Node)| *known != name);
                        set.push((name, Node::text(value)));
                    }
                    Err(variable) => {
                        // What the verdict of `auth_request` says is copied by `forward_auth`.
                        let verdict =
                            scope.all(&["auth_request_set"]).iter().any(|set| set.arg(0).trim_start_matches('$') == variable);
                        if !verdict {
                            body.comments
                                .push(self.left(directive, format!("there is no `${variable}` in a field of a request")));
                        }
                    }
                },
            }
        }
        // nginx sends the name that `proxy_pass` has.
        let host = host.unwrap_or_else(|| Some(place.to_owned()).filter(|place| !place.starts_with("unix:")));
        if let Some(host) = host {
            set.insert(0, ("host".into(), Node::text(host)));
        }
        remove.extend(
            scope
                .all(&["more_clear_input_headers"])
                .iter()
                .flat_map(|directive| directive.args.clone())
                .map(|name| name.to_ascii_lowercase()),
        );
        let mut request = Vec::new();
        if !set.is_empty() {
            request.push(("set".to_owned(), Node::Map(set)));
        }
        if !remove.is_empty() {
            request.push(("remove".to_owned(), Node::one_or_many(&remove)));
        }
        if asks_id {
            body.filters.push(Filter::new("request_id", Node::Map(Vec::new())));
        }
        if !request.is_empty() {
            body.filters.push(Filter::new("headers", Node::map([("request", Node::Map(request))])));
        }
    }

    fn next_upstream(&mut self, scope: &Scope<'_>, body: &mut Body) {
        let (next, tries) = (scope.one("proxy_next_upstream"), scope.value("proxy_next_upstream_tries"));
        if next.is_none() && tries.is_none() || body.more.iter().any(|(key, _)| key == "retry") {
            return;
        }
        let mut on: Vec<Node> = Vec::new();
        let mut add = |node: Node| {
            if !on.contains(&node) {
                on.push(node);
            }
        };
        let default = ["error".to_owned(), "timeout".to_owned()];
        let args = next.map_or(default.as_slice(), |next| next.args.as_slice());
        for arg in args {
            match arg.as_str() {
                "error" => {
                    add(Node::text("connect"));
                    add(Node::text("reset"));
                }
                "timeout" => add(Node::bare(504)),
                "invalid_header" => add(Node::bare(502)),
                "off" => {
                    body.more.push(("retry".into(), Node::map([("attempts", Node::bare(0))])));
                    return;
                }
                arg => match arg.strip_prefix("http_").filter(|status| matches!(status.parse(), Ok(429 | 500..=599))) {
                    Some(status) => add(Node::bare(status)),
                    None => {
                        if let Some(next) = next {
                            body.comments.push(self.report.left(
                                &next.place,
                                &format!("proxy_next_upstream {arg}"),
                                "a retry is for connections and 429, 500 to 599",
                            ));
                        }
                    }
                },
            }
        }
        let attempts = tries.and_then(|tries| tries.parse::<u32>().ok()).map_or(2, |tries| tries.saturating_sub(1).min(10));
        let mut options = vec![("attempts".to_owned(), Node::bare(attempts))];
        if !on.is_empty() && attempts > 0 {
            options.push(("on".into(), Node::List(on)));
        }
        body.more.push(("retry".into(), Node::Map(options)));
    }
}

/// Does Weir send this field with such a value by itself?
fn ours(name: &str, value: &str) -> bool {
    match name {
        "connection" | "upgrade" | "te" | "proxy-connection" => true,
        "x-real-ip" => matches!(value, "$remote_addr" | "$realip_remote_addr"),
        "x-forwarded-for" => matches!(value, "$proxy_add_x_forwarded_for" | "$remote_addr"),
        "x-forwarded-proto" => matches!(value, "$scheme" | "$http_x_forwarded_proto"),
        "x-forwarded-host" => matches!(value, "$host" | "$http_host" | "$server_name" | "$host:$server_port"),
        _ => false,
    }
}

fn regex_filter(regex: String, replace: String) -> Filter {
    Filter::new("rewrite", Node::map([("regex", Node::text(regex)), ("replace", Node::text(replace))]))
}
