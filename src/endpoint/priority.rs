//! Groups of endpoints that stand in for each other.
//!
//! What a group may take of the traffic follows from how much of it is available, with some room to spare as
//! Envoy has it in its priority levels: a group that lost a little still takes everything.

use std::iter::Sum;

/// A group can carry this much more than what is available of it, so that one endpoint of four may be missing
/// before the next group is asked. Envoy's default.
pub const OVERPROVISIONING: f64 = 1.4;

/// Of so much, so much is available: endpoints, or their weights.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capacity {
    /// What may take requests.
    pub available: u64,
    /// All there is.
    pub total: u64,
}

impl Sum for Capacity {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        let add = |sum: Self, part: Self| Self { available: sum.available + part.available, total: sum.total + part.total };
        parts.fold(Self::default(), add)
    }
}

impl Capacity {
    /// The share of all traffic that this group can carry, 0 to 1.
    pub fn carries(self) -> f64 {
        if self.total == 0 { 0.0 } else { (self.available as f64 / self.total as f64 * OVERPROVISIONING).min(1.0) }
    }
}

/// Can the groups together carry all traffic?
pub fn carry_all(groups: impl IntoIterator<Item = Capacity>) -> bool {
    groups.into_iter().map(Capacity::carries).sum::<f64>() >= 1.0
}

/// What each of these groups takes, the first one first: as much as it can carry of what those before it left.
///
/// The shares sum up to 1, unless nothing is available. Where the groups together cannot carry everything,
/// each takes more in proportion.
pub fn shares(groups: impl IntoIterator<Item = Capacity>) -> Vec<f64> {
    let mut left = 1.0_f64;
    let mut shares: Vec<f64> = groups
        .into_iter()
        .map(|group| {
            let takes = group.carries().min(left);
            left -= takes;
            takes
        })
        .collect();
    let taken = 1.0 - left;
    if taken > 0.0 {
        shares.iter_mut().for_each(|share| *share /= taken);
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn takes(groups: &[(u64, u64)], expected: &[f64]) {
        let shares = shares(groups.iter().map(|&(available, total)| Capacity { available, total }));
        let close = shares.iter().zip(expected).all(|(share, expected)| (share - expected).abs() < 1e-9);
        assert!(close && shares.len() == expected.len(), "{groups:?}: {shares:?} instead of {expected:?}");
    }

    #[test]
    fn the_first_group_takes_everything_while_it_can() {
        takes(&[(4, 4), (4, 4)], &[1.0, 0.0]);
        takes(&[(3, 4), (4, 4)], &[1.0, 0.0]);
        takes(&[(5, 7), (0, 4)], &[1.0, 0.0]);
        takes(&[(1, 1)], &[1.0]);
    }

    #[test]
    fn what_it_cannot_take_goes_to_the_next() {
        takes(&[(2, 4), (4, 4)], &[0.7, 0.3]);
        takes(&[(1, 4), (1, 4), (2, 2)], &[0.35, 0.35, 0.3]);
        takes(&[(0, 4), (1, 1), (1, 1)], &[0.0, 1.0, 0.0]);
        takes(&[(0, 0), (1, 1)], &[0.0, 1.0]);
    }

    #[test]
    fn too_little_in_all_groups_is_scaled_up() {
        takes(&[(1, 4), (1, 4)], &[0.5, 0.5]);
        takes(&[(2, 10), (1, 10)], &[2.0 / 3.0, 1.0 / 3.0]);
        takes(&[(1, 100)], &[1.0]);
        takes(&[(0, 4), (0, 4)], &[0.0, 0.0]);
        takes(&[], &[]);
    }

    #[test]
    fn all_traffic_is_carried_with_room_to_spare() {
        let carry = |groups: &[(u64, u64)]| carry_all(groups.iter().map(|&(available, total)| Capacity { available, total }));
        assert!(carry(&[(5, 7)]) && carry(&[(0, 4), (1, 1)]) && carry(&[(2, 4), (1, 4)]));
        assert!(!carry(&[(7, 10)]) && !carry(&[(1, 4), (1, 4)]) && !carry(&[(0, 0)]) && !carry(&[]));
    }
}
