//! `proxy_redirect`, `proxy_cookie_path` and `proxy_cookie_domain`: what becomes of the endpoint's own URLs and cookies.

use super::{
    super::{
        draft::{Body, Filter},
        yaml::Node,
    },
    Ctx, Directive, Scope,
    value::{self, Part, parts},
};

/// What a rule is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum About {
    Location,
    Cookie,
}

impl Ctx {
    /// The filter `map_back`, where it is not what Weir does by itself.
    pub(super) fn map_back(&mut self, scope: &Scope<'_>, body: &mut Body) {
        let redirects = scope.all(&["proxy_redirect"]);
        let off = redirects.iter().any(|directive| directive.arg(0) == "off");
        let by_default = redirects.iter().any(|directive| directive.arg(0) == "default");
        let mut rules = |key: &str, directives: &[&Directive], about: About| -> Option<(String, Node)> {
            let mut nodes = Vec::new();
            for directive in directives.iter().filter(|directive| !matches!(directive.arg(0), "off" | "default")) {
                match rule(scope, directive, about) {
                    Ok(node) => nodes.push(node),
                    Err(why) => body.comments.push(self.left(directive, why)),
                }
            }
            (!nodes.is_empty()).then(|| (key.to_owned(), Node::List(nodes)))
        };
        let location = rules("location", if off { &[] } else { &redirects }, About::Location);
        let paths = rules("cookie_path", &scope.all(&["proxy_cookie_path"]), About::Cookie);
        let domains = rules("cookie_domain", &scope.all(&["proxy_cookie_domain"]), About::Cookie);
        if let Some(first) = redirects.first().filter(|first| first.arg(0) == "default" && location.is_some()) {
            body.comments.push(self.differs(first, "rules come before what is implied, wherever it is written"));
        }
        let mut options: Vec<(String, Node)> = Vec::new();
        if off || location.is_some() && !by_default {
            options.push(("default".into(), Node::bare(false)));
        }
        let rules: Vec<_> = [location, paths, domains].into_iter().flatten().collect();
        let filter = match (off, rules.is_empty()) {
            (false, true) => return,
            (true, true) => Node::bare("off"),
            (_, false) => Node::Map(options.into_iter().chain(rules).collect()),
        };
        body.filters.push(Filter::new("map_back", filter));
    }
}

fn rule(scope: &Scope<'_>, directive: &Directive, about: About) -> Result<Node, String> {
    let from = scope.text(directive.arg(0));
    let expression =
        from.strip_prefix("~*").map(|text| (text, true)).or_else(|| from.strip_prefix('~').map(|text| (text, false)));
    let (key, from) = match expression {
        Some((text, ignore_case)) => {
            let expression = value::expression(text.trim(), ignore_case);
            ("regex", expression.ok_or_else(|| format!("there is no such expression: `{text}`"))?)
        }
        None => match parts(&from).into_iter().find_map(|part| if let Part::Variable(name) = part { Some(name) } else { None }) {
            Some(name) => return Err(format!("what is replaced is a text or an expression, without `${name}`")),
            None => ("from", from.clone()),
        },
    };
    let to = replacement(&scope.text(directive.arg(1)), expression.is_some(), about)?;
    Ok(Node::map([(key, Node::text(from)), ("to", Node::text(to))]))
}

/// What is put in its place, as a template of ours.
fn replacement(text: &str, groups: bool, about: About) -> Result<String, String> {
    let mut out = String::new();
    for part in parts(text) {
        match part {
            Part::Text(text) => {
                let text = text.replace('{', "{{").replace('}', "}}");
                out.push_str(&if groups { text.replace('$', "$$") } else { text });
            }
            // In braces, which end the number.
            Part::Variable(name) if groups && name.bytes().all(|b| b.is_ascii_digit()) => {
                out.push_str(&format!("${{{{{name}}}}}"))
            }
            Part::Variable(name) => out.push_str(match name.as_str() {
                "scheme" if about == About::Location => "{scheme}",
                "host" | "server_name" if about == About::Location => "{host}",
                name => return Err(format!("there is no `${name}` in a replacement")),
            }),
        }
    }
    if about == About::Cookie && out.contains([';', ',']) {
        return Err("no attributes are added to cookies".into());
    }
    if out.contains(char::is_whitespace) {
        return Err("it makes no URL".into());
    }
    Ok(out)
}
