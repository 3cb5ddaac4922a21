//! The cache at work: Pingora's phases on our side, the rules and the store of [`crate::cache`] on the other.
//!
//! What Pingora does: the order of look-up, waiting for who fetches the same, validation, parts of what is stored, and 304 to clients.
//! What is decided here: whether a request takes part, under which key, whether a response is stored and for how long, whether a
//! stored one may be used, and what is told about it.
//!
//! Stale answers that are sent while a new one is fetched are ours, too ([`behind`]): Pingora's own way starts that fetch in a task
//! that knows nothing of the request it is for.

mod behind;
mod hit;
mod locks;
mod ranges;
mod respond;
mod stale;
mod status;
mod storage;

use std::time::{Duration, SystemTime};

use pingora_cache::{CacheKey, CacheOptionOverrides, NoCacheReason};
use pingora_core::{Error, ErrorType, Result};
use pingora_proxy::Session;

pub(super) use behind::{current as behind_ctx, resume};
pub(super) use hit::filter as hit;
pub(super) use locks::Locks;
pub(super) use ranges::filter as ranges;
pub(super) use respond::{body_piece, cacheable, validated, vary};
pub(super) use stale::serve as serve_stale;
pub(super) use status::{tell, word};

use self::storage::Wanted;
use super::RequestCtx;
use crate::{
    cache::{Asked, Cache, Key, Policy, Refusal},
    exchange::{Answer, Looks},
    types::{Cause, Reply, Who},
};
use std::sync::Arc;

/// One request's dealings with the cache.
pub(super) struct Caching {
    policy: Arc<Policy>,
    cache: &'static Cache,
    key: Key,
    part: Part,
    /// What happened, as far as Pingora does not tell.
    story: Story,
    /// The fields of a 304 that answers our question whether a stored response is still right.
    validation: Option<http::HeaderMap>,
    /// Body bytes of a response that is being stored.
    filled: u64,
    /// Another try was granted for a status, and paid for.
    granted: bool,
    /// It fetches what was found stale, for no client: the head to do it with.
    behind: Option<Box<pingora_http::RequestHeader>>,
}

/// How a request takes part.
#[derive(Debug, Clone, Copy)]
enum Part {
    /// It looks and, if it may, stores.
    Looks(Asked),
    /// It goes past the cache.
    Passes(Refusal),
    /// It changes what is at its URL: what is stored there goes when it succeeds.
    Changes,
}

/// What happened.
#[derive(Debug, Clone, Copy, Default)]
struct Story {
    /// A stale response was sent, and a new one is fetched behind it.
    updating: bool,
    /// A stale response was sent since no new one could be had.
    instead: bool,
    /// There was a fresh one, which was no answer to this client.
    unusable: bool,
    /// The status that the upstream answered with when a stored response was stale.
    validated: Option<u16>,
    /// The response is being stored.
    stored: bool,
    /// Why it is not.
    refused: Option<Refusal>,
    /// The last answer could not be stored, so that nobody looked for this one.
    hopeless: bool,
}

/// Decides how a request takes part, once all filters have seen it.
pub(super) fn begin(session: &mut Session, ctx: &mut RequestCtx, locks: &Locks) {
    if ctx.caching.is_none() {
        ctx.caching = take_part(session, ctx);
    }
    let time_left = ctx.time_left();
    let Some(caching) = &ctx.caching else { return };
    let Part::Looks(asked) = caching.part else { return };
    // Who stores nothing waits for nobody, and nobody for it.
    let shares = asked.fills() && !asked.personal && !asked.directives.no_store && !asked.directives.only_if_cached;
    let mut patience = CacheOptionOverrides::default();
    // What fetches behind a stale response has the lock; if that response is gone by now, it would wait for itself.
    let longest = if caching.is_behind() { Duration::ZERO } else { caching.policy.lock_timeout };
    patience.wait_timeout = Some(longest.min(time_left.unwrap_or(longest)));
    let lock = shares.then_some(locks.lock);
    session.cache.enable(caching.cache, None, Some(locks.hopeless), lock, Some(patience));
}

fn take_part(session: &mut Session, ctx: &mut RequestCtx) -> Option<Box<Caching>> {
    let has_body = !session.as_downstream_mut().is_body_empty();
    let request = session.req_header();
    let Looks { policy, cache, key, asked } = ctx.looks(request, has_body)?;
    let part = match asked {
        Ok(asked) => Part::Looks(asked),
        // RFC 9111 section 4.4: of an unknown method nobody knows that it is safe.
        Err(Refusal::Method) if !request.method.is_safe() => Part::Changes,
        Err(refusal) => Part::Passes(refusal),
    };
    ctx.keeping.policy = None;
    Some(Box::new(Caching::new(policy, cache, key, part)))
}

impl Caching {
    fn new(policy: Arc<Policy>, cache: &'static Cache, key: Key, part: Part) -> Self {
        Self { policy, cache, key, part, story: Story::default(), validation: None, filled: 0, granted: false, behind: None }
    }

    /// What the request asks for, if it looks into the cache.
    fn asked(&self) -> Option<Asked> {
        match self.part {
            Part::Looks(asked) => Some(asked),
            Part::Passes(_) | Part::Changes => None,
        }
    }

    /// It fetches for no client.
    pub(super) fn is_behind(&self) -> bool {
        self.behind.is_some()
    }

    /// A try that was paid for when it was found that there is no stale response to send instead.
    pub(super) fn take_granted(&mut self) -> bool {
        std::mem::take(&mut self.granted)
    }
}

/// The key in Pingora's form.
pub(super) fn key(ctx: &RequestCtx) -> Result<CacheKey> {
    let Some(caching) = &ctx.caching else { return Error::e_explain(ErrorType::InternalError, "a key without a cache") };
    let mut key = CacheKey::new(caching.key.text(), "");
    let wanted = Wanted {
        cache: caching.cache,
        key: caching.key.clone(),
        max_object: caching.policy.max_object,
        mark: caching.cache.mark(),
    };
    key.extensions.insert(wanted);
    Ok(key)
}

/// Nothing is stored that answers the request.
pub(super) fn miss(session: &mut Session, ctx: &RequestCtx) {
    let asked = ctx.caching.as_ref().and_then(|caching| caching.asked());
    if asked.is_some_and(|asked| asked.fills()) {
        session.cache.cache_miss();
    } else {
        // It goes on as it came, with its method and its range.
        session.cache.disable(NoCacheReason::Custom("not_filled"));
    }
}

/// The request is about to be forwarded: not, where the client wants a stored response or none (RFC 9111 section 5.2.1.7).
pub(super) fn forwarding(ctx: &mut RequestCtx) -> Result<bool> {
    let Some(caching) = &ctx.caching else { return Ok(true) };
    if !caching.asked().is_some_and(|asked| asked.directives.only_if_cached) {
        return Ok(true);
    }
    let answer = Answer::weir(Reply::status(504), Cause::ProxyInternalResponse, "only_if_cached");
    Err(ctx.decide(Box::new(Answer { who: Who::Client, ..*answer })))
}

/// A response to an unsafe request came: what is stored for its URL is not right any more (RFC 9111 section 4.4).
pub(super) fn changed(status: http::StatusCode, fields: &http::HeaderMap, ctx: &RequestCtx) {
    let Some(caching) = ctx.caching.as_ref().filter(|caching| matches!(caching.part, Part::Changes)) else { return };
    if !(status.is_success() || status.is_redirection()) {
        return;
    }
    caching.cache.purge_url(&caching.key.url);
    for name in [http::header::LOCATION, http::header::CONTENT_LOCATION] {
        let Some(text) = fields.get(name).and_then(|value| value.to_str().ok()) else { continue };
        if let Some(url) = same_origin(&caching.key.url, text) {
            caching.cache.purge_url(&url);
        }
    }
}

/// The URL that a reference leads to, if that has the origin of this one.
fn same_origin(base: &str, reference: &str) -> Option<String> {
    let origin = &base[..base.find("://")? + 3 + base.split_once("://")?.1.find('/')?];
    let url = match reference.strip_prefix('/') {
        Some(rest) if !rest.starts_with('/') => format!("{origin}{reference}"),
        _ => reference.to_owned(),
    };
    let url = crate::cache::typed(&url, |path| {
        crate::gate::target::canonical(path).map(|path| path.into_owned()).map_err(|refusal| refusal.reason().to_owned())
    });
    url.ok().filter(|url| url.strip_prefix(origin).is_some_and(|rest| rest.starts_with('/')))
}

/// Seconds from `now` to then; below zero when it has passed.
fn seconds_until(then: SystemTime, now: SystemTime) -> i64 {
    let signed = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX);
    match then.duration_since(now) {
        Ok(left) => signed(left.as_secs()),
        Err(passed) => -signed(passed.duration().as_secs().max(1)),
    }
}
