//! Which failed tries are worth another, how many, and when to wait before one.
//!
//! This is the half that knows nothing of requests in flight. Whether a request may be sent twice at all (`http.md` rule
//! 13) is for whoever holds it to say, as [`Tries`].

use std::{fmt, time::Duration};

use rand::Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::types::{At, Code, Span};

/// More tries of one request than anybody wants; Pingora's own loop ends at 16.
const MAX_ATTEMPTS: u8 = 10;

/// Further tries of a request that failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetrySpec {
    /// Tries beside the first, 0 to 10. 0 turns off the one for a failed connect, too.
    pub attempts: u8,
    /// What is worth another try.
    pub on: Vec<RetryOn>,
    /// Each try gets this long for its connection, for its response header, and between pieces of its body. None but the
    /// upstream's own timeouts when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_try_timeout: Option<Span>,
}

impl Default for RetrySpec {
    fn default() -> Self {
        let on = vec![RetryOn::Connect, RetryOn::Reset, RetryOn::Status(502), RetryOn::Status(503), RetryOn::Status(504)];
        Self { attempts: 2, on, per_try_timeout: None }
    }
}

/// What is worth another try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryOn {
    /// No connection came about.
    Connect,
    /// The connection broke before the response header was there.
    Reset,
    /// The endpoint answered with this status. 502 and 504 are also what Weir itself would answer for a response
    /// that is not HTTP, and for one that does not come in time.
    Status(u16),
}

/// Statuses that another endpoint may well not answer with: those for faults of the server, and 429.
fn worth_asking_elsewhere(status: u16) -> bool {
    status == 429 || (500..600).contains(&status)
}

impl std::str::FromStr for RetryOn {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("connect", _) => Ok(RetryOn::Connect),
            ("reset", _) => Ok(RetryOn::Reset),
            (_, Ok(status)) if worth_asking_elsewhere(status) => Ok(RetryOn::Status(status)),
            (_, Ok(status)) => Err(format!("{status} would be the same elsewhere; write 429 or 500 to 599")),
            _ => Err(format!("`{text}` is nothing to retry on; write `connect`, `reset`, or a status such as 503")),
        }
    }
}

impl fmt::Display for RetryOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RetryOn::Connect => f.write_str("connect"),
            RetryOn::Reset => f.write_str("reset"),
            RetryOn::Status(status) => write!(f, "{status}"),
        }
    }
}

impl Serialize for RetryOn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            RetryOn::Status(status) => serializer.serialize_u16(*status),
            word => serializer.collect_str(word),
        }
    }
}

impl<'de> Deserialize<'de> for RetryOn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = RetryOn;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`connect`, `reset`, or a status such as 503")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<RetryOn, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_u64<E: de::Error>(self, status: u64) -> Result<RetryOn, E> {
                status.to_string().parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for RetryOn {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "RetryOn".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"anyOf": [
            {"enum": ["connect", "reset"]},
            {"enum": [429]},
            {"type": "integer", "minimum": 500, "maximum": 599},
        ]})
    }
}

/// Why a try failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No connection came about: the endpoint saw nothing of the request.
    Unconnected,
    /// The connection broke before the response header was there.
    Reset,
    /// The response header was not there in time.
    Timeout,
    /// What came was not HTTP.
    Malformed,
    /// The endpoint answered with this status.
    Status(u16),
}

/// What one request has behind it, and what may be done with it.
#[derive(Debug, Clone, Copy)]
pub struct Tries {
    /// Tries made.
    pub made: u8,
    /// The method may be carried out twice with the effect of once (RFC 9110 section 9.2.2).
    pub idempotent: bool,
    /// All of the request's body that was read is still at hand.
    pub replayable: bool,
}

/// A route's answer to failed tries.
#[derive(Debug, Clone)]
pub struct RetryPolicy {
    attempts: u8,
    on: Box<[RetryOn]>,
    per_try_timeout: Option<Duration>,
    same_endpoint: bool,
}

impl RetryPolicy {
    /// What holds without being asked for: a failed connect is tried on one other endpoint.
    pub fn unasked() -> Self {
        Self { attempts: 1, on: [RetryOn::Connect].into(), per_try_timeout: None, same_endpoint: false }
    }

    /// A failed connect is tried on so many other endpoints, and nothing else is tried again.
    pub fn connecting(others: u8) -> Self {
        Self { attempts: others, ..Self::unasked() }
    }

    /// What the user wrote; `None` when a problem was reported instead. `timeout` is that of the whole exchange.
    pub fn compile(spec: &RetrySpec, timeout: Option<Duration>, at: &At) -> Option<Self> {
        let mut fine = true;
        if spec.attempts > MAX_ATTEMPTS {
            at.key("attempts")
                .problem(Code::BadValue, format!("{} tries of one request are too many", spec.attempts))
                .hint(format!("0 to {MAX_ATTEMPTS}; 2 is usual"));
            fine = false;
        }
        let per_try_timeout = spec.per_try_timeout.and_then(Span::limit);
        if let (Some(each), Some(whole)) = (per_try_timeout, timeout)
            && each > whole
        {
            let (each, whole) = (Span::millis(each.as_millis() as u64), Span::millis(whole.as_millis() as u64));
            at.key("per_try_timeout")
                .problem(Code::Ineffective, format!("a try may take longer ({each}) than the whole exchange ({whole})"))
                .hint("make it shorter than `timeout`, so that there is time for another try");
        }
        fine.then(|| Self {
            attempts: spec.attempts,
            on: spec.on.iter().copied().collect(),
            per_try_timeout,
            same_endpoint: true,
        })
    }

    /// What each try gets.
    pub fn per_try_timeout(&self) -> Option<Duration> {
        self.per_try_timeout
    }

    /// May an endpoint be asked again, when every other was asked? Only who wrote `retry` has asked for that.
    pub fn same_endpoint(&self) -> bool {
        self.same_endpoint
    }

    /// Is another try called for, and safe? What was never sent may always be sent; what was sent, only if nothing can
    /// happen twice that must happen once.
    pub fn calls_for_another(&self, failure: Failure, tries: Tries) -> bool {
        let safe = tries.replayable && (failure == Failure::Unconnected || tries.idempotent);
        safe && tries.made <= self.attempts && self.on.iter().any(|on| on.covers(failure))
    }
}

impl RetryOn {
    fn covers(self, failure: Failure) -> bool {
        self == match failure {
            Failure::Unconnected => RetryOn::Connect,
            Failure::Reset => RetryOn::Reset,
            Failure::Malformed => RetryOn::Status(502),
            Failure::Timeout => RetryOn::Status(504),
            Failure::Status(status) => RetryOn::Status(status),
        }
    }
}

/// How long to wait before an endpoint is asked again.
///
/// Another endpoint is asked at once: it has not failed, and waiting would only make the client wait. The same
/// endpoint has just failed, and would most likely again within the same millisecond; and those who failed with us would all
/// come back at once. So the wait is random between nothing and a bound that doubles ("full jitter", Brooker,
/// "Exponential Backoff And Jitter", 2015).
#[derive(Debug, Clone, Copy)]
pub struct Backoff;

impl Backoff {
    /// About the time a process needs to accept again after a full backlog.
    const FIRST: Duration = Duration::from_millis(25);
    /// A client notices more than this.
    const MOST: Duration = Duration::from_millis(250);

    /// The wait before the `nth` time that an endpoint is asked again, from 1.
    pub fn wait(nth: u8, random: &mut impl Rng) -> Duration {
        let doubled = Self::FIRST.saturating_mul(1 << u32::from(nth.saturating_sub(1)).min(8));
        doubled.min(Self::MOST).mul_f64(random.random_range(0.0..1.0))
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::SmallRng};

    use super::*;
    use crate::types::Problems;

    const GET: Tries = Tries { made: 1, idempotent: true, replayable: true };

    fn policy(json: serde_json::Value) -> RetryPolicy {
        let problems = Problems::default();
        let spec: RetrySpec = serde_json::from_value(json).unwrap();
        let policy = RetryPolicy::compile(&spec, Some(Duration::from_secs(30)), &problems.root());
        assert_eq!(problems.take().len(), 0);
        policy.unwrap()
    }

    const ALL: [Failure; 5] = [Failure::Unconnected, Failure::Reset, Failure::Timeout, Failure::Malformed, Failure::Status(503)];

    #[test]
    fn only_what_was_listed_is_tried_again() {
        let covered = |policy: &RetryPolicy| ALL.map(|failure| policy.calls_for_another(failure, GET));
        assert_eq!(covered(&RetryPolicy::unasked()), [true, false, false, false, false]);
        assert_eq!(covered(&policy(serde_json::json!({}))), [true; 5]);
        assert_eq!(covered(&policy(serde_json::json!({"on": ["reset", 503]}))), [false, true, false, false, true]);
        assert_eq!(covered(&policy(serde_json::json!({"on": [502, 504]}))), [false, false, true, true, false]);
        assert!(!policy(serde_json::json!({})).calls_for_another(Failure::Status(500), GET));
    }

    #[test]
    fn what_was_sent_is_sent_again_only_if_that_is_safe() {
        let policy = policy(serde_json::json!({}));
        let post = Tries { idempotent: false, ..GET };
        assert_eq!(ALL.map(|failure| policy.calls_for_another(failure, post)), [true, false, false, false, false]);
        let long = Tries { replayable: false, ..GET };
        assert_eq!(ALL.map(|failure| policy.calls_for_another(failure, long)), [false; 5]);
    }

    #[test]
    fn tries_are_counted() {
        let made = |policy: &RetryPolicy| {
            (1..20).take_while(|made| policy.calls_for_another(Failure::Unconnected, Tries { made: *made, ..GET })).count()
        };
        assert_eq!(made(&policy(serde_json::json!({"attempts": 0}))), 0);
        assert_eq!(made(&policy(serde_json::json!({}))), 2);
        assert_eq!(made(&policy(serde_json::json!({"attempts": 10}))), 10);
        assert_eq!(made(&RetryPolicy::unasked()), 1);
    }

    #[test]
    fn mistakes_are_named() {
        let reports = |json| {
            let problems = Problems::default();
            let spec: RetrySpec = serde_json::from_value(json).unwrap();
            let compiled = RetryPolicy::compile(&spec, Some(Duration::from_secs(1)), &problems.root());
            (compiled.is_some(), problems.take().into_iter().map(|problem| problem.message).collect::<String>())
        };
        let (compiled, message) = reports(serde_json::json!({"attempts": 11}));
        assert!(!compiled && message.contains("11"), "{message}");
        let (compiled, message) = reports(serde_json::json!({"per_try_timeout": "2s"}));
        assert!(compiled && message.contains("(2s)") && message.contains("(1s)"), "{message}");
        for wrong in ["timeout", "404", "200", ""] {
            assert!(wrong.parse::<RetryOn>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_condition_prints_as_it_is_written() {
        let spec: RetrySpec = serde_json::from_str(r#"{"on": ["connect", "reset", 429, "503"]}"#).unwrap();
        let printed = serde_json::to_value(&spec.on).unwrap();
        assert_eq!(printed, serde_json::json!(["connect", "reset", 429, 503]));
    }

    #[test]
    fn the_wait_is_jittered_doubles_and_is_bounded() {
        let mut random = SmallRng::seed_from_u64(7);
        let mut longest = |nth| (0..10_000).map(|_| Backoff::wait(nth, &mut random)).max().unwrap().as_millis();
        assert_eq!([1, 2, 3, 4, 5, 200].map(&mut longest), [24, 49, 99, 199, 249, 249]);
        let shortest = (0..10_000).map(|_| Backoff::wait(3, &mut random)).min().unwrap();
        assert!(shortest < Duration::from_millis(1), "{shortest:?}");
    }
}
