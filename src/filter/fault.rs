//! The `fault` filter: makes some requests slow or fail on purpose, to see what clients make of that.

use std::{sync::Arc, time::Duration};

use http::HeaderName;
use rand::Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Filter, FilterRequest, Slot, Verdict, headers::field_name};
use crate::types::{At, Code, Ratio, Reply, Span};

/// Beyond this, requests would run into the time that verdicts are waited for where a route has no timeout.
const MAX_DELAY: Span = Span::secs(25);

/// Delays or fails a share of the requests.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FaultSpec {
    /// Makes requests wait before they go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay: Option<DelaySpec>,
    /// Answers requests with an error. One that is to wait too waits first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub abort: Option<AbortSpec>,
    /// Only requests with this header field, whatever its value. Left out: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
}

/// Which requests wait, and how long.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DelaySpec {
    /// How long, at most 25 s.
    pub time: Span,
    /// Of the requests that the filter is for.
    #[serde(default = "everything")]
    pub share: Ratio,
}

/// Which requests fail, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AbortSpec {
    /// 400 to 599.
    #[serde(default = "AbortSpec::default_status")]
    pub status: u16,
    /// Of the requests that the filter is for, drawn apart from the delay.
    #[serde(default = "everything")]
    pub share: Ratio,
}

fn everything() -> Ratio {
    Ratio::percent(100)
}

impl AbortSpec {
    fn default_status() -> u16 {
        503
    }
}

impl FaultSpec {
    pub(super) fn compile(&self, at: &At) -> Option<Arc<dyn Filter>> {
        let mut sound = true;
        if self.delay.is_none() && self.abort.is_none() {
            at.problem(Code::MissingKey, "`fault` without `delay` and `abort` does nothing").hint("add one of them");
            sound = false;
        }
        if let Some(delay) = self.delay.as_ref().filter(|delay| delay.time > MAX_DELAY || delay.time.get().is_zero()) {
            at.key("delay")
                .key("time")
                .problem(Code::BadValue, format!("{} is no time to wait here", delay.time))
                .hint(format!("more than none, and at most {MAX_DELAY}"));
            sound = false;
        }
        if let Some(abort) = self.abort.as_ref().filter(|abort| !(400..=599).contains(&abort.status)) {
            at.key("abort")
                .key("status")
                .problem(Code::BadValue, format!("{} is not the status of an error", abort.status))
                .hint("400 to 599; 503 is usual");
            sound = false;
        }
        let header = match &self.header {
            Some(text) => Some(field_name(text, &at.key("header"))?),
            None => None,
        };
        sound.then(|| -> Arc<dyn Filter> {
            Arc::new(Fault {
                delay: self.delay.as_ref().map(|delay| (delay.share.get(), delay.time.get())),
                abort: self.abort.as_ref().map(|abort| (abort.share.get(), abort.status)),
                header,
            })
        })
    }
}

#[derive(Debug)]
struct Fault {
    delay: Option<(f64, Duration)>,
    abort: Option<(f64, u16)>,
    header: Option<HeaderName>,
}

impl Fault {
    /// What becomes of one request: how long it waits, and the status it fails with.
    fn draw(&self, random: &mut impl Rng) -> (Option<Duration>, Option<u16>) {
        // Of [0, 1): a share of 100 % is all of them and one of 0 % none.
        let mut hit = |share: f64| random.random::<f64>() < share;
        let delay = self.delay.filter(|(share, _)| hit(*share)).map(|(_, time)| time);
        (delay, self.abort.filter(|(share, _)| hit(*share)).map(|(_, status)| status))
    }
}

fn end(abort: Option<u16>) -> Verdict {
    match abort {
        Some(status) => Verdict::Answer { reply: Reply::status(status), reason: "fault_abort" },
        None => Verdict::Continue,
    }
}

impl Filter for Fault {
    fn kind(&self) -> &'static str {
        "fault"
    }

    fn request(&self, request: &mut FilterRequest<'_>, _: &mut Slot) -> Verdict {
        if self.header.as_ref().is_some_and(|name| request.fields.get(name.as_str()).is_none()) {
            return Verdict::Continue;
        }
        match self.draw(&mut rand::rng()) {
            (None, abort) => end(abort),
            (Some(time), abort) => Verdict::later(async move {
                tokio::time::sleep(time).await;
                move |_: &mut FilterRequest<'_>, _: &mut Slot| end(abort)
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::SmallRng};

    use super::*;
    use crate::filter::tests_support::{Exchange, compile, refused};

    #[test]
    fn shares_are_kept_and_drawn_apart() {
        let fault = Fault { delay: Some((0.2, Duration::from_secs(1))), abort: Some((0.1, 500)), header: None };
        let mut random = SmallRng::seed_from_u64(1);
        let drawn: Vec<_> = (0..10_000).map(|_| fault.draw(&mut random)).collect();
        let count = |test: fn(&(Option<Duration>, Option<u16>)) -> bool| drawn.iter().filter(|drawn| test(drawn)).count();
        for (what, found, want) in [
            ("delayed", count(|(delay, _)| delay.is_some()), 2000),
            ("aborted", count(|(_, abort)| abort.is_some()), 1000),
            ("both", count(|(delay, abort)| delay.is_some() && abort.is_some()), 200),
        ] {
            assert!(found.abs_diff(want) < want / 5, "{what}: {found}");
        }
        let certain = Fault { delay: Some((0.0, Duration::from_secs(1))), abort: Some((1.0, 500)), header: None };
        assert!((0..1000).all(|_| certain.draw(&mut random) == (None, Some(500))));
    }

    #[test]
    fn a_field_may_ask_for_it() {
        let chain = compile(r#"[{"fault": {"abort": {"status": 500}, "header": "x-fault"}}]"#);
        Exchange::default().request(&chain).expect("goes on");
        let mut asking = Exchange::default();
        asking.set("x-fault", "");
        let (reply, reason) = asking.request(&chain).unwrap_err();
        assert_eq!((reply.status.as_u16(), reason), (500, "fault_abort"));
    }

    #[test]
    fn mistakes_are_named() {
        for (options, word) in [
            (r#"{}"#, "does nothing"),
            (r#"{"delay": {"time": "0"}}"#, "no time to wait"),
            (r#"{"delay": {"time": "26s"}}"#, "no time to wait"),
            (r#"{"abort": {"status": 200}}"#, "not the status"),
            (r#"{"abort": {}, "header": "te"}"#, "`te` belongs"),
        ] {
            let problems = refused(&format!(r#"[{{"fault": {options}}}]"#));
            assert!(problems.len() == 1 && problems[0].message.contains(word), "{options}: {problems:?}");
        }
    }
}
