//! The `rewrite` filter: another path for the upstream.
//!
//! It works on the canonical path, and on the result of a `rewrite` before it. The query stays as filters before it have left
//! it: one of them may have taken a key out. What it
//! makes is checked again: a result with dot segments (which a rewrite may put together from harmless pieces of
//! a path) is refused with 400 rather than forwarded.

use std::{borrow::Cow, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Back, Filter, FilterRequest, Slot, Verdict, back::Prefixes};
use crate::types::{At, Code, Regexp, Reply};

/// Changes the path that is forwarded: either by prefix or by a regular expression. The query is kept.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RewriteSpec {
    /// Take this off the front, on a segment boundary: `/v1` makes `/a` of `/v1/a` and leaves `/v1x` alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strip_prefix: Option<String>,
    /// Put this in front. With `strip_prefix`, only where that was taken off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub add_prefix: Option<String>,
    /// Replace the first match of this in the path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub regex: Option<Regexp>,
    /// The replacement for `regex`; `$1` and `$name` are its groups, `$$` is the sign itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replace: Option<String>,
}

impl RewriteSpec {
    pub(super) fn compile(&self, at: &At) -> Option<Arc<dyn Filter>> {
        let by_prefix = self.strip_prefix.is_some() || self.add_prefix.is_some();
        let by_regex = self.regex.is_some() || self.replace.is_some();
        match (by_prefix, by_regex) {
            (true, true) => {
                let first = if self.strip_prefix.is_some() { "strip_prefix" } else { "add_prefix" };
                at.key(if self.regex.is_some() { "regex" } else { "replace" })
                    .problem(Code::Conflict, "a rewrite works either by prefix or by expression")
                    .also(at.key(first).path(), "the other way")
                    .hint("use two `rewrite` filters, one after the other");
                None
            }
            (false, false) => {
                at.problem(Code::MissingKey, "this rewrite changes nothing")
                    .hint("add `strip_prefix`, `add_prefix`, or `regex` and `replace`");
                None
            }
            (true, false) => {
                let strip = prefix(self.strip_prefix.as_deref(), &at.key("strip_prefix"));
                let add = prefix(self.add_prefix.as_deref(), &at.key("add_prefix"));
                Some(Arc::new(Rewrite::Prefix(Arc::new(Prefixes { strip: strip?, add: add? }))))
            }
            (false, true) => self.compile_regex(at),
        }
    }

    fn compile_regex(&self, at: &At) -> Option<Arc<dyn Filter>> {
        let (Some(regex), Some(replace)) = (&self.regex, &self.replace) else {
            let missing = if self.regex.is_some() { "replace" } else { "regex" };
            at.problem(Code::MissingKey, format!("`regex` and `replace` need each other: `{missing}` is missing"));
            return None;
        };
        let at = at.key("replace");
        if let Some(bad) = replace.chars().find(|c| !belongs(*c)) {
            at.problem(Code::BadValue, format!("{bad:?} does not belong in a path")).hint(match bad {
                '?' => "the query is kept as it is".to_owned(),
                bad => escaped(bad),
            });
            return None;
        }
        if let Some(group) = unknown_group(regex, replace) {
            at.problem(Code::BadValue, format!("`${group}` is not a group of `{regex}`"))
                .hint("a group's name goes on as far as letters, digits and `_` do; `$$` is the sign itself");
            return None;
        }
        Some(Arc::new(Rewrite::Regex { regex: regex.clone(), replace: replace.as_str().into() }))
    }
}

/// A prefix without a slash at its end; `None` when a problem was reported instead.
fn prefix(text: Option<&str>, at: &At) -> Option<Box<str>> {
    let Some(text) = text else { return Some("".into()) };
    let problem = |message: String, hint: String| {
        at.problem(Code::BadValue, message).hint(hint);
        None
    };
    if !text.starts_with('/') {
        return problem(format!("`{text}` does not start with `/`"), format!("write `/{text}`"));
    }
    if text.ends_with('/') {
        let hint = match text.trim_end_matches('/') {
            "" => "leave it out".into(),
            text => format!("write `{text}`"),
        };
        return problem(format!("`{text}` ends with `/`, but prefixes end where a segment ends"), hint);
    }
    if let Some(bad) = text.chars().find(|c| !belongs(*c) || *c == '*') {
        return problem(format!("{bad:?} does not belong in a prefix"), "write the prefix alone, percent-encoded".into());
    }
    if text.contains("//") || has_dot_segment(text) {
        return problem(format!("`{text}` has doubled slashes or dot segments"), "write the path without them".into());
    }
    Some(text.into())
}

/// May this stand in a path that is written down? What the `http` crate cannot hold may not.
fn belongs(c: char) -> bool {
    c.is_ascii_graphic() && !matches!(c, '?' | '#' | '\\' | '<' | '>' | '`')
}

/// What to write in place of a character that does not belong in a path.
fn escaped(c: char) -> String {
    let escapes: String = c.to_string().bytes().map(|byte| format!("%{byte:02X}")).collect();
    format!("write it percent-encoded, as `{escapes}`")
}

/// The first group that a replacement names and the expression does not have. Syntax of [`regex::Captures::expand`],
/// without the braces, which the configuration uses for its variables.
pub(super) fn unknown_group<'t>(regex: &Regexp, replace: &'t str) -> Option<&'t str> {
    let mut rest = replace;
    while let Some(dollar) = rest.find('$') {
        rest = &rest[dollar + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            rest = after;
            continue;
        }
        let braced = rest.strip_prefix('{').and_then(|inside| inside.split_once('}'));
        let end = rest.bytes().position(|b| !(b.is_ascii_alphanumeric() || b == b'_')).unwrap_or(rest.len());
        let group = braced.map_or(&rest[..end], |(group, _)| group);
        let known = match group.parse::<usize>() {
            Ok(number) => number < regex.captures_len(),
            Err(_) => regex.capture_names().flatten().any(|name| name == group),
        };
        if !known {
            return Some(group);
        }
    }
    None
}

#[derive(Debug)]
enum Rewrite {
    Prefix(Arc<Prefixes>),
    Regex { regex: Regexp, replace: Box<str> },
}

impl Rewrite {
    /// The new path; `None` where this rewrite has nothing to change.
    fn apply(&self, path: &str) -> Option<String> {
        match self {
            Rewrite::Prefix(prefixes) => prefixes.apply(path),
            Rewrite::Regex { regex, replace } => match regex.replace(path, &**replace) {
                Cow::Borrowed(_) => None,
                Cow::Owned(path) => Some(encode(&path)),
            },
        }
    }

    /// It has changed the path: what that implies for the answer.
    fn done(&self, back: &mut Back) {
        if let Rewrite::Prefix(prefixes) = self {
            back.step(prefixes.clone());
        }
    }
}

/// What an expression made, as a path: with a slash in front and nothing in it that a request line cannot hold.
fn encode(path: &str) -> String {
    let mut out = String::with_capacity(path.len() + 1);
    if !path.starts_with('/') {
        out.push('/');
    }
    let bytes = path.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        let escape = || bytes.get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit));
        match byte {
            b'%' if escape() => out.push('%'),
            byte if *byte != b'%' && belongs(char::from(*byte)) => out.push(char::from(*byte)),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// `.` or `..` as a whole segment, escaped or not, or what a service behind us may take for one: with a parameter
/// (`..;x`), or between encoded slashes or backslashes.
fn has_dot_segment(path: &str) -> bool {
    if !path.contains('.') && !path.contains("%2") {
        return false;
    }
    let plain = path.replace("%2e", ".").replace("%2E", ".").replace("%3b", ";").replace("%3B", ";");
    let plain = plain.replace("%2f", "%2F").replace("%5c", "%2F").replace("%5C", "%2F");
    let name = |part: &str| part.split_once(';').map_or(part.len(), |(name, _)| name.len());
    plain.split('/').any(|segment| {
        matches!(&segment[..name(segment)], "." | "..") || segment.split("%2F").any(|part| &part[..name(part)] == "..")
    })
}

/// A longer path than this is not forwarded; the gate admits URIs of 8 KiB, and an expression may repeat its groups.
const MAX_LENGTH: usize = 16 * 1024;

impl Filter for Rewrite {
    fn kind(&self) -> &'static str {
        "rewrite"
    }

    fn request(&self, request: &mut FilterRequest<'_>, _: &mut Slot) -> Verdict {
        let (before, query) = request.target();
        let Some(mut path) = self.apply(before) else { return Verdict::Continue };
        if has_dot_segment(&path) {
            return Verdict::Answer { reply: Reply::status(400), reason: "rewrite_dot_segment" };
        }
        if path.len() > MAX_LENGTH {
            return Verdict::Answer { reply: Reply::status(414), reason: "rewrite_too_long" };
        }
        if let Some(query) = query {
            path.push('?');
            path.push_str(query);
        }
        *request.forward = Some(path);
        self.done(request.back);
        Verdict::Continue
    }

    fn foretell(&self, path: &mut String, back: &mut Back) {
        if let Some(changed) = self.apply(path) {
            *path = changed;
            self.done(back);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::tests_support::{Exchange, compile, refused};

    fn forward(filters: &str, path: &str, query: Option<&str>) -> Option<String> {
        let mut exchange = Exchange { path: path.into(), query: query.map(str::to_owned), ..Exchange::default() };
        exchange.request(&compile(filters)).unwrap_or_else(|(_, reason)| panic!("{path}: {reason}"));
        exchange.forward
    }

    #[test]
    fn a_prefix_is_taken_off_on_a_segment_boundary() {
        let filters = r#"[{"rewrite": {"strip_prefix": "/v1"}}]"#;
        for (path, to) in [("/v1/a", Some("/a")), ("/v1", Some("/")), ("/v1/", Some("/")), ("/v1x", None), ("/a/v1", None)] {
            assert_eq!(forward(filters, path, None).as_deref(), to, "{path}");
        }
        assert_eq!(forward(filters, "/v1/a", Some("b=%20c")).as_deref(), Some("/a?b=%20c"));
    }

    #[test]
    fn a_prefix_is_put_in_front() {
        let both = r#"[{"rewrite": {"strip_prefix": "/v1", "add_prefix": "/api"}}]"#;
        for (path, to) in [("/v1/a", Some("/api/a")), ("/v1", Some("/api")), ("/v1/", Some("/api/")), ("/v1x", None)] {
            assert_eq!(forward(both, path, None).as_deref(), to, "{path}");
        }
        assert_eq!(forward(r#"[{"rewrite": {"add_prefix": "/api"}}]"#, "/a", None).as_deref(), Some("/api/a"));
    }

    #[test]
    fn an_expression_replaces_its_first_match() {
        let filters = r#"[{"rewrite": {"regex": "^/user/(?P<id>[^/]+)(.*)$", "replace": "/u/$id$2"}}]"#;
        assert_eq!(forward(filters, "/user/7/x", Some("q")).as_deref(), Some("/u/7/x?q"));
        assert_eq!(forward(filters, "/other", None), None);
        let bare = r#"[{"rewrite": {"regex": "^/old", "replace": ""}}]"#;
        assert_eq!(forward(bare, "/oldx", None).as_deref(), Some("/x"));
        assert_eq!(forward(bare, "/old", None).as_deref(), Some("/"));
    }

    #[test]
    fn a_second_rewrite_goes_on_where_the_first_stopped() {
        let filters = r#"[{"rewrite": {"strip_prefix": "/v1"}}, {"rewrite": {"add_prefix": "/api"}}]"#;
        assert_eq!(forward(filters, "/v1/a", Some("q=/v1")).as_deref(), Some("/api/a?q=/v1"));
    }

    #[test]
    fn what_was_taken_out_of_the_query_does_not_come_back() {
        let key = r#"{"api_key": {"from": "query:key", "keys": {"a": "secret-key-of-a-0"}}}"#;
        let filters = format!(r#"[{key}, {{"rewrite": {{"strip_prefix": "/v1"}}}}]"#);
        for (query, to) in [("q=1&key=secret-key-of-a-0", "/a?q=1"), ("key=secret-key-of-a-0", "/a")] {
            assert_eq!(forward(&filters, "/v1/a", Some(query)).as_deref(), Some(to));
        }
    }

    #[test]
    fn a_rewrite_cannot_be_talked_into_leaving_its_directory() {
        let chain = compile(r#"[{"rewrite": {"regex": "x", "replace": ""}}]"#);
        for path in ["/a/.x./etc", "/a/x../etc", "/a/%2ex%2E/b", "/a/.x.;v/b", "/a%2F.x.%2Fb", "/a%5C.x.%5Cb", "/a/x."] {
            let mut exchange = Exchange { path: path.into(), ..Exchange::default() };
            let (reply, reason) = exchange.request(&chain).unwrap_err();
            assert_eq!((reply.status.as_u16(), reason), (400, "rewrite_dot_segment"), "{path}");
        }
        let long = compile(r#"[{"rewrite": {"regex": "^(.*)$", "replace": "$1$1$1$1"}}]"#);
        let mut exchange = Exchange { path: format!("/{}", "a".repeat(8000)), ..Exchange::default() };
        assert_eq!(exchange.request(&long).unwrap_err().0.status, 414);
        assert_eq!(encode("a%zz%20?#\u{e4}<`>\\"), "/a%25zz%20%3F%23%C3%A4%3C%60%3E%5C");
    }

    #[test]
    fn mistakes_are_named() {
        for (options, word) in [
            (r#"{}"#, "changes nothing"),
            (r#"{"strip_prefix": "/a", "regex": "b"}"#, "either"),
            (r#"{"regex": "b"}"#, "`replace` is missing"),
            (r#"{"replace": "b"}"#, "`regex` is missing"),
            (r#"{"strip_prefix": "v1"}"#, "does not start"),
            (r#"{"strip_prefix": "/v1/"}"#, "ends with"),
            (r#"{"add_prefix": "/v1/*"}"#, "does not belong"),
            (r#"{"add_prefix": "/a/../b"}"#, "dot segments"),
            (r#"{"regex": "(a)", "replace": "/$2"}"#, "`$2` is not a group"),
            (r#"{"regex": "(a)", "replace": "/$1x"}"#, "`$1x` is not a group"),
            (r#"{"regex": "a", "replace": "/b?c"}"#, "does not belong"),
            (r#"{"regex": "a", "replace": "/<b>"}"#, "does not belong"),
            (r#"{"add_prefix": "/a`b"}"#, "does not belong"),
        ] {
            let problems = refused(&format!(r#"[{{"rewrite": {options}}}]"#));
            assert!(problems[0].message.contains(word), "{options}: {problems:?}");
        }
    }
}
