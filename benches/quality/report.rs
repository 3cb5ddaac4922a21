//! What the samples of a row come to, and whether promises were kept.

use std::{fmt, process::ExitCode, time::Duration};

use crate::load::{End, Sample};

/// Exact percentiles: all samples of a row fit into memory.
#[derive(Debug, Clone, Copy)]
pub struct Latency {
    p50: Duration,
    pub p99: Duration,
    p999: Duration,
}

impl Latency {
    /// Of what was answered well, and of what still waits: with the time that it has waited, which is less than it
    /// will be. An error that comes fast must not make the others look better.
    pub fn of(samples: &[Sample]) -> Self {
        let mut times: Vec<_> = samples.iter().filter(|sample| !failed(sample)).map(|sample| sample.took).collect();
        times.sort_unstable();
        // The nearest rank.
        let at = |share: f64| {
            let rank = (share * times.len() as f64).ceil() as usize;
            times.get(rank.saturating_sub(1)).copied().unwrap_or_default()
        };
        Self { p50: at(0.5), p99: at(0.99), p999: at(0.999) }
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p99, p999] = [self.p50, self.p99, self.p999].map(|time| time.as_secs_f64() * 1e3);
        write!(f, "{p50:.0} | {p99:.0} | {p999:.0}")
    }
}

fn failed(sample: &Sample) -> bool {
    match sample.end {
        End::Status(status) => status >= 400,
        End::Broken => true,
        End::Waiting => false,
    }
}

/// Requests that were answered well.
pub fn served(samples: &[Sample]) -> usize {
    samples.iter().filter(|sample| !failed(sample) && sample.end != End::Waiting).count()
}

/// Some of many; prints as a percentage, and the number when that is small.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    some: usize,
    all: usize,
}

impl Part {
    fn of(samples: &[Sample], counts: impl Fn(&Sample) -> bool) -> Self {
        Self { some: samples.iter().filter(|sample| counts(sample)).count(), all: samples.len() }
    }
    pub fn share(self) -> f64 {
        self.some as f64 / self.all.max(1) as f64
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.some {
            0 => f.write_str("0"),
            1..100 => write!(f, "{:.3} % ({} of {})", self.share() * 100.0, self.some, self.all),
            _ => write!(f, "{:.1} %", self.share() * 100.0),
        }
    }
}

/// What clients saw fail.
pub fn errors(samples: &[Sample]) -> Part {
    Part::of(samples, failed)
}

/// What had no answer when the row was over.
pub fn waiting(samples: &[Sample]) -> Part {
    Part::of(samples, |sample| sample.end == End::Waiting)
}

/// What must hold, and what does not.
#[derive(Debug, Default)]
pub struct Promises(Vec<String>);

impl Promises {
    pub fn keep(&mut self, kept: bool, broken: impl FnOnce() -> String) {
        if !kept {
            self.0.push(broken());
        }
    }

    /// Names those that were broken.
    pub fn verdict(self) -> ExitCode {
        for broken in &self.0 {
            eprintln!("does not hold: {broken}");
        }
        if self.0.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
