//! What a rule does: an answer, a redirect, or a change of the request or the response.

use super::{
    super::{
        draft::{Action, Body, Filter},
        text::{expression, whole},
        yaml::Node,
    },
    Ctx, Line,
};

/// What a rule does, its condition apart.
#[derive(Debug, Clone)]
pub enum Effect {
    /// The request ends here.
    Ends(Body),
    /// Goes on, changed.
    Changes(Filter),
    /// Needs nothing.
    Nothing,
}

/// The words of a rule before its `if` or `unless`, and from there on.
pub fn split(line: &Line) -> (&[String], &[String]) {
    let at = line.words.iter().position(|word| word == "if" || word == "unless").unwrap_or(line.words.len());
    line.words.split_at(at)
}

impl Ctx {
    /// What `http-request`, `http-response` or `redirect` does; `Err` is why it cannot be carried over.
    pub(super) fn effect(&mut self, line: &Line, words: &[String], name: &str) -> Result<Effect, String> {
        let word = |index: usize| words.get(index).map_or("", String::as_str);
        let after =
            |name: &str| words.iter().position(|known| known == name).and_then(|at| words.get(at + 1)).map(String::as_str);
        let (kind, words_of) =
            if word(0) == "redirect" { ("redirect", &words[1..]) } else { (word(1), words.get(2..).unwrap_or_default()) };
        let response = word(0) == "http-response";
        let answer = |status: u16| Effect::Ends(Body::new(name, Action::status(status)));
        Ok(match kind {
            "redirect" => Effect::Ends(redirect(words_of, name)?),
            "deny" | "reject" | "tarpit" if !response => {
                let default = if kind == "tarpit" { 500 } else { 403 };
                let status = after("deny_status").or(after("status")).and_then(|status| status.parse().ok());
                answer(status.filter(|status| (200..600).contains(status)).unwrap_or(default))
            }
            "silent-drop" => {
                let mut body = Body::new(name, Action::status(403));
                body.comments.push(self.report.differs(
                    &line.place,
                    &line.text(),
                    "403 instead of a connection that is left hanging",
                ));
                Effect::Ends(body)
            }
            "return" => {
                let status = after("status").and_then(|status| status.parse().ok()).unwrap_or(200);
                let text = after("string").or(after("lf-string"));
                if words_of.iter().any(|word| matches!(word.as_str(), "file" | "lf-file" | "errorfile")) {
                    return Err("the body is written in the configuration: `respond: {body: ...}`".into());
                }
                let content_type = after("content-type").map(str::to_owned);
                Effect::Ends(Body::new(name, Action::Respond { status, body: text.unwrap_or_default().to_owned(), content_type }))
            }
            "set-header" | "add-header" | "del-header" | "replace-header" => {
                let field = words_of.first().map(|name| name.to_ascii_lowercase()).unwrap_or_default();
                let value = words_of.get(1).map_or("", String::as_str);
                return self.header(kind, response, &field, value);
            }
            "set-path" | "replace-path" => Effect::Changes(path(kind, words_of)?),
            "auth" => {
                return Err("write `basic_auth` with a file of users (`htpasswd -B`); until then nobody is let in here".into());
            }
            "allow" | "accept" => return Err("what stands behind it is still asked".into()),
            "track-sc0" | "track-sc1" | "track-sc2" | "sc-inc-gpc0" => return Err("write the filter `rate_limit`".into()),
            "capture" | "set-log-level" | "set-nice" | "set-tos" | "set-mark" | "set-priority-class" | "normalize-uri"
            | "set-timeout" | "wait-for-handshake" => Effect::Nothing,
            "cache-use" | "cache-store" => {
                return Err("write the filter `cache` and the top-level `cache`: docs/caching.md".into());
            }
            "use-service" => return Err("the admin listener has the metrics".into()),
            kind if kind.starts_with("lua.") => return Err("Weir runs no Lua".into()),
            kind if kind.starts_with("set-var") => return Err("there are no variables of one's own".into()),
            _ => return Err("no counterpart".into()),
        })
    }

    fn header(&mut self, kind: &str, response: bool, field: &str, value: &str) -> Result<Effect, String> {
        let own = matches!(field, "x-forwarded-for" | "x-forwarded-proto" | "x-forwarded-host" | "x-real-ip");
        if own && kind != "del-header" && !response {
            return Ok(Effect::Nothing);
        }
        if matches!(field, "connection" | "content-length" | "transfer-encoding" | "upgrade" | "expect" | "te" | "keep-alive")
            || response && field == "date"
        {
            return Err("Weir writes this field itself".into());
        }
        if http::HeaderName::from_bytes(field.as_bytes()).is_err() {
            return Err(format!("`{field}` is not the name of a header field"));
        }
        if field == "host" && !value.contains('%') && crate::types::parse_authority(value).is_none() {
            return Err(format!("`{value}` is not a host"));
        }
        let change = match kind {
            "del-header" if field == "host" => return Err("a request has one host".into()),
            "del-header" => Node::map([("remove", Node::text(field))]),
            "replace-header" => return Err("a field gets a value, and is not changed by an expression".into()),
            _ => {
                let value = template(value, response)?;
                // One host, whichever way it was said.
                let key = if kind == "add-header" && field != "host" { "add" } else { "set" };
                Node::map([(key, Node::Map(vec![(field.to_owned(), Node::text(value))]))])
            }
        };
        let side = if response { "response" } else { "request" };
        Ok(Effect::Changes(Filter::new("headers", Node::map([(side, change)]))))
    }
}

/// A log format as a template of ours.
fn template(text: &str, response: bool) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at].replace('{', "{{").replace('}', "}}"));
        let after = &rest[at + 1..];
        let unknown = |what: &str| Err(format!("there is no `%{what}` in a field"));
        if let Some(behind) = after.strip_prefix('%') {
            out.push('%');
            rest = behind;
            continue;
        }
        let Some((sample, behind)) = after.strip_prefix('[').and_then(|inside| inside.split_once(']')) else {
            let name: String = after.chars().take_while(char::is_ascii_alphabetic).collect();
            match name.as_str() {
                "ci" => out.push_str("{client_ip}"),
                "ID" => out.push_str("{request_id}"),
                _ => return unknown(&name),
            }
            rest = &after[name.len()..];
            continue;
        };
        let sample = sample.strip_prefix("req.").unwrap_or(sample);
        let header =
            ["hdr(", "fhdr("].iter().find_map(|start| sample.strip_prefix(start)).and_then(|name| name.strip_suffix(')'));
        match (sample, header) {
            ("src", _) => out.push_str("{client_ip}"),
            (_, Some(name)) if name.eq_ignore_ascii_case("host") => out.push_str("{host}"),
            ("method", _) if !response => out.push_str("{method}"),
            ("path", _) if !response => out.push_str("{path}"),
            ("query", _) if !response => out.push_str("{query}"),
            ("ssl_c_s_dn", _) if !response => out.push_str("{client_cert}"),
            (_, Some(name)) if !response && !name.contains(',') => {
                out.push_str(&format!("{{header:{}}}", name.to_ascii_lowercase()))
            }
            (sample, _) => return unknown(&format!("[{sample}]")),
        }
        rest = behind;
    }
    out.push_str(&rest.replace('{', "{{").replace('}', "}}"));
    Ok(out)
}

/// `scheme https`, `location URL`, `prefix URL`, with `code N`.
fn redirect(words: &[String], name: &str) -> Result<Body, String> {
    let after = |name: &str| words.iter().position(|word| word == name).and_then(|at| words.get(at + 1)).map(String::as_str);
    let status = after("code").and_then(|code| code.parse().ok()).unwrap_or(302);
    if words.iter().any(|word| matches!(word.as_str(), "set-cookie" | "clear-cookie" | "append-slash")) {
        return Err("a redirect has no such option".into());
    }
    let to = match (after("scheme"), after("location"), after("prefix")) {
        (Some(scheme), ..) => format!("{scheme}://{{host}}{{path}}{{query}}"),
        (_, Some(location), _) => location_of(location)?,
        (.., Some(prefix)) => {
            let query = if words.iter().any(|word| word == "drop-query") { "" } else { "{query}" };
            let prefix = location_of(prefix)?;
            format!("{}{{path}}{query}", if prefix == "/" { "" } else { &prefix })
        }
        _ => return Err("a redirect has a `scheme`, a `location` or a `prefix`".into()),
    };
    if !(to.starts_with('/') || to.starts_with("{path}") || to.contains("://")) {
        return Err("the target of a redirect begins with a scheme or `/`".into());
    }
    Ok(Body::new(name, Action::Redirect { to, status }))
}

fn location_of(text: &str) -> Result<String, String> {
    let plain = [
        ("%[hdr(host)]", "{host}"),
        ("%[req.hdr(host)]", "{host}"),
        ("%[hdr(Host)]", "{host}"),
        ("%[req.hdr(Host)]", "{host}"),
        ("%[capture.req.uri]", "{path}{query}"),
        ("%[pathq]", "{path}{query}"),
        ("%[url]", "{path}{query}"),
        ("%HU", "{path}{query}"),
        ("%HPO", "{path}"),
        ("%HP", "{path}"),
        ("%[path]", "{path}"),
        ("?%[query]", "{query}"),
        ("?%HQ", "{query}"),
    ];
    let mut out = text.replace('{', "{{").replace('}', "}}");
    for (theirs, ours) in plain {
        out = out.replace(theirs, ours);
    }
    match out.find("%[") {
        Some(at) => Err(format!("there is no `{}` in the target of a redirect", &out[at..])),
        None => Ok(out),
    }
}

/// `replace-path EXPRESSION FORMAT`, `set-path %[path,regsub(EXPRESSION,FORMAT)]`, `set-path /text%[path]`.
fn path(kind: &str, words: &[String]) -> Result<Filter, String> {
    let cannot = "an expression here has no look-around and no back-references";
    let groups = |format: &str| {
        let mut out = String::new();
        let mut chars = format.chars().peekable();
        while let Some(c) = chars.next() {
            match (c, chars.peek()) {
                ('\\', Some(digit)) if digit.is_ascii_digit() => {
                    out.push_str(&format!("${{{digit}}}"));
                    chars.next();
                }
                ('$', _) => out.push_str("$$"),
                (c, _) => out.push(c),
            }
        }
        out
    };
    let sound = |replace: &str| !replace.contains(['%', '?', '#', ' ', '<', '>', '\\', '`']) && replace.is_ascii();
    let (regex, replace) = match (kind, words) {
        ("replace-path", [regex, format]) => (whole(&expression(regex, false).ok_or(cannot)?), groups(format)),
        ("set-path", [text]) => {
            let inside = text.strip_prefix("%[path,regsub(").and_then(|text| text.strip_suffix(")]"));
            match (inside.and_then(|inside| inside.split_once(',')), text.strip_suffix("%[path]")) {
                (Some((regex, format)), _) => {
                    let format = format.trim_end_matches(",g").trim_matches(['"', '\'']);
                    (expression(regex.trim_matches(['"', '\'']), false).ok_or(cannot)?, groups(format))
                }
                (_, Some(prefix)) => ("^".to_owned(), groups(prefix)),
                _ => ("^.*$".to_owned(), groups(text)),
            }
        }
        _ => return Err("it has an expression and a replacement".into()),
    };
    if !sound(&replace) {
        return Err("what is made of other parts of the request is no path".into());
    }
    Ok(Filter::new("rewrite", Node::map([("regex", Node::text(regex)), ("replace", Node::text(replace))])))
}
