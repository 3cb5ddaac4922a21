//! The `rate_limit` filter: how often somebody may ask.
//!
//! [`bucket`] decides, [`table`] keeps the buckets of this edge, [`store`] those that several edges share. What clients
//! are told is in the fields of draft-ietf-httpapi-ratelimit-headers-10: `RateLimit-Policy` (what is allowed: `q`
//! in `w` seconds) and `RateLimit` (what is left: `r`, all of it again after `t` seconds).

mod bucket;
mod store;
mod table;
#[cfg(test)]
mod tests;

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{
    Filter, FilterRequest, FilterResponse, FilterTask, Scope, Slot, Verdict,
    key::{self, LimitKey},
};
use crate::{
    observe::Sample,
    types::{At, Code, OneOrMany, Rate, Reply, Secret},
};
use bucket::{Limit, Taken};
use store::Store;
use table::Table;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const STATE: HeaderName = HeaderName::from_static("ratelimit");

/// Bounds how often somebody may ask: 429 beyond. Over any time no more than `burst` requests and the rate are admitted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimitSpec {
    /// How many are admitted in the long run: `100/s`, `6000/m`, `10/h`.
    pub rate: Rate,
    /// How many may come at once. Left out: as many as the rate allows in one second, at least one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<NonZeroU32>,
    /// Who is counted together: `client_ip` (an IPv6 client by its /64 network), `header:NAME`, `cookie:NAME`, `route`,
    /// or a list of them, for each combination. Without the field or cookie, a client's address is taken.
    #[serde(default = "RateLimitSpec::default_key")]
    pub key: OneOrMany<LimitKey>,
    /// So many keys are remembered, rounded up. Beyond, those are forgotten first who are furthest from the limit.
    #[serde(default = "RateLimitSpec::default_max_keys")]
    pub max_keys: NonZeroU32,
    /// Tell clients what is left, in `RateLimit` and `RateLimit-Policy`.
    #[serde(default = "RateLimitSpec::default_headers")]
    pub headers: bool,
    /// Count together with other edges, in a Redis: `redis://[user:password@]host[:port][/db]`, or `rediss://` over TLS.
    #[serde(default, skip_serializing_if = "Secret::is_empty")]
    pub store: Secret,
}

/// More would take more than a gigabyte.
const MAX_KEYS: u32 = 1 << 26;

impl RateLimitSpec {
    fn default_key() -> OneOrMany<LimitKey> {
        OneOrMany(vec![LimitKey::ClientIp])
    }
    fn default_max_keys() -> NonZeroU32 {
        const { NonZeroU32::new(65_536).unwrap() }
    }
    fn default_headers() -> bool {
        true
    }

    pub(super) fn compile(&self, at: &At, scope: &Scope<'_>) -> Option<Arc<dyn Filter>> {
        let limit = self.limit(at);
        if self.key.is_absent() {
            at.key("key").problem(Code::MissingKey, "a key without parts").hint("write `client_ip`, or leave it out");
            return None;
        }
        if self.max_keys.get() > MAX_KEYS {
            at.key("max_keys").problem(Code::BadValue, format!("at most {MAX_KEYS} keys can be remembered"));
            return None;
        }
        let store = match self.store.is_empty() {
            true => None,
            false => match Store::new(&self.store, scope) {
                Ok(store) => Some(store),
                Err(reason) => {
                    at.key("store")
                        .problem(Code::BadValue, format!("not the address of a Redis: {reason}"))
                        .hint("write `redis://host:6379/0`, or `rediss://` for TLS");
                    return None;
                }
            },
        };
        let limit = limit?;
        let (parts, max_keys) = (&self.key, self.max_keys.get() as usize);
        let identity = format!("rate_limit {} {max_keys}", key::text(parts));
        let (name, table) = scope.shared_named(&identity, || Table::new(max_keys));
        let policy = format!("\"{}\"", self.rate);
        let described = format!("{policy};q={};w={}", limit.burst(), seconds(limit.window()));
        Some(Arc::new(RateLimit(Arc::new(Inner {
            limit,
            key: parts.iter().cloned().collect(),
            name: name.into(),
            table,
            store,
            tell: self.headers.then(|| HeaderValue::from_str(&described)).and_then(Result::ok),
            policy: policy.into(),
        }))))
    }

    fn limit(&self, at: &At) -> Option<Limit> {
        let rate = self.rate;
        if rate.is_bytes() {
            at.key("rate").problem(Code::BadValue, format!("`{rate}` counts bytes")).hint("write requests: `100/s`");
            return None;
        }
        let burst = self.burst.map_or_else(|| (rate.each_second().ceil() as u64).max(1), |burst| u64::from(burst.get()));
        let limit = Limit::new(rate, burst);
        if limit.is_none() {
            let message = match rate.amount() {
                0 => "a rate of zero admits nobody".to_owned(),
                _ => format!("`{rate}` with a burst of {burst} cannot be counted"),
            };
            at.key("rate")
                .problem(Code::BadValue, message)
                .hint("at most 1000000000/s, and a burst that comes back within a year");
        }
        limit
    }
}

/// Whole seconds, rounded up: what is told must not be too early.
fn seconds(span: Duration) -> u64 {
    span.as_secs() + u64::from(span.subsec_nanos() > 0)
}

#[derive(Debug)]
struct RateLimit(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limit: Limit,
    key: Box<[LimitKey]>,
    /// What other edges know this filter by.
    name: Box<str>,
    table: Arc<Table>,
    store: Option<Arc<Store>>,
    /// The value of `RateLimit-Policy`; `None` to tell nothing.
    tell: Option<HeaderValue>,
    /// Its name in there.
    policy: Box<str>,
}

impl Inner {
    fn verdict(&self, taken: Taken, slot: &mut Slot) -> Verdict {
        if self.tell.is_some() {
            *slot = Some(Box::new(taken));
        }
        if taken.admitted {
            return Verdict::Continue;
        }
        let reply = Reply::status(429).with(header::RETRY_AFTER, HeaderValue::from(seconds(taken.retry_in).max(1)));
        Verdict::Answer { reply, reason: "rate_limited" }
    }

    /// Asks the edges' common store, after this edge's own buckets have admitted the request.
    fn ask(self: &Arc<Self>, store: &Arc<Store>, request: &FilterRequest<'_>, tag: u64, own: Taken) -> Verdict {
        let (inner, store) = (self.clone(), store.clone());
        let key = store::key(&self.name, |see| key::feed(&self.key, request, see));
        Verdict::later(async move {
            let shared = store.take(&key, inner.limit).await;
            move |_: &mut FilterRequest<'_>, slot: &mut Slot| {
                let taken = shared.unwrap_or(own);
                if !taken.admitted {
                    inner.table.give_back(tag, inner.limit);
                }
                inner.verdict(taken, slot)
            }
        })
    }
}

impl Filter for RateLimit {
    fn kind(&self) -> &'static str {
        "rate_limit"
    }

    fn request(&self, request: &mut FilterRequest<'_>, slot: &mut Slot) -> Verdict {
        let inner = &self.0;
        let tag = inner.table.tag(|see| key::feed(&inner.key, request, see));
        let own = inner.table.take(tag, inner.limit, inner.table.now());
        match &inner.store {
            // What this edge alone has seen is part of what all have seen: too much here is too much.
            Some(store) if own.admitted && store.is_there() => inner.ask(store, request, tag, own),
            _ => inner.verdict(own, slot),
        }
    }

    fn response(&self, response: &mut FilterResponse<'_>, slot: &mut Slot) {
        let (Some(policy), Some(taken)) = (&self.0.tell, slot.as_ref().and_then(|slot| slot.downcast_ref::<Taken>())) else {
            return;
        };
        let state = format!("{};r={};t={}", self.0.policy, taken.remaining, seconds(taken.full_in));
        if let Ok(state) = HeaderValue::try_from(state) {
            // Beside those of other limits: both fields are lists.
            response.fields.append(POLICY, policy.clone());
            response.fields.append(STATE, state);
        }
    }

    fn samples(&self) -> Vec<Sample> {
        let store = self.0.store.iter();
        store.map(|store| store.sample()).collect()
    }

    fn task(self: Arc<Self>, stopping: watch::Receiver<bool>) -> Option<FilterTask> {
        let store = self.0.store.clone()?;
        Some(Box::pin(async move { store.keep_connected(stopping).await }))
    }
}
