//! The `cors` filter: which pages of other origins may read the answers (the Fetch standard, section 3.2).
//!
//! Preflights are answered here. On every other response, Weir's own errors included, the fields of the
//! upstream are replaced: two values of `access-control-allow-origin` are none to a browser.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Filter, FilterRequest, FilterResponse, Slot, Verdict, field_text};
use crate::types::{At, Code, OneOrMany, Reply, Span, parse_authority};

/// Lets pages of other origins read the answers, and answers their preflights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CorsSpec {
    /// These origins, as in `https://app.example.com`, or `*` for all.
    pub origins: OneOrMany<String>,
    /// The methods that pages may use.
    #[serde(default = "CorsSpec::default_methods")]
    pub methods: OneOrMany<String>,
    /// The request fields that pages may send beside those that are always allowed.
    #[serde(default, skip_serializing_if = "OneOrMany::is_absent")]
    pub headers: OneOrMany<String>,
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
        for (index, origin) in self.origins.iter().enumerate() {
            if origin != "*" && !is_origin(origin) {
                item("origins", index, self.origins.len())
                    .problem(Code::BadValue, format!("`{origin}` is not an origin"))
                    .hint("write scheme and host in lower case, and the port if it is unusual: `https://app.example.com`");
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
        for (key, items) in [("methods", &self.methods), ("headers", &self.headers)] {
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
        for (index, name) in self.headers.iter().enumerate() {
            if HeaderName::from_bytes(name.as_bytes()).is_err() {
                let message = format!("`{name}` is not the name of a header field");
                item("headers", index, self.headers.len()).problem(Code::BadValue, message);
                sound = false;
            }
        }
        let list = |items: &[String]| HeaderValue::from_str(&items.join(", ")).ok().filter(|value| !value.is_empty());
        sound.then(|| -> Arc<dyn Filter> {
            Arc::new(Cors {
                origins: self.origins.iter().map(|origin| origin.as_str().into()).collect(),
                any,
                methods: list(&self.methods),
                headers: list(&self.headers),
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

#[derive(Debug)]
struct Cors {
    origins: Box<[Box<str>]>,
    any: bool,
    methods: Option<HeaderValue>,
    headers: Option<HeaderValue>,
    credentials: bool,
    max_age: Option<HeaderValue>,
}

impl Filter for Cors {
    fn kind(&self) -> &'static str {
        "cors"
    }

    fn request(&self, request: &mut FilterRequest<'_>, slot: &mut Slot) -> Verdict {
        let Some(origin) = field_text(&*request.fields, "origin") else { return Verdict::Continue };
        let allowed = self.any || self.origins.iter().any(|one| **one == *origin);
        if allowed && let Ok(origin) = HeaderValue::from_str(if self.any { "*" } else { origin }) {
            *slot = Some(Box::new(origin));
        }
        if request.method != "OPTIONS" || request.fields.get("access-control-request-method").is_none() {
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
            response.fields.append(header::VARY, HeaderValue::from_static("origin"));
        }
        response.fields.remove(&header::ACCESS_CONTROL_ALLOW_ORIGIN);
        response.fields.remove(&header::ACCESS_CONTROL_ALLOW_CREDENTIALS);
        let Some(origin) = slot.as_ref().and_then(|slot| slot.downcast_ref::<HeaderValue>()) else { return };
        response.fields.set(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        if self.credentials {
            response.fields.set(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }
}

#[cfg(test)]
mod tests {
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
        ] {
            let problems = refused(&format!(r#"[{{"cors": {options}}}]"#));
            assert!(problems.len() == 1 && problems[0].message.contains(word), "{options}: {problems:?}");
        }
    }
}
