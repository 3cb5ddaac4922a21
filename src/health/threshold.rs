//! When results of checks become a status: a pure state machine.

use std::num::NonZeroU32;

use crate::endpoint::HealthStatus;

/// How many results in a row it takes.
#[derive(Debug, Clone, Copy)]
pub struct Thresholds {
    /// Passes that bring an unhealthy endpoint back.
    pub healthy_after: NonZeroU32,
    /// Failures that take an endpoint out.
    pub unhealthy_after: NonZeroU32,
}

impl Thresholds {
    /// The status after one more check, and the run of results with it: passes count up from 0, failures
    /// count down.
    ///
    /// An endpoint that was never checked is taken to be healthy. So its first failure counts as one like
    /// any other, and its first pass only confirms what was assumed.
    pub fn after(&self, status: HealthStatus, streak: i32, passed: bool) -> (HealthStatus, i32) {
        let streak = if passed { streak.max(0).saturating_add(1) } else { streak.min(0).saturating_sub(1) };
        let status = match status {
            HealthStatus::Unknown if passed => HealthStatus::Healthy,
            HealthStatus::Unhealthy if passed && streak.unsigned_abs() >= self.healthy_after.get() => HealthStatus::Healthy,
            HealthStatus::Unknown | HealthStatus::Healthy if !passed && streak.unsigned_abs() >= self.unhealthy_after.get() => {
                HealthStatus::Unhealthy
            }
            same => same,
        };
        (status, streak)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The statuses after each result (`+` passed, `-` failed), as their first letters: `?`, H, U.
    fn run(healthy_after: u32, unhealthy_after: u32, results: &str) -> String {
        let thresholds = Thresholds {
            healthy_after: NonZeroU32::new(healthy_after).unwrap(),
            unhealthy_after: NonZeroU32::new(unhealthy_after).unwrap(),
        };
        let mut now = (HealthStatus::Unknown, 0);
        let letters = results.chars().map(|result| {
            now = thresholds.after(now.0, now.1, result == '+');
            match now.0 {
                HealthStatus::Unknown => '?',
                HealthStatus::Healthy => 'H',
                HealthStatus::Unhealthy => 'U',
            }
        });
        letters.collect()
    }

    #[test]
    fn results_count_in_a_row_only() {
        assert_eq!(run(2, 3, "+--+---"), "HHHHHHU");
        assert_eq!(run(2, 3, "---+-++"), "??UUUUH");
        assert_eq!(run(1, 1, "+-+-"), "HUHU");
    }

    #[test]
    fn the_first_failure_counts_as_one() {
        assert_eq!(run(2, 1, "-"), "U");
        assert_eq!(run(2, 2, "--"), "?U");
    }

    #[test]
    fn a_long_run_does_not_overflow() {
        let thresholds = Thresholds { healthy_after: NonZeroU32::MIN, unhealthy_after: NonZeroU32::MIN };
        assert_eq!(thresholds.after(HealthStatus::Healthy, i32::MAX, true).1, i32::MAX);
        assert_eq!(thresholds.after(HealthStatus::Unhealthy, i32::MIN, false).1, i32::MIN);
    }
}
