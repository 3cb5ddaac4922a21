//! What the cache did: for the client in `Cache-Status` (RFC 9211), for the log and the metrics in one word.

use std::{fmt::Write, time::SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue};
use pingora_cache::{CachePhase, key::CacheHashKey};
use pingora_proxy::Session;

use super::{Caching, Part, RequestCtx, seconds_until};
use crate::cache::Refusal;

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// The response comes from the store, and not from an endpoint.
fn is_hit(session: &Session) -> bool {
    matches!(session.cache.phase(), CachePhase::Hit | CachePhase::Stale | CachePhase::StaleUpdating)
}

/// Adds what was done to what caches before us have done. True when no endpoint has sent this response.
pub(in crate::proxy) fn tell(session: &Session, fields: &mut HeaderMap, ctx: &mut RequestCtx) -> bool {
    let Some(caching) = &ctx.caching else { return false };
    let (hit, word) = (is_hit(session), word_of(session, caching));
    let told = told(session, caching);
    ctx.outcome.cache = Some(word);
    if let Ok(value) = HeaderValue::from_str(&told) {
        fields.append(CACHE_STATUS, value);
    }
    hit
}

/// The word for a request that ends without a response through the cache.
pub(in crate::proxy) fn word(session: &Session, ctx: &RequestCtx) -> Option<&'static str> {
    ctx.caching.as_ref().map(|caching| word_of(session, caching))
}

fn word_of(session: &Session, caching: &Caching) -> &'static str {
    let story = &caching.story;
    if !matches!(caching.part, Part::Looks(_)) {
        return "bypass";
    }
    match session.cache.phase() {
        _ if story.instead => "stale",
        _ if story.updating => "updating",
        CachePhase::Hit => "hit",
        CachePhase::Stale | CachePhase::StaleUpdating | CachePhase::Expired => "expired",
        CachePhase::Revalidated | CachePhase::RevalidatedNoCache(_) => "revalidated",
        CachePhase::Bypass => "bypass",
        _ if story.hopeless => "bypass",
        CachePhase::Disabled(_) if story.validated.is_some() => "expired",
        CachePhase::Disabled(_) | CachePhase::Uninit | CachePhase::CacheKey | CachePhase::Miss => "miss",
    }
}

fn told(session: &Session, caching: &Caching) -> String {
    let mut text = String::with_capacity(64);
    text.push_str("weir");
    let story = &caching.story;
    if is_hit(session) && !story.instead {
        let ttl = session.cache.maybe_cache_meta().map(|meta| seconds_until(meta.fresh_until(), SystemTime::now()));
        let _ = write!(text, "; hit; ttl={}", ttl.unwrap_or(0));
        if story.updating {
            text.push_str("; detail=updating");
        }
        return text;
    }
    let _ = write!(text, "; fwd={}", forwarded(session, caching));
    if let Some(status) = story.validated {
        let _ = write!(text, "; fwd-status={status}");
    }
    if story.stored && !story.instead && session.cache.enabled() {
        text.push_str("; stored");
    }
    let detail = match caching.part {
        Part::Passes(refusal) => Some(refusal.word()),
        _ if story.instead => Some("stale_if_error"),
        _ => story.refused.map(Refusal::word),
    };
    if let Some(detail) = detail {
        let _ = write!(text, "; detail={detail}");
    }
    text
}

/// Why the request went forward, in the words of RFC 9211 section 2.2.
fn forwarded(session: &Session, caching: &Caching) -> &'static str {
    let story = &caching.story;
    match caching.part {
        Part::Changes | Part::Passes(Refusal::Method) => return "method",
        Part::Passes(_) => return "bypass",
        Part::Looks(_) => {}
    }
    match session.cache.phase() {
        _ if story.unusable => "request",
        CachePhase::Bypass => "bypass",
        _ if story.hopeless => "bypass",
        _ if story.instead || story.validated.is_some() => "stale",
        _ if session.cache.maybe_cache_key().is_some_and(|key| key.variance_bin().is_some()) => "vary-miss",
        _ => "uri-miss",
    }
}
