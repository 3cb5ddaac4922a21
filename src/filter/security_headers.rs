//! The `security_headers` filter: what browsers should be strict about, on every answer.
//!
//! What an endpoint says for itself stands, since it knows its pages better, unless `overwrite` is set. The values
//! that hold without being asked for break no page that works today; a content security policy or a permissions
//! policy would, so those are only sent when written.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Filter, FilterRequest, FilterResponse, Slot, Verdict, headers::field_name};
use crate::types::{At, Code, OneOrMany, Scheme, Span, Switch};

const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");

/// Sends the header fields that make browsers strict, and takes off those that tell what software answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SecurityHeadersSpec {
    /// Strict-Transport-Security, sent to clients that came over TLS. `off` sends none.
    pub hsts: Switch<HstsSpec>,
    /// `x-content-type-options: nosniff`: a browser takes the media type of an answer as it is written.
    pub nosniff: bool,
    /// Which sites may show the pages in a frame: `x-frame-options`.
    pub frame_options: FrameOptions,
    /// How much of a page's address its links tell: `referrer-policy`.
    pub referrer_policy: ReferrerPolicy,
    /// The value of `content-security-policy`. Left out: none is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_security_policy: Option<String>,
    /// The value of `permissions-policy`. Left out: none is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permissions_policy: Option<String>,
    /// Fields that are taken off.
    pub remove: OneOrMany<String>,
    /// Replace what the endpoint says. Left out, its own values stand.
    pub overwrite: bool,
}

impl Default for SecurityHeadersSpec {
    fn default() -> Self {
        Self {
            hsts: Switch::default(),
            nosniff: true,
            frame_options: FrameOptions::Sameorigin,
            referrer_policy: ReferrerPolicy::StrictOriginWhenCrossOrigin,
            content_security_policy: None,
            permissions_policy: None,
            remove: OneOrMany(["server", "x-powered-by"].map(String::from).into()),
            overwrite: false,
        }
    }
}

/// Strict-Transport-Security (RFC 6797): for this long a browser asks this host over TLS only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HstsSpec {
    /// For how long. `0` makes browsers forget what they were told.
    pub max_age: Span,
    /// The same for all subdomains.
    pub include_subdomains: bool,
    /// Ask for a place in the list that browsers ship with. Needs a year and all subdomains.
    pub preload: bool,
}

impl Default for HstsSpec {
    fn default() -> Self {
        Self { max_age: Self::YEAR, include_subdomains: false, preload: false }
    }
}

/// The values of `x-frame-options` (RFC 7034), or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FrameOptions {
    /// No site.
    Deny,
    /// Pages of the same origin.
    Sameorigin,
    /// The field is not sent.
    Off,
}

/// The values of `referrer-policy` (the Referrer Policy standard), or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ReferrerPolicy {
    /// Nothing at all.
    NoReferrer,
    /// Everything, but nothing from TLS to cleartext.
    NoReferrerWhenDowngrade,
    /// The origin.
    Origin,
    /// Everything to the same origin, else the origin.
    OriginWhenCrossOrigin,
    /// Everything to the same origin, else nothing.
    SameOrigin,
    /// The origin, but nothing from TLS to cleartext.
    StrictOrigin,
    /// Everything to the same origin, else the origin, but nothing from TLS to cleartext.
    StrictOriginWhenCrossOrigin,
    /// Everything to everybody.
    UnsafeUrl,
    /// The field is not sent.
    Off,
}

impl FrameOptions {
    fn value(self) -> Option<HeaderValue> {
        let text = match self {
            FrameOptions::Deny => "DENY",
            FrameOptions::Sameorigin => "SAMEORIGIN",
            FrameOptions::Off => return None,
        };
        Some(HeaderValue::from_static(text))
    }
}

impl ReferrerPolicy {
    fn value(self) -> Option<HeaderValue> {
        let text = match self {
            ReferrerPolicy::NoReferrer => "no-referrer",
            ReferrerPolicy::NoReferrerWhenDowngrade => "no-referrer-when-downgrade",
            ReferrerPolicy::Origin => "origin",
            ReferrerPolicy::OriginWhenCrossOrigin => "origin-when-cross-origin",
            ReferrerPolicy::SameOrigin => "same-origin",
            ReferrerPolicy::StrictOrigin => "strict-origin",
            ReferrerPolicy::StrictOriginWhenCrossOrigin => "strict-origin-when-cross-origin",
            ReferrerPolicy::UnsafeUrl => "unsafe-url",
            ReferrerPolicy::Off => return None,
        };
        Some(HeaderValue::from_static(text))
    }
}

impl HstsSpec {
    /// What the preload list asks for, and what browsers are told unless the file says otherwise.
    const YEAR: Span = Span::secs(365 * 24 * 3600);

    /// The value of the field; `None` when a problem was reported instead.
    fn value(&self, at: &At) -> Option<HeaderValue> {
        if self.preload && (!self.include_subdomains || self.max_age < Self::YEAR) {
            at.key("preload")
                .problem(Code::Conflict, "browsers' list takes only hosts with all their subdomains, for a year at least")
                .hint("add `include_subdomains: true` and `max_age: 365d`, or remove `preload`");
            return None;
        }
        let mut text = format!("max-age={}", self.max_age.get().as_secs());
        for (given, directive) in [(self.include_subdomains, "; includeSubDomains"), (self.preload, "; preload")] {
            if given {
                text.push_str(directive);
            }
        }
        HeaderValue::from_str(&text).ok()
    }
}

impl SecurityHeadersSpec {
    pub(super) fn compile(&self, at: &At) -> Option<Arc<dyn Filter>> {
        let mut sound = true;
        let hsts = match self.hsts.on().map(|hsts| hsts.value(&at.key("hsts"))) {
            None => None,
            Some(Some(value)) => Some(value),
            Some(None) => {
                sound = false;
                None
            }
        };
        let mut set = Vec::new();
        let mut add = |name: HeaderName, value: Option<HeaderValue>| set.extend(value.map(|value| (name, value)));
        add(header::X_CONTENT_TYPE_OPTIONS, self.nosniff.then(|| HeaderValue::from_static("nosniff")));
        add(header::X_FRAME_OPTIONS, self.frame_options.value());
        add(header::REFERRER_POLICY, self.referrer_policy.value());
        for (key, name, text) in [
            ("content_security_policy", header::CONTENT_SECURITY_POLICY, &self.content_security_policy),
            ("permissions_policy", PERMISSIONS_POLICY, &self.permissions_policy),
        ] {
            let Some(text) = text else { continue };
            match HeaderValue::from_str(text).ok().filter(|value| !value.is_empty()) {
                Some(value) => add(name, Some(value)),
                None => {
                    at.key(key).problem(Code::BadValue, format!("{text:?} cannot be the value of a header field"));
                    sound = false;
                }
            }
        }
        let mut remove = Vec::new();
        for (index, name) in self.remove.iter().enumerate() {
            let at = if self.remove.len() == 1 { at.key("remove") } else { at.key("remove").index(index) };
            match field_name(name, &at) {
                Some(name) => remove.push(name),
                None => sound = false,
            }
        }
        sound.then(|| -> Arc<dyn Filter> {
            Arc::new(SecurityHeaders { hsts, set: set.into(), remove: remove.into(), overwrite: self.overwrite })
        })
    }
}

#[derive(Debug)]
struct SecurityHeaders {
    hsts: Option<HeaderValue>,
    set: Box<[(HeaderName, HeaderValue)]>,
    remove: Box<[HeaderName]>,
    overwrite: bool,
}

/// What is kept of a request whose client came over TLS. Of no size, so keeping it takes no memory.
struct Secure;

impl Filter for SecurityHeaders {
    fn kind(&self) -> &'static str {
        "security_headers"
    }

    fn request(&self, request: &mut FilterRequest<'_>, slot: &mut Slot) -> Verdict {
        if request.client.scheme == Scheme::Https {
            *slot = Some(Box::new(Secure));
        }
        Verdict::Continue
    }

    fn response(&self, response: &mut FilterResponse<'_>, slot: &mut Slot) {
        // A browser must ignore it in cleartext, where anybody could have written it (RFC 6797 section 7.2).
        let hsts = self.hsts.as_ref().filter(|_| slot.is_some()).map(|value| (&header::STRICT_TRANSPORT_SECURITY, value));
        if slot.is_none() && self.hsts.is_some() && self.overwrite {
            response.fields.remove(&header::STRICT_TRANSPORT_SECURITY);
        }
        for name in &self.remove {
            response.fields.remove(name);
        }
        for (name, value) in self.set.iter().map(|(name, value)| (name, value)).chain(hsts) {
            if self.overwrite || response.fields.get(name.as_str()).is_none() {
                response.fields.set(name.clone(), value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::tests_support::{Exchange, compile, refused};

    fn answer(filter: &str, scheme: Scheme, sent: &[(&'static str, &str)]) -> http::HeaderMap {
        let chain = compile(&format!("[{filter}]"));
        let mut exchange = Exchange::default();
        exchange.client.scheme = scheme;
        exchange.request(&chain).unwrap();
        exchange.response_with(&chain, 200, sent)
    }

    #[test]
    fn the_defaults_are_strict_and_hsts_is_for_tls() {
        let bare = r#"{"security_headers": {}}"#;
        let fields = answer(bare, Scheme::Https, &[("server", "nginx"), ("x-powered-by", "PHP")]);
        for (name, value) in [
            ("strict-transport-security", Some("max-age=31536000")),
            ("x-content-type-options", Some("nosniff")),
            ("x-frame-options", Some("SAMEORIGIN")),
            ("referrer-policy", Some("strict-origin-when-cross-origin")),
            ("content-security-policy", None),
            ("permissions-policy", None),
            ("server", None),
            ("x-powered-by", None),
        ] {
            assert_eq!(fields.get(name).map(|value| value.to_str().unwrap()), value, "{name}");
        }
        assert!(!answer(bare, Scheme::Http, &[]).contains_key("strict-transport-security"));
    }

    #[test]
    fn what_the_endpoint_says_stands_unless_told_otherwise() {
        let sent = [("x-frame-options", "DENY"), ("strict-transport-security", "max-age=1")];
        let fields = answer(r#"{"security_headers": {}}"#, Scheme::Https, &sent);
        assert_eq!(
            (&fields["x-frame-options"], &fields["strict-transport-security"]),
            (&"DENY".parse().unwrap(), &"max-age=1".parse().unwrap())
        );
        let overwriting = r#"{"security_headers": {"overwrite": true, "hsts": {"include_subdomains": true, "preload": true}}}"#;
        let fields = answer(overwriting, Scheme::Https, &sent);
        assert_eq!(fields["x-frame-options"], "SAMEORIGIN");
        assert_eq!(fields["strict-transport-security"], "max-age=31536000; includeSubDomains; preload");
        assert!(!answer(overwriting, Scheme::Http, &sent).contains_key("strict-transport-security"));
    }

    #[test]
    fn every_field_can_be_chosen_or_left_out() {
        let chosen = r#"{"security_headers": {"hsts": "off", "nosniff": false, "frame_options": "deny", "referrer_policy": "no-referrer",
            "content_security_policy": "default-src 'self'", "permissions_policy": "camera=()", "remove": "x-gone"}}"#;
        let fields = answer(chosen, Scheme::Https, &[("server", "a"), ("x-gone", "1")]);
        let names: Vec<_> = fields.keys().map(HeaderName::as_str).collect();
        assert_eq!(names.len(), 5, "{names:?}");
        assert_eq!(
            (&fields["x-frame-options"], &fields["referrer-policy"]),
            (&"DENY".parse().unwrap(), &"no-referrer".parse().unwrap())
        );
        assert_eq!(fields["content-security-policy"], "default-src 'self'");
        assert_eq!((&fields["permissions-policy"], &fields["server"]), (&"camera=()".parse().unwrap(), &"a".parse().unwrap()));
        let off = r#"{"security_headers": {"hsts": "off", "nosniff": false, "frame_options": "off", "referrer_policy": "off", "remove": []}}"#;
        assert!(answer(off, Scheme::Https, &[]).is_empty());
    }

    #[test]
    fn mistakes_are_named() {
        for (options, word) in [
            (r#"{"hsts": {"preload": true}}"#, "all their subdomains"),
            (r#"{"hsts": {"preload": true, "include_subdomains": true, "max_age": "1d"}}"#, "for a year"),
            (r#"{"content_security_policy": "a\nb"}"#, "cannot be the value"),
            (r#"{"permissions_policy": ""}"#, "cannot be the value"),
            (r#"{"remove": "content-length"}"#, "`content-length` belongs"),
        ] {
            let problems = refused(&format!(r#"[{{"security_headers": {options}}}]"#));
            assert!(problems.len() == 1 && problems[0].message.contains(word), "{options}: {problems:?}");
        }
    }
}
