//! How much, how well and how fast, per second.

use schemars::JsonSchema;
use serde::Serialize;

use crate::observe::ExchangeCounts;

/// Traffic over the last seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, JsonSchema)]
pub(in crate::admin) struct Rates {
    /// Requests that ended, per second.
    pub(in crate::admin) requests_per_second: f64,
    /// The share of them that was answered with a 5xx, 0 to 1.
    pub(in crate::admin) error_share: f64,
    /// The share of them that was answered with a 4xx, 0 to 1.
    pub(in crate::admin) client_error_share: f64,
    /// The median time from a request's first byte to its response's last, in milliseconds; 0 without requests.
    pub(in crate::admin) p50_ms: f64,
    /// The 95th percentile of the same.
    pub(in crate::admin) p95_ms: f64,
    /// The 99th percentile of the same.
    pub(in crate::admin) p99_ms: f64,
    /// Body bytes from clients, per second.
    pub(in crate::admin) bytes_in_per_second: f64,
    /// Body bytes to clients, per second.
    pub(in crate::admin) bytes_out_per_second: f64,
}

impl Rates {
    /// What was counted in so many seconds.
    pub(super) fn new(counts: &ExchangeCounts, seconds: f64) -> Self {
        let share = |count: u64| if counts.requests == 0 { 0.0 } else { round(count as f64 / counts.requests as f64, 1e5) };
        let [p50_ms, p95_ms, p99_ms] = counts.took.quantiles([0.5, 0.95, 0.99]).map(|ms| round(ms, 1e3));
        Self {
            requests_per_second: per_second(counts.requests, seconds),
            error_share: share(counts.server_errors),
            client_error_share: share(counts.client_errors),
            p50_ms,
            p95_ms,
            p99_ms,
            bytes_in_per_second: per_second(counts.bytes_in, seconds),
            bytes_out_per_second: per_second(counts.bytes_out, seconds),
        }
    }
}

/// So many in so many seconds; two digits are as exact as a rate of few seconds is.
pub(super) fn per_second(count: u64, seconds: f64) -> f64 {
    round(count as f64 / seconds, 100.0)
}

/// Rounded, since the digits after that are noise and take their place in every answer.
pub(super) fn round(value: f64, to: f64) -> f64 {
    (value * to).round() / to
}

/// Counts of both.
pub(super) fn add(sum: &mut ExchangeCounts, other: &ExchangeCounts) {
    sum.requests += other.requests;
    sum.client_errors += other.client_errors;
    sum.server_errors += other.server_errors;
    sum.bytes_in += other.bytes_in;
    sum.bytes_out += other.bytes_out;
    sum.took.add(&other.took);
}

/// What came after an earlier reading of the same. A route that a reload took away and another brought back counts
/// anew, so less than before is nothing.
pub(super) fn since(now: &ExchangeCounts, earlier: &ExchangeCounts) -> ExchangeCounts {
    if now.requests < earlier.requests {
        return now.clone();
    }
    ExchangeCounts {
        requests: now.requests - earlier.requests,
        client_errors: now.client_errors.saturating_sub(earlier.client_errors),
        server_errors: now.server_errors.saturating_sub(earlier.server_errors),
        bytes_in: now.bytes_in.saturating_sub(earlier.bytes_in),
        bytes_out: now.bytes_out.saturating_sub(earlier.bytes_out),
        took: now.took.since(&earlier.took),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_differences_over_time() {
        let counts = |requests, server_errors| ExchangeCounts { requests, server_errors, ..Default::default() };
        let rates = Rates::new(&since(&counts(150, 10), &counts(100, 5)), 10.0);
        assert_eq!((rates.requests_per_second, rates.error_share), (5.0, 0.1));
        assert_eq!(Rates::new(&counts(0, 0), 10.0), Rates::default());
        assert_eq!(since(&counts(3, 1), &counts(100, 5)).requests, 3, "counted anew");
    }
}
