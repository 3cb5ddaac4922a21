//! The `map_back` filter: what becomes of the endpoint's own URLs and cookies in answers, where it is not what `rewrite` implies.
//!
//! The filter only says so on the way in, as `rewrite` does; the mapping itself is [`Back`]'s. It is done before any filter of
//! the response pass, so where this filter stands in the list does not matter. The last one counts, which is the route's.

use std::sync::Arc;

use http::HeaderValue;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Back, Filter, FilterRequest, Slot, Verdict, back::Seen, rewrite::unknown_group};
use crate::types::{At, Code, Regexp, Switch, Template, TemplateError};

/// Maps `Location`, `Content-Location`, `Refresh` and `Set-Cookie` of endpoints back to what the client asked for: `off`, or rules
/// beside what `rewrite` and the endpoint's own address imply.
pub type MapBackSpec = Switch<MapBackOptions>;

/// Rules; the first that fits decides, before what is implied.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MapBackOptions {
    /// Map back what prefixes of `rewrite` and the endpoint's own names and addresses imply, where no rule fits.
    pub default: bool,
    /// For `Location`, `Content-Location` and the URL of `Refresh`. `from` is how the value begins.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub location: Vec<RuleSpec>,
    /// For `Path` in `Set-Cookie`. `from` is how the path begins.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cookie_path: Vec<RuleSpec>,
    /// For `Domain` in `Set-Cookie`. `from` is the whole domain.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cookie_domain: Vec<RuleSpec>,
}

impl Default for MapBackOptions {
    fn default() -> Self {
        Self { default: true, location: Vec::new(), cookie_path: Vec::new(), cookie_domain: Vec::new() }
    }
}

/// One text in the place of another: `from` or `regex`, and `to`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleSpec {
    /// Replace this, as it is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Replace the first match of this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regex: Option<Regexp>,
    /// The replacement. With `regex`, `$1` and `$name` are its groups and `$$` is the sign itself. In `location`, `{scheme}` and `{host}` are
    /// what the client used. Empty in a rule for cookies: the attribute is left out.
    pub to: String,
}

/// What the rules are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Location,
    CookiePath,
    CookieDomain,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variable {
    Scheme,
    Host,
}

const VARIABLES: &[(&str, Variable)] = &[("scheme", Variable::Scheme), ("host", Variable::Host)];

#[derive(Debug)]
enum From {
    Text(Box<str>),
    Regex(Regexp),
}

#[derive(Debug)]
struct Rule {
    from: From,
    to: Template<Variable>,
}

/// The rules of a `map_back`, compiled.
#[derive(Debug, Default)]
pub(super) struct Rules {
    /// What is implied holds where no rule fits.
    pub(super) default: bool,
    location: Vec<Rule>,
    cookie_path: Vec<Rule>,
    cookie_domain: Vec<Rule>,
}

impl MapBackSpec {
    pub(super) fn compile(&self, at: &At) -> Option<Arc<dyn Filter>> {
        let rules = match self {
            Switch::Off => Rules::default(),
            Switch::On(options) => {
                let rules = |specs: &[RuleSpec], part: Part, key: &str| -> Option<Vec<Rule>> {
                    let at = at.key(key);
                    let compiled: Vec<_> =
                        specs.iter().enumerate().map(|(index, spec)| Rule::compile(spec, part, &at.index(index))).collect();
                    compiled.into_iter().collect()
                };
                let location = rules(&options.location, Part::Location, "location");
                let cookie_path = rules(&options.cookie_path, Part::CookiePath, "cookie_path");
                let cookie_domain = rules(&options.cookie_domain, Part::CookieDomain, "cookie_domain");
                Rules { default: options.default, location: location?, cookie_path: cookie_path?, cookie_domain: cookie_domain? }
            }
        };
        Some(Arc::new(MapBack(Arc::new(rules))))
    }
}

impl Rule {
    fn compile(spec: &RuleSpec, part: Part, at: &At) -> Option<Self> {
        let from = match (&spec.from, &spec.regex) {
            (Some(_), Some(_)) => {
                at.key("regex")
                    .problem(Code::Conflict, "a rule has either `from` or `regex`")
                    .also(at.key("from").path(), "the other one")
                    .hint("remove one of them");
                return None;
            }
            (None, None) => {
                at.problem(Code::MissingKey, "this rule does not say what it replaces").hint("add `from` or `regex`");
                return None;
            }
            (Some(from), None) if from.is_empty() => {
                at.key("from").problem(Code::BadValue, "every value begins with nothing").hint("write how the value begins");
                return None;
            }
            (Some(from), None) => From::Text(from.as_str().into()),
            (None, Some(regex)) => From::Regex(regex.clone()),
        };
        Some(Self { to: to(spec, part, &at.key("to"))?, from })
    }

    fn apply(&self, text: &str, whole: bool, seen: &Seen<'_>) -> Option<String> {
        match &self.from {
            From::Text(from) if whole => {
                let bare = |domain: &str| domain.strip_prefix('.').unwrap_or(domain).to_ascii_lowercase();
                (bare(from) == bare(text)).then(|| self.fill(seen, false))
            }
            From::Text(from) => text.strip_prefix(&**from).map(|rest| self.fill(seen, false) + rest),
            From::Regex(regex) => {
                let captures = regex.captures(text)?;
                let found = captures.get(0)?;
                let mut out = text[..found.start()].to_owned();
                captures.expand(&self.fill(seen, true), &mut out);
                out.push_str(&text[found.end()..]);
                Some(out)
            }
        }
    }

    /// The replacement for this client. What it has sent is no group, whatever it is.
    fn fill(&self, seen: &Seen<'_>, groups: bool) -> String {
        self.to.fill(|variable, out| match variable {
            Variable::Scheme => out.push_str(seen.scheme.as_str()),
            Variable::Host if groups => out.push_str(&seen.host.replace('$', "$$")),
            Variable::Host => out.push_str(seen.host),
        })
    }
}

fn to(spec: &RuleSpec, part: Part, at: &At) -> Option<Template<Variable>> {
    let to = &spec.to;
    let problem = |message: String, hint: &str| {
        at.problem(Code::BadValue, message).hint(hint);
        None
    };
    let known = if part == Part::Location { VARIABLES } else { &[] };
    let template = match Template::parse(to, known) {
        Ok(template) => template,
        Err(error) => {
            let problem = at.problem(Code::BadValue, error.to_string());
            if let TemplateError::Unknown(name) = &error {
                problem.nearest(name, known.iter().map(|(name, _)| *name));
            }
            return None;
        }
    };
    if HeaderValue::from_str(to).is_err() || to.contains(char::is_whitespace) {
        return problem(format!("{to:?} has a character that no URL may hold"), "write it percent-encoded");
    }
    if part != Part::Location && to.contains([';', ',']) {
        return problem(format!("`{to}` has a character that no attribute of a cookie may hold"), "write the attribute alone");
    }
    if part == Part::CookiePath && spec.regex.is_none() && !to.is_empty() && !to.starts_with('/') {
        at.problem(Code::BadValue, format!("`{to}` is not a path")).hint(format!("write `/{to}`"));
        return None;
    }
    if let Some(regex) = &spec.regex
        && let Some(group) = unknown_group(regex, &template.fill(|_, _| {}))
    {
        return problem(
            format!("`${group}` is not a group of `{regex}`"),
            "a group's name goes on as far as letters, digits and `_` do; `$$` is the sign itself",
        );
    }
    Some(template)
}

fn first(rules: &[Rule], text: &str, whole: bool, seen: &Seen<'_>) -> Option<String> {
    rules.iter().find_map(|rule| rule.apply(text, whole, seen))
}

impl Rules {
    pub(super) fn has_rules(&self) -> bool {
        [&self.location, &self.cookie_path, &self.cookie_domain].iter().any(|rules| !rules.is_empty())
    }

    pub(super) fn is_off(&self) -> bool {
        !self.default && !self.has_rules()
    }

    pub(super) fn location(&self, text: &str, seen: &Seen<'_>) -> Option<String> {
        first(&self.location, text, false, seen)
    }

    /// Another path, or an empty one where the attribute goes.
    pub(super) fn cookie_path(&self, text: &str, seen: &Seen<'_>) -> Option<String> {
        first(&self.cookie_path, text, false, seen)
    }

    /// Another domain, or an empty one where the attribute goes.
    pub(super) fn cookie_domain(&self, text: &str, seen: &Seen<'_>) -> Option<String> {
        first(&self.cookie_domain, text, true, seen)
    }
}

#[derive(Debug)]
struct MapBack(Arc<Rules>);

impl Filter for MapBack {
    fn kind(&self) -> &'static str {
        "map_back"
    }

    fn request(&self, request: &mut FilterRequest<'_>, _: &mut Slot) -> Verdict {
        request.back.rules(self.0.clone());
        Verdict::Continue
    }

    fn foretell(&self, _: &mut String, back: &mut Back) {
        back.rules(self.0.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        filter::{
            back::Own,
            tests_support::{Exchange, compile, refused},
        },
        types::Scheme,
    };

    struct Nobody;

    impl Own for Nobody {
        fn authority(&self, _: Scheme, host: &str, _: Option<u16>) -> bool {
            self.host(host)
        }
        fn host(&self, host: &str) -> bool {
            host == "own.test"
        }
    }

    const SEEN: Seen<'static> = Seen { scheme: Scheme::Https, host: "shop.test", port: Some(8443), own: &Nobody };

    fn back(options: &str) -> Back {
        let mut exchange = Exchange { path: "/shop/x".into(), ..Exchange::default() };
        let filters = format!(r#"[{{"map_back": {options}}}, {{"rewrite": {{"strip_prefix": "/shop"}}}}]"#);
        exchange.request(&compile(&filters)).unwrap();
        exchange.back
    }

    #[test]
    fn rules_come_before_what_is_implied() {
        let back = back(
            r#"{"location": [{"from": "http://old.test/", "to": "/new/"}, {"regex": "^http://([^/]+)[.]lan(/|$)", "to": "{scheme}://{host}/$1/"},
                {"from": "/raw", "to": "/raw"}]}"#,
        );
        for (said, becomes) in [
            ("http://old.test/a?b", Some("/new/a?b")),
            ("http://db.lan/a", Some("https://shop.test/db/a")),
            ("/raw/x", Some("/raw/x")),
            ("/login", Some("/shop/login")),
            ("http://own.test/a", Some("https://shop.test:8443/shop/a")),
            ("http://other.test/", None),
        ] {
            assert_eq!(back.location(said, &SEEN).as_deref(), becomes, "{said}");
        }
        assert_eq!(back.refresh("1; url=http://old.test/a", &SEEN).as_deref(), Some("1; url=/new/a"));
    }

    #[test]
    fn rules_for_cookies() {
        let back = back(
            r#"{"cookie_path": [{"from": "/app", "to": "/s"}, {"regex": "^/t/[^/]+", "to": ""}],
                "cookie_domain": [{"from": "old.test", "to": "new.test"}, {"regex": "[.]lan$", "to": ".test"}, {"from": "gone.test", "to": ""}]}"#,
        );
        for (said, becomes) in [
            ("a=b; Path=/app/x; Domain=.OLD.test", Some("a=b; Path=/s/x; Domain=new.test")),
            ("a=b; Path=/t/1; Domain=db.lan", Some("a=b; Domain=db.test")),
            ("a=b; Path=/x; Domain=own.test", Some("a=b; Path=/shop/x")),
            ("a=b; Domain=gone.test; Secure", Some("a=b; Secure")),
            ("a=b; Domain=sub.old.test", None),
        ] {
            assert_eq!(back.cookie(said, &SEEN).as_deref(), becomes, "{said}");
        }
    }

    #[test]
    fn what_is_implied_can_be_switched_off() {
        for off in [r#""off""#, r#"{"default": false}"#] {
            let back = back(off);
            assert!(back.is_off());
            assert_eq!(back.location("/login", &SEEN), None);
            assert_eq!(back.cookie("a=b; Path=/; Domain=own.test", &SEEN), None);
        }
        let back = back(r#"{"default": false, "cookie_path": [{"from": "/", "to": "/p/"}]}"#);
        assert!(!back.is_off());
        assert_eq!((back.location("/login", &SEEN), back.location("http://own.test/", &SEEN)), (None, None));
        let cookie = back.cookie("a=b; Path=/; Domain=own.test", &SEEN);
        assert_eq!(cookie.as_deref(), Some("a=b; Path=/p/; Domain=own.test"));
    }

    #[test]
    fn the_last_one_counts() {
        let chain = compile(r#"[{"map_back": "off"}, {"map_back": {}}, {"rewrite": {"strip_prefix": "/shop"}}]"#);
        let mut exchange = Exchange { path: "/shop/x".into(), ..Exchange::default() };
        exchange.request(&chain).unwrap();
        assert_eq!(exchange.back.location("/login", &SEEN).as_deref(), Some("/shop/login"));
    }

    #[test]
    fn mistakes_are_named() {
        for (options, word) in [
            (r#"{"location": [{"to": "/"}]}"#, "does not say what it replaces"),
            (r#"{"location": [{"from": "/", "regex": "/", "to": "/"}]}"#, "either"),
            (r#"{"location": [{"from": "", "to": "/"}]}"#, "begins with nothing"),
            (r#"{"location": [{"from": "/a", "to": "/{hots}"}]}"#, "`{hots}`"),
            (r#"{"location": [{"from": "/a", "to": "/a b"}]}"#, "no URL may hold"),
            (r#"{"location": [{"regex": "(a)", "to": "/$2"}]}"#, "`$2` is not a group"),
            (r#"{"cookie_path": [{"from": "/a", "to": "b"}]}"#, "is not a path"),
            (r#"{"cookie_path": [{"from": "/a", "to": "/b;Secure"}]}"#, "no attribute"),
            (r#"{"cookie_domain": [{"from": "a", "to": "{host}"}]}"#, "`{host}`"),
        ] {
            let problems = refused(&format!(r#"[{{"map_back": {options}}}]"#));
            assert!(problems[0].message.contains(word), "{options}: {problems:?}");
        }
    }
}
