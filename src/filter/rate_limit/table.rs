//! The buckets of one filter, by key: of a bounded number, exact, and cheap to find.
//!
//! A hash of the key chooses a shard, and in it a set of eight places; nothing else is looked at. A shard begins with
//! one set and doubles when a set is full of buckets that say something, up to its bound. From then on a new key takes the
//! place of the bucket in its set that is full soonest, which is the one whose loss forgives least: a flood of
//! fresh keys displaces its own kind, and those who are over the limit stay.
//!
//! Keys are told apart by 64 bits of SipHash under a key of this process's own, so nobody can find two that
//! meet, and two of a million do by chance once in 40 million tables.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    time::Instant,
};

use parking_lot::Mutex;

use super::bucket::{Limit, Taken};

/// Shards, so that threads seldom wait for each other: enough for any machine, and small when empty.
const SHARDS: usize = 64;
/// Places of a set: a cache line or two.
const PLACES: usize = 8;

/// A key's bucket; one whose time has passed is as good as none.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    tag: u64,
    full_at: u64,
}

type Set = [Place; PLACES];

/// On a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Shard(Mutex<Vec<Set>>);

/// The buckets of one filter.
#[derive(Debug)]
pub struct Table {
    shards: Box<[Shard]>,
    /// Sets that a shard may have; a power of two.
    max_sets: usize,
    hashing: RandomState,
    epoch: Instant,
}

impl Table {
    /// A table for so many keys, rounded up to what can be kept: 512 times a power of two.
    pub fn new(max_keys: usize) -> Self {
        let max_sets = max_keys.div_ceil(SHARDS * PLACES).next_power_of_two();
        let shards = (0..SHARDS).map(|_| Shard::default()).collect();
        Self { shards, max_sets, hashing: RandomState::new(), epoch: Instant::now() }
    }

    /// The name of a key in this table: whatever is fed to it.
    pub fn tag(&self, feed: impl FnOnce(&mut dyn FnMut(&[u8]))) -> u64 {
        let mut hasher = self.hashing.build_hasher();
        feed(&mut |bytes| hasher.write(bytes));
        hasher.finish()
    }

    /// Now, as the table counts: never zero, since that is when nothing is full.
    pub fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX / 2) + 1
    }

    /// Takes one from the key's bucket.
    pub fn take(&self, tag: u64, limit: Limit, now: u64) -> Taken {
        let mut sets = self.shard(tag).lock();
        limit.take(&mut place(&mut sets, tag, now, self.max_sets).full_at, now)
    }

    /// Gives back what was taken for a request that was not admitted after all.
    pub fn give_back(&self, tag: u64, limit: Limit) {
        let mut sets = self.shard(tag).lock();
        if let Some(set) = set_of(&mut sets, tag)
            && let Some(place) = set.iter_mut().find(|place| place.tag == tag)
        {
            limit.give_back(&mut place.full_at);
        }
    }

    fn shard(&self, tag: u64) -> &Mutex<Vec<Set>> {
        // The upper bits: the lower ones choose the set.
        &self.shards[(tag >> 58) as usize % SHARDS].0
    }

    #[cfg(test)]
    fn places(&self) -> usize {
        self.shards.iter().map(|shard| shard.0.lock().capacity() * PLACES).sum()
    }
}

fn set_of(sets: &mut [Set], tag: u64) -> Option<&mut Set> {
    let index = tag as usize & sets.len().checked_sub(1)?;
    sets.get_mut(index)
}

/// The place of a key: its own, a free one, or that of the bucket whose loss forgives least.
fn place(sets: &mut Vec<Set>, tag: u64, now: u64, max_sets: usize) -> &mut Place {
    if sets.is_empty() {
        sets.push(Set::default());
    }
    loop {
        let set = sets[tag as usize & (sets.len() - 1)];
        let mut chosen = 0;
        let mut known = false;
        for (index, place) in set.iter().enumerate() {
            if place.tag == tag {
                (chosen, known) = (index, true);
                break;
            }
            if place.full_at < set[chosen].full_at {
                chosen = index;
            }
        }
        if known || set[chosen].full_at <= now || sets.len() >= max_sets {
            let index = tag as usize & (sets.len() - 1);
            let place = &mut sets[index][chosen];
            if !known {
                *place = Place { tag, full_at: 0 };
            }
            return place;
        }
        grow(sets, now);
    }
}

/// Doubles: each set is divided by the next bit of its keys.
fn grow(sets: &mut Vec<Set>, now: u64) {
    let old = sets.len();
    sets.reserve_exact(old);
    sets.resize(old * 2, Set::default());
    for index in 0..old {
        let mut moved = 0;
        for from in 0..PLACES {
            let place = sets[index][from];
            if place.tag as usize & old != 0 {
                sets[index][from] = Place::default();
                if place.full_at > now {
                    sets[index + old][moved] = place;
                    moved += 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Barrier,
        atomic::{AtomicU64, Ordering::Relaxed},
    };

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn limit(rate: &str, burst: u64) -> Limit {
        Limit::new(rate.parse().unwrap(), burst).unwrap()
    }

    fn tag(table: &Table, key: u64) -> u64 {
        table.tag(|see| see(&key.to_be_bytes()))
    }

    #[test]
    fn many_threads_take_exactly_what_there_is() {
        let table = Table::new(1000);
        let limit = limit("1000/s", 500);
        let admitted: Vec<AtomicU64> = (0..16).map(|_| AtomicU64::new(0)).collect();
        let start = Barrier::new(8);
        // The clock is a number that all threads read: each step of it gives one back to each key.
        let clock = AtomicU64::new(SECOND);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    start.wait();
                    for round in 0..20_000_u64 {
                        let key = round % 16;
                        let taken = table.take(tag(&table, key), limit, clock.load(Relaxed));
                        admitted[key as usize].fetch_add(u64::from(taken.admitted), Relaxed);
                        if round == 10_000 {
                            clock.fetch_add(12_500_000, Relaxed);
                        }
                    }
                });
            }
        });
        // Eight threads moved the clock by 100 ms in all: a hundred more.
        let admitted: Vec<u64> = admitted.iter().map(|count| count.load(Relaxed)).collect();
        assert_eq!(admitted, [600; 16]);
    }

    #[test]
    fn a_flood_of_keys_takes_no_more_room_and_frees_nobody_who_is_over_the_limit() {
        let table = Table::new(10_000);
        let limit = limit("1/m", 20);
        let greedy: Vec<u64> = (0..100).map(|key| tag(&table, u64::MAX - key)).collect();
        for tag in &greedy {
            (0..20).for_each(|_| assert!(table.take(*tag, limit, SECOND).admitted));
        }
        for key in 0..1_000_000 {
            assert!(table.take(tag(&table, key), limit, SECOND + key).admitted);
        }
        assert_eq!(table.places(), 16_384, "ten thousand, rounded up");
        let still = greedy.iter().filter(|tag| !table.take(**tag, limit, 2 * SECOND).admitted).count();
        assert_eq!(still, greedy.len());
    }

    #[test]
    fn a_table_grows_as_it_is_needed_and_loses_nobody() {
        let table = Table::new(65_536);
        assert_eq!(table.places(), 0);
        let limit = limit("1/m", 1);
        for key in 0..5_000 {
            assert!(table.take(tag(&table, key), limit, SECOND).admitted, "{key}");
        }
        assert!((5_000..=65_536).contains(&table.places()), "{}", table.places());
        for key in 0..5_000 {
            assert!(!table.take(tag(&table, key), limit, SECOND).admitted, "{key}");
        }
        let before = table.places();
        for key in 5_000..6_000 {
            assert!(table.take(tag(&table, key), limit, 70 * SECOND).admitted, "{key}");
        }
        assert_eq!(table.places(), before, "those who were idle for long make room");
    }

    #[test]
    fn what_is_given_back_is_there_again() {
        let table = Table::new(512);
        let (limit, key) = (limit("1/m", 1), tag(&table, 1));
        assert!(table.take(key, limit, SECOND).admitted);
        table.give_back(key, limit);
        assert!(table.take(key, limit, SECOND).admitted);
        table.give_back(tag(&table, 2), limit);
        assert!(!table.take(key, limit, SECOND).admitted);
    }
}
