//! The `user_agent` filter: who may come in, by what a client says it is.
//!
//! Anybody can say anything, so this keeps out what does not hide: crawlers, scanners and old versions.

use std::sync::Arc;

use regex::bytes::{RegexSet, RegexSetBuilder};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{Filter, FilterRequest, Slot, Verdict};
use crate::types::{At, Code, OneOrMany, Regexp, Reply};

/// Admits by the `User-Agent` field. Refused clients get 403.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UserAgentSpec {
    /// Only these may come in. Left out: everybody.
    #[serde(skip_serializing_if = "OneOrMany::is_absent")]
    pub allow: OneOrMany<AgentPattern>,
    /// These may not, even where `allow` names them.
    #[serde(skip_serializing_if = "OneOrMany::is_absent")]
    pub deny: OneOrMany<AgentPattern>,
    /// What becomes of requests that do not say. Left out: refused where there is an `allow`, else let in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<Missing>,
}

/// What becomes of a request without the field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Missing {
    /// It is let in.
    Allow,
    /// It is refused.
    Deny,
}

/// What an agent is told by: a part of its name in any case, or a regular expression.
#[derive(Debug, Clone, PartialEq)]
pub enum AgentPattern {
    /// Has this text in it; ASCII letters in upper and lower case are the same.
    Part(String),
    /// Matches this anywhere, unless it is anchored.
    Regex(Regexp),
}

/// The long form of [`AgentPattern`].
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
enum AgentPatternKind {
    /// Matching this regular expression.
    #[serde(rename = "regex")]
    Regex(Regexp),
}

impl Serialize for AgentPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            AgentPattern::Part(text) => serializer.serialize_str(text),
            AgentPattern::Regex(regex) => AgentPatternKind::Regex(regex.clone()).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for AgentPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = AgentPattern;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a part of a name, or `{regex: ...}`")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<AgentPattern, E> {
                Ok(AgentPattern::Part(text.into()))
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<AgentPattern, A::Error> {
                let AgentPatternKind::Regex(regex) = AgentPatternKind::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(AgentPattern::Regex(regex))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for AgentPattern {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "AgentPattern".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let long = generator.subschema_for::<AgentPatternKind>();
        schemars::json_schema!({"anyOf": [{"type": "string"}, long]})
    }
}

/// The programs of all patterns of one list, in bytes. Each pattern alone may have a tenth.
const SIZE_LIMIT: usize = 10 << 20;

impl UserAgentSpec {
    pub(super) fn compile(&self, at: &At) -> Option<Arc<dyn Filter>> {
        let missing = match self.missing {
            Some(missing) => missing,
            None if self.allow.is_absent() => Missing::Allow,
            None => Missing::Deny,
        };
        if self.allow.is_absent() && self.deny.is_absent() && missing == Missing::Allow {
            at.problem(Code::MissingKey, "`user_agent` without any rule admits everybody")
                .hint("add `allow`, `deny` or `missing: deny`");
            return None;
        }
        let (allow, deny) = (patterns(&self.allow, &at.key("allow")), patterns(&self.deny, &at.key("deny")));
        Some(Arc::new(UserAgent { allow: allow?, deny: deny?, missing }))
    }
}

/// All patterns as one machine, which reads a name once. `None` when a problem was reported instead.
fn patterns(list: &OneOrMany<AgentPattern>, at: &At) -> Option<Option<RegexSet>> {
    let mut sources = Vec::with_capacity(list.len());
    for (index, pattern) in list.iter().enumerate() {
        match pattern {
            AgentPattern::Part(text) if text.is_empty() => {
                let at = if list.len() == 1 { at.clone() } else { at.index(index) };
                at.problem(Code::BadValue, "an empty text is in every name").hint("`missing` is for requests without a name");
                return None;
            }
            AgentPattern::Part(text) => sources.push(format!("(?i-u:{})", regex::escape(text))),
            AgentPattern::Regex(regex) => sources.push(regex.to_string()),
        }
    }
    if sources.is_empty() {
        return Some(None);
    }
    match RegexSetBuilder::new(&sources).size_limit(SIZE_LIMIT).build() {
        Ok(set) => Some(Some(set)),
        Err(_) => {
            let message = format!("these patterns together need more than {} MiB", SIZE_LIMIT >> 20);
            at.problem(Code::TooLarge, message).hint("use fewer or simpler ones");
            None
        }
    }
}

#[derive(Debug)]
struct UserAgent {
    /// `None`: everybody.
    allow: Option<RegexSet>,
    /// `None`: nobody.
    deny: Option<RegexSet>,
    missing: Missing,
}

impl UserAgent {
    fn admits(&self, agent: &[u8]) -> bool {
        if agent.is_empty() {
            return self.missing == Missing::Allow;
        }
        let named = |set: &RegexSet| set.is_match(agent);
        !self.deny.as_ref().is_some_and(named) && self.allow.as_ref().is_none_or(named)
    }
}

impl Filter for UserAgent {
    fn kind(&self) -> &'static str {
        "user_agent"
    }

    fn request(&self, request: &mut FilterRequest<'_>, _: &mut Slot) -> Verdict {
        // Of several, which a client may send to be read differently by each who reads, every one must be admitted.
        let absent = request.fields.get("user-agent").is_none();
        let refused = match absent {
            true => self.missing == Missing::Deny,
            false => request.fields.any("user-agent", &mut |agent| !self.admits(agent)),
        };
        if refused { Verdict::Answer { reply: Reply::status(403), reason: "user_agent_denied" } } else { Verdict::Continue }
    }
}

#[cfg(test)]
mod tests {
    use crate::filter::tests_support::{Exchange, compile, refused};

    fn admitted(options: &str, agent: Option<&str>) -> bool {
        let mut exchange = Exchange::default();
        if let Some(agent) = agent {
            exchange.set("user-agent", agent);
        }
        match exchange.request(&compile(&format!(r#"[{{"user_agent": {options}}}]"#))) {
            Ok(()) => true,
            Err((reply, reason)) => {
                assert_eq!((reply.status.as_u16(), reason), (403, "user_agent_denied"));
                false
            }
        }
    }

    #[test]
    fn parts_are_found_in_any_case_and_deny_wins() {
        let both = r#"{"allow": ["Mozilla", "curl/"], "deny": ["bot.", {"regex": "^curl/[0-6]\\."}]}"#;
        for (agent, want) in [
            (Some("Mozilla/5.0"), true),
            (Some("x mozilla"), true),
            (Some("Mozilla/5.0 (compatible; SpamBot.1)"), false),
            (Some("Mozilla/5.0 (compatible; SpamBot)"), true),
            (Some("curl/7.1"), true),
            (Some("curl/6.9"), false),
            (Some("wget"), false),
            (Some(""), false),
            (None, false),
        ] {
            assert_eq!(admitted(both, agent), want, "{agent:?}");
        }
    }

    #[test]
    fn what_does_not_say_is_as_written() {
        for (options, want) in [
            (r#"{"deny": "bot"}"#, true),
            (r#"{"deny": "bot", "missing": "deny"}"#, false),
            (r#"{"missing": "deny"}"#, false),
            (r#"{"allow": {"regex": "."}}"#, false),
            (r#"{"allow": "x", "missing": "allow"}"#, true),
        ] {
            assert_eq!((admitted(options, None), admitted(options, Some(""))), (want, want), "{options}");
        }
        assert!(admitted(r#"{"missing": "deny"}"#, Some("x")));
    }

    #[test]
    fn of_several_names_each_must_be_admitted() {
        let chain = compile(r#"[{"user_agent": {"deny": "bot"}}]"#);
        let mut exchange = Exchange::default();
        exchange.fields.append("user-agent", "Mozilla".parse().unwrap());
        exchange.fields.append("user-agent", "bot".parse().unwrap());
        assert!(exchange.request(&chain).is_err());
    }

    #[test]
    fn a_name_need_not_be_text() {
        let chain = compile(r#"[{"user_agent": {"deny": ["bot", "ü"]}}]"#);
        for (agent, want) in [(&b"\xff\xfe"[..], true), (b"\xffBOT", false), ("xüx".as_bytes(), false)] {
            let mut exchange = Exchange::default();
            exchange.fields.insert("user-agent", http::HeaderValue::from_bytes(agent).unwrap());
            assert_eq!(exchange.request(&chain).is_ok(), want, "{agent:?}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        let many = format!("[{}]", vec![r#"{"regex": "(?:[a-z]{99}){99}"}"#; 40].join(","));
        for (options, word) in [
            (r#"{}"#, "admits everybody"),
            (r#"{"missing": "allow"}"#, "admits everybody"),
            (r#"{"deny": ["a", ""]}"#, "empty text"),
            (&format!(r#"{{"deny": {many}}}"#), "more than 10 MiB"),
        ] {
            let problems = refused(&format!(r#"[{{"user_agent": {options}}}]"#));
            assert!(problems.len() == 1 && problems[0].message.contains(word), "{options}: {problems:?}");
        }
    }
}
