//! The `cache` filter: answers are kept, and sent again without asking the upstream.
//!
//! The filter only says what a route wants of the cache. Looking up, storing and sending is the proxy's work, behind all filters
//! of the request pass (so whoever they refuse gets nothing from the cache either) and before those of the response pass (which
//! see what comes from the cache like any other response). The rules are in [`crate::cache`].

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Filter, FilterRequest, Slot, Verdict};
use crate::{
    cache::{Policy, QueryRule},
    types::{At, Code, OneOrMany, Size, Span},
};

/// Keeps answers to GET, and sends them again without asking the upstream, as RFC 9111 has it for shared caches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CacheFilterSpec {
    /// How long an answer is fresh that does not say so itself (by `Cache-Control` or `Expires`). Left out, only those that do are
    /// kept. For the statuses 200, 203, 204, 300, 301, 308, 404 and 410.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Span>,
    /// The longest time that an answer is fresh, whatever it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_ttl: Option<Span>,
    /// A larger body passes and is not kept.
    pub max_object: Size,
    /// How long a stale answer is sent while a new one is fetched behind it, where it does not say so itself.
    pub stale_while_revalidate: Span,
    /// How long a stale answer is sent when the upstream fails, where it does not say so itself.
    pub stale_if_error: Span,
    /// Parameters of the query that do not tell answers apart: names, or beginnings of names as in `utm_*`. `*` is all.
    #[serde(skip_serializing_if = "OneOrMany::is_absent")]
    pub ignore_query: OneOrMany<String>,
    /// Keep and share answers to clients that identified themselves (`Authorization`, `api_key`, `basic_auth`, `jwt`, `forward_auth`, a client
    /// certificate), although the answers do not say that they are for everybody.
    pub authorized: bool,
    /// Keep answers that set cookies, and send the cookies to everybody.
    pub set_cookie: bool,
    /// Let clients ask for more than a kept answer, by `Cache-Control: no-cache`, `max-age`, `min-fresh` and `max-stale`. Anybody can
    /// make the upstream work then.
    pub client_directives: bool,
    /// How long a request waits for another that fetches the same, before it goes to the upstream itself.
    pub lock_timeout: Span,
}

impl Default for CacheFilterSpec {
    fn default() -> Self {
        Self {
            ttl: None,
            max_ttl: None,
            max_object: Size::bytes(1 << 20),
            stale_while_revalidate: Span::default(),
            stale_if_error: Span::default(),
            ignore_query: OneOrMany::default(),
            authorized: false,
            set_cookie: false,
            client_directives: false,
            lock_timeout: Span::secs(5),
        }
    }
}

/// A body that is kept is in memory in one piece of time or another, so this is beyond any sense.
const LARGEST: u64 = 16 << 30;

impl CacheFilterSpec {
    pub(super) fn compile(&self, at: &At) -> Option<Arc<dyn Filter>> {
        let mut sound = true;
        let mut wrong = |key: &str, message: String, hint: &str| {
            at.key(key).problem(Code::BadValue, message).hint(hint);
            sound = false;
        };
        if self.ttl.is_some_and(|ttl| ttl.get().is_zero()) {
            wrong(
                "ttl",
                "nothing would be fresh for any time".into(),
                "leave it out to keep only answers that say how long they are fresh",
            );
        }
        if self.max_ttl.is_some_and(|max| max.get().is_zero()) {
            wrong("max_ttl", "nothing would be fresh for any time".into(), "give it a time, or leave it out");
        }
        if self.max_ttl.zip(self.ttl).is_some_and(|(max, ttl)| !max.get().is_zero() && ttl > max) {
            let message =
                format!("no answer is fresh for longer than `max_ttl`, which is less than {}", self.ttl.unwrap_or_default());
            wrong("ttl", message, "make `max_ttl` at least as long");
        }
        if self.max_object.get() == 0 || self.max_object.get() > LARGEST {
            wrong("max_object", format!("`{}` is no sensible size for an answer", self.max_object), "from `1B` to `16GiB`");
        }
        if self.lock_timeout.get().is_zero() {
            wrong("lock_timeout", "requests would never wait for each other".into(), "give it some seconds");
        }
        for (index, name) in self.ignore_query.iter().enumerate() {
            let inner = name.strip_suffix('*').unwrap_or(name);
            if name.is_empty() || inner.contains(['*', '&', ';', '=', '?', '#']) {
                at.key("ignore_query")
                    .index(index)
                    .problem(Code::BadValue, format!("`{name}` is neither the name of a parameter nor the beginning of one"))
                    .hint("write names as they are sent: `utm_source`, or `utm_*`");
                sound = false;
            }
        }
        sound.then(|| -> Arc<dyn Filter> { Arc::new(Cache { policy: Arc::new(self.policy()) }) })
    }

    fn policy(&self) -> Policy {
        Policy {
            ttl: self.ttl.map(Span::get),
            max_ttl: self.max_ttl.map(Span::get),
            max_object: self.max_object.get(),
            stale_while_revalidate: self.stale_while_revalidate.get(),
            stale_if_error: self.stale_if_error.get(),
            query: match self.ignore_query.is_absent() {
                true => QueryRule::All,
                false => QueryRule::Without(self.ignore_query.to_vec()),
            },
            authorized: self.authorized,
            set_cookie: self.set_cookie,
            client_directives: self.client_directives,
            lock_timeout: self.lock_timeout.get(),
        }
    }
}

#[derive(Debug)]
struct Cache {
    policy: Arc<Policy>,
}

impl Filter for Cache {
    fn kind(&self) -> &'static str {
        "cache"
    }

    fn request(&self, request: &mut FilterRequest<'_>, _: &mut Slot) -> Verdict {
        request.keeping.policy = Some(self.policy.clone());
        // What is there now; filters that take it away say so themselves.
        if request.fields.get("authorization").is_some() {
            request.keeping.personal = true;
        }
        Verdict::Continue
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::tests_support::{Exchange, compile, refused};

    #[test]
    fn it_says_what_the_route_wants() {
        let chain = compile(r#"[{"cache": {"ttl": "60s", "ignore_query": ["utm_*", "ref"], "max_object": "2MiB"}}]"#);
        let mut exchange = Exchange::default();
        exchange.request(&chain).unwrap();
        let policy = exchange.keeping.policy.take().expect("a policy");
        assert_eq!((policy.ttl, policy.max_object), (Some(std::time::Duration::from_secs(60)), 2 << 20));
        assert_eq!(policy.query, QueryRule::Without(vec!["utm_*".into(), "ref".into()]));
        assert!(!exchange.keeping.personal);
    }

    #[test]
    fn who_identifies_himself_is_known_even_when_a_filter_takes_that_away() {
        let mut exchange = Exchange::default();
        exchange.set("authorization", "Bearer x");
        exchange.request(&compile(r#"[{"cache": {}}]"#)).unwrap();
        assert!(exchange.keeping.personal);
        let keys = r#"[{"api_key": {"keys": {"ops": "0123456789abcdef"}}}, {"cache": {}}]"#;
        let mut exchange = Exchange::default();
        exchange.set("x-api-key", "0123456789abcdef");
        exchange.request(&compile(keys)).unwrap();
        assert!(exchange.get("x-api-key").is_none() && exchange.keeping.personal);
    }

    #[test]
    fn mistakes_are_named() {
        for (options, path, word) in [
            (r#"{"ttl": "0s"}"#, "ttl", "fresh for any time"),
            (r#"{"max_ttl": "0s"}"#, "max_ttl", "fresh for any time"),
            (r#"{"ttl": "2h", "max_ttl": "1h"}"#, "ttl", "longer than `max_ttl`"),
            (r#"{"max_object": "0"}"#, "max_object", "no sensible size"),
            (r#"{"max_object": "1TiB"}"#, "max_object", "no sensible size"),
            (r#"{"lock_timeout": "0s"}"#, "lock_timeout", "never wait"),
            (r#"{"ignore_query": ["a", "b*c"]}"#, "ignore_query[1]", "neither"),
            (r#"{"ignore_query": ["a=1"]}"#, "ignore_query[0]", "neither"),
            (r#"{"ignore_query": ["a;b"]}"#, "ignore_query[0]", "neither"),
        ] {
            let problems = refused(&format!(r#"[{{"cache": {options}}}]"#));
            assert!(problems[0].message.contains(word), "{options}: {problems:?}");
            assert_eq!(problems[0].path.to_string(), format!("filters[0].cache.{path}"), "{options}");
        }
    }
}
