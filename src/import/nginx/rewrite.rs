//! `return`, `rewrite` and `if`: rules of their own, in front of what a server or a location does.

use super::{
    super::{
        draft::{Action, Body, Filter},
        matching::{Match, PathMatch, Value},
        order::Rule,
        yaml::Node,
    },
    Ctx, Directive,
    content::is_unless_file,
    server::Site,
    value::{self, Part, Use, parts, template},
};
use crate::types::HostPattern;

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

impl Ctx {
    /// Adds the rules of a block. True when one of them takes everything, so that nothing behind counts.
    pub(super) fn rewrites(
        &mut self,
        block: &[Directive],
        site: &Site<'_>,
        matches: &Match,
        name: &str,
        rules: &mut Vec<Rule<Body>>,
    ) -> bool {
        let scope = site.scope.inner(block);
        for directive in block {
            match directive.name.as_str() {
                "return" => {
                    let body = self.answer(directive, &scope, matches, name);
                    let body = self.with_headers(site, block, body);
                    rules.push(Rule::new(matches.clone(), body));
                    return true;
                }
                "rewrite" => {
                    let text = scope.text(directive.arg(1));
                    let flag = directive.arg(2);
                    let leaves = matches!(flag, "permanent" | "redirect") || text.contains("://");
                    let inside_location =
                        matches.path != PathMatch::Any || block.iter().any(|other| other.name.ends_with("_pass"));
                    if !leaves
                        && (inside_location || matches!(flag, "break"))
                        && !self.goes_elsewhere(directive, site, block, &text, flag)
                    {
                        // It is a filter of what the location does.
                        continue;
                    }
                    let Some((matches, all)) = self.narrowed(directive, matches) else { continue };
                    let body = match leaves {
                        true => self.redirect(directive, &text, if flag == "permanent" { 301 } else { 302 }, name),
                        false => self.moved(directive, site, &text, name),
                    };
                    rules.push(Rule::new(matches, body));
                    if all {
                        return true;
                    }
                }
                "if" if is_unless_file(directive) => {}
                "if" => self.condition(directive, site, matches, name, rules),
                _ => {}
            }
        }
        false
    }

    /// Does the path that a `rewrite` makes belong to another location than this block?
    fn goes_elsewhere(&self, directive: &Directive, site: &Site<'_>, block: &[Directive], text: &str, flag: &str) -> bool {
        let path = sample(text);
        let stays = site.find(&path).is_none_or(|location| std::ptr::eq(location.directive.inside(), block));
        !stays && flag != "break" && value::expression(directive.arg(0), false).is_some()
    }

    /// The requests of a block that a `rewrite` in it is for, and whether those are all.
    fn narrowed(&mut self, directive: &Directive, matches: &Match) -> Option<(Match, bool)> {
        let Some(expression) = value::expression(directive.arg(0), false) else {
            let comment = self.left(directive, "an expression here has no look-around and no back-references");
            self.draft.comments.push(comment);
            return None;
        };
        let all = matches!(
            expression.as_str(),
            "^" | "^/" | ".*" | "^.*" | "^.*$" | "(.*)" | "^(.*)$" | "^/(.*)$" | "^/(.*)" | "^/.*$" | "/(.*)" | "^(.*)"
        );
        let below = |start: &str| {
            expression.strip_prefix('^').is_some_and(|rest| rest.starts_with(&regex::escape(start)) || rest.starts_with(start))
        };
        let path = match &matches.path {
            path if all => path.clone(),
            PathMatch::Any => PathMatch::Regex(expression),
            PathMatch::Begins(start) if below(start) => {
                let rest = expression.trim_start_matches('^').replace('\\', "");
                let whole =
                    matches!(&rest[start.len().min(rest.len())..], "" | ".*" | "(.*)" | ".*$" | "(.*)$" | "?(.*)$" | "?(.*)");
                if whole {
                    return Some((matches.clone(), true));
                }
                PathMatch::Regex(expression)
            }
            PathMatch::Exact(path) if regex::Regex::new(&expression).is_ok_and(|regex| regex.is_match(path)) => {
                return Some((matches.clone(), true));
            }
            PathMatch::Regex(own) if *own == expression => return Some((matches.clone(), true)),
            PathMatch::Regex(_) if expression.starts_with('^') => PathMatch::Regex(expression),
            _ => {
                let comment = self.left(directive, "it is for a part of its location that cannot be told by one expression");
                self.draft.comments.push(comment);
                return None;
            }
        };
        Some((Match { path, ..matches.clone() }, all))
    }

    /// `return CODE [TEXT]`, `return CODE URL`, `return URL`.
    fn answer(&mut self, directive: &Directive, scope: &super::Scope<'_>, matches: &Match, name: &str) -> Body {
        let (status, text) = match directive.arg(0).parse::<u16>() {
            Ok(status) => (status, directive.arg(1)),
            Err(_) => (302, directive.arg(0)),
        };
        let text = scope.text(text);
        if matches!(status, 301 | 302 | 303 | 307 | 308) && !text.is_empty() {
            let expression = match &matches.path {
                PathMatch::Regex(expression) => Some(expression.as_str()),
                _ => None,
            };
            return match target(&text, expression) {
                Ok((filter, to)) => {
                    let mut body = Body::new(name, Action::Redirect { to, status });
                    body.filters.extend(filter);
                    body
                }
                Err(why) => {
                    let mut body = Body::new(name, Action::status(501));
                    body.comments.push(self.left(directive, why));
                    body
                }
            };
        }
        let mut body = Body::new(name, Action::status(if (200..600).contains(&status) { status } else { 501 }));
        if status == 444 {
            body.action = Action::status(403);
            body.comments.push(self.differs(directive, "403 instead of a connection that is closed without an answer"));
        } else if !text.is_empty() && !matches!(status, 204 | 304) {
            let named: Vec<String> = parts(&text)
                .into_iter()
                .filter_map(|part| match part {
                    Part::Variable(name) => Some(name),
                    Part::Text(_) => None,
                })
                .collect();
            if !named.is_empty() {
                body.comments
                    .push(self.differs(directive, format!("the body is a fixed text: `${}` stays as it is written", named[0])));
            }
            let kind = scope.value("default_type").filter(|kind| kind.contains('/')).unwrap_or("text/plain");
            body.action = Action::Respond { status, body: text, content_type: Some(kind.to_owned()) };
        }
        body
    }

    /// `rewrite EXPRESSION TARGET permanent`: the query is kept, unless the target ends with `?`.
    fn redirect(&mut self, directive: &Directive, text: &str, status: u16, name: &str) -> Body {
        let (text, keeps) = match text.strip_suffix('?') {
            Some(text) => (text, false),
            None => (text, true),
        };
        let expression = value::expression(directive.arg(0), false).unwrap_or_default();
        let mut body = Body::new(name, Action::status(501));
        match target(text, Some(&expression)) {
            Ok((filter, to)) => {
                let keeps = keeps && !to.contains("{query}");
                if keeps && to.contains('?') {
                    body.comments.push(self.differs(directive, "the query of the request is not added to that of the target"));
                }
                let to = if keeps && !to.contains('?') { format!("{to}{{query}}") } else { to };
                body.filters.extend(filter);
                body.action = Action::Redirect { to, status };
            }
            Err(why) => body.comments.push(self.left(directive, why)),
        }
        body
    }

    /// `rewrite EXPRESSION /path last`: what the location does that has the new path.
    fn moved(&mut self, directive: &Directive, site: &Site<'_>, text: &str, name: &str) -> Body {
        let filter = self.rewrite_filter(&site.scope, directive);
        let location = site.find(&sample(text)).cloned();
        let mut body = match location {
            Some(location) => self.content(site, &location, name, 1),
            None => self.rest(site, name),
        };
        match filter {
            Ok(filter) => body.filters.insert(0, filter),
            Err(why) => body.comments.push(self.left(directive, why)),
        }
        body
    }

    /// `if (CONDITION) { return ...; }`.
    fn condition(&mut self, directive: &Directive, site: &Site<'_>, matches: &Match, name: &str, rules: &mut Vec<Rule<Body>>) {
        let inside = directive.inside();
        let acts = inside.iter().any(|inner| matches!(inner.name.as_str(), "return" | "rewrite"));
        let mut comments = self.account(inside);
        let from = rules.len();
        if !acts {
            comments.push(
                self.left(directive, "a condition of its own is a route: only `return` and `rewrite` in it are carried over"),
            );
        } else {
            match narrow(directive, site, matches) {
                Ok(Some(matches)) => {
                    self.rewrites(inside, site, &matches, &format!("{name}-if"), rules);
                }
                // Never so.
                Ok(None) => {}
                Err(why) => comments.push(self.left(directive, why)),
            }
        }
        match rules.get_mut(from) {
            Some(rule) => rule.body.comments.splice(0..0, comments).for_each(drop),
            None => self.draft.comments.extend(comments),
        }
    }
}

/// A path that a `rewrite` may make.
fn sample(text: &str) -> String {
    let piece = |part: Part| match part {
        Part::Text(text) => text,
        Part::Variable(_) => "x".into(),
    };
    let path: String = parts(text.split('?').next().unwrap_or_default()).into_iter().map(piece).collect();
    path.replace("//", "/")
}

/// The path of a `rewrite` as the replacement of an expression of ours.
pub(super) fn replacement(path: &str) -> Result<String, String> {
    let mut out = String::new();
    for part in parts(path) {
        match part {
            Part::Text(text) => out.push_str(&text.replace('$', "$$")),
            Part::Variable(name) if matches!(name.as_str(), "uri" | "request_uri" | "document_uri") => out.push_str("${0}"),
            Part::Variable(name) if name.bytes().all(|b| b.is_ascii_digit()) => out.push_str(&format!("${{{name}}}")),
            Part::Variable(name) => return Err(format!("there is no `${name}` in a path")),
        }
    }
    if out.bytes().any(|b| !b.is_ascii_graphic() || matches!(b, b'?' | b'#' | b'\\' | b'<' | b'>' | b'`')) {
        return Err("it makes no path".into());
    }
    Ok(out)
}

/// The target of a redirect, and the filter that makes its path where groups of the expression are in it.
fn target(text: &str, expression: Option<&str>) -> Result<(Option<Filter>, String), String> {
    let unknown = |name: String| format!("there is no `${name}` in the target of a redirect");
    let groups = parts(text).iter().any(|part| matches!(part, Part::Variable(name) if name.bytes().all(|b| b.is_ascii_digit())));
    if !groups {
        let to = template(text, Use::Redirect).map_err(unknown)?;
        let starts = to.starts_with(['/']) || to.starts_with("{path}") || to.contains("://");
        return if starts { Ok((None, to)) } else { Err("the target of a redirect begins with a scheme or `/`".into()) };
    }
    let expression = expression.ok_or("there is no expression whose groups these could be")?;
    let from = text.find("://").map_or(0, |at| at + 3);
    let start = text[from..].find('/').map_or(text.len(), |at| from + at);
    let start = text[from..].find("$1").map_or(start, |at| start.min(from + at));
    let (front, rest) = text.split_at(start);
    let (path, query) = rest.split_at(rest.find('?').unwrap_or(rest.len()));
    let replace = replacement(path)?;
    // What begins with a group begins with the slash that is in it, or gets one.
    let filter =
        Filter::new("rewrite", Node::map([("regex", Node::text(value::whole(expression))), ("replace", Node::text(replace))]));
    let (front, query) = (template(front, Use::Redirect).map_err(unknown)?, template(query, Use::Redirect).map_err(unknown)?);
    Ok((Some(filter), format!("{front}{{path}}{query}")))
}

/// The requests that meet a condition, too; `None` when there are none, `Err` when it cannot be said.
fn narrow(directive: &Directive, site: &Site<'_>, matches: &Match) -> Result<Option<Match>, String> {
    let whole = directive.args.join(" ");
    let inside = whole.trim().trim_start_matches('(').trim_end_matches(')').trim();
    let mut words = inside.splitn(3, ' ');
    let (variable, sign, wanted) = (words.next().unwrap_or_default(), words.next(), words.next().unwrap_or_default());
    let wanted = site.scope.text(wanted.trim().trim_matches(['"', '\'']));
    let cannot = || format!("there is no such condition of a route: `{inside}`");
    let Some(variable) = variable.strip_prefix('$') else { return Err(cannot()) };
    let expression = |ignore_case| value::expression(&wanted, ignore_case).ok_or_else(cannot);
    let held = match sign {
        None => Value::Present(true),
        Some("=") if wanted.is_empty() => Value::Present(false),
        Some("!=") if wanted.is_empty() => Value::Present(true),
        Some("=") => Value::Exact(wanted.clone()),
        Some("~") => Value::Regex(expression(false)?),
        Some("~*") => Value::Regex(expression(true)?),
        Some("!=" | "!~" | "!~*") => Value::Present(false),
        Some(_) => return Err(cannot()),
    };
    let negated = matches!(sign, Some("!=" | "!~" | "!~*")) && !wanted.is_empty();
    let meets = |text: &str| {
        let regex = |ignore_case| expression(ignore_case).ok().and_then(|regex| regex::Regex::new(&regex).ok());
        match sign {
            Some("=") => text == wanted,
            Some("!=") => text != wanted,
            Some("~") => regex(false).is_some_and(|regex| regex.is_match(text)),
            Some("~*") => regex(true).is_some_and(|regex| regex.is_match(text)),
            Some("!~") => regex(false).is_some_and(|regex| !regex.is_match(text)),
            Some("!~*") => regex(true).is_some_and(|regex| !regex.is_match(text)),
            _ => !text.is_empty(),
        }
    };
    let mut condition = Match::default();
    match variable {
        "scheme" | "https" | "ssl_protocol" => {
            let clear = if variable == "scheme" { "http" } else { "" };
            let secure = match variable {
                "scheme" => "https",
                "https" => "on",
                _ => "TLSv1.3",
            };
            let (plain, tls) = &site.clear;
            let chosen = match (meets(clear), meets(secure)) {
                (true, true) => return Ok(Some(matches.clone())),
                (true, false) => plain,
                (false, true) => tls,
                (false, false) => return Ok(None),
            };
            if chosen.is_empty() {
                return Ok(None);
            }
            condition.listeners = chosen.clone();
        }
        "host" | "http_host" | "server_name" => {
            let exact = wanted.parse::<HostPattern>().ok().filter(|_| sign == Some("="));
            condition.hosts = match exact {
                Some(host) => vec![host],
                None => {
                    site.names.iter().filter(|name| matches!(name, HostPattern::Exact(host) if meets(host))).cloned().collect()
                }
            };
            if condition.hosts.is_empty() {
                return Err("hosts are matched by name, and no name of this server is certain to meet it".into());
            }
        }
        "request_method" => {
            condition.methods = METHODS.iter().filter(|method| meets(method)).map(|method| (*method).to_owned()).collect();
            if condition.methods.is_empty() {
                return Ok(None);
            }
        }
        "uri" | "document_uri" | "request_uri" if matches.path == PathMatch::Any => match held {
            Value::Regex(expression) => condition.path = PathMatch::Regex(expression),
            Value::Exact(path) if super::super::order::canonical(&path).is_some() => condition.path = PathMatch::Exact(path),
            _ => return Err(cannot()),
        },
        "remote_addr" => match wanted.parse::<std::net::IpAddr>() {
            Ok(ip) if sign == Some("=") => condition.clients = vec![ipnet::IpNet::from(ip)],
            _ => return Err(cannot()),
        },
        _ if negated => return Err(cannot()),
        name => match name.split_once('_') {
            Some(("http", name)) => _ = condition.headers.insert(name.replace('_', "-"), held),
            Some(("arg", name)) => _ = condition.query.insert(name.to_owned(), held),
            _ => return Err(cannot()),
        },
    }
    Ok(matches.meet(&condition))
}
