//! What a load came to. Prints as the report that users read.

use std::{collections::BTreeMap, fmt, time::Duration};

use hdrhistogram::Histogram;

use super::{Failure, LONGEST, histogram};

/// Rows of the printed histogram.
const ROWS: u64 = 12;
/// Characters of its longest bar.
const WIDTH: u64 = 40;

/// Counts and times of a load.
#[derive(Debug, Clone)]
pub struct Report {
    /// From the first request to the last answer.
    pub elapsed: Duration,
    /// Failures, by their kind.
    pub failures: BTreeMap<Failure, u64>,
    /// Bytes sent and read back over TCP.
    pub bytes: u64,
    times: Histogram<u64>,
}

impl Default for Report {
    fn default() -> Self {
        Self { elapsed: Duration::ZERO, failures: BTreeMap::new(), bytes: 0, times: histogram() }
    }
}

impl Report {
    pub(super) fn answer(&mut self, took: Duration, bytes: u64) {
        self.bytes += bytes;
        self.times.saturating_record((took.as_micros() as u64).clamp(1, LONGEST));
    }
    pub(super) fn failure(&mut self, failure: Failure) {
        *self.failures.entry(failure).or_default() += 1;
    }
    pub(super) fn merge(&mut self, other: &Report) {
        self.bytes += other.bytes;
        for (failure, count) in &other.failures {
            *self.failures.entry(*failure).or_default() += count;
        }
        // Both have the same bounds, so nothing is lost.
        let _ = self.times.add(&other.times);
    }

    /// Answers.
    pub fn answers(&self) -> u64 {
        self.times.len()
    }
    /// Failures of all kinds.
    pub fn errors(&self) -> u64 {
        self.failures.values().sum()
    }
    /// The time within which this share of the answers came, from 0 to 1.
    pub fn quantile(&self, share: f64) -> Duration {
        Duration::from_micros(self.times.value_at_quantile(share))
    }
    /// Answers in a second.
    pub fn rate(&self) -> f64 {
        self.answers() as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// A bar for each span of time that has answers, the spans growing so that a few rows cover all.
    fn bars(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (low, high) = (self.times.min().max(1), self.times.max().max(2));
        let growth = (high as f64 / low as f64).powf(1.0 / ROWS as f64).max(1.01);
        let mut rows = Vec::new();
        let mut from = low;
        while from <= high {
            let to = ((from as f64 * growth).ceil() as u64).max(from + 1);
            rows.push((to, self.times.count_between(from, to - 1)));
            from = to;
        }
        let most = rows.iter().map(|(_, count)| *count).max().unwrap_or(1).max(1);
        for (to, count) in rows {
            let bar = "#".repeat((count * WIDTH).div_ceil(most) as usize);
            writeln!(f, "{:>12} {bar:<40} {count}", format!("< {}", time(Duration::from_micros(to))))?;
        }
        Ok(())
    }
}

/// Milliseconds, or microseconds where those say more.
fn time(time: Duration) -> String {
    match time.as_micros() {
        micros @ ..1000 => format!("{micros} us"),
        micros => format!("{:.2} ms", micros as f64 / 1e3),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.elapsed.as_secs_f64();
        writeln!(f, "answers   {} in {seconds:.2} s ({:.0}/s)", self.answers(), self.rate())?;
        if self.bytes > 0 {
            writeln!(f, "bytes     {} ({:.1} MiB/s)", self.bytes, self.bytes as f64 / seconds.max(1e-9) / f64::from(1 << 20))?;
        }
        writeln!(f, "errors    {}", self.errors())?;
        for (failure, count) in &self.failures {
            match failure {
                Failure::Status(status) => writeln!(f, "status    {status}: {count}")?,
                Failure::Send(word) => writeln!(f, "failed    {word}: {count}")?,
            }
        }
        if self.answers() == 0 {
            return Ok(());
        }
        for (name, share) in [("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)] {
            writeln!(f, "{name:<9} {}", time(self.quantile(share)))?;
        }
        self.bars(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_add_up_and_print() {
        let mut total = Report { elapsed: Duration::from_secs(2), ..Report::default() };
        for millis in 1..=100 {
            let mut one = Report::default();
            one.answer(Duration::from_millis(millis), 10);
            one.failure(Failure::Status(503));
            total.merge(&one);
        }
        total.failure(Failure::Send("connect"));
        assert_eq!((total.answers(), total.errors(), total.bytes), (100, 101, 1000));
        let near = |share, millis: f64| (total.quantile(share).as_secs_f64() * 1e3 / millis - 1.0).abs() < 0.01;
        assert!(near(0.5, 50.0) && near(0.95, 95.0) && near(0.99, 99.0) && near(1.0, 100.0));
        let text = total.to_string();
        for line in ["answers   100 in 2.00 s (50/s)", "errors    101", "status    503: 100", "failed    connect: 1"] {
            assert!(text.contains(line), "{text}");
        }
        let counted: u64 = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("<")?.split_whitespace().last()?.parse::<u64>().ok())
            .sum::<u64>();
        assert_eq!(counted, 100, "every answer is in a bar:\n{text}");
    }

    #[test]
    fn nothing_at_all_prints_too() {
        assert!(Report::default().to_string().contains("answers   0"));
    }
}
