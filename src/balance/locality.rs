//! How much of the traffic stays in the zone that is preferred.

use crate::endpoint::Capacity;

/// What of a group's traffic goes to its endpoints in this zone; the others get the rest.
///
/// After Envoy's zone aware routing: a zone is expected to get as much traffic as it holds of all capacity, and
/// while it holds as much of what is available, it serves all of its own. When it holds less, it serves what it can: of
/// what is available as much less than of all there is. Envoy compares the zone with the share of the proxies that are in
/// it, which nobody has to tell here, and divides the rest by what other zones have to spare, where here it goes
/// to what is available there.
pub(super) fn share(zone: Capacity, all: Capacity) -> f64 {
    if zone.available == 0 {
        return 0.0;
    }
    let available = zone.available as f64 / all.available as f64;
    let expected = zone.total as f64 / all.total as f64;
    (available / expected).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn stays(zone: (u64, u64), others: (u64, u64), expected: f64) {
        let capacity = |(available, total)| Capacity { available, total };
        let share = share(capacity(zone), capacity((zone.0 + others.0, zone.1 + others.1)));
        assert!((share - expected).abs() < 1e-9, "{zone:?} of {others:?}: {share} instead of {expected}");
    }

    #[test]
    fn a_zone_serves_its_own_while_it_can() {
        stays((2, 2), (4, 4), 1.0);
        stays((1, 1), (100, 100), 1.0);
        stays((2, 3), (4, 6), 1.0);
        stays((2, 2), (0, 4), 1.0);
        stays((1, 2), (0, 4), 1.0);
        stays((3, 3), (0, 0), 1.0);
    }

    #[test]
    fn what_it_cannot_serve_spills_over_in_proportion() {
        // A quarter of what is available is three quarters of a third.
        stays((2, 3), (6, 6), 0.75);
        stays((1, 2), (2, 2), 2.0 / 3.0);
        stays((0, 2), (2, 2), 0.0);
        stays((0, 0), (2, 2), 0.0);
        stays((0, 2), (0, 2), 0.0);
    }

    #[test]
    fn one_endpoint_more_or_less_never_makes_a_jump() {
        let share = |available| share(Capacity { available, total: 100 }, Capacity { available: available + 200, total: 300 });
        assert!((1..=100).all(|available| (0.0..=0.015).contains(&(share(available) - share(available - 1)))));
    }
}
