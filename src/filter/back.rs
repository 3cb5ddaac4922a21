//! What an endpoint says of its own paths, names and addresses, as its client must read it.
//!
//! A rewrite changes the path on the way in, so a redirect or a cookie of the endpoint names a path that the client does not know. [`Back`]
//! is the way back: the prefixes that rewrites of this request have exchanged, and the rules of `map_back`. Values come in as the
//! endpoint has sent them, and `None` leaves them so. nginx's `proxy_redirect default` does this for absolute URLs; here
//! paths and cookies are mapped, too.

use std::sync::Arc;

use smallvec::SmallVec;

use super::map_back::Rules;
use crate::types::{Scheme, parse_authority};

/// Bytes of most queries.
const QUERY: usize = 64;

/// One prefix in the place of another; either may be empty.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Prefixes {
    pub(super) strip: Box<str>,
    pub(super) add: Box<str>,
}

/// What follows a prefix, where that ends with a segment.
fn below<'p>(path: &'p str, prefix: &str) -> Option<&'p str> {
    path.strip_prefix(prefix).filter(|tail| tail.is_empty() || tail.starts_with('/'))
}

/// `strip` off, `add` in front.
fn exchange(path: &str, strip: &str, add: &str) -> Option<String> {
    let tail = below(path, strip)?;
    // With room for a query, which is put behind it.
    let mut path = String::with_capacity(add.len() + tail.len() + QUERY);
    path.push_str(add);
    path.push_str(tail);
    if path.is_empty() {
        path.push('/');
    }
    Some(path)
}

impl Prefixes {
    /// The path that is forwarded; `None` where this has nothing to change.
    pub(super) fn apply(&self, path: &str) -> Option<String> {
        exchange(path, &self.strip, &self.add)
    }

    /// The path by which a client asks for this one. `None` for what no client can ask for.
    fn undo(&self, path: &str) -> Option<String> {
        // A browser takes two slashes for the start of another host, which only the endpoint itself may name.
        exchange(path, &self.add, &self.strip).filter(|path| !path.starts_with("//") && !path.starts_with("/\\"))
    }
}

/// How the answer to one request is mapped back.
#[derive(Debug, Default)]
pub struct Back {
    /// What rewrites have exchanged, in the order of the request.
    steps: SmallVec<[Arc<Prefixes>; 1]>,
    /// The rules of the last `map_back`.
    rules: Option<Arc<Rules>>,
}

/// What the client has asked for, and what stands behind it.
pub struct Seen<'a> {
    /// `http` or `https`, as the client used it.
    pub scheme: Scheme,
    /// The host that the client asked for, without a port. Empty where it named none.
    pub host: &'a str,
    /// The port in its request, if there was one.
    pub port: Option<u16>,
    /// Names and addresses of the endpoint.
    pub own: &'a dyn Own,
}

/// Which names and addresses are the endpoint's.
pub trait Own {
    /// Is this authority of a URL the endpoint itself?
    fn authority(&self, scheme: Scheme, host: &str, port: Option<u16>) -> bool;
    /// Is this the name of its host?
    fn host(&self, host: &str) -> bool;
}

impl Back {
    pub(super) fn step(&mut self, prefixes: Arc<Prefixes>) {
        self.steps.push(prefixes);
    }

    pub(super) fn rules(&mut self, rules: Arc<Rules>) {
        self.rules = Some(rules);
    }

    /// True when answers pass as they are.
    pub fn is_off(&self) -> bool {
        self.rules.as_ref().is_some_and(|rules| rules.is_off())
    }

    fn is_implied(&self) -> bool {
        self.rules.as_ref().is_none_or(|rules| rules.default)
    }

    /// What `explain` says; `forwarded` is the path that the endpoint gets. `None` where nothing is out of the ordinary.
    pub fn note(&self, forwarded: &str) -> Option<String> {
        if self.is_off() {
            return Some("answers are not mapped back: `map_back` is off".into());
        }
        let path = self.path(forwarded).filter(|_| self.is_implied());
        let path = path.map(|path| format!("`{forwarded}` of the endpoint becomes `{path}`"));
        let rules =
            self.rules.as_ref().filter(|rules| rules.has_rules()).map(|_| "the rules of `map_back` come first".to_owned());
        let told: Vec<String> = path.into_iter().chain(rules).collect();
        let fields = "`Location`, `Content-Location`, `Refresh` and the paths and domains of cookies";
        (!told.is_empty()).then(|| format!("answers are mapped back in {fields}: {}", told.join("; ")))
    }

    /// The path by which the client asks for a path of the endpoint.
    fn path(&self, path: &str) -> Option<String> {
        if self.steps.is_empty() || self.is_clients(path) {
            return None;
        }
        let mut steps = self.steps.iter().rev();
        let last = steps.next()?.undo(path)?;
        steps.try_fold(last, |path, step| step.undo(&path))
    }

    /// Is it written by an endpoint that knows what is taken off, as one does that reads `X-Forwarded-Prefix`?
    fn is_clients(&self, path: &str) -> bool {
        let mut steps = self.steps.iter();
        let Some(first) = steps.next().filter(|_| self.steps.iter().all(|step| step.add.is_empty())) else { return false };
        first.apply(path).and_then(|path| steps.try_fold(path, |path, step| step.apply(&path))).is_some()
    }

    /// Path, query and fragment of a URL.
    fn tail(&self, tail: &str) -> Option<String> {
        let (path, rest) = tail.split_at(tail.find(['?', '#']).unwrap_or(tail.len()));
        Some(self.path(if path.is_empty() { "/" } else { path })? + rest)
    }

    /// The value of a `Location` or a `Content-Location`.
    pub fn location(&self, text: &str, seen: &Seen<'_>) -> Option<String> {
        let text = text.trim_ascii();
        if let Some(rules) = &self.rules {
            if let Some(mapped) = rules.location(text, seen) {
                return Some(mapped);
            }
            if !rules.default {
                return None;
            }
        }
        match absolute(text) {
            Some((scheme, authority, tail)) => self.absolute(scheme, authority, tail, seen),
            None if text.starts_with('/') => self.tail(text),
            // Relative to what the client has asked for, or no place of HTTP.
            None => None,
        }
    }

    fn absolute(&self, scheme: Option<Scheme>, authority: &str, tail: &str, seen: &Seen<'_>) -> Option<String> {
        let (host, port) = parse_authority(authority)?;
        if !seen.own.authority(scheme.unwrap_or(seen.scheme), &host, port) {
            return None;
        }
        let mapped = self.tail(tail);
        let tail = mapped.as_deref().unwrap_or(tail);
        if seen.host.is_empty() {
            let slash = if tail.starts_with('/') { "" } else { "/" };
            return (!tail.starts_with("//")).then(|| format!("{slash}{tail}"));
        }
        if host == seen.host && scheme == Some(Scheme::Https) && seen.scheme == Scheme::Http {
            // The endpoint sends the client to TLS: back to http would be a circle.
            return Some(format!("https://{authority}{tail}"));
        }
        let scheme = scheme.map_or_else(String::new, |_| format!("{}:", seen.scheme.as_str()));
        let port = seen.port.map_or_else(String::new, |port| format!(":{port}"));
        Some(format!("{scheme}//{}{port}{tail}", seen.host))
    }

    /// The value of a `Refresh`: `5; url=/next`, where the URL may be in quotes.
    pub fn refresh(&self, text: &str, seen: &Seen<'_>) -> Option<String> {
        let key = text.as_bytes().windows(4).position(|four| four.eq_ignore_ascii_case(b"url="))?;
        let (head, rest) = text.split_at_checked(key + 4)?;
        let quote = if rest.starts_with(['"', '\'']) { &rest[..1] } else { "" };
        let url = &rest[quote.len()..];
        let end = if quote.is_empty() { url.len() } else { url.find(quote).unwrap_or(url.len()) };
        let (url, rest) = url.split_at(end);
        Some(format!("{head}{quote}{}{rest}", self.location(url, seen)?))
    }

    /// The value of a `Set-Cookie`.
    pub fn cookie(&self, text: &str, seen: &Seen<'_>) -> Option<String> {
        let (pair, attributes) = text.split_once(';')?;
        // Browsers refuse such a cookie with another path than `/` (RFC 6265bis section 4.1.3.2).
        if pair.trim_ascii_start().get(..7).is_some_and(|prefix| prefix.eq_ignore_ascii_case("__Host-")) {
            return None;
        }
        let (mut out, mut changed) = (pair.to_owned(), false);
        for attribute in attributes.split(';') {
            let (name, value) = attribute.split_once('=').unwrap_or((attribute, ""));
            let (name, value) = (name.trim_ascii(), value.trim_ascii());
            let mapped = match name {
                name if name.eq_ignore_ascii_case("path") => self.cookie_path(value, seen),
                name if name.eq_ignore_ascii_case("domain") => self.cookie_domain(value, seen),
                _ => None,
            };
            changed |= mapped.is_some();
            match mapped.as_deref() {
                None => out.extend([";", attribute]),
                Some("") => {}
                Some(value) => out.extend(["; ", name, "=", value]),
            }
        }
        changed.then_some(out)
    }

    fn cookie_path(&self, path: &str, seen: &Seen<'_>) -> Option<String> {
        let by_rule = self.rules.as_ref().and_then(|rules| rules.cookie_path(path, seen));
        if by_rule.is_some() || !self.is_implied() || !path.starts_with('/') {
            return by_rule;
        }
        let mapped = self.path(path)?;
        // `/shop/` would leave out `/shop` itself.
        Some(if path == "/" && mapped.len() > 1 { mapped.trim_end_matches('/').to_owned() } else { mapped })
    }

    /// Another domain, or an empty one where the cookie is to be for the client's host alone.
    fn cookie_domain(&self, domain: &str, seen: &Seen<'_>) -> Option<String> {
        let by_rule = self.rules.as_ref().and_then(|rules| rules.cookie_domain(domain, seen));
        if by_rule.is_some() || !self.is_implied() {
            return by_rule;
        }
        let (host, _) = parse_authority(domain.strip_prefix('.').unwrap_or(domain))?;
        (host != seen.host && seen.own.host(&host)).then(String::new)
    }
}

/// Scheme, authority and the rest of a URL of HTTP. `//host/path` has the scheme of the page that it is on.
fn absolute(text: &str) -> Option<(Option<Scheme>, &str, &str)> {
    let after = |scheme: &str| {
        let (start, rest) = text.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    };
    let (scheme, rest) = match (after("http://"), after("https://"), after("//")) {
        (Some(rest), ..) => (Some(Scheme::Http), rest),
        (_, Some(rest), _) => (Some(Scheme::Https), rest),
        (.., rest) => (None, rest?),
    };
    let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    Some((scheme, authority, tail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::tests_support::{Exchange, compile};

    /// An endpoint at 10.0.0.5:8080, which was asked for as `app.internal`.
    struct Endpoint;

    impl Own for Endpoint {
        fn authority(&self, _: Scheme, host: &str, port: Option<u16>) -> bool {
            (host == "10.0.0.5" && port == Some(8080)) || (self.host(host) && port.is_none()) || host == "shop.test"
        }
        fn host(&self, host: &str) -> bool {
            matches!(host, "10.0.0.5" | "app.internal" | "shop.test")
        }
    }

    fn seen(scheme: Scheme, host: &str) -> Seen<'_> {
        Seen { scheme, host, port: None, own: &Endpoint }
    }

    /// What these filters make of a request for this path.
    fn back(filters: &str, path: &str) -> Back {
        let mut exchange = Exchange { path: path.into(), ..Exchange::default() };
        exchange.request(&compile(filters)).unwrap();
        exchange.back
    }

    fn location(back: &Back, text: &str) -> String {
        back.location(text, &seen(Scheme::Https, "shop.test")).unwrap_or_else(|| text.to_owned())
    }

    const STRIP: &str = r#"[{"rewrite": {"strip_prefix": "/shop"}}]"#;

    #[test]
    fn what_was_taken_off_comes_back() {
        let back = back(STRIP, "/shop/cart");
        for (said, becomes) in [
            ("/login", "/shop/login"),
            ("/login?to=/cart#top", "/shop/login?to=/cart#top"),
            ("/", "/shop/"),
            ("/?a", "/shop/?a"),
            ("http://10.0.0.5:8080/login", "https://shop.test/shop/login"),
            ("HTTP://10.0.0.5:8080", "https://shop.test/shop/"),
            ("http://app.internal?a", "https://shop.test/shop/?a"),
            ("//10.0.0.5:8080/login", "//shop.test/shop/login"),
            ("http://shop.test/login", "https://shop.test/shop/login"),
            ("https://shop.test/login", "https://shop.test/shop/login"),
            // Already the client's.
            ("/shop/login", "/shop/login"),
            ("/shop", "/shop"),
            ("/shopping", "/shop/shopping"),
            ("https://shop.test/shop/login", "https://shop.test/shop/login"),
            // Somebody else's, or relative to what was asked for.
            ("http://10.0.0.5:8081/login", "http://10.0.0.5:8081/login"),
            ("https://login.test/login", "https://login.test/login"),
            ("//login.test/login", "//login.test/login"),
            ("http://user@10.0.0.5:8080/", "http://user@10.0.0.5:8080/"),
            ("login", "login"),
            ("../login", "../login"),
            ("?page=2", "?page=2"),
            ("", ""),
            ("mailto:a@app.internal", "mailto:a@app.internal"),
        ] {
            assert_eq!(location(&back, said), becomes, "{said}");
        }
    }

    #[test]
    fn what_was_put_in_front_goes() {
        let add = back(r#"[{"rewrite": {"add_prefix": "/api"}}]"#, "/x");
        let both = back(r#"[{"rewrite": {"strip_prefix": "/v1", "add_prefix": "/api"}}]"#, "/v1/x");
        for (said, alone, with_strip) in [
            ("/api/x", "/x", "/v1/x"),
            ("/api", "/", "/v1"),
            ("/api?a", "/?a", "/v1?a"),
            ("/apix", "/apix", "/apix"),
            ("/login", "/login", "/login"),
            ("/v1/x", "/v1/x", "/v1/x"),
            ("/api//evil.test", "/api//evil.test", "/v1//evil.test"),
            ("/api/\\evil.test", "/api/\\evil.test", "/v1/\\evil.test"),
        ] {
            assert_eq!((location(&add, said).as_str(), location(&both, said).as_str()), (alone, with_strip), "{said}");
        }
    }

    #[test]
    fn rewrites_go_back_in_reverse_and_only_where_they_did_something() {
        let two = r#"[{"rewrite": {"strip_prefix": "/a"}}, {"rewrite": {"strip_prefix": "/b"}}]"#;
        assert_eq!(location(&back(two, "/a/b/x"), "/y"), "/a/b/y");
        assert_eq!(location(&back(two, "/a/b/x"), "/a/b/y"), "/a/b/y", "the endpoint knows");
        assert_eq!(location(&back(two, "/a/x"), "/y"), "/a/y", "the second left the path alone");
        assert_eq!(location(&back(two, "/x"), "/y"), "/y");
        let strip_add = r#"[{"rewrite": {"strip_prefix": "/a"}}, {"rewrite": {"add_prefix": "/b"}}]"#;
        assert_eq!(location(&back(strip_add, "/a/x"), "/b/y"), "/a/y");
        assert_eq!(location(&back(strip_add, "/a/x"), "/y"), "/y", "no client can ask for it");
        let regex = r#"[{"rewrite": {"regex": "^/a", "replace": ""}}]"#;
        assert_eq!(location(&back(regex, "/a/x"), "/y"), "/y", "an expression has no way back");
        assert_eq!(location(&back(regex, "/a/x"), "http://app.internal/y"), "https://shop.test/y");
    }

    #[test]
    fn a_client_is_not_sent_in_a_circle_to_tls() {
        let back = back(STRIP, "/shop/cart");
        let over_http = |text: &str| back.location(text, &seen(Scheme::Http, "shop.test"));
        assert_eq!(over_http("https://shop.test/login").as_deref(), Some("https://shop.test/shop/login"));
        assert_eq!(over_http("https://app.internal/login").as_deref(), Some("http://shop.test/shop/login"));
        let old = |text: &str| back.location(text, &seen(Scheme::Http, ""));
        assert_eq!(old("http://10.0.0.5:8080/login").as_deref(), Some("/shop/login"), "who names no host is sent to a path");
        let plain = Back::default();
        let old = |text: &str| plain.location(text, &seen(Scheme::Http, ""));
        assert_eq!((old("http://10.0.0.5:8080//evil.test/"), old("http://10.0.0.5:8080").as_deref()), (None, Some("/")));
    }

    #[test]
    fn a_refresh_keeps_its_time() {
        let back = back(STRIP, "/shop");
        for (said, becomes) in [
            ("5; url=/login", Some("5; url=/shop/login")),
            ("0;URL='http://10.0.0.5:8080/x'; a", Some("0;URL='https://shop.test/shop/x'; a")),
            ("5, url=\"/x\"", Some("5, url=\"/shop/x\"")),
            ("5", None),
            ("5; url=https://other.test/", None),
            ("5; url='", None),
            ("5; \u{e4}\u{e4}rl=", None),
        ] {
            assert_eq!(back.refresh(said, &seen(Scheme::Https, "shop.test")).as_deref(), becomes, "{said}");
        }
    }

    #[test]
    fn cookies_are_for_the_clients_paths_and_host() {
        let (strip, add) = (back(STRIP, "/shop"), back(r#"[{"rewrite": {"add_prefix": "/api"}}]"#, "/"));
        for (said, stripped, added) in [
            ("a=b; Path=/; HttpOnly", "a=b; Path=/shop; HttpOnly", "a=b; Path=/; HttpOnly"),
            ("a=b;path=/x;Secure", "a=b; path=/shop/x;Secure", "a=b;path=/x;Secure"),
            ("a=b; Path=/shop", "a=b; Path=/shop", "a=b; Path=/shop"),
            ("a=b; Path=/api/x", "a=b; Path=/shop/api/x", "a=b; Path=/x"),
            ("a=b; Path=/api", "a=b; Path=/shop/api", "a=b; Path=/"),
            ("a=b; Domain=.App.Internal; Secure", "a=b; Secure", "a=b; Secure"),
            ("a=b; Domain=10.0.0.5", "a=b", "a=b"),
            ("a=b; Domain=shop.test", "a=b; Domain=shop.test", "a=b; Domain=shop.test"),
            ("a=b; Domain=internal", "a=b; Domain=internal", "a=b; Domain=internal"),
            ("a=b; Path", "a=b; Path", "a=b; Path"),
            ("a=/; b=Path=/", "a=/; b=Path=/", "a=/; b=Path=/"),
            ("__Host-a=b; Path=/; Secure", "__Host-a=b; Path=/; Secure", "__Host-a=b; Path=/; Secure"),
            ("a=b", "a=b", "a=b"),
        ] {
            let with = |back: &Back| back.cookie(said, &seen(Scheme::Https, "shop.test")).unwrap_or_else(|| said.to_owned());
            assert_eq!((with(&strip).as_str(), with(&add).as_str()), (stripped, added), "{said}");
        }
    }

    #[test]
    fn explain_says_what_becomes_of_a_path() {
        assert_eq!(Back::default().note("/cart"), None);
        let note = back(STRIP, "/shop/cart").note("/cart").unwrap();
        assert!(note.contains("`/cart` of the endpoint becomes `/shop/cart`"), "{note}");
        let note = back(r#"[{"rewrite": {"strip_prefix": "/shop"}}, {"map_back": "off"}]"#, "/shop").note("/").unwrap();
        assert!(note.contains("off"), "{note}");
    }
}
