//! A request that asks why it went where it went, in the header field `x-weir-explain: ADMIN-TOKEN`.
//!
//! Only where `admin.token` is configured, and only for who shows it: everybody else gets what they would get without the
//! field. It goes no further than to us ([`crate::gate::hop`] takes it away) and is never logged. The answer carries the
//! decision in a field of the same name, and where the time went in `Server-Timing`.

use std::{
    fmt::Write,
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderName, HeaderValue, header};
use subtle::ConstantTimeEq;

use super::Exchange;
use crate::{observe::Attempt, snapshot::Snapshot};

/// The field, both ways.
const FIELD: HeaderName = HeaderName::from_static("x-weir-explain");
const TIMING: HeaderName = HeaderName::from_static("server-timing");

/// When a request that asked had come how far.
#[derive(Debug, Clone, Default)]
pub struct Told {
    listener_filters: Option<Instant>,
    routed: Option<Instant>,
    filtered: Option<Instant>,
}

/// A place on the way of a request.
#[derive(Debug, Clone, Copy)]
pub(super) enum Passed {
    ListenerFilters,
    Route,
    RouteFilters,
}

/// Does the request ask, and may it? All that other requests pay is one look at whether a token is configured and, where
/// one is, the look-up of the field.
pub(super) fn asked(fields: &HeaderMap, snapshot: &Snapshot) -> Option<Box<Told>> {
    let token = &snapshot.spec.admin.on()?.token;
    if token.is_empty() {
        return None;
    }
    let mut values = fields.get_all(FIELD).iter();
    let (Some(shown), None) = (values.next(), values.next()) else { return None };
    bool::from(token.expose().as_bytes().ct_eq(shown.as_bytes())).then(Box::default)
}

impl Exchange {
    /// Writes down the time, for a request that asked.
    pub(super) fn passed(&mut self, place: Passed) {
        if let Some(told) = &mut self.told {
            let now = Some(Instant::now());
            match place {
                Passed::ListenerFilters => told.listener_filters = now,
                Passed::Route => told.routed = now,
                Passed::RouteFilters => told.filtered = now,
            }
        }
    }
}

/// Tells it in the response, if the request asked, and where HTTP/3 is spoken. After all filters, so that none takes it for the
/// endpoint's.
pub(super) fn tell(fields: &mut HeaderMap, ctx: &Exchange) {
    if let Some(h3) = &ctx.connection.listener.alt_svc {
        // An endpoint's own services are at its address, not at this one.
        fields.insert(header::ALT_SVC, h3.clone());
    }
    let Some(told) = &ctx.told else { return };
    let (decision, timing) = (decision(ctx), timing(told, ctx));
    for (name, text) in [(FIELD, decision), (TIMING, timing)] {
        if let Ok(value) = HeaderValue::from_str(&text) {
            fields.append(name, value);
        }
    }
}

/// `listener=web; route=api; upstream=app; strategy=round_robin; endpoint=127.0.0.1:9001; ...`
fn decision(ctx: &Exchange) -> String {
    let outcome = &ctx.outcome;
    let mut text = format!("generation={}; listener={}", outcome.generation, outcome.listener);
    let mut add = |key: &str, value: &str| {
        let _ = write!(text, "; {key}={}", plain(value));
    };
    add("host", &outcome.host);
    add("path", &outcome.path);
    add("client", &outcome.client.to_string());
    add("route", outcome.route.as_deref().unwrap_or("none"));
    let kinds: Vec<&str> = ctx.route.iter().flat_map(|route| route.chain.kinds()).collect();
    if !kinds.is_empty() {
        add("filters", &kinds.join(","));
    }
    if let Some(upstream) = ctx.upstream() {
        add("upstream", upstream.name());
        add("strategy", upstream.spec().strategy.kind());
        let session = ctx.attempts.as_ref().and_then(|attempts| attempts.pinned()).zip(ctx.attempt.as_ref());
        if session.is_some_and(|(pinned, attempt)| pinned.is_with(attempt.guard.endpoint())) {
            add("session", "kept");
        }
    }
    if let Some(cache) = outcome.cache {
        add("cache", cache);
    }
    if let Some(last) = outcome.attempts.last() {
        add("endpoint", &last.endpoint);
        let attempts: Vec<String> = outcome.attempts.iter().map(attempt).collect();
        add("attempts", &attempts.join(","));
    }
    if let Some(reason) = outcome.reason {
        add("reason", reason);
    }
    add("request_id", &outcome.request_id);
    text
}

fn attempt(attempt: &Attempt) -> String {
    match (attempt.failed, attempt.status) {
        (Some(cause), _) => format!("{} {}", attempt.endpoint, cause.word()),
        (None, Some(status)) => format!("{} {status}", attempt.endpoint),
        (None, None) => attempt.endpoint.to_string(),
    }
}

/// The longest value: a path may be longer than any header field should be.
const LONGEST: usize = 1024;

/// Without what ends a value here, or a field.
fn plain(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_graphic() && c != ';' || c == ' ' { c } else { '?' };
    text.chars().take(LONGEST).map(plain).collect()
}

/// The times in the form of the Server-Timing draft (W3C): milliseconds.
fn timing(told: &Told, ctx: &Exchange) -> String {
    let began = ctx.began.at;
    let times = &ctx.outcome.times;
    let between = |from: Option<Instant>, to: Option<Instant>| Some(to?.saturating_duration_since(from?));
    let first_byte = ctx.outcome.attempts.last().and(times.first_byte);
    let entries = [
        ("listener-filters", between(Some(began), told.listener_filters)),
        ("route", between(told.listener_filters, told.routed)),
        ("filters", between(told.routed, told.filtered)),
        ("queue", ctx.upstream().map(|_| times.queue)),
        ("connect", ctx.attempt.as_ref().map(|_| times.connect)),
        ("first-byte", first_byte),
        ("total", Some(began.elapsed())),
    ];
    let entry = |(name, took): (&str, Option<Duration>)| Some(format!("{name};dur={:.3}", took?.as_secs_f64() * 1e3));
    entries.into_iter().filter_map(entry).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_ends_another() {
        assert_eq!(plain("/a;route=x\r\n\u{1b}[2J\u{e4}"), "/a?route=x???[2J?");
        assert_eq!(plain(&"x".repeat(5000)).len(), LONGEST);
        assert!(HeaderValue::from_str(&plain("\0\n\u{7f}")).is_ok());
    }
}
