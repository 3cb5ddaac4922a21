//! What becomes of a request that a route matched.

use std::sync::Arc;

use http::{HeaderValue, StatusCode, header};

use super::{RedirectSpec, RespondSpec, Split};
use crate::{
    types::{At, Client, Code, Reply, RequestHead, Template, TemplateError},
    upstream::Upstream,
};

/// What becomes of the request.
#[derive(Debug)]
pub enum Action {
    /// Forwarded to an endpoint of this upstream.
    Upstream(Arc<Upstream>),
    /// Forwarded to one of several upstreams.
    Split(Split),
    /// Sent elsewhere.
    Redirect(Redirect),
    /// Answered with this.
    Respond(Reply),
}

/// A redirect with its target split into text and variables.
#[derive(Debug)]
pub struct Redirect {
    status: StatusCode,
    to: Template<Variable>,
    /// The user names a host right behind `//`, so that two slashes at the start are meant.
    scheme_relative: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variable {
    Scheme,
    Host,
    Path,
    Query,
}

const VARIABLES: &[(&str, Variable)] =
    &[("scheme", Variable::Scheme), ("host", Variable::Host), ("path", Variable::Path), ("query", Variable::Query)];

const STATUSES: [u16; 5] = [301, 302, 303, 307, 308];

impl Redirect {
    /// The redirect that the user wrote; `None` when a problem was reported instead.
    pub fn compile(spec: &RedirectSpec, at: &At) -> Option<Self> {
        let status_ok = STATUSES.contains(&spec.status);
        if !status_ok {
            at.key("status")
                .problem(Code::BadValue, format!("{} is not the status of a redirect", spec.status))
                .hint("308 and 307 keep the method, 301 and 302 turn POST into GET, 303 is always GET");
        }
        let at = at.key("to");
        let to = match Template::parse(&spec.to, VARIABLES) {
            Ok(to) => to,
            Err(error) => {
                let problem = at.problem(Code::BadValue, error.to_string());
                match &error {
                    TemplateError::Unknown(name) => problem.nearest(name, VARIABLES.iter().map(|(name, _)| *name)),
                    TemplateError::Unbalanced => problem,
                };
                return None;
            }
        };
        if !has_a_start(&spec.to) {
            at.problem(Code::BadValue, format!("`{}` is not a URL", spec.to)).hint("start with `https://`, `{scheme}://` or `/`");
            return None;
        }
        let status = StatusCode::from_u16(spec.status).unwrap_or(StatusCode::PERMANENT_REDIRECT);
        status_ok.then(|| Self { status, to, scheme_relative: spec.to.starts_with("//") })
    }

    /// The status of every answer.
    pub fn status(&self) -> u16 {
        self.status.as_u16()
    }

    /// Does the target name the request's host? Then a request without one cannot be sent there.
    pub fn needs_host(&self) -> bool {
        self.to.values().any(|variable| variable == Variable::Host)
    }

    /// The answer for this request. `tail` is what [`super::Match`] says of it, or the path that a `rewrite` has made.
    pub fn reply(&self, head: &RequestHead<'_>, client: &Client, tail: &str) -> Reply {
        let target = self.to.fill(|variable, out| match variable {
            Variable::Scheme => out.push_str(client.scheme.as_str()),
            Variable::Host => out.push_str(head.host),
            Variable::Path => out.push_str(tail),
            Variable::Query => {
                if let Some(query) = head.query {
                    out.push('?');
                    out.push_str(query);
                }
            }
        });
        let reply = Reply::status(self.status.as_u16());
        // A browser takes `//` for the start of another host, which a request must not name.
        let target = match target.strip_prefix('/') {
            Some(rest) if !self.scheme_relative => format!("/{}", rest.trim_start_matches('/')),
            _ => target,
        };
        match location(&target) {
            Some(location) => reply.with(header::LOCATION, location),
            None => Reply::status(500),
        }
    }
}

/// A target is a URL or an absolute path; a bare `example.com/x` would be taken as a path below the current one.
fn has_a_start(to: &str) -> bool {
    let scheme = to.split_once("://").is_some_and(|(scheme, rest)| {
        !rest.is_empty() && !scheme.is_empty() && (scheme == "{scheme}" || scheme.bytes().all(|b| b.is_ascii_alphanumeric()))
    });
    scheme || to.starts_with('/') || to.starts_with("{path}")
}

/// The value of a Location field, whatever a request has put into its target. Never `None`, since what is left is visible ASCII.
pub fn location(target: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(&encode(target)).ok()
}

/// Percent-encodes what may not stand in a URL, so that no byte of a request can end the field or start another.
///
/// A target that comes out relative is anchored: an empty one is `/`.
fn encode(target: &str) -> String {
    let mut out = String::with_capacity(target.len().max(1));
    for byte in target.bytes() {
        match byte {
            b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' => out.push_str(&format!("%{byte:02X}")),
            byte if byte.is_ascii_graphic() => out.push(char::from(byte)),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    if out.is_empty() || out.starts_with('?') {
        out.insert(0, '/');
    }
    out
}

/// The fixed answer that the user wrote; `None` when a problem was reported instead.
///
/// Without a body an error status gets the standard short text, in the format the client asked for.
pub(super) fn respond(spec: &RespondSpec, at: &At) -> Option<Reply> {
    let mut sound = true;
    if !(200..=599).contains(&spec.status) {
        at.key("status").problem(Code::BadValue, format!("{} is not a status from 200 to 599", spec.status));
        sound = false;
    }
    if matches!(spec.status, 204 | 304) && !spec.body.is_empty() {
        let message = format!("a response with status {} has no body", spec.status);
        at.key("body").problem(Code::Conflict, message).hint("remove `body`, or answer 200");
        sound = false;
    }
    let content_type = HeaderValue::from_str(&spec.content_type).ok().filter(|value| !value.is_empty());
    if content_type.is_none() {
        let message = format!("{:?} is not the value of a header field", spec.content_type);
        at.key("content_type").problem(Code::BadValue, message).hint("write a media type such as `text/html`");
    }
    let content_type = content_type.filter(|_| sound)?;
    let reply = Reply::status(spec.status);
    Some(match spec.body.is_empty() {
        true if spec.status >= 400 => reply,
        true => Reply { body: Some(Default::default()), ..reply },
        false => Reply { body: Some(spec.body.clone().into()), ..reply }.with(header::CONTENT_TYPE, content_type),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        route::tests_support::{client, head},
        types::Problems,
    };

    fn redirect(to: &str, status: u16) -> Result<Redirect, String> {
        let problems = Problems::default();
        Redirect::compile(&RedirectSpec { to: to.into(), status }, &problems.root())
            .ok_or_else(|| problems.take().iter().map(|p| format!("{} {:?} ", p.message, p.hint)).collect())
    }

    fn location(to: &str, path: &str, query: Option<&str>, tail: &str) -> String {
        let mut head = head("GET", "a.example", path);
        head.query = query;
        let reply = redirect(to, 308).unwrap().reply(&head, &client(), tail);
        assert_eq!(reply.status, 308);
        reply.headers[0].1.to_str().unwrap().to_owned()
    }

    #[test]
    fn variables_are_the_requests_own() {
        assert_eq!(location("https://{host}/new{path}{query}", "/old/x", Some("a=1"), "/x"), "https://a.example/new/x?a=1");
        assert_eq!(location("https://{host}/new{path}{query}", "/old", None, ""), "https://a.example/new");
        assert_eq!(location("{scheme}://b.example{path}", "/x", None, "/x"), "http://b.example/x");
        assert_eq!(location("{path}", "/old", None, ""), "/");
        assert_eq!(location("{path}{query}", "/old", Some("q"), ""), "/?q");
    }

    #[test]
    fn nothing_in_a_request_can_end_the_field() {
        assert_eq!(location("/n{path}{query}", "/x", Some("a=\r\nx: y"), "/\u{e4} \t"), "/n/%C3%A4%20%09?a=%0D%0Ax:%20y");
        assert_eq!(location("/{path}", "/x", Some(""), "\"<>\\^`|\u{7f}"), "/%22%3C%3E%5C%5E%60%7C%7F");
    }

    #[test]
    fn a_request_cannot_name_another_host() {
        assert_eq!(location("/{path}", "/old/evil.test", None, "/evil.test"), "/evil.test");
        assert_eq!(
            location("{path}{query}", "/old", Some("a"), "//evil.test/x"),
            "/evil.test/x?a",
            "as a rewrite may put it together"
        );
        assert_eq!(location("/{path}", "/x", None, "/\\evil.test"), "/%5Cevil.test");
        assert_eq!(location("//cdn.example{path}", "/x", None, "/x"), "//cdn.example/x", "as it is written");
    }

    #[test]
    fn mistakes_are_named() {
        assert!(redirect("https://{hots}/", 308).unwrap_err().contains("`host`"));
        assert!(redirect("https://{host/", 308).unwrap_err().contains("brace"));
        assert!(redirect("example.com/x", 308).unwrap_err().contains("https://"));
        assert!(redirect("/x", 200).unwrap_err().contains("200"));
    }

    #[test]
    fn a_fixed_answer_is_checked() {
        let compile = |status, body: &str, content_type: &str| {
            let problems = Problems::default();
            let spec = RespondSpec { status, body: body.into(), content_type: content_type.into() };
            (respond(&spec, &problems.root()), problems.take())
        };
        let (reply, _) = compile(200, "pong\n", "text/plain");
        assert_eq!(reply.unwrap().body.unwrap(), "pong\n");
        assert!(compile(503, "", "text/plain").0.unwrap().body.is_none(), "the standard text");
        assert_eq!(compile(200, "", "text/plain").0.unwrap().body.unwrap(), "");
        for (status, body, content_type) in [(199, "", "a/b"), (600, "", "a/b"), (204, "x", "a/b"), (200, "x", "a\r\nb: c")] {
            let (reply, problems) = compile(status, body, content_type);
            assert!(reply.is_none() && problems.len() == 1, "{status} {body} {content_type}: {problems:?}");
        }
    }
}
