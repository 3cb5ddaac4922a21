//! The `geo` filter: who may come in, by country, and a field that tells the endpoint which.
//!
//! Databases are wrong about some addresses, and anybody can borrow one elsewhere: this follows rules, and stops nobody
//! who is set on coming.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Filter, FilterRequest, Slot, Verdict, alike::remove_alike, headers::field_name};
use crate::types::{At, Code, Country, OneOrMany, Reply};

/// Admits by the client's country, found in the database of `geoip`. Refused clients get 403.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GeoSpec {
    /// Only clients of these countries may come in. Left out: all.
    #[serde(skip_serializing_if = "OneOrMany::is_absent")]
    pub allow: OneOrMany<Country>,
    /// Clients of these may not.
    #[serde(skip_serializing_if = "OneOrMany::is_absent")]
    pub deny: OneOrMany<Country>,
    /// What becomes of clients whose country is not known. Left out: refused where there is an `allow`, else let in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown: Option<Unknown>,
    /// The header field that tells the endpoint the country. What a client sends in it itself is removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
}

/// What becomes of clients whose country is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Unknown {
    /// They are let in.
    Allow,
    /// They are refused.
    Deny,
}

impl GeoSpec {
    pub(super) fn compile(&self, at: &At) -> Option<Arc<dyn Filter>> {
        let unknown = match self.unknown {
            Some(unknown) => unknown,
            None if self.allow.is_absent() => Unknown::Allow,
            None => Unknown::Deny,
        };
        let rule = !self.allow.is_absent() || !self.deny.is_absent() || unknown == Unknown::Deny;
        if !rule && self.header.is_none() {
            at.problem(Code::MissingKey, "`geo` without any rule or `header` does nothing")
                .hint("add `allow`, `deny` or `header`");
            return None;
        }
        if let Some(both) = self.deny.iter().find(|country| self.allow.contains(country)) {
            at.key("deny")
                .problem(Code::Conflict, format!("`{both}` is both allowed and denied"))
                .also(at.key("allow").path(), "allowed here");
            return None;
        }
        let header = match &self.header {
            Some(text) => Some(field_name(text, &at.key("header"))?),
            None => None,
        };
        Some(Arc::new(Geo {
            allow: self.allow.iter().copied().collect(),
            deny: self.deny.iter().copied().collect(),
            unknown,
            header,
        }))
    }
}

#[derive(Debug)]
struct Geo {
    allow: Box<[Country]>,
    deny: Box<[Country]>,
    unknown: Unknown,
    header: Option<HeaderName>,
}

impl Filter for Geo {
    fn kind(&self) -> &'static str {
        "geo"
    }

    fn request(&self, request: &mut FilterRequest<'_>, _: &mut Slot) -> Verdict {
        let country = request.client.country();
        let admitted = match country {
            Some(country) => !self.deny.contains(&country) && (self.allow.is_empty() || self.allow.contains(&country)),
            None => self.unknown == Unknown::Allow,
        };
        if !admitted {
            return Verdict::Answer { reply: Reply::status(403), reason: "country_denied" };
        }
        if let Some(name) = &self.header {
            remove_alike(request.fields, std::slice::from_ref(name));
            if let Some(value) = country.and_then(|country| HeaderValue::from_str(country.as_str()).ok()) {
                request.fields.set(name.clone(), value);
            }
        }
        Verdict::Continue
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::{
        filter::tests_support::{Exchange, compile, refused},
        types::{Countries, Whereabouts},
    };

    /// Everybody is there.
    #[derive(Debug)]
    struct Everywhere(Option<Country>);
    impl Countries for Everywhere {
        fn country(&self, _: IpAddr) -> Option<Country> {
            self.0
        }
    }

    fn from(country: Option<&str>) -> Exchange {
        let mut exchange = Exchange::default();
        let country = country.map(|code| code.parse().unwrap());
        exchange.client.whereabouts = Whereabouts::new(Some(Arc::new(Everywhere(country))));
        exchange
    }

    #[test]
    fn clients_are_admitted_by_country() {
        for (options, admitted) in [
            (r#"{"allow": ["DE", "FR"]}"#, [true, false, false]),
            (r#"{"allow": "DE", "unknown": "allow"}"#, [true, false, true]),
            (r#"{"deny": "DE"}"#, [false, true, true]),
            (r#"{"deny": "DE", "unknown": "deny"}"#, [false, true, false]),
            (r#"{"unknown": "deny"}"#, [true, true, false]),
        ] {
            let chain = compile(&format!(r#"[{{"geo": {options}}}]"#));
            for (country, admitted) in [Some("DE"), Some("US"), None].into_iter().zip(admitted) {
                let verdict = from(country).request(&chain).map_err(|(reply, reason)| (reply.status.as_u16(), reason));
                let want = if admitted { Ok(()) } else { Err((403, "country_denied")) };
                assert_eq!(verdict, want, "{options} {country:?}");
            }
        }
    }

    #[test]
    fn the_endpoint_learns_the_country_from_nobody_else() {
        let chain = compile(r#"[{"geo": {"header": "x-country"}}]"#);
        for country in [Some("DE"), None] {
            let mut exchange = from(country);
            exchange.set("x-country", "XX");
            exchange.set("x.country", "XX");
            exchange.request(&chain).unwrap();
            assert_eq!((exchange.get("x-country"), exchange.get("x.country")), (country, None));
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (options, word) in [
            (r#"{}"#, "does nothing"),
            (r#"{"unknown": "allow"}"#, "does nothing"),
            (r#"{"allow": ["DE", "FR"], "deny": "FR"}"#, "`FR` is both"),
            (r#"{"header": "host:"}"#, "not the name"),
        ] {
            let problems = refused(&format!(r#"[{{"geo": {options}}}]"#));
            assert!(problems.len() == 1 && problems[0].message.contains(word), "{options}: {problems:?}");
        }
    }
}
