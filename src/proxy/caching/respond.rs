//! A response came: is it stored?

use std::time::SystemTime;

use http::{HeaderMap, HeaderValue, header, response::Parts};
use pingora_cache::{
    CacheMeta, CachePhase, NoCacheReason,
    RespCacheable::{self, Cacheable, Uncacheable},
    key::HashBinary,
};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;

use super::{Caching, RequestCtx};
use crate::{
    cache::{Freshness, Refusal, ResponseDirectives, variance},
    gate::hop::{self, Onward},
};

/// Takes down what the endpoint says when it was asked whether a stored response is still right.
pub(in crate::proxy) fn validated(session: &Session, response: &ResponseHeader, ctx: &mut RequestCtx) {
    let Some(caching) = &mut ctx.caching else { return };
    if !matches!(session.cache.phase(), CachePhase::Stale) {
        return;
    }
    caching.story.validated = Some(response.status.as_u16());
    if response.status == http::StatusCode::NOT_MODIFIED {
        caching.validation = Some(response.headers.clone());
    }
}

/// May it be stored, and how long is it fresh?
pub(in crate::proxy) fn cacheable(session: &Session, response: &ResponseHeader, ctx: &mut RequestCtx) -> RespCacheable {
    let Some(caching) = &mut ctx.caching else { return Uncacheable(NoCacheReason::Custom("no_cache")) };
    let asked = caching.asked().unwrap_or_default();
    caching.story.hopeless = session.cache.bypassing();
    let now = SystemTime::now();
    let mut response = plain(response);
    if let (Some(said), Some(stored)) = (caching.validation.take(), session.cache.maybe_cache_meta()) {
        if is_of_another(&said, stored.headers()) {
            return Cacheable(as_it_was(stored, now));
        }
        renew(&mut response.headers, said);
    }
    match caching.policy.store(&asked, response.status, &response.headers, now) {
        Ok(freshness) => {
            caching.story.stored = true;
            caching.filled = 0;
            strip(&mut response.headers, now);
            let Freshness { epoch, fresh_until, stale_while_revalidate, stale_if_error } = freshness;
            let header = ResponseHeader::from(response);
            let mut meta = CacheMeta::new(fresh_until, now, stale_while_revalidate, stale_if_error, header);
            meta.set_epoch_override(epoch);
            Cacheable(meta)
        }
        Err(refusal) => {
            caching.story.refused = Some(refusal);
            Uncacheable(reason(refusal))
        }
    }
}

/// What Pingora remembers of it: a reason of our own is not remembered.
fn reason(refusal: Refusal) -> NoCacheReason {
    match refusal {
        Refusal::TooLarge => NoCacheReason::ResponseTooLarge,
        refusal if refusal.lasts() => NoCacheReason::OriginNotCache,
        refusal => NoCacheReason::Custom(refusal.word()),
    }
}

/// Parts that policy can edit.
fn plain(response: &ResponseHeader) -> Parts {
    Parts::from(response.clone())
}

/// Fields of a 304 that do not go into the stored head: they would speak of a body that did not come
/// (RFC 9111 section 3.2).
const OF_THE_BODY: [header::HeaderName; 4] =
    [header::CONTENT_LENGTH, header::CONTENT_ENCODING, header::CONTENT_TYPE, header::CONTENT_RANGE];

/// Does a 304 speak of another response than the stored one? Then nothing of it is true of that (RFC 9111 section 4.3.4).
fn is_of_another(said: &HeaderMap, stored: &HeaderMap) -> bool {
    said.get(header::ETAG).zip(stored.get(header::ETAG)).is_some_and(|(said, stored)| opaque(said) != opaque(stored))
}

/// What is stored, no fresher than before: the next request asks again.
fn as_it_was(stored: &CacheMeta, now: SystemTime) -> CacheMeta {
    let (revalidate, error) = (stored.stale_while_revalidate_sec(), stored.stale_if_error_sec());
    let mut meta = CacheMeta::new(stored.fresh_until(), now, revalidate, error, stored.response_header_copy());
    meta.set_epoch_override(stored.epoch());
    meta
}

fn opaque(tag: &HeaderValue) -> &[u8] {
    tag.as_bytes().strip_prefix(b"W/").unwrap_or(tag.as_bytes())
}

/// Every field that a 304 has takes the place of the stored one (RFC 9111 section 3.2), but not what varies: which request a stored
/// response answers was settled by the response itself.
fn renew(stored: &mut HeaderMap, mut said: HeaderMap) {
    hop::strip_response(&mut said, Onward { upgrade: None, trailers: false });
    for name in said.keys() {
        if OF_THE_BODY.contains(name) || *name == header::VARY {
            continue;
        }
        stored.remove(name);
        for value in said.get_all(name) {
            stored.append(name, value.clone());
        }
    }
}

/// What is not kept: fields of one connection, and those that the response itself excludes. What must be there is added.
fn strip(fields: &mut HeaderMap, now: SystemTime) {
    hop::strip_response(fields, Onward { upgrade: None, trailers: false });
    // But what it varies on: without that it would be everybody's answer.
    for name in ResponseDirectives::of(fields).fields.iter().filter(|name| *name != header::VARY) {
        fields.remove(name);
    }
    // Ours is computed from it when it is sent.
    fields.remove(header::AGE);
    // How long the body is will be known when all of it is there.
    fields.remove(header::TRANSFER_ENCODING);
    if !fields.contains_key(header::DATE)
        && let Ok(date) = HeaderValue::from_str(&httpdate::fmt_http_date(now))
    {
        fields.insert(header::DATE, date);
    }
}

/// Which of the answers to a URL this request gets.
pub(in crate::proxy) fn vary(meta: &CacheMeta, request: &RequestHeader) -> Option<HashBinary> {
    variance(meta.headers(), &request.headers)
}

/// A piece of the body of a response that may be being stored. One that grows over the bound is not stored, and who waits for it
/// goes on by themselves at once.
pub(in crate::proxy) fn body_piece(session: &mut Session, length: usize, ctx: &mut RequestCtx) {
    let Some(caching) = &mut ctx.caching else { return };
    if !matches!(session.cache.phase(), CachePhase::Miss | CachePhase::Expired) {
        return;
    }
    caching.filled += length as u64;
    if caching.filled > caching.policy.max_object {
        give_up(session, caching);
    }
}

fn give_up(session: &mut Session, caching: &mut Caching) {
    caching.story.stored = false;
    caching.story.refused = Some(Refusal::TooLarge);
    session.cache.response_became_uncacheable(NoCacheReason::ResponseTooLarge);
    session.cache.disable(NoCacheReason::ResponseTooLarge);
}
