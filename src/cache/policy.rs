//! The rules: what is stored, for how long, and for whom it may be used again (RFC 9111 sections 3 and 4).
//!
//! Where the RFC leaves a choice, it is made against sharing: what could be meant for one client alone is not kept.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::{RequestDirectives, ResponseDirectives, directives::seconds, varies_on_everything};

/// What a route wants of the cache.
#[derive(Debug, Clone)]
pub struct Policy {
    /// How long a response is fresh that does not say so itself; `None` keeps only those that do.
    pub ttl: Option<Duration>,
    /// The longest time that anything is fresh.
    pub max_ttl: Option<Duration>,
    /// The largest body that is stored, in bytes.
    pub max_object: u64,
    /// How long after that it is sent while a new one is fetched, where the response does not say.
    pub stale_while_revalidate: Duration,
    /// How long after that it is sent when no new one can be had, where the response does not say.
    pub stale_if_error: Duration,
    /// Which parameters of the query are part of the key.
    pub query: QueryRule,
    /// Answers to clients that identified themselves are for everybody.
    pub authorized: bool,
    /// Answers that set cookies are stored, cookies and all.
    pub set_cookie: bool,
    /// Clients may ask for more than the stored response.
    pub client_directives: bool,
    /// How long a request waits for another that fetches the same.
    pub lock_timeout: Duration,
}

/// Which parameters of the query are part of the key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum QueryRule {
    /// All, as they were sent.
    #[default]
    All,
    /// All but these: whole names, and beginnings where a name ends with `*`.
    Without(Vec<String>),
}

impl QueryRule {
    /// Adds what counts of the query to a URL.
    pub(super) fn append(&self, url: &mut String, query: &str) {
        let QueryRule::Without(ignored) = self else {
            url.push('?');
            url.push_str(query);
            return;
        };
        let mut first = true;
        let counts = |parameter: &&str| {
            let name = parameter.split_once('=').map_or(*parameter, |(name, _)| name);
            // Some services end a parameter at `;`, too: what stands behind it is one more, which counts.
            let several = parameter.contains(';');
            !ignored.iter().any(|ignored| match ignored.strip_suffix('*') {
                Some("") => true,
                Some(beginning) => name.starts_with(beginning) && !several,
                None => name == ignored && !several,
            })
        };
        for parameter in query.split('&').filter(counts) {
            url.push(if std::mem::take(&mut first) { '?' } else { '&' });
            url.push_str(parameter);
        }
    }
}

/// Why nothing is looked up or stored: one word for the log, `Cache-Status` and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Neither GET nor HEAD.
    Method,
    /// The request has a body, which is no part of the key (CVE-2025-4366 was one that stayed unread).
    Body,
    /// `If-Match` and `If-Unmodified-Since` are for the origin to judge.
    Precondition,
    /// The client wants nothing of it stored.
    RequestNoStore,
    /// The client identified itself, and the response does not say that it is for others, too.
    Authorization,
    /// The response forbids it.
    NoStore,
    /// The response is for one client.
    Private,
    /// The response sets a cookie.
    SetCookie,
    /// Nobody can tell which requests it answers.
    VaryAll,
    /// A part, a validation, an error of the server.
    Status,
    /// It says nothing about being fresh, and cannot be validated.
    NoFreshness,
    /// Its body is over the bound.
    TooLarge,
}

impl Refusal {
    /// The word.
    pub const fn word(self) -> &'static str {
        match self {
            Refusal::Method => "method",
            Refusal::Body => "request_body",
            Refusal::Precondition => "precondition",
            Refusal::RequestNoStore => "request_no_store",
            Refusal::Authorization => "authorization",
            Refusal::NoStore => "no_store",
            Refusal::Private => "private",
            Refusal::SetCookie => "set_cookie",
            Refusal::VaryAll => "vary_all",
            Refusal::Status => "status",
            Refusal::NoFreshness => "no_freshness",
            Refusal::TooLarge => "too_large",
        }
    }

    /// Does it say something about the next answer for this URL? Only then is it worth remembering: what one client asks
    /// for, and an error, say nothing about others.
    pub const fn lasts(self) -> bool {
        matches!(
            self,
            Refusal::NoStore
                | Refusal::Private
                | Refusal::SetCookie
                | Refusal::VaryAll
                | Refusal::NoFreshness
                | Refusal::TooLarge
        )
    }
}

/// A request, as far as it matters here.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked {
    /// What it says.
    pub directives: RequestDirectives,
    /// HEAD: the body is not wanted.
    pub head: bool,
    /// A part is wanted.
    pub range: bool,
    /// The client identified itself.
    pub personal: bool,
}

impl Asked {
    /// # Errors
    /// Why a stored response is neither looked for nor made.
    pub fn of(method: &Method, fields: &HeaderMap, has_body: bool, personal: bool) -> Result<Self, Refusal> {
        let head = method == Method::HEAD;
        if !head && method != Method::GET {
            return Err(Refusal::Method);
        }
        if has_body {
            return Err(Refusal::Body);
        }
        if fields.contains_key(header::IF_MATCH) || fields.contains_key(header::IF_UNMODIFIED_SINCE) {
            return Err(Refusal::Precondition);
        }
        let range = fields.contains_key(header::RANGE);
        Ok(Self { directives: RequestDirectives::of(fields), head, range, personal })
    }

    /// What it misses is fetched as it asks for it, and not stored: fetching all of a response for the sake of a part, or of
    /// its head, would let a small request cause a large transfer.
    pub fn fills(&self) -> bool {
        !self.head && !self.range
    }
}

/// For how long a response may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    /// When its age was zero.
    pub epoch: SystemTime,
    /// The last moment at which it is fresh.
    pub fresh_until: SystemTime,
    /// Seconds after that during which it may be sent while a new one is fetched.
    pub stale_while_revalidate: u32,
    /// Seconds after that during which it may be sent when no new one can be had.
    pub stale_if_error: u32,
}

/// A stored response, when it is about to be used.
#[derive(Debug, Clone, Copy)]
pub struct Stored<'a> {
    /// Its fields.
    pub fields: &'a HeaderMap,
    /// Its age, in seconds.
    pub age: u64,
    /// For how many seconds it is fresh; how long ago it ceased to be, below zero.
    pub ttl: i64,
}

/// May a stored response be used?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    /// As fresh or stale as it is.
    AsItIs,
    /// Although it is stale, since the client accepts that.
    Accepted,
    /// Not before the origin has said that it is still right.
    Validated,
    /// Not for this client.
    Never,
}

impl ResponseDirectives {
    /// Is it for others although the client identified itself (RFC 9111 section 3.5)?
    fn shared(&self) -> bool {
        self.public || self.must_revalidate || self.s_maxage.is_some()
    }
}

/// Statuses that `ttl` applies to. Those that RFC 9110 section 15.1 lets caches guess about, without those that a client can
/// provoke for others (405, 414, 501) and without 206.
const GUESSED: [u16; 8] = [200, 203, 204, 300, 301, 308, 404, 410];

impl Policy {
    /// May this response be stored, and for how long is it fresh?
    ///
    /// # Errors
    /// Why not.
    pub fn store(&self, asked: &Asked, status: StatusCode, fields: &HeaderMap, now: SystemTime) -> Result<Freshness, Refusal> {
        let says = ResponseDirectives::of(fields);
        self.may_store(asked, status, fields, &says)?;
        let lifetime = self.lifetime(status, fields, &says, now).ok_or(Refusal::NoFreshness)?;
        let (stale_while_revalidate, stale_if_error) = self.stale(&says);
        let (age, usable) = (age(fields, now), stale_while_revalidate.max(stale_if_error));
        let epoch = now.checked_sub(age).unwrap_or(now);
        let useless = age >= lifetime.saturating_add(Duration::from_secs(usable.into()));
        if useless && !fields.contains_key(header::ETAG) && !fields.contains_key(header::LAST_MODIFIED) {
            return Err(Refusal::NoFreshness);
        }
        // Fresh while its lifetime is greater than its age: the moment of both is none of them.
        let fresh_until = epoch.checked_add(lifetime).and_then(|end| end.checked_sub(Duration::from_nanos(1))).unwrap_or(now);
        Ok(Freshness { epoch, fresh_until, stale_while_revalidate, stale_if_error })
    }

    fn may_store(&self, asked: &Asked, status: StatusCode, fields: &HeaderMap, says: &ResponseDirectives) -> Result<(), Refusal> {
        let cookie = fields.contains_key(header::SET_COOKIE) && !says.fields.contains(&header::SET_COOKIE);
        let too_large = || length(fields).is_some_and(|length| length > self.max_object);
        let refusal = match status.as_u16() {
            206 | 304 | 100..200 | 500.. => Refusal::Status,
            _ if says.no_store => Refusal::NoStore,
            _ if says.private => Refusal::Private,
            _ if cookie && !self.set_cookie => Refusal::SetCookie,
            _ if varies_on_everything(fields) => Refusal::VaryAll,
            _ if too_large() => Refusal::TooLarge,
            _ if asked.directives.no_store => Refusal::RequestNoStore,
            _ if asked.personal && !self.authorized && !says.shared() => Refusal::Authorization,
            _ => return Ok(()),
        };
        Err(refusal)
    }

    /// How long it is fresh from when it was made (RFC 9111 section 4.2.1); `None` when nobody says.
    fn lifetime(&self, status: StatusCode, fields: &HeaderMap, says: &ResponseDirectives, now: SystemTime) -> Option<Duration> {
        if says.no_cache {
            return Some(Duration::ZERO);
        }
        let stated = says.s_maxage.or(says.max_age).map(Duration::from_secs).or_else(|| expires(fields, now));
        let guessed = || self.ttl.filter(|_| GUESSED.contains(&status.as_u16()));
        let lifetime = stated.or_else(guessed)?;
        Some(self.max_ttl.map_or(lifetime, |max| lifetime.min(max)))
    }

    /// How long it may be used when it is stale.
    fn stale(&self, says: &ResponseDirectives) -> (u32, u32) {
        if says.must_revalidate || says.proxy_revalidate || says.no_cache {
            return (0, 0);
        }
        // `s-maxage` means `proxy-revalidate` unless the response itself says more.
        let own = |time: Duration| if says.s_maxage.is_some() { 0 } else { time.as_secs() };
        let bounded = |seconds: u64| u32::try_from(seconds).unwrap_or(u32::MAX);
        let while_revalidate = says.stale_while_revalidate.unwrap_or_else(|| own(self.stale_while_revalidate));
        let if_error = says.stale_if_error.unwrap_or_else(|| own(self.stale_if_error));
        (bounded(while_revalidate), bounded(if_error))
    }

    /// May this stored response be used for this request?
    pub fn reuse(&self, asked: &Asked, stored: &Stored<'_>) -> Reuse {
        if asked.personal && !self.authorized && !ResponseDirectives::of(stored.fields).shared() {
            return Reuse::Never;
        }
        if !self.client_directives {
            return Reuse::AsItIs;
        }
        let says = &asked.directives;
        let too_old = says.max_age.is_some_and(|max| stored.age > max);
        let too_near = says.min_fresh.is_some_and(|min| stored.ttl < i64::try_from(min).unwrap_or(i64::MAX));
        if says.no_cache || too_old || too_near {
            return Reuse::Validated;
        }
        let accepts = says.max_stale.is_some_and(|max| stored.ttl < 0 && stored.ttl.unsigned_abs() <= max);
        if accepts {
            let says = ResponseDirectives::of(stored.fields);
            let strict = says.must_revalidate || says.proxy_revalidate || says.no_cache || says.s_maxage.is_some();
            return if strict { Reuse::AsItIs } else { Reuse::Accepted };
        }
        Reuse::AsItIs
    }
}

/// Its declared length.
fn length(fields: &HeaderMap) -> Option<u64> {
    fields.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// How old it was when it came: what caches before us say, or what the origin's clock says, whichever is more.
fn age(fields: &HeaderMap, now: SystemTime) -> Duration {
    // Of several values the first counts (RFC 9111 section 5.1).
    let said = fields.get(header::AGE).and_then(|value| seconds(value.as_bytes().split(|&byte| byte == b',').next()?));
    let apparent = date(fields, &header::DATE).and_then(|date| now.duration_since(date).ok()).unwrap_or_default();
    // A second is what two clocks in step may differ by through rounding alone.
    let apparent = if apparent < Duration::from_secs(2) { Duration::ZERO } else { apparent };
    apparent.max(Duration::from_secs(said.unwrap_or(0)))
}

/// From `Date` to `Expires`. What is no date is in the past (RFC 9111 section 5.3), and two do not agree.
fn expires(fields: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let mut values = fields.get_all(header::EXPIRES).iter();
    values.next()?;
    if values.next().is_some() {
        return Some(Duration::ZERO);
    }
    let from = date(fields, &header::DATE).unwrap_or(now);
    let until = date(fields, &header::EXPIRES);
    Some(until.and_then(|until| until.duration_since(from).ok()).unwrap_or_default())
}

fn date(fields: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    fields.get(name).map(HeaderValue::to_str)?.ok().and_then(|text| httpdate::parse_http_date(text).ok())
}

#[cfg(test)]
mod tests;
