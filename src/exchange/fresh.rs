//! How a request takes part in the cache, and a stored response that answers it as it is.

use std::{sync::Arc, time::SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, header, request::Parts};

use super::Exchange;
use crate::{
    cache::{Asked, Cache, Entry, Key, Policy, Refusal, Reuse, Stored, variance},
    types::parse_authority,
};

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// What a request asks of the cache.
pub struct Looks {
    /// What the route wants of the cache.
    pub policy: Arc<Policy>,
    /// Where responses are kept.
    pub cache: &'static Cache,
    /// Under which key.
    pub key: Key,
    /// What the client wants, or why the request goes past the cache.
    pub asked: Result<Asked, Refusal>,
}

/// A stored response that answers a request as it is.
#[derive(Debug)]
pub struct Fresh {
    /// The response.
    pub entry: Arc<Entry>,
    /// Seconds since it was made.
    age: u64,
    /// Seconds for which it stays fresh.
    ttl: u64,
}

impl Fresh {
    /// Its fields, as this client gets them.
    pub fn fields(&self) -> HeaderMap {
        let mut fields = self.entry.head.fields.clone();
        fields.insert(header::AGE, HeaderValue::from(self.age));
        if let Ok(status) = HeaderValue::from_str(&format!("weir; hit; ttl={}", self.ttl)) {
            fields.append(CACHE_STATUS, status);
        }
        fields
    }
}

/// Fields that ask for a part, or for nothing where the client has it already: for those who know the rules of both.
const CONDITIONS: [HeaderName; 4] = [header::RANGE, header::IF_RANGE, header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE];

impl Exchange {
    /// What the request asks of the cache; `None` where it takes no part.
    pub fn looks(&self, request: &Parts, has_body: bool) -> Option<Looks> {
        let policy = self.keeping.policy.clone()?;
        let (cache, route) = (self.snapshot.cache?, self.route.as_ref()?);
        // Without a host (HTTP/1.0) there is no URL to keep anything under.
        if self.upgrades() || self.outcome.host.is_empty() {
            return None;
        }
        let (path, query) = (&self.outcome.path, self.admitted.query.as_deref());
        let port = self.admitted.port;
        let mut key = Key::new(&route.name, self.client.scheme, &self.outcome.host, port, path, query, &policy.query);
        key.spelling = self.cached_spelling(&key.url, request);
        let personal = self.keeping.personal || self.client.tls.as_ref().is_some_and(|tls| tls.subject.is_some());
        let asked = Asked::of(&request.method, &request.headers, has_body, personal);
        Some(Looks { policy, cache, key, asked })
    }

    /// Host and path as they will be forwarded, where the client spelled them in another way than the key does. `None` for what filters
    /// have put in their place: that depends on the canonical form alone.
    fn cached_spelling(&self, url: &str, request: &Parts) -> Option<Arc<str>> {
        let path = Some(request.uri.path()).filter(|path| self.rewritten.is_none() && *path != self.outcome.path);
        let sent = request.headers.get(header::HOST).map(HeaderValue::to_str).and_then(Result::ok);
        let sent = sent.or_else(|| request.uri.authority().map(|authority| authority.as_str()));
        let host = sent.filter(|sent| authority(url) != Some(*sent)).filter(|sent| {
            let named = parse_authority(sent);
            named.is_some_and(|(host, port)| host == self.outcome.host && port == self.admitted.port)
        });
        let (path, host) = match (path, host) {
            (None, None) => return None,
            parts => (parts.0.unwrap_or_default(), parts.1.unwrap_or_default()),
        };
        Some(format!("{host}{path}").into())
    }

    /// A stored response that is fresh and needs nothing done to it. `None` where anything more is to be decided.
    pub fn fresh(&self, request: &Parts) -> Option<Fresh> {
        if !self.uploaded || CONDITIONS.iter().any(|name| request.headers.contains_key(name)) {
            return None;
        }
        let Looks { policy, cache, key, asked } = self.looks(request, false)?;
        let mut entry = cache.get(&key, None)?;
        let wanted = variance(&entry.head.fields, &request.headers);
        if wanted.is_some() && entry.head.variance != wanted {
            entry = cache.get(&key, wanted.as_ref())?;
        }
        let (now, freshness) = (SystemTime::now(), &entry.head.freshness);
        let ttl = freshness.fresh_until.duration_since(now).ok()?.as_secs();
        let age = now.duration_since(freshness.epoch).unwrap_or_default().as_secs();
        let stored = Stored { fields: &entry.head.fields, age, ttl: i64::try_from(ttl).unwrap_or(i64::MAX) };
        match policy.reuse(&asked.ok()?, &stored) {
            Reuse::AsItIs => Some(Fresh { age, ttl, entry }),
            Reuse::Never | Reuse::Validated | Reuse::Accepted => None,
        }
    }
}

/// Host and port of a key's URL.
fn authority(url: &str) -> Option<&str> {
    Some(url.split_once("://")?.1.split_once('/')?.0)
}
