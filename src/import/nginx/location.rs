//! `location` blocks: which there are, and which one a path belongs to.

use std::collections::BTreeMap;

use super::{Ctx, Directive, Scope, server::Site, value};

/// How a location is chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// `= /path`.
    Exact,
    /// `^~ /path`: no expression is asked where this is the longest prefix.
    Stopping,
    /// `/path`.
    Prefix,
    /// `~` and `~*`, as an expression of ours.
    Regex(String),
}

/// A location.
#[derive(Debug, Clone)]
pub struct Location<'d> {
    /// How it is chosen.
    pub kind: Kind,
    /// Its path, or its expression as it is written.
    pub path: String,
    /// The block.
    pub directive: &'d Directive,
    /// What counts in it.
    pub scope: Scope<'d>,
    /// What is to be said of it.
    pub comments: Vec<String>,
}

impl Location<'_> {
    /// Does it send requests on?
    pub fn is_proxied(&self) -> bool {
        let passes = |directive: &Directive| directive.name.ends_with("_pass");
        self.directive.inside().iter().any(passes)
    }
}

impl Ctx {
    /// The locations of a block and those inside of them.
    pub(super) fn locations<'d>(
        &mut self,
        block: &'d [Directive],
        scope: &Scope<'d>,
        parent: Option<&Location<'d>>,
        found: &mut Vec<Location<'d>>,
        named: &mut BTreeMap<String, Location<'d>>,
        comments: &mut Vec<String>,
    ) {
        for directive in block.iter().filter(|directive| directive.name == "location") {
            let (sign, path) = match directive.args.as_slice() {
                [path] => split_sign(path),
                [sign, path] => (sign.as_str(), path.as_str()),
                _ => {
                    comments.push(self.left(directive, "a location has one path"));
                    continue;
                }
            };
            let inside = directive.inside();
            let kind = match sign {
                "" => Kind::Prefix,
                "=" => Kind::Exact,
                "^~" => Kind::Stopping,
                "~" | "~*" => match value::expression(&within(path, parent), sign == "~*") {
                    Some(expression) => Kind::Regex(expression),
                    None => {
                        let why = "an expression here has no look-around and no back-references: requests for it go to the other routes";
                        comments.push(self.left(directive, why));
                        continue;
                    }
                },
                _ => {
                    comments.push(self.left(directive, "this is no kind of location"));
                    continue;
                }
            };
            let mut own = self.account(inside);
            let location = Location { kind, path: path.to_owned(), directive, scope: scope.inner(inside), comments: Vec::new() };
            if path.starts_with('@') {
                named.insert(path.to_owned(), Location { comments: own, ..location });
                continue;
            }
            self.locations(inside, &location.scope, Some(&location), found, named, &mut own);
            if !path.starts_with('/') && !matches!(location.kind, Kind::Regex(_)) {
                comments.push(self.left(directive, "a path begins with `/`"));
                continue;
            }
            found.push(Location { comments: own, ..location });
        }
    }
}

/// `=/path` and `~*expression` may be one word.
fn split_sign(text: &str) -> (&str, &str) {
    for sign in ["~*", "^~", "~", "="] {
        if let Some(path) = text.strip_prefix(sign) {
            return (sign, path);
        }
    }
    ("", text)
}

/// An expression inside of a prefix counts below that only.
fn within(expression: &str, parent: Option<&Location<'_>>) -> String {
    match parent {
        Some(parent)
            if matches!(parent.kind, Kind::Prefix | Kind::Stopping) && !expression.starts_with('^') && parent.path != "/" =>
        {
            format!("^{}.*(?:{expression})", regex::escape(&parent.path))
        }
        _ => expression.to_owned(),
    }
}

impl<'d> Site<'d> {
    /// The location that nginx chooses for a path.
    pub(super) fn find(&self, path: &str) -> Option<&Location<'d>> {
        let of = |kind: Kind| self.locations.iter().filter(move |location| location.kind == kind);
        if let Some(exact) = of(Kind::Exact).find(|location| location.path == path) {
            return Some(exact);
        }
        let prefixes = of(Kind::Prefix).chain(of(Kind::Stopping)).filter(|location| path.starts_with(&location.path));
        let longest = prefixes.max_by_key(|location| location.path.len());
        if let Some(stopping) = longest.filter(|location| location.kind == Kind::Stopping) {
            return Some(stopping);
        }
        let matches = |location: &&Location<'_>| match &location.kind {
            Kind::Regex(expression) => regex::Regex::new(expression).is_ok_and(|regex| regex.is_match(path)),
            _ => false,
        };
        self.locations.iter().find(matches).or(longest)
    }
}
