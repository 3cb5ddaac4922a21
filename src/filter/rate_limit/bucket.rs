//! The generic cell rate algorithm (ITU-T I.371; as a virtual scheduling algorithm): a token bucket in one number.
//!
//! What is kept of a key is the time at which its bucket will be full again. Nothing has to be refilled, a key that was
//! idle for long is as good as one never seen, and the decision is exact to the nanosecond.

use std::time::Duration;

use crate::types::Rate;

/// A rate, and how much of it may be used at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Nanoseconds that one request takes to be given back.
    interval: u64,
    burst: u64,
}

/// What became of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// It is within the limit.
    pub admitted: bool,
    /// So many more would be admitted now.
    pub remaining: u64,
    /// Until everything may be used again.
    pub full_in: Duration,
    /// Until the next one is admitted.
    pub retry_in: Duration,
}

/// A bucket that takes longer to fill says nothing that a count per day would not, and its times must fit their type.
const LONGEST: u128 = 366 * 86_400 * 1_000_000_000;

/// Threads read the clock before they take, and may come in another order: a bucket that seems emptier than empty by
/// less than this is one that was emptied a moment ago. That must not be forgiven.
const SLACK: u64 = 1_000_000_000;

impl Limit {
    /// `None` for a rate of zero, or more than a thousand million per second, or a burst that takes a year to come back.
    pub fn new(rate: Rate, burst: u64) -> Option<Self> {
        let interval = u64::try_from(rate.period().as_nanos().checked_div(u128::from(rate.amount()))?).ok()?;
        let whole = u128::from(interval) * u128::from(burst);
        (interval > 0 && burst > 0 && whole <= LONGEST).then_some(Self { interval, burst })
    }

    /// How many may come at once.
    pub fn burst(self) -> u64 {
        self.burst
    }

    /// The time that one request takes to be given back.
    pub fn interval(self) -> Duration {
        Duration::from_nanos(self.interval)
    }

    /// How long an empty bucket takes to fill.
    pub fn window(self) -> Duration {
        Duration::from_nanos(self.whole())
    }

    fn whole(self) -> u64 {
        self.interval * self.burst
    }

    /// Takes one, if there is one. `full_at` is when the bucket is full again; any time in the past is a full one.
    pub fn take(self, full_at: &mut u64, now: u64) -> Taken {
        let empty = now + self.whole();
        if *full_at > empty + SLACK {
            // It was emptied under a slower limit: it is empty under this one, no more.
            *full_at = empty;
        }
        let after = (*full_at).max(now) + self.interval;
        let admitted = after <= empty;
        if admitted {
            *full_at = after;
        }
        self.state((*full_at).clamp(now, empty) - now, admitted)
    }

    /// What is left of a bucket that is full after this many nanoseconds.
    fn state(self, missing: u64, admitted: bool) -> Taken {
        let spare = self.whole().saturating_sub(missing);
        let remaining = spare / self.interval;
        let retry_in = if remaining > 0 { 0 } else { self.interval - spare };
        Taken { admitted, remaining, full_in: Duration::from_nanos(missing), retry_in: Duration::from_nanos(retry_in) }
    }

    /// The answer of somebody else who keeps the bucket.
    pub fn told(self, admitted: bool, full_in: Duration) -> Taken {
        self.state(u64::try_from(full_in.as_nanos()).unwrap_or(u64::MAX).min(self.whole()), admitted)
    }

    /// Gives back what was taken for a request that was not admitted after all.
    pub fn give_back(self, full_at: &mut u64) {
        *full_at = full_at.saturating_sub(self.interval);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn limit(rate: &str, burst: u64) -> Limit {
        Limit::new(rate.parse().unwrap(), burst).unwrap()
    }

    #[test]
    fn a_burst_is_admitted_at_once_and_then_the_rate() {
        let limit = limit("10/s", 5);
        let mut bucket = 0;
        let now = 77 * SECOND;
        for left in (0..5).rev() {
            let taken = limit.take(&mut bucket, now);
            assert_eq!((taken.admitted, taken.remaining), (true, left));
        }
        let refused = limit.take(&mut bucket, now);
        assert_eq!((refused.admitted, refused.remaining), (false, 0));
        assert_eq!((refused.retry_in, refused.full_in), (Duration::from_millis(100), Duration::from_millis(500)));
        assert!(!limit.take(&mut bucket, now + SECOND / 10 - 1).admitted, "a nanosecond too early");
        assert!(limit.take(&mut bucket, now + SECOND / 10).admitted);
        assert_eq!(limit.take(&mut bucket, now + 3600 * SECOND).remaining, 4, "no more than the burst is ever saved up");
    }

    #[test]
    fn over_a_long_time_exactly_the_rate_is_admitted() {
        for (rate, burst, each) in [("100/s", 1, 1_000_003), ("7/m", 3, 12_345_678_901), ("1000/s", 200, 137_000)] {
            let (limit, rate): (Limit, Rate) = (limit(rate, burst), rate.parse().unwrap());
            let (mut bucket, mut now, mut admitted) = (0, 1, 0_u64);
            let span = 1000 * rate.period().as_nanos() as u64 / rate.amount();
            while now < span {
                admitted += u64::from(limit.take(&mut bucket, now).admitted);
                now += each;
            }
            let asked = span / each;
            let expected = asked.min(1000 + burst);
            assert!(admitted.abs_diff(expected) <= 1 + expected / 500, "{admitted} of {asked} at {rate}");
        }
    }

    #[test]
    fn a_changed_limit_takes_over_what_was_counted() {
        let (slow, fast) = (limit("1/h", 10), limit("10/s", 10));
        let mut bucket = 0;
        (0..10).for_each(|_| assert!(slow.take(&mut bucket, SECOND).admitted));
        assert!(!fast.take(&mut bucket, SECOND).admitted);
        assert!(fast.take(&mut bucket, SECOND + SECOND / 10).admitted, "ten hours of debt are a second's now");
    }

    #[test]
    fn what_makes_no_limit_is_none() {
        for (rate, burst) in [("0/s", 1), ("2000000000/s", 1), ("1/d", 400), ("10/s", 0), ("1/s", u64::MAX)] {
            assert_eq!(Limit::new(rate.parse().unwrap(), burst), None, "{rate} {burst}");
        }
    }
}
