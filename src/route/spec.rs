//! What users write under `routes`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{FallbackSpec, ShareSpec};
use crate::{
    filter::FilterSpec,
    resilience::RetrySpec,
    types::{At, Cidr, Country, HostPattern, Name, OneOrMany, Regexp, Span},
};

/// Requests that match go to one action: `upstream`, `split`, `redirect` or `respond`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteSpec {
    /// The route's name in logs, metrics and the admin API.
    pub name: Name,
    /// Which requests. Left out: all of them.
    #[serde(default, rename = "match")]
    pub matches: MatchSpec,
    /// What happens on the way in, in order, and on the way out, in reverse.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<FilterSpec>,
    /// Forward to this upstream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<Name>,
    /// Forward to one of these upstreams, by weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<Vec<ShareSpec>>,
    /// Answer with a redirect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect: Option<RedirectSpec>,
    /// Answer with a fixed response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub respond: Option<RespondSpec>,
    /// For the whole exchange; `0s` for none. Silence is limited by `http.body_idle_timeout` and
    /// `connections.response_timeout`.
    #[serde(default)]
    pub timeout: Span,
    /// Further tries when one fails. Left out, a failed connect is tried on one other endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetrySpec>,
    /// The answer when every try has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<FallbackSpec>,
    /// Allow WebSocket upgrades. Other upgrades are always refused.
    #[serde(default = "RouteSpec::default_websocket")]
    pub websocket: bool,
}

impl RouteSpec {
    /// Every request to this upstream, everything else as if left out.
    pub fn forwarding(name: Name, upstream: Name) -> Self {
        Self {
            name,
            matches: MatchSpec::default(),
            filters: Vec::new(),
            upstream: Some(upstream),
            split: None,
            redirect: None,
            respond: None,
            timeout: Span::default(),
            retry: None,
            fallback: None,
            websocket: Self::default_websocket(),
        }
    }
    /// The upstreams that it names, each with its place below the route.
    pub fn upstreams<'s>(&'s self, at: &At) -> Vec<(&'s Name, At)> {
        let whole = self.upstream.iter().map(|name| (name, at.key("upstream")));
        let at_split = at.key("split");
        let shares = self.split.iter().flatten().enumerate();
        whole.chain(shares.map(|(index, share)| (&share.upstream, at_split.index(index).key("upstream")))).collect()
    }
    fn default_websocket() -> bool {
        true
    }
}

/// What a request must have to match; everything given must hold.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MatchSpec {
    /// Any of these hosts: `example.com`, `*.example.com`, `*`.
    #[serde(skip_serializing_if = "OneOrMany::is_absent")]
    pub host: OneOrMany<HostPattern>,
    /// The path: `/v1/*` is that segment and everything below, without `*` exactly this path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The path as a regular expression, matched anywhere unless anchored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_regex: Option<Regexp>,
    /// Any of these methods.
    #[serde(skip_serializing_if = "OneOrMany::is_absent")]
    pub method: OneOrMany<String>,
    /// All of these header fields.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, HeaderMatch>,
    /// All of these query parameters.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub query: BTreeMap<String, HeaderMatch>,
    /// The client's address in any of these ranges.
    #[serde(skip_serializing_if = "OneOrMany::is_absent")]
    pub client_ip: OneOrMany<Cidr>,
    /// The client's country is any of these. Needs `geoip`.
    #[serde(skip_serializing_if = "OneOrMany::is_absent")]
    pub country: OneOrMany<Country>,
    /// Accepted by any of these listeners.
    #[serde(skip_serializing_if = "OneOrMany::is_absent")]
    pub listener: OneOrMany<Name>,
}

/// How the value of a header field or a query parameter must be. A bare string is `exact`.
#[derive(Debug, Clone, PartialEq)]
pub enum HeaderMatch {
    /// Exactly this value.
    Exact(String),
    /// There (true) or not there (false), with any value.
    Present(bool),
    /// Matching this regular expression anywhere, unless it is anchored.
    Regex(Regexp),
}

/// The long form of [`HeaderMatch`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
enum HeaderMatchKind {
    /// Exactly this value.
    #[serde(rename = "exact")]
    Exact(String),
    /// There, or not there.
    #[serde(rename = "present")]
    Present(bool),
    /// Matching this regular expression.
    #[serde(rename = "regex")]
    Regex(Regexp),
}

impl Serialize for HeaderMatch {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.clone() {
            HeaderMatch::Exact(text) => serializer.serialize_str(&text),
            HeaderMatch::Present(there) => HeaderMatchKind::Present(there).serialize(serializer),
            HeaderMatch::Regex(regex) => HeaderMatchKind::Regex(regex).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for HeaderMatch {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de;
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = HeaderMatch;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a value, `{exact: ...}`, `{present: true}` or `{regex: ...}`")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<HeaderMatch, E> {
                Ok(HeaderMatch::Exact(text.into()))
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<HeaderMatch, A::Error> {
                Ok(match HeaderMatchKind::deserialize(de::value::MapAccessDeserializer::new(map))? {
                    HeaderMatchKind::Exact(text) => HeaderMatch::Exact(text),
                    HeaderMatchKind::Present(there) => HeaderMatch::Present(there),
                    HeaderMatchKind::Regex(regex) => HeaderMatch::Regex(regex),
                })
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for HeaderMatch {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ValueMatch".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let long = generator.subschema_for::<HeaderMatchKind>();
        schemars::json_schema!({"anyOf": [{"type": "string"}, long]})
    }
}

/// A redirect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RedirectSpec {
    /// The target; `{scheme}`, `{host}`, `{path}` and `{query}` are the request's own (`{query}` brings its `?`).
    /// For a prefix match, `{path}` is what follows the prefix; where a `rewrite` has made another path, it is that.
    pub to: String,
    /// 301, 302, 303, 307 or 308.
    #[serde(default = "RedirectSpec::default_status")]
    pub status: u16,
}

impl RedirectSpec {
    fn default_status() -> u16 {
        308
    }
}

/// A fixed response.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RespondSpec {
    /// 200 to 599.
    #[serde(default = "RespondSpec::default_status")]
    pub status: u16,
    /// The body.
    #[serde(default)]
    pub body: String,
    /// The body's type.
    #[serde(default = "RespondSpec::default_content_type")]
    pub content_type: String,
}

impl RespondSpec {
    fn default_status() -> u16 {
        200
    }
    fn default_content_type() -> String {
        "text/plain; charset=utf-8".into()
    }
}
