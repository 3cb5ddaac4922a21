//! The `cors` filter: which pages of other origins may read the answers (the Fetch standard, section 3.2).
//!
//! Preflights are answered here. On every other response, Weir's own errors included, the fields of the
//! upstream are replaced: two values of `access-control-allow-origin` are none to a browser.

use std::{net::Ipv4Addr, sync::Arc};

use http::{HeaderName, HeaderValue, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Filter, FilterRequest, FilterResponse, Slot, Verdict, exchange::vary, field_text};
use crate::types::{At, Code, OneOrMany, Reply, Span, parse_authority};

/// Lets pages of other origins read the answers, and answers their preflights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CorsSpec {
    /// These origins, as in `https://app.example.com`, `https://*.example.com` for all subdomains, or `*` for all.
    pub origins: OneOrMany<String>,
    /// The methods that pages may use.
    #[serde(default = "CorsSpec::default_methods")]
    pub methods: OneOrMany<String>,
    /// The request fields that pages may send beside those that are always allowed.
    #[serde(default, skip_serializing_if = "OneOrMany::is_absent")]
    pub headers: OneOrMany<String>,
    /// The response fields that pages may read beside those that they always may. Left out: what the endpoint says.
    #[serde(default, skip_serializing_if = "OneOrMany::is_absent")]
    pub expose_headers: OneOrMany<String>,
    /// Pages may send cookies and read answers to them. Not with the origin `*`.
    #[serde(default)]
    pub credentials: bool,
    /// How long a browser remembers the answer to a preflight. Left out: as long as the browser likes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Span>,
}

impl CorsSpec {
    fn default_methods() -> OneOrMany<String> {
        OneOrMany(["GET", "HEAD", "POST"].map(String::from).into())
    }

    pub(super) fn compile(&self, at: &At) -> Option<Arc<dyn Filter>> {
        let mut sound = true;
        let item = |key: &str, index: usize, count: usize| if count == 1 { at.key(key) } else { at.key(key).index(index) };
        if self.origins.is_absent() {
            at.key("origins").problem(Code::MissingKey, "`cors` allows no origin").hint("name one, or write `*`");
            sound = false;
        }
        let mut origins = Vec::new();
        for (index, text) in self.origins.iter().enumerate().filter(|(_, text)| *text != "*") {
            if let Some(origin) = Origin::parse(text) {
                origins.push(origin);
            } else {
                item("origins", index, self.origins.len())
                    .problem(Code::BadValue, format!("`{text}` is not an origin"))
                    .hint("write scheme and host in lower case, and the port if it is unusual: `https://app.example.com`; `https://*.example.com` is every subdomain");
                sound = false;
            }
        }
        let any = self.origins.iter().any(|origin| origin == "*");
        if any && self.credentials {
            at.key("credentials")
                .problem(Code::Conflict, "browsers refuse credentials for the origin `*`")
                .also(at.key("origins").path(), "every origin is allowed here")
                .hint("name the origins");
            sound = false;
        }
        for (key, items) in [("methods", &self.methods), ("headers", &self.headers), ("expose_headers", &self.expose_headers)] {
            if self.credentials && items.iter().any(|item| item == "*") {
                at.key(key)
                    .problem(Code::Conflict, format!("with credentials, browsers take `*` in `{key}` for a name"))
                    .also(at.key("credentials").path(), "credentials are allowed here")
                    .hint(format!("write the {key} that pages use"));
                sound = false;
            }
        }
        for (index, method) in self.methods.iter().enumerate() {
            if http::Method::from_bytes(method.as_bytes()).is_err() {
                item("methods", index, self.methods.len()).problem(Code::BadValue, format!("`{method}` is not a method"));
                sound = false;
            }
        }
        for (key, names) in [("headers", &self.headers), ("expose_headers", &self.expose_headers)] {
            for (index, name) in names.iter().enumerate() {
                if HeaderName::from_bytes(name.as_bytes()).is_err() {
                    let message = format!("`{name}` is not the name of a header field");
                    item(key, index, names.len()).problem(Code::BadValue, message);
                    sound = false;
                }
            }
        }
        let list = |items: &[String]| HeaderValue::from_str(&items.join(", ")).ok().filter(|value| !value.is_empty());
        sound.then(|| -> Arc<dyn Filter> {
            Arc::new(Cors {
                origins: origins.into(),
                any,
                methods: list(&self.methods),
                headers: list(&self.headers),
                expose: list(&self.expose_headers),
                credentials: self.credentials,
                max_age: self.max_age.map(|age| HeaderValue::from(age.get().as_secs())),
            })
        })
    }
}

/// `scheme://host[:port]` as browsers send it: lower case, no path, no port that goes without saying.
fn is_origin(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, host)| {
        !scheme.is_empty()
            && scheme.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && parse_authority(host).is_some()
            && !host.bytes().any(|b| b.is_ascii_uppercase())
            && !host.ends_with(['.', ':'])
            // Browsers leave it out.
            && !matches!((scheme, host.rsplit_once(':')), ("https", Some((_, "443"))) | ("http", Some((_, "80"))))
    })
}

/// Whose pages may read the answers.
#[derive(Debug, PartialEq, Eq)]
enum Origin {
    /// This one.
    One(Box<str>),
    /// All subdomains of a host, at any depth: what is in front of their labels, and what is behind.
    Subdomains { scheme: Box<str>, parent: Box<str> },
}

impl Origin {
    fn parse(text: &str) -> Option<Self> {
        let Some((scheme, host)) = text.split_once("*.") else { return is_origin(text).then(|| Self::One(text.into())) };
        let parent = format!("{scheme}{host}");
        // An address has no subdomains.
        let address = host.split(':').next().is_none_or(|host| host.is_empty() || host.parse::<Ipv4Addr>().is_ok())
            || host.starts_with('[');
        (scheme.ends_with("://") && is_origin(&parent) && !address)
            .then(|| Self::Subdomains { scheme: scheme.into(), parent: format!(".{host}").into() })
    }

    /// Is this what a browser has sent for one of these?
    fn is(&self, sent: &str) -> bool {
        match self {
            Self::One(origin) => **origin == *sent,
            Self::Subdomains { scheme, parent } => sent
                .strip_prefix(&**scheme)
                .and_then(|host| host.strip_suffix(&**parent))
                // Labels and nothing else: no other host, port or path may hide in front of the parent.
                .is_some_and(|labels| parse_authority(labels).is_some_and(|(name, port)| name == labels && port.is_none())),
        }
    }
}

#[derive(Debug)]
struct Cors {
    origins: Box<[Origin]>,
    any: bool,
    methods: Option<HeaderValue>,
    headers: Option<HeaderValue>,
    expose: Option<HeaderValue>,
    credentials: bool,
    max_age: Option<HeaderValue>,
}

/// What is kept of a request whose page may read the answer.
struct Admitted {
    /// As it is told to the browser.
    origin: HeaderValue,
    /// Asked before the request itself: no page will see this answer.
    preflight: bool,
}

impl Filter for Cors {
    fn kind(&self) -> &'static str {
        "cors"
    }

    fn request(&self, request: &mut FilterRequest<'_>, slot: &mut Slot) -> Verdict {
        let Some(origin) = field_text(&*request.fields, "origin") else { return Verdict::Continue };
        let preflight = request.method == "OPTIONS" && request.fields.get("access-control-request-method").is_some();
        let allowed = self.any || self.origins.iter().any(|one| one.is(origin));
        if allowed && let Ok(origin) = HeaderValue::from_str(if self.any { "*" } else { origin }) {
            *slot = Some(Box::new(Admitted { origin, preflight }));
        }
        if !preflight {
            return Verdict::Continue;
        }
        if !allowed {
            return Verdict::Answer { reply: Reply::status(403), reason: "cors_origin" };
        }
        let fields = [
            (header::ACCESS_CONTROL_ALLOW_METHODS, &self.methods),
            (header::ACCESS_CONTROL_ALLOW_HEADERS, &self.headers),
            (header::ACCESS_CONTROL_MAX_AGE, &self.max_age),
        ];
        let given = fields.into_iter().filter_map(|(name, value)| Some((name, value.clone()?)));
        let reply = given.fold(Reply::status(204), |reply, (name, value)| reply.with(name, value));
        Verdict::Answer { reply, reason: "cors_preflight" }
    }

    fn response(&self, response: &mut FilterResponse<'_>, slot: &mut Slot) {
        if !self.any {
            // Answers differ by origin, so a shared cache must keep them apart, also those without one.
            vary(response.fields, "origin");
        }
        response.fields.remove(&header::ACCESS_CONTROL_ALLOW_ORIGIN);
        response.fields.remove(&header::ACCESS_CONTROL_ALLOW_CREDENTIALS);
        let Some(Admitted { origin, preflight }) = slot.as_ref().and_then(|slot| slot.downcast_ref()) else { return };
        response.fields.set(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        if let Some(expose) = self.expose.as_ref().filter(|_| !preflight) {
            response.fields.set(header::ACCESS_CONTROL_EXPOSE_HEADERS, expose.clone());
        }
        if self.credentials {
            response.fields.set(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Origin;
    use crate::filter::tests_support::{Exchange, compile, refused};

    const CORS: &str = r#"[{"cors": {"origins": ["https://app.example.com"], "methods": ["GET", "PUT"], "headers": ["x-a"],
                                      "credentials": true, "max_age": "1h"}}]"#;

    #[test]
    fn a_preflight_is_answered_here() {
        let chain = compile(CORS);
        for (origin, status) in [("https://app.example.com", 204), ("https://evil.example", 403), ("null", 403)] {
            let mut exchange = Exchange { method: "OPTIONS".into(), ..Exchange::default() };
            exchange.set("origin", origin);
            exchange.set("access-control-request-method", "PUT");
            let (reply, _) = exchange.request(&chain).unwrap_err();
            assert_eq!(reply.status.as_u16(), status, "{origin}");
            let values: Vec<_> = reply.headers.iter().map(|(_, value)| value.to_str().unwrap()).collect();
            let fields = exchange.response(&chain, status);
            assert_eq!(values == ["GET, PUT", "x-a", "3600"], status == 204, "{values:?}");
            assert_eq!(fields.contains_key("access-control-allow-origin"), status == 204, "{fields:?}");
        }
    }

    #[test]
    fn errors_carry_the_fields_too_and_others_get_none() {
        let chain = compile(CORS);
        let mut exchange = Exchange::default();
        exchange.set("origin", "https://app.example.com");
        exchange.request(&chain).unwrap();
        let fields = exchange.response(&chain, 502);
        assert_eq!(fields["access-control-allow-origin"], "https://app.example.com");
        assert_eq!(fields["access-control-allow-credentials"], "true");
        assert_eq!(fields["vary"], "origin");
        let mut other = Exchange { method: "OPTIONS".into(), ..Exchange::default() };
        other.request(&chain).expect("an OPTIONS that is no preflight goes on");
        let fields = other.response(&chain, 200);
        assert!(!fields.contains_key("access-control-allow-origin") && fields["vary"] == "origin");
    }

    #[test]
    fn pages_read_the_fields_that_are_named_and_preflights_name_none() {
        let chain = compile(r#"[{"cors": {"origins": "https://a.example", "expose_headers": ["x-total", "etag"]}}]"#);
        let mut exchange = Exchange::default();
        exchange.set("origin", "https://a.example");
        exchange.request(&chain).unwrap();
        let sent = [("access-control-expose-headers", "x-own"), ("vary", "Accept, Origin")];
        let fields = exchange.response_with(&chain, 200, &sent);
        assert_eq!(fields["access-control-expose-headers"], "x-total, etag", "in place of the endpoint's own");
        assert_eq!(fields.get_all("vary").iter().collect::<Vec<_>>(), ["Accept, Origin"], "said once");
        let mut preflight = Exchange { method: "OPTIONS".into(), ..Exchange::default() };
        preflight.set("origin", "https://a.example");
        preflight.set("access-control-request-method", "GET");
        preflight.request(&chain).unwrap_err();
        assert!(!preflight.response(&chain, 204).contains_key("access-control-expose-headers"));
        let silent = compile(r#"[{"cors": {"origins": "https://a.example"}}]"#);
        let mut exchange = Exchange::default();
        exchange.set("origin", "https://a.example");
        exchange.request(&silent).unwrap();
        assert_eq!(
            exchange.response_with(&silent, 200, &sent)["access-control-expose-headers"],
            "x-own",
            "nothing was said of it"
        );
    }

    #[test]
    fn subdomains_are_those_of_this_host_by_this_scheme_and_port() {
        let origin = Origin::parse("https://*.example.com").unwrap();
        for (sent, is) in [
            ("https://a.example.com", true),
            ("https://pr-12.preview.example.com", true),
            ("https://example.com", false),
            ("https://.example.com", false),
            ("https://evilexample.com", false),
            ("http://a.example.com", false),
            ("https://a.example.com:8443", false),
            ("https://a.example.com.evil.test", false),
            ("https://evil.test/.example.com", false),
            ("https://evil.test:1.example.com", false),
            ("https://user@a.example.com", false),
            ("https://A.example.com", false),
            ("https://a..example.com", false),
            ("null", false),
        ] {
            assert_eq!(origin.is(sent), is, "{sent}");
        }
        let elsewhere = Origin::parse("http://*.example.com:8080").unwrap();
        assert!(elsewhere.is("http://a.example.com:8080") && !elsewhere.is("http://a.example.com"));
    }

    #[test]
    fn mistakes_are_named() {
        for (options, word) in [
            (r#"{"origins": []}"#, "no origin"),
            (r#"{"origins": "https://a.example/"}"#, "not an origin"),
            (r#"{"origins": "a.example"}"#, "not an origin"),
            (r#"{"origins": "https://a.example:443"}"#, "not an origin"),
            (r#"{"origins": "http://[::1]:80"}"#, "not an origin"),
            (r#"{"origins": "null"}"#, "not an origin"),
            (r#"{"origins": "*", "credentials": true}"#, "refuse credentials"),
            (r#"{"origins": "https://a.example", "credentials": true, "headers": "*"}"#, "for a name"),
            (r#"{"origins": "https://a.example", "credentials": true, "methods": ["GET", "*"]}"#, "for a name"),
            (r#"{"origins": "*", "methods": "a b"}"#, "not a method"),
            (r#"{"origins": "*", "headers": "a b"}"#, "not the name"),
            (r#"{"origins": "*", "expose_headers": "a b"}"#, "not the name"),
            (r#"{"origins": "https://a.example", "credentials": true, "expose_headers": "*"}"#, "for a name"),
            (r#"{"origins": "https://*"}"#, "not an origin"),
            (r#"{"origins": "https://*."}"#, "not an origin"),
            (r#"{"origins": "*.example.com"}"#, "not an origin"),
            (r#"{"origins": "https://a*.example.com"}"#, "not an origin"),
            (r#"{"origins": "https://*.*.example.com"}"#, "not an origin"),
            (r#"{"origins": "https://*.192.0.2.1"}"#, "not an origin"),
            (r#"{"origins": "https://*.[::1]"}"#, "not an origin"),
            (r#"{"origins": "https://*.example.com:443"}"#, "not an origin"),
        ] {
            let problems = refused(&format!(r#"[{{"cors": {options}}}]"#));
            assert!(problems.len() == 1 && problems[0].message.contains(word), "{options}: {problems:?}");
        }
    }
}
