//! What many requests came to.

use std::{collections::BTreeMap, fmt, time::Duration};

use http::StatusCode;

use super::SendError;

/// Distinct names of backends that are told apart; a server under test may send anything as `x-backend`.
const MAX_BACKENDS: usize = 100;

/// Counts and times of many requests. Prints as the summary that users read.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Answers with a status below 400, and answers over TCP.
    pub ok: usize,
    /// Everything else: statuses from 400 on and requests without an answer.
    pub errors: usize,
    /// Answers by status.
    pub by_status: BTreeMap<u16, usize>,
    /// Answers by their `x-backend` field.
    pub by_backend: BTreeMap<String, usize>,
    /// Requests without an answer, by the reason's word.
    pub by_failure: BTreeMap<&'static str, usize>,
    /// From the first request to the last answer.
    pub elapsed: Duration,
    times: Vec<Duration>,
}

impl Tally {
    pub(super) fn response(&mut self, status: StatusCode, backend: Option<&str>, took: Duration) {
        if status.as_u16() < 400 {
            self.ok += 1
        } else {
            self.errors += 1
        }
        *self.by_status.entry(status.as_u16()).or_default() += 1;
        if let Some(backend) = backend {
            self.count_backend(backend, 1);
        }
        self.times.push(took);
    }

    pub(super) fn answer(&mut self, took: Duration) {
        self.ok += 1;
        self.times.push(took);
    }

    pub(super) fn error(&mut self, error: &SendError) {
        self.errors += 1;
        *self.by_failure.entry(error.word()).or_default() += 1;
    }

    fn count_backend(&mut self, name: &str, count: usize) {
        let full = self.by_backend.len() >= MAX_BACKENDS && !self.by_backend.contains_key(name);
        let name = if full { "(others)" } else { name };
        *self.by_backend.entry(name.to_owned()).or_default() += count;
    }

    pub(super) fn merge(&mut self, other: Tally) {
        self.ok += other.ok;
        self.errors += other.errors;
        self.times.extend(other.times);
        for (status, count) in other.by_status {
            *self.by_status.entry(status).or_default() += count;
        }
        for (failure, count) in other.by_failure {
            *self.by_failure.entry(failure).or_default() += count;
        }
        for (backend, count) in other.by_backend {
            self.count_backend(&backend, count);
        }
    }

    /// The time within which `percent` of the answers came (nearest rank), or `None` without any answer.
    pub fn percentile(&self, percent: u8) -> Option<Duration> {
        let mut times = self.times.clone();
        times.sort_unstable();
        let rank = (times.len() * usize::from(percent)).div_ceil(100).max(1);
        times.get(rank - 1).copied()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.ok + self.errors;
        let seconds = self.elapsed.as_secs_f64();
        writeln!(f, "requests  {total} in {seconds:.2} s ({:.0}/s)", total as f64 / seconds.max(1e-9))?;
        writeln!(f, "ok        {}", self.ok)?;
        writeln!(f, "errors    {}", self.errors)?;
        for (status, count) in &self.by_status {
            writeln!(f, "status    {status}: {count}")?;
        }
        for (failure, count) in &self.by_failure {
            writeln!(f, "failed    {failure}: {count}")?;
        }
        for (backend, count) in &self.by_backend {
            writeln!(f, "backend   {backend}: {count}")?;
        }
        let Some((p50, p95, p99)) =
            self.percentile(50).zip(self.percentile(95)).zip(self.percentile(99)).map(|((a, b), c)| (a, b, c))
        else {
            return Ok(());
        };
        let millis = |time: Duration| time.as_secs_f64() * 1e3;
        writeln!(f, "time      p50 {:.1} ms, p95 {:.1} ms, p99 {:.1} ms", millis(p50), millis(p95), millis(p99))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_nearest_rank() {
        let mut tally = Tally::default();
        assert_eq!(tally.percentile(50), None);
        for millis in (1..=100).rev() {
            tally.response(StatusCode::OK, Some("a"), Duration::from_millis(millis));
        }
        let rank = |percent| tally.percentile(percent).map(|time| time.as_millis());
        assert_eq!((rank(50), rank(95), rank(99)), (Some(50), Some(95), Some(99)));
    }

    #[test]
    fn tallies_add_up_and_backends_are_bounded() {
        let mut total = Tally::default();
        for index in 0..MAX_BACKENDS + 20 {
            let mut one = Tally::default();
            one.response(StatusCode::BAD_GATEWAY, Some(&format!("b{index}")), Duration::ZERO);
            one.error(&SendError::TooLarge);
            total.merge(one);
        }
        assert_eq!((total.ok, total.errors, total.by_status[&502]), (0, 240, 120));
        assert_eq!((total.by_backend.len(), total.by_backend["(others)"]), (MAX_BACKENDS + 1, 20));
        assert!(total.to_string().contains("failed    too_large: 120"));
    }
}
