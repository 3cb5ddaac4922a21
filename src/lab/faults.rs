//! What goes wrong on purpose: delays and failures.

use std::time::Duration;

use http::StatusCode;
use rand::Rng;

use crate::types::Ratio;

/// How a backend misbehaves on every request (on every connection, on layer 4). The default is not at all.
#[derive(Debug, Clone, PartialEq)]
pub struct Faults {
    /// Wait this long before answering.
    pub delay: Duration,
    /// Wait up to this much longer, evenly distributed.
    pub jitter: Duration,
    /// The share of requests that fail.
    pub rate: Ratio,
    /// How they fail.
    pub failure: Failure,
}

impl Default for Faults {
    fn default() -> Self {
        Self { delay: Duration::ZERO, jitter: Duration::ZERO, rate: Ratio::percent(0), failure: Failure::default() }
    }
}

/// How a request fails that was chosen to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// With this status.
    Status(StatusCode),
    /// The connection (in HTTP/2, the stream) is reset without an answer.
    Reset,
}

impl Default for Failure {
    fn default() -> Self {
        Self::Status(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl std::str::FromStr for Failure {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "reset" {
            return Ok(Self::Reset);
        }
        match text.parse().ok().filter(|code| (400..600).contains(code)).map(StatusCode::from_u16) {
            Some(Ok(status)) => Ok(Self::Status(status)),
            _ => Err(format!("`{text}` is neither `reset` nor a status from 400 to 599")),
        }
    }
}

impl Faults {
    /// How long this request waits.
    pub(super) fn wait(&self, random: &mut impl Rng) -> Duration {
        self.delay + self.jitter.mul_f64(random.random::<f64>())
    }

    /// How this request fails, if it is one of those that do.
    pub(super) fn strike(&self, random: &mut impl Rng) -> Option<Failure> {
        happens(self.rate, random).then_some(self.failure)
    }
}

/// True for `rate` of all calls; never for 0 %, always for 100 %.
pub(super) fn happens(rate: Ratio, random: &mut impl Rng) -> bool {
    // `random` is below 1, so the comparison is exact at both ends.
    random.random::<f64>() < rate.get()
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::SmallRng};

    use super::*;

    #[test]
    fn the_rate_is_the_share_that_fails() {
        let random = &mut SmallRng::seed_from_u64(7);
        for (percent, expected) in [(0, 0..=0), (30, 2800..=3200), (100, 10_000..=10_000)] {
            let faults = Faults { rate: Ratio::percent(percent), ..Faults::default() };
            let failed = (0..10_000).filter(|_| faults.strike(random).is_some()).count();
            assert!(expected.contains(&failed), "{percent}%: {failed}");
        }
    }

    #[test]
    fn jitter_adds_to_the_delay_and_never_exceeds_its_bound() {
        let random = &mut SmallRng::seed_from_u64(7);
        let faults = Faults { delay: Duration::from_millis(50), jitter: Duration::from_millis(10), ..Faults::default() };
        let waits: Vec<_> = (0..1000).map(|_| faults.wait(random)).collect();
        assert!(waits.iter().all(|wait| (50..=60).contains(&wait.as_millis())));
        assert!(waits.iter().any(|wait| *wait > Duration::from_millis(55)));
    }

    #[test]
    fn a_failure_is_a_status_or_a_reset() {
        assert_eq!("reset".parse(), Ok(Failure::Reset));
        assert_eq!("503".parse(), Ok(Failure::Status(StatusCode::SERVICE_UNAVAILABLE)));
        for text in ["", "200", "600", "crash"] {
            assert!(text.parse::<Failure>().is_err(), "{text}");
        }
    }
}
