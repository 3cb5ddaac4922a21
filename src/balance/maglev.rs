//! The `maglev` strategy: a lookup table.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Among, SelectionKey, Strategy,
    derived::Derived,
    hash::{hash, mix},
};
use crate::endpoint::Endpoint;

/// Options of `maglev`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MaglevSpec {
    /// What decides where a request goes; the client's address when a request has no such part.
    pub key: SelectionKey,
    /// Entries of the table: a prime, best a hundred times the number of endpoints.
    pub table_size: TableSize,
}

/// A prime up to 5000011.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "u32")]
pub struct TableSize(u32);

impl TableSize {
    /// As in Envoy; the table takes 20 MB then.
    const MAX: u32 = 5_000_011;
}

impl Default for TableSize {
    fn default() -> Self {
        Self(65_537)
    }
}

impl TryFrom<u32> for TableSize {
    type Error = String;
    fn try_from(size: u32) -> Result<Self, String> {
        let prime = |n: u32| n >= 2 && (2..).take_while(|d| d * d <= n).all(|d| !n.is_multiple_of(d));
        match size {
            0..=Self::MAX if prime(size) => Ok(Self(size)),
            0..=Self::MAX => {
                let next = (size..=Self::MAX).find(|n| prime(*n)).unwrap_or(Self::MAX);
                Err(format!("{size} is not a prime; did you mean {next}?"))
            }
            _ => Err(format!("{size} is too large: up to {}", Self::MAX)),
        }
    }
}

impl MaglevSpec {
    pub(super) fn build(&self, _endpoints: &[Arc<Endpoint>]) -> Box<dyn Strategy> {
        let size = self.table_size.0;
        Box::new(Maglev { table: Derived::new(move |endpoints| table(endpoints, size)) })
    }
}

/// Maglev hashing (Eisenbud and others, "Maglev: A Fast and Reliable Software Network Load Balancer",
/// 2016, section 3.4): one look into a table whose entries are divided by weight to within one turn.
///
/// An entry whose endpoint may not take the request stays as it is, and the key is hashed again, which
/// gives the others' entries by weight: so only the keys of one that left move. When the set or a weight
/// changes the table is filled anew, and then some other keys move as well, as the paper accepts.
#[derive(Debug)]
struct Maglev {
    table: Derived<Box<[u32]>>,
}

/// Looks beyond these mean that nearly nobody is left; then it is cheaper to go through the table.
const MAX_LOOKS: u64 = 32;

impl Strategy for Maglev {
    fn pick(&self, key: u64, among: &Among<'_>) -> Option<usize> {
        self.table.with(among, |table| {
            let size = table.len() as u64;
            let looks = (0..MAX_LOOKS).map(|look| if look == 0 { key } else { mix(key.wrapping_add(look)) });
            let entry = |hash: u64| table.get((hash % size.max(1)) as usize).map(|index| *index as usize);
            looks.filter_map(entry).find(|index| among.may(*index) && among.has_warmed_to(*index, key)).or_else(|| {
                // The highest score by key: not by weight any more, and still the same for the same key.
                let score = |index: usize| mix(key ^ hash(among.endpoint(index).label().as_bytes()));
                among.candidates().map(|(index, _)| index).max_by_key(|index| score(*index))
            })
        })
    }
}

/// Each endpoint has its own permutation of the table, and they take turns by weight: in its turn each
/// fills the next entry of its permutation that is free.
fn table(endpoints: &[Arc<Endpoint>], size: u32) -> Box<[u32]> {
    const FREE: u32 = u32::MAX;
    if endpoints.is_empty() {
        return Box::default();
    }
    let modulus = u64::from(size);
    let mut permutations: Vec<(u64, u64)> = endpoints
        .iter()
        .map(|endpoint| {
            let seed = hash(endpoint.label().as_bytes());
            (seed % modulus, mix(seed ^ 0x6d61_676c_6576) % (modulus - 1).max(1) + 1)
        })
        .collect();
    // A turn is due when an endpoint's weight has added up to the largest one, which has a turn each round.
    let weights: Vec<u64> = endpoints.iter().map(|endpoint| endpoint.weight().into()).collect();
    let largest = weights.iter().copied().max().unwrap_or(1);
    let mut due = vec![0; endpoints.len()];
    let mut table = vec![FREE; size as usize];
    let mut filled = 0;
    loop {
        for (index, (next, skip)) in permutations.iter_mut().enumerate() {
            due[index] += weights[index];
            if due[index] < largest {
                continue;
            }
            due[index] -= largest;
            while table[*next as usize] != FREE {
                *next = (*next + *skip) % modulus;
            }
            table[*next as usize] = index as u32;
            filled += 1;
            if filled == size {
                return table.into();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            hash::hash,
            testing::{Letter, Pool},
        },
        *,
    };

    fn keys() -> impl Iterator<Item = u64> {
        (0..20_000u32).map(|client| hash(&client.to_be_bytes()))
    }

    #[test]
    fn entries_are_divided_by_weight() {
        let pool = Pool::new("maglev", &[1, 2, 3]);
        let table = table(&pool.endpoints, 6007);
        let count = |wanted: u32| table.iter().filter(|index| **index == wanted).count() as i64;
        for (index, weight) in [(0, 1), (1, 2), (2, 3)] {
            assert!((count(index) - 6007 * weight / 6).abs() <= 3, "{} for weight {weight}", count(index));
        }
    }

    #[test]
    fn shares_follow_a_weight_that_changes() {
        let pool = Pool::new("maglev", &[1, 1]);
        let count = || keys().filter(|key| pool.pick(*key).letter() == 'a').count();
        assert!((9_600..=10_400).contains(&count()));
        pool.endpoints[0].set_weight(3);
        assert!((14_600..=15_400).contains(&count()));
    }

    #[test]
    fn only_the_keys_of_one_that_left_move() {
        let pool = Pool::new("maglev", &[1, 1, 1, 1]);
        let before: Vec<_> = keys().map(|key| pool.pick(key).letter()).collect();
        pool.set_healthy(1, false);
        let mut moved = [0; 4];
        for (key, before) in keys().zip(&before) {
            let now = pool.pick(key);
            match before {
                'b' => moved[pool.index(&now)] += 1,
                _ => assert_eq!(now.letter(), *before),
            }
        }
        assert!(moved[1] == 0 && [0, 2, 3].iter().all(|other| moved[*other] > 1400), "{moved:?}");
    }

    #[test]
    fn a_new_endpoint_takes_its_share_and_disturbs_few_others() {
        let (three, four) = (Pool::new("maglev", &[1, 1, 1]), Pool::new("maglev", &[1, 1, 1, 1]));
        let moved = keys().filter(|key| three.pick(*key).letter() != four.pick(*key).letter()).count();
        assert!((4_700..6_500).contains(&moved), "a quarter must move: {moved} of 20000 did");
    }

    #[test]
    fn the_last_one_left_is_found() {
        let weights = [1; 20];
        let pool = Pool::new("maglev", &weights);
        (0..19).for_each(|index| pool.set_healthy(index, false));
        assert!(keys().take(500).all(|key| pool.index(&pool.pick(key)) == 19));
        pool.set_healthy(19, false);
        assert!(pool.pick_without(1, &[]).is_none());
    }

    #[test]
    fn a_table_has_a_prime_size() {
        assert!(TableSize::try_from(65_537).is_ok() && TableSize::try_from(2).is_ok());
        assert!(TableSize::try_from(65_536).unwrap_err().contains("65537"));
        assert!(TableSize::try_from(0).is_err() && TableSize::try_from(5_000_012).is_err());
    }
}
