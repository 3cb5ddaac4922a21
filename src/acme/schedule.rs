//! When a certificate is renewed, and when an attempt that failed is made again. Pure: told what time it is.

use std::time::{Duration, SystemTime};

/// Of the lifetime: renewed when less than this is left.
const RENEW_LEFT: u32 = 3;
/// Of the lifetime: when less than this is left, what the authority suggests does not count any more.
const HURRY_LEFT: u32 = 20;
/// Of the lifetime: renewals of certificates that were issued together are spread over this.
const SPREAD: u32 = 60;

/// Minutes between attempts: short at first, since a port that is closed is opened soon, then such that no authority's limits are met.
const PAUSES: [u64; 16] = [1, 2, 2, 5, 10, 10, 10, 20, 20, 20, 30, 30, 60, 120, 180, 360];

/// The time from when to when an authority wants a certificate to be renewed (RFC 9773).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) start: SystemTime,
    pub(super) end: SystemTime,
}

/// When to renew. `share` is in 0..1, another one for each certificate and always the same for one.
pub(super) fn renew_at(not_before: SystemTime, not_after: SystemTime, window: Option<Window>, share: f64) -> SystemTime {
    let lifetime = not_after.duration_since(not_before).unwrap_or_default();
    let own = not_after - lifetime / RENEW_LEFT - (lifetime / SPREAD).mul_f64(share);
    let Some(window) = window else { return own };
    let length = window.end.duration_since(window.start).unwrap_or_default();
    (window.start + length.mul_f64(share)).min(not_after - lifetime / HURRY_LEFT)
}

/// How long to wait after so many attempts that failed, at least one. `share` is in 0..1, at random.
pub(super) fn pause(failures: u32, share: f64) -> Duration {
    let position = (failures.max(1) as usize - 1).min(PAUSES.len() - 1);
    Duration::from_secs(PAUSES[position] * 60).mul_f64(0.9 + 0.2 * share)
}

/// A share in 0..1 that is always the same for the same text.
pub(super) fn share_of(text: &str) -> f64 {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    let bytes = <[u8; 4]>::try_from(&digest.as_ref()[..4]).expect("a digest has 32 bytes");
    f64::from(u32::from_be_bytes(bytes)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn day(number: f64) -> SystemTime {
        UNIX_EPOCH + DAY.mul_f64(number)
    }

    fn days(at: SystemTime) -> f64 {
        (at.duration_since(UNIX_EPOCH).unwrap().as_secs_f64() / 864.0).round() / 100.0
    }

    #[test]
    fn a_third_of_the_lifetime_is_left_when_a_certificate_is_renewed() {
        assert_eq!(days(renew_at(day(0.0), day(90.0), None, 0.0)), 60.0);
        assert_eq!(days(renew_at(day(0.0), day(90.0), None, 1.0)), 58.5, "those of one day are spread");
        assert_eq!(days(renew_at(day(0.0), day(6.0), None, 0.0)), 4.0, "six days");
    }

    #[test]
    fn an_authority_may_want_another_time() {
        let window = |start, end| Some(Window { start: day(start), end: day(end) });
        assert_eq!(days(renew_at(day(0.0), day(90.0), window(50.0, 51.0), 0.5)), 50.5);
        assert_eq!(days(renew_at(day(0.0), day(90.0), window(1.0, 2.0), 0.0)), 1.0, "revoked soon, perhaps");
        assert_eq!(days(renew_at(day(0.0), day(90.0), window(200.0, 300.0), 0.5)), 85.5, "not when hardly any time is left");
    }

    #[test]
    fn attempts_become_rare() {
        let minutes: Vec<u64> = [0, 1, 2, 4, 8, 16, 99].map(|failures| pause(failures, 0.5).as_secs() / 60).into();
        assert_eq!(minutes, [1, 1, 2, 5, 20, 360, 360]);
        assert!(pause(1, 0.0) < pause(1, 1.0));
    }

    #[test]
    fn a_share_is_the_same_for_the_same_text() {
        assert_eq!(share_of("a"), share_of("a"));
        assert!(share_of("a") != share_of("b") && (0.0..=1.0).contains(&share_of("c")));
    }
}
