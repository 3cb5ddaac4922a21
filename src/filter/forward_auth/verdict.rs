//! The verdict: what becomes of a request when the service has answered, or has not.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use http::{HeaderName, HeaderValue, StatusCode, header};
use parking_lot::Mutex;

use super::{OnError, ask::Wanted, names::Names};
use crate::{
    filter::{Answered, CallError, FilterRequest, Slot, Verdict},
    types::{FieldsMut, Name, Reply, Template},
};

/// A service that fails is told of once in this time, however many requests find out.
const QUIET: Duration = Duration::from_secs(10);

/// Fields of a refusal that Weir writes itself.
const OWN: [HeaderName; 4] = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::DATE, header::CACHE_CONTROL];

/// The cookies of a verdict, kept until there is a response to set them.
pub(super) struct Cookies(pub(super) Vec<HeaderValue>);

/// What leads back from a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Back {
    /// The URL that the client asked for.
    Url,
    /// Its path and query.
    Uri,
}

/// What one filter does with verdicts.
#[derive(Debug)]
pub(super) struct Judge {
    upstream: Name,
    taken: Names,
    set_cookies: bool,
    login: Option<Template<Back>>,
    on_error: OnError,
    /// When it was last told that the service fails. Only requests without a verdict look.
    told: Mutex<Option<Instant>>,
}

impl Judge {
    pub(super) fn new(upstream: Name, taken: Names, set_cookies: bool, login: Option<Template<Back>>, on_error: OnError) -> Self {
        Self { upstream, taken, set_cookies, login, on_error, told: Mutex::default() }
    }

    /// What a client says in the place of the service.
    pub(super) fn take_away(&self, fields: &mut dyn FieldsMut) {
        self.taken.remove_from(fields);
    }

    /// What becomes of the request.
    pub(super) fn judge(
        &self,
        answered: Result<Answered, CallError>,
        wanted: &Wanted,
        request: &mut FilterRequest<'_>,
        slot: &mut Slot,
    ) -> Verdict {
        // Whom the service has judged, the endpoint may know.
        request.keeping.personal = true;
        match answered {
            Ok(answered) => match answered.status.as_u16() {
                200..=299 => self.admit(&answered, request.fields, slot),
                // To a question without a condition, 304 is no answer.
                300..=303 | 305..=499 => self.pass_on(answered, wanted, request),
                status => self.without(&format!("it answered {status}")),
            },
            Err(error) => self.without(&error.to_string()),
        }
    }

    fn admit(&self, answered: &Answered, fields: &mut dyn FieldsMut, slot: &mut Slot) -> Verdict {
        for name in self.taken.iter() {
            for value in answered.fields.get_all(name) {
                fields.append(name.clone(), value.clone());
            }
        }
        if self.set_cookies && answered.fields.contains_key(header::SET_COOKIE) {
            *slot = Some(Box::new(Cookies(answered.fields.get_all(header::SET_COOKIE).iter().cloned().collect())));
        }
        Verdict::Continue
    }

    /// The refusal is the service's: its status, its fields, its body.
    fn pass_on(&self, answered: Answered, wanted: &Wanted, request: &FilterRequest<'_>) -> Verdict {
        let Answered { status, fields, body } = answered;
        if status == StatusCode::UNAUTHORIZED
            && let Some(location) = self.login(wanted, request)
        {
            let cookies = fields.get_all(header::SET_COOKIE).iter().map(|cookie| (header::SET_COOKIE, cookie.clone()));
            let own = [(header::LOCATION, location), (header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
            let reply = Reply { status: StatusCode::FOUND, headers: own.into_iter().chain(cookies).collect(), body: None };
            return Verdict::Answer { reply, reason: "forward_auth_login" };
        }
        let mut reply = Reply { status, headers: Vec::with_capacity(fields.len()), body: Some(body) };
        // An error without a text gets the short standard one.
        if status.is_client_error() && reply.body.as_ref().is_some_and(|body| body.is_empty()) {
            reply.body = None;
        }
        let describes =
            |name: &HeaderName| reply.body.is_none() && [header::CONTENT_TYPE, header::CONTENT_ENCODING].contains(name);
        let passed = fields.iter().filter(|(name, _)| !OWN.contains(name) && !describes(name));
        reply.headers.extend(passed.map(|(name, value)| (name.clone(), value.clone())));
        if !status.is_client_error() {
            // It is about one client at one moment. (On errors this is said anyway.)
            reply.headers.push((header::CACHE_CONTROL, HeaderValue::from_static("no-store")));
        }
        Verdict::Answer { reply, reason: "forward_auth_denied" }
    }

    /// Where somebody who looks at a page is sent, to come back to it.
    fn login(&self, wanted: &Wanted, request: &FilterRequest<'_>) -> Option<HeaderValue> {
        let login = self.login.as_ref()?;
        let page =
            request.fields.any("accept", &mut |accept| accept.windows(9).any(|part| part.eq_ignore_ascii_case(b"text/html")));
        let looks = matches!(request.method, "GET" | "HEAD") && !request.upgrade && page;
        let back = |back| match back {
            Back::Url => wanted.url(),
            Back::Uri => wanted.uri(),
        };
        looks.then(|| HeaderValue::from_str(&login.fill(|part, out| escape(back(part), out))).ok()).flatten()
    }

    /// There is no verdict, for this reason.
    fn without(&self, reason: &str) -> Verdict {
        let (what, verdict) = match self.on_error {
            OnError::Deny => ("refused", self.refuse()),
            OnError::Allow => ("let in", Verdict::Continue),
        };
        if self.is_news(Instant::now()) {
            log::warn!("forward_auth: no verdict from upstream {} ({reason}); requests are {what}", self.upstream);
        }
        verdict
    }

    fn is_news(&self, now: Instant) -> bool {
        let told = &mut *self.told.lock();
        let news = told.is_none_or(|told| now.duration_since(told) >= QUIET);
        if news {
            *told = Some(now);
        }
        news
    }

    /// Not a verdict, so neither 401 nor 403: clients would think that they have to do something.
    pub(super) fn refuse(&self) -> Verdict {
        let reply = Reply::status(503).with(header::RETRY_AFTER, HeaderValue::from_static("1"));
        Verdict::Answer { reply, reason: "forward_auth_unavailable" }
    }
}

/// As a value in a query (RFC 3986 section 2.3): what is not unreserved is escaped.
fn escape(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => drop(write!(out, "%{byte:02X}")),
        }
    }
}
