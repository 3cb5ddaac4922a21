//! Path patterns as users write them, held against the canonical form of paths.
//!
//! The gate hands routing canonical paths only, so a pattern that is not canonical could never match.
//! It is refused with its canonical form as the hint, rather than changed silently.

use std::fmt;

use crate::{
    gate::{Refusal, target::canonical},
    types::Regexp,
};

/// Which paths a route takes.
#[derive(Debug, Clone, PartialEq)]
pub enum PathPattern {
    /// Every path: `/*`, or no pattern at all.
    Any,
    /// This path and no other, trailing slash included.
    Exact(Box<str>),
    /// This path (held without a slash at its end) and everything below, on segment boundaries.
    Prefix(Box<str>),
    /// Every path in which the expression is found.
    Regex(Regexp),
}

/// Why a pattern was refused, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathError {
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

impl PathPattern {
    /// `/v1/*` is a prefix, `/v1` an exact path, `/*` every path.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        if let Some(expression) = text.strip_prefix('~') {
            return Err(PathError {
                message: format!("`{text}` is an expression in nginx, and no path"),
                hint: format!("write `path_regex: '{}'`", expression.trim_start_matches(['*', ' '])),
            });
        }
        let (path, prefix) = match text.strip_suffix("/*") {
            Some(path) => (path, true),
            None => (text, false),
        };
        if prefix && path.is_empty() {
            return Ok(PathPattern::Any);
        }
        if path.contains('*') {
            return Err(PathError {
                message: format!("`{text}`: `*` stands only for the whole last segment, as in `/v1/*`"),
                hint: "use `path_regex` for anything else".into(),
            });
        }
        let path = check(path, text)?;
        Ok(if prefix { PathPattern::Prefix(path.into()) } else { PathPattern::Exact(path.into()) })
    }

    /// What follows the part of the path that was matched: for a prefix the rest (`""` or from a `/` on),
    /// for everything else the whole path. `None` when the path does not match.
    pub fn tail<'p>(&self, path: &'p str) -> Option<&'p str> {
        match self {
            PathPattern::Any => Some(path),
            PathPattern::Exact(exact) => (**exact == *path).then_some(path),
            PathPattern::Prefix(prefix) => path.strip_prefix(&**prefix).filter(|tail| tail.is_empty() || tail.starts_with('/')),
            PathPattern::Regex(regex) => regex.is_match(path).then_some(path),
        }
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PathPattern::Any => f.write_str("/*"),
            PathPattern::Exact(path) => f.write_str(path),
            PathPattern::Prefix(path) => write!(f, "{path}/*"),
            PathPattern::Regex(regex) => regex.fmt(f),
        }
    }
}

/// The path, if it is what the gate would make of it. `shown` is what the user wrote.
fn check<'p>(path: &'p str, shown: &str) -> Result<&'p str, PathError> {
    let error = |message: &str, hint: String| PathError { message: format!("`{shown}` {message}"), hint };
    let star = if shown.len() > path.len() { "/*" } else { "" };
    if !path.starts_with('/') {
        return Err(error("does not start with `/`", format!("write `/{shown}`")));
    }
    if path.contains(['?', '#']) {
        return Err(error("holds more than a path", "match parameters with `query`".into()));
    }
    if let Some(bad) = path.chars().find(|c| !c.is_ascii_graphic() || *c == '\\') {
        let hint = match bad {
            '\\' => "write `/`".into(),
            bad => format!("write `{}`", bad.to_string().bytes().map(|b| format!("%{b:02X}")).collect::<String>()),
        };
        return Err(error(&format!("has a character that no path holds: {bad:?}"), hint));
    }
    let canonical = match canonical(path) {
        Ok(canonical) => canonical,
        Err(Refusal::BadEscape) => {
            return Err(error("has a `%` without two hexadecimal digits behind it", "write `%25` for the sign itself".into()));
        }
        Err(refusal) => {
            let message = format!("never matches: such a request is refused before routing ({})", refusal.reason());
            return Err(error(&message, "write the path without it".into()));
        }
    };
    if canonical != path {
        return Err(error(
            "never matches: paths are compared without `.` and `..`, doubled slashes and needless escapes",
            format!("write `{}{star}`", if star.is_empty() { &*canonical } else { canonical.trim_end_matches('/') }),
        ));
    }
    if !star.is_empty() && path.ends_with('/') {
        return Err(error("has a doubled slash", format!("write `{}/*`", path.trim_end_matches('/'))));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> PathPattern {
        PathPattern::parse(text).unwrap_or_else(|error| panic!("{text}: {error:?}"))
    }

    #[test]
    fn a_prefix_ends_on_a_segment_boundary() {
        let pattern = parse("/v1/*");
        for (path, tail) in [
            ("/v1", Some("")),
            ("/v1/", Some("/")),
            ("/v1/a/b", Some("/a/b")),
            ("/v1x", None),
            ("/v", None),
            ("/V1", None),
            ("/", None),
        ] {
            assert_eq!(pattern.tail(path), tail, "{path}");
        }
        assert_eq!(parse("/*"), PathPattern::Any);
        assert_eq!(parse("/*").tail("/a"), Some("/a"));
    }

    #[test]
    fn an_exact_path_minds_its_slash_at_the_end() {
        assert_eq!(parse("/v1").tail("/v1/"), None);
        assert_eq!(parse("/v1/").tail("/v1"), None);
        assert_eq!(parse("/").tail("/"), Some("/"));
        assert_eq!(parse("/a%2Fb").tail("/a%2Fb"), Some("/a%2Fb"));
    }

    #[test]
    fn a_pattern_that_could_not_match_names_the_one_that_could() {
        for (text, hint) in [
            ("v1", "`/v1`"),
            ("", "`/`"),
            ("/a//b", "`/a/b`"),
            ("/a//*", "`/a/*`"),
            ("/a/./b/*", "`/a/b/*`"),
            ("/a/../b", "`/b`"),
            ("/a/%2e%2e/b", "`/b`"),
            ("/..", "without it"),
            ("/..;a/b", "without it"),
            ("/a%2fb/*", "`/a%2Fb/*`"),
            ("/%61bc", "`/abc`"),
            ("/a b", "`%20`"),
            ("/\u{e4}", "`%C3%A4`"),
            ("/100%", "`%25`"),
            ("/a%00", "without it"),
            ("/a\\b", "`/`"),
            ("/a?b=1", "`query`"),
            ("/v*", "path_regex"),
            ("/*/b", "path_regex"),
            ("/a/**", "path_regex"),
        ] {
            let error = PathPattern::parse(text).expect_err(text);
            assert!(error.hint.contains(hint), "{text}: {error:?}");
        }
    }
}
