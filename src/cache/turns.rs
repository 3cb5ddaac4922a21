//! The order in which entries go.
//!
//! S3-FIFO (Yang et al., SOSP 2023), with sizes: what is new goes through a small queue, and only what was asked for again there
//! comes into the main one, so that what is asked for once does not drive out what is asked for often. A hit touches no queue: it
//! counts in its entry, and is looked at when the entry's turn has come. So the one lock around the queues is taken only by what
//! was fetched.

use std::{
    collections::{HashSet, VecDeque},
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

/// The share of the bytes that what is new may take: one in so many.
const SMALL: u64 = 10;

/// So many that went are remembered at least.
const LEAST_GHOSTS: usize = 256;

/// A place in a queue. What it names may be gone.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) url: Arc<str>,
    pub(super) id: u64,
    pub(super) weight: u64,
    /// In the small queue.
    pub(super) new: bool,
}

/// See above.
#[derive(Debug, Default)]
pub(super) struct Turns {
    small: VecDeque<Place>,
    main: VecDeque<Place>,
    small_bytes: u64,
    main_bytes: u64,
    ghosts: Ghosts,
}

impl Turns {
    /// A new entry.
    pub(super) fn add(&mut self, url: Arc<str>, id: u64, weight: u64) {
        let new = !self.ghosts.had(&url);
        self.push(Place { url, id, weight, new });
    }

    fn push(&mut self, place: Place) {
        let (queue, bytes) =
            if place.new { (&mut self.small, &mut self.small_bytes) } else { (&mut self.main, &mut self.main_bytes) };
        *bytes += place.weight;
        queue.push_back(place);
    }

    /// Whose turn it is.
    pub(super) fn next(&mut self) -> Option<Place> {
        let from_small = self.main.is_empty() || self.small_bytes * SMALL >= self.small_bytes + self.main_bytes;
        let place = if from_small { self.small.pop_front().or_else(|| self.main.pop_front()) } else { self.main.pop_front() }?;
        let bytes = if place.new { &mut self.small_bytes } else { &mut self.main_bytes };
        *bytes -= place.weight;
        Some(place)
    }

    /// It stays, among those that were asked for.
    pub(super) fn stays(&mut self, place: Place) {
        self.push(Place { new: false, ..place });
    }

    /// It went.
    pub(super) fn went(&mut self, place: &Place) {
        if place.new {
            self.ghosts.add(&place.url, self.main.len());
        }
    }

    /// Places in both queues.
    pub(super) fn len(&self) -> usize {
        self.small.len() + self.main.len()
    }

    /// Forgets the places of what is not there any more.
    pub(super) fn sweep(&mut self, there: impl Fn(&Place) -> bool) {
        self.small.retain(&there);
        self.main.retain(&there);
        self.small_bytes = self.small.iter().map(|place| place.weight).sum();
        self.main_bytes = self.main.iter().map(|place| place.weight).sum();
    }
}

/// What went out of the small queue lately, by a hash only: if it comes again, it was asked for more than once.
#[derive(Debug, Default)]
struct Ghosts {
    order: VecDeque<u64>,
    known: HashSet<u64>,
    hashing: RandomState,
}

impl Ghosts {
    /// As many as there are entries in the main queue.
    fn add(&mut self, url: &str, most: usize) {
        let tag = self.hashing.hash_one(url);
        if self.known.insert(tag) {
            self.order.push_back(tag);
        }
        while self.order.len() > most.max(LEAST_GHOSTS) {
            if let Some(oldest) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
    }

    fn had(&self, url: &str) -> bool {
        self.known.contains(&self.hashing.hash_one(url))
    }
}
