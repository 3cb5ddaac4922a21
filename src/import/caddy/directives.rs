//! Directives that change requests and responses on their way: filters.

use super::{
    super::{draft::Filter, yaml::Node},
    Ctx, Directive,
};

/// A field that is there once.
pub(super) fn put(entries: &mut Vec<(String, Node)>, name: &str, value: &str) {
    entries.retain(|(known, _)| known != name);
    entries.push((name.to_ascii_lowercase(), Node::text(value)));
}

/// Caddy's placeholders in the words of our templates.
pub(super) fn template(text: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('{') {
        out.push_str(&rest[..at].replace('}', "}}"));
        let Some(end) = rest[at..].find('}') else {
            out.push_str(&rest[at..].replace('{', "{{"));
            return Ok(out);
        };
        let name = &rest[at + 1..at + end];
        let short = name.strip_prefix("http.request.").unwrap_or(name);
        let ours = match short {
            "host" | "hostport" | "http.request.host" => "{host}".to_owned(),
            "remote_host" | "client_ip" | "remote" | "http.vars.client_ip" => "{client_ip}".to_owned(),
            "scheme" => "{scheme}".to_owned(),
            "method" => "{method}".to_owned(),
            "path" | "uri.path" => "{path}".to_owned(),
            "query" | "uri.query" => "{query}".to_owned(),
            "tls_client_subject" => "{client_cert}".to_owned(),
            short => match (short.strip_prefix("header."), short.strip_prefix("cookie."), short.strip_prefix("query.")) {
                (Some(name), ..) => format!("{{header:{}}}", name.to_ascii_lowercase()),
                (_, Some(name), _) => format!("{{cookie:{name}}}"),
                (.., Some(name)) => format!("{{query:{name}}}"),
                _ => return Err(format!("there is no `{{{name}}}` in a field")),
            },
        };
        out.push_str(&ours);
        rest = &rest[at + end + 1..];
    }
    out.push_str(&rest.replace('}', "}}"));
    Ok(out)
}

/// The same in the target of a redirect.
pub(super) fn target(text: &str) -> Result<String, String> {
    let text = text.replace("{uri}", "{path}?{query}").replace("{http.request.uri}", "{path}?{query}");
    let to = template(&text)?.replace("?{query}", "{query}");
    let known = ["{host}", "{scheme}", "{path}", "{query}"];
    let mut rest = to.replace("{{", "").replace("}}", "");
    known.iter().for_each(|name| rest = rest.replace(name, ""));
    if rest.contains('{') {
        return Err("there is no such variable in the target of a redirect".into());
    }
    if !(to.starts_with('/') || to.starts_with("{path}") || to.contains("://")) {
        return Err("the target of a redirect begins with a scheme or `/`".into());
    }
    Ok(to)
}

impl Ctx {
    /// The filter that a directive makes; `None` when it makes none, `Err` says why it cannot.
    pub(super) fn filter(&mut self, directive: &Directive, args: &[String]) -> Result<Option<Filter>, String> {
        let arg = |index: usize| args.get(index).map_or("", String::as_str);
        Ok(Some(match directive.name.as_str() {
            "header" | "request_header" => return self.header(directive, args),
            "encode" => {
                let names = args.iter().map(String::as_str).chain(directive.inside().iter().map(|inner| inner.name.as_str()));
                let known: Vec<&str> = names
                    .filter_map(|name| match name {
                        "gzip" => Some("gzip"),
                        "zstd" => Some("zstd"),
                        "br" => Some("br"),
                        _ => None,
                    })
                    .collect();
                let options = if known.is_empty() { vec!["zstd", "gzip"] } else { known };
                Filter::new("compress", Node::map([("algorithms", Node::one_or_many(&options))]))
            }
            "request_body" => {
                let size = directive.option("max_size").map(|size| size.arg(0).to_owned()).unwrap_or_default();
                if size.parse::<crate::types::Size>().is_err() {
                    return Err("only `max_size` with a unit is carried over".into());
                }
                Filter::new("body_limit", Node::map([("max", Node::text(size))]))
            }
            "uri" => match arg(0) {
                "strip_prefix" => {
                    Filter::new("rewrite", Node::map([("strip_prefix", Node::text(format!("/{}", arg(1).trim_matches('/'))))]))
                }
                "replace" if !arg(1).contains('{') && !arg(2).contains(['{', '?', '#']) => Filter::new(
                    "rewrite",
                    Node::map([("regex", Node::text(regex::escape(arg(1)))), ("replace", Node::text(arg(2).replace('$', "$$")))]),
                ),
                "path_regexp" if super::super::text::expression(arg(1), false).is_some() && !arg(2).contains(['{', '?', '#']) => {
                    Filter::new("rewrite", Node::map([("regex", Node::text(arg(1))), ("replace", Node::text(arg(2)))]))
                }
                _ => return Err("a path is changed by prefix or by expression: the filter `rewrite`".into()),
            },
            "rewrite" => {
                let to = arg(0);
                let prefix = to
                    .strip_suffix("{uri}")
                    .or_else(|| to.strip_suffix("{path}"))
                    .or_else(|| to.strip_suffix("{http.request.uri}"));
                match prefix {
                    Some(prefix) if prefix.starts_with('/') && prefix.len() > 1 && !prefix.contains('{') => {
                        Filter::new("rewrite", Node::map([("add_prefix", Node::text(prefix.trim_end_matches('/')))]))
                    }
                    None if to.starts_with('/') && !to.contains(['{', '?', '#']) => Filter::new(
                        "rewrite",
                        Node::map([("regex", Node::text("^.*$")), ("replace", Node::text(to.replace('$', "$$")))]),
                    ),
                    _ => return Err("a path is changed by prefix or by expression: the filter `rewrite`".into()),
                }
            }
            "basic_auth" | "basicauth" => {
                let users = directive.inside().iter().map(|user| format!("{}:HASH", user.name)).collect::<Vec<_>>().join(", ");
                let mut filter = Filter::new(
                    "basic_auth",
                    Node::map([("users", Node::text("users.htpasswd")), ("forward_password", Node::bare(true))]),
                );
                let how = format!("users are in a file, with the same hashes, one to a line: {users}");
                filter.comments.push(self.report.differs(&directive.place, &directive.name, how));
                filter
            }
            "forward_auth" => {
                let mut comments = Vec::new();
                let bare = Directive { block: None, ..directive.clone() };
                let (upstream, _) = self.upstream(&bare, args, &mut comments)?;
                let path = directive.option("uri").map(|uri| uri.arg(0).to_owned()).unwrap_or_default();
                if !path.starts_with('/') || path.contains('{') {
                    return Err("the service is asked at a path".into());
                }
                let mut options = vec![("upstream".to_owned(), Node::text(upstream)), ("path".to_owned(), Node::text(path))];
                let copied: Vec<String> = directive
                    .inside()
                    .iter()
                    .filter(|inner| inner.name == "copy_headers")
                    .flat_map(|inner| inner.args.iter().cloned().chain(inner.inside().iter().map(|line| line.name.clone())))
                    .map(|name| name.to_ascii_lowercase())
                    .filter(|name| !name.contains('>'))
                    .collect();
                if !copied.is_empty() {
                    options.push(("response_headers".into(), Node::one_or_many(&copied)));
                }
                let mut filter = Filter::new("forward_auth", Node::Map(options));
                filter.comments = comments;
                filter
            }
            _ => return Ok(None),
        }))
    }

    /// `header Field value`, `header -Field`, `header +Field value`, and blocks of these.
    fn header(&mut self, directive: &Directive, args: &[String]) -> Result<Option<Filter>, String> {
        let request = directive.name == "request_header";
        let mut lines: Vec<Vec<String>> = Vec::new();
        if !args.is_empty() {
            lines.push(args.to_vec());
        }
        lines.extend(
            directive.inside().iter().map(|inner| std::iter::once(inner.name.clone()).chain(inner.args.clone()).collect()),
        );
        let (mut set, mut add, mut remove) = (Vec::new(), Vec::new(), Vec::new());
        for words in lines {
            let name = words.first().cloned().unwrap_or_default();
            let field = name.trim_start_matches(['+', '-', '?', '>']).trim_end_matches(':').to_ascii_lowercase();
            if http::HeaderName::from_bytes(field.as_bytes()).is_err() {
                return Err(format!("`{field}` is not the name of a header field"));
            }
            if matches!(field.as_str(), "defer" | "match" | "date" | "connection") || field.contains('*') || words.len() > 2 {
                if field != "defer" {
                    return Err("a field gets one value, whatever the response is".into());
                }
                continue;
            }
            if name.starts_with('-') {
                remove.push(field);
                continue;
            }
            let value = template(words.get(1).map_or("", String::as_str))?;
            if !request
                && ["{header:", "{cookie:", "{query", "{path}", "{scheme}", "{method}"].iter().any(|name| value.contains(name))
            {
                return Err("there is no such variable in a field of a response".into());
            }
            if name.starts_with('+') { put(&mut add, &field, &value) } else { put(&mut set, &field, &value) }
        }
        let mut changes = Vec::new();
        for (key, entries) in [("set", set), ("add", add)] {
            if !entries.is_empty() {
                changes.push((key.to_owned(), Node::Map(entries)));
            }
        }
        if !remove.is_empty() {
            changes.push(("remove".into(), Node::one_or_many(&remove)));
        }
        if changes.is_empty() {
            return Ok(None);
        }
        let side = if request { "request" } else { "response" };
        Ok(Some(Filter::new("headers", Node::map([(side, Node::Map(changes))]))))
    }
}
