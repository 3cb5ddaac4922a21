//! The store: the index in shards, the account of its bytes, purging.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use parking_lot::{Mutex, RwLock};

use super::{
    Body, CacheSettings, DiskSettings, Entry, Fill, GaveUp, Head, Key, OnDisk, Variance,
    disk::Disk,
    purges::{Purged, Purges},
    shard::{Judged, Shard, Which},
    spec::LARGEST,
    turns::Turns,
};

/// Parts of the index, so that threads seldom wait for each other.
const SHARDS: usize = 64;

/// Reads from the disk at a time. More would not make it faster.
const READERS: usize = 16;

/// So many entries go at most for one piece of a body. What still does not fit is held by clients that read slowly, and driving out
/// the rest would not help.
const MOST_EVICTED: usize = 4096;

/// The responses that are kept, in memory. One for each process, made when the first configuration asks for it.
#[derive(Debug)]
pub struct Cache {
    shards: [RwLock<Shard>; SHARDS],
    hashing: RandomState,
    account: Arc<Account>,
    turns: Mutex<Turns>,
    ids: AtomicU64,
    purges: Purges,
    counts: Counts,
    disk: ArcSwapOption<Disk>,
    /// Taken while something is read from the disk, by URL.
    reading: [Mutex<()>; READERS],
}

/// Bytes, of what there is and of what there may be.
#[derive(Debug)]
struct Account {
    used: AtomicU64,
    bound: AtomicU64,
}

/// What happened in the store.
#[derive(Debug, Default)]
pub struct Counts {
    /// Responses that were stored.
    pub stored: AtomicU64,
    /// Entries that went to make room.
    pub evicted: AtomicU64,
    /// Entries that were purged.
    pub purged: AtomicU64,
}

/// What the store holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holdings {
    /// Responses.
    pub entries: usize,
    /// Bytes of memory, those of responses being received included.
    pub bytes: u64,
    /// The bound of those.
    pub bound: u64,
    /// What is on the disk, if there is one.
    pub disk: Option<OnDisk>,
}

/// Bytes that are accounted for, until it is dropped.
#[derive(Debug)]
pub(super) struct Reserved {
    account: Arc<Account>,
    bytes: u64,
}

impl Reserved {
    /// Gives back what is more than this.
    pub(super) fn shrunk(mut self, bytes: u64) -> Self {
        let surplus = self.bytes.saturating_sub(bytes);
        self.account.used.fetch_sub(surplus, Relaxed);
        self.bytes -= surplus;
        self
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.account.used.fetch_sub(self.bytes, Relaxed);
    }
}

impl Cache {
    /// An empty one, for as long as the process lives: Pingora works on nothing less.
    pub fn leak(settings: &CacheSettings) -> &'static Self {
        let cache = Box::leak(Box::new(Self {
            shards: std::array::from_fn(|_| RwLock::default()),
            hashing: RandomState::new(),
            account: Arc::new(Account { used: AtomicU64::new(0), bound: AtomicU64::new(settings.memory) }),
            turns: Mutex::default(),
            ids: AtomicU64::new(0),
            purges: Purges::default(),
            counts: Counts::default(),
            disk: ArcSwapOption::empty(),
            reading: std::array::from_fn(|_| Mutex::default()),
        }));
        cache.configure(settings);
        cache
    }

    /// Changes its bounds. What does not fit any more goes.
    pub fn configure(&'static self, settings: &CacheSettings) {
        self.account.bound.store(settings.memory, Relaxed);
        while self.account.used.load(Relaxed) > settings.memory && self.evict() {}
        self.configure_disk(settings.disk.as_ref());
    }

    /// Nobody wants it any more: memory is given back. What is on the disk stays there, for those who come back to it.
    pub fn close(&self) {
        self.disk.store(None);
        self.purge_all();
    }

    fn configure_disk(&'static self, settings: Option<&DiskSettings>) {
        let Some(settings) = settings else {
            self.disk.store(None);
            return;
        };
        if let Some(disk) = self.disk.load().as_ref().filter(|disk| disk.is_at(&settings.path)) {
            disk.set_bound(settings.max);
            return;
        }
        match Disk::open(settings, self) {
            Ok(disk) => self.disk.store(Some(Arc::new(disk))),
            Err(error) => log::warn!("cache: there is no thread for the disk: {error}; what is stored stays in memory only"),
        }
    }

    /// Waits for the disk to have what was stored, at most so long.
    pub fn flush(&self, patience: Duration) {
        let left = self.disk.load_full().map_or(0, |disk| disk.flush(patience));
        if left > 0 {
            log::warn!("cache: the disk was too slow: {left} orders were not carried out in {patience:?}");
        }
    }

    /// The disk, if there is one.
    #[cfg(test)]
    pub(super) fn disk(&self) -> Option<Arc<Disk>> {
        self.disk.load_full()
    }

    /// Is it on the disk, and has to be read with [`Self::load`]? A look into an index.
    pub fn is_on_disk(&self, key: &Key, variance: Option<&Variance>) -> bool {
        self.disk.load().as_ref().is_some_and(|disk| disk.find(key, variance).is_some())
    }

    /// Takes it from the disk into memory. Waits for the disk.
    pub fn load(&'static self, key: &Key, variance: Option<&Variance>) -> Option<Arc<Entry>> {
        let began = self.mark();
        let disk = self.disk.load_full()?;
        // Of many that want the same, one reads it; those behind it find it in memory.
        let _turn = self.reading[self.hashing.hash_one(&*key.url) as usize % READERS].lock();
        if let Some(entry) = self.get(key, variance) {
            return Some(entry);
        }
        let name = disk.find(key, variance)?;
        let largest = self.account.bound.load(Relaxed) / LARGEST;
        let (head, pieces, held) = disk.read(key, &name, |length| self.reserve(length).filter(|_| length <= largest))?;
        let variance = head.variance;
        self.enter(key, head, Body::new(pieces, held).into(), began).ok()?;
        self.shard(&key.url).read().get(key, variance.as_ref().map_or(Which::First, Which::Exactly))
    }

    /// Accounts for so many bytes.
    pub(super) fn reserve(&self, bytes: u64) -> Option<Reserved> {
        let mut held = self.nothing();
        self.grow(&mut held, bytes).then_some(held)
    }

    pub(super) fn purged_since(&self, mark: u64, url: &str) -> bool {
        self.purges.since(mark, url)
    }

    /// The stored response of this key: the one of this variant, or the one stored first.
    pub fn get(&self, key: &Key, variance: Option<&Variance>) -> Option<Arc<Entry>> {
        self.shard(&key.url).read().get(key, variance.map_or(Which::First, Which::Exactly))
    }

    /// Begins to receive a response with this head and a body of at most this many bytes.
    pub fn fill(&'static self, key: Key, head: Head, bound: u64, began: u64) -> Fill {
        let bound = bound.min(self.account.bound.load(Relaxed) / LARGEST);
        Fill::new(self, key, head, bound, began)
    }

    /// A mark for [`Self::fill`]: what is purged from now on must not come back by what is fetched from now on.
    pub fn mark(&self) -> u64 {
        self.purges.count()
    }

    /// Puts a new head before the body of an entry, after the origin has said that the body is still right. False when that entry is
    /// gone.
    pub fn renew(&self, key: &Key, mut head: Head) -> bool {
        let shard = self.shard(&key.url);
        let which = head.variance;
        let Some(old) = shard.read().get(key, which.as_ref().map_or(Which::First, Which::Exactly)) else {
            return false;
        };
        if old.head.variance != head.variance {
            return false;
        }
        head.created = old.head.created;
        self.keep(key, head, old.body.clone(), self.mark()).is_ok()
    }

    /// Makes an entry of a head and a body that is paid for, here and on the disk.
    pub(super) fn keep(&self, key: &Key, head: Head, body: Arc<Body>, began: u64) -> Result<(), GaveUp> {
        let entry = self.enter(key, head, body, began)?;
        self.counts.stored.fetch_add(1, Relaxed);
        if let Some(disk) = &*self.disk.load() {
            disk.write(key, &entry, began);
        }
        Ok(())
    }

    fn enter(&self, key: &Key, head: Head, body: Arc<Body>, began: u64) -> Result<Arc<Entry>, GaveUp> {
        let head = head.compact();
        let weight = head.weight(key.length());
        let mut held = self.nothing();
        if !self.grow(&mut held, weight) {
            return Err(GaveUp::NoRoom);
        }
        let weight = weight + body.length();
        let entry = Arc::new(Entry { head, body, _held: held });
        let mut shard = self.shard(&key.url).write();
        if self.purges.since(began, &key.url) {
            return Err(GaveUp::Purged);
        }
        let id = self.ids.fetch_add(1, Relaxed);
        let gone = shard.put(key, id, entry.clone());
        drop(shard);
        self.queue(&key.url, id, weight);
        // Freeing a large body takes time, which nobody needs to wait for under the lock.
        drop(gone);
        Ok(entry)
    }

    /// Removes everything.
    pub fn purge_all(&self) -> usize {
        self.purge(Purged::All)
    }

    /// Removes all answers to this URL.
    pub fn purge_url(&self, url: &str) -> usize {
        // First the mark, then the entries: what comes in between is not kept.
        self.purges.add_url(url);
        let gone = self.shard(url).write().remove(url).len();
        let on_disk = self.disk.load().as_ref().map_or(0, |disk| disk.purge_url(url));
        self.purged(gone, on_disk)
    }

    /// Removes all answers to URLs that begin so.
    pub fn purge_prefix(&self, prefix: &str) -> usize {
        self.purge(Purged::Prefix(prefix.into()))
    }

    fn purge(&self, purged: Purged) -> usize {
        self.purges.add(purged.clone());
        let gone = self.shards.iter().map(|shard| shard.write().remove_if(|url| purged.holds(url)).len()).sum();
        let on_disk = self.disk.load().as_ref().map_or(0, |disk| disk.purge(|url| purged.holds(url)));
        self.purged(gone, on_disk)
    }

    /// Most of what is in memory is on the disk, too, and counts once.
    fn purged(&self, in_memory: usize, on_disk: usize) -> usize {
        let count = in_memory.max(on_disk);
        self.counts.purged.fetch_add(count as u64, Relaxed);
        count
    }

    /// What it holds now.
    pub fn holdings(&self) -> Holdings {
        Holdings {
            entries: self.shards.iter().map(|shard| shard.read().count()).sum(),
            bytes: self.account.used.load(Relaxed),
            bound: self.account.bound.load(Relaxed),
            disk: self.disk.load().as_ref().map(|disk| disk.holdings()),
        }
    }

    /// What happened in it.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    fn shard(&self, url: &str) -> &RwLock<Shard> {
        &self.shards[self.hashing.hash_one(url) as usize % SHARDS]
    }

    pub(super) fn nothing(&self) -> Reserved {
        Reserved { account: self.account.clone(), bytes: 0 }
    }

    /// Accounts for more bytes, for which entries may have to go. False when there is no room for them.
    pub(super) fn grow(&self, held: &mut Reserved, bytes: u64) -> bool {
        for _ in 0..MOST_EVICTED {
            let bound = self.account.bound.load(Relaxed);
            let taken = self.account.used.fetch_update(Relaxed, Relaxed, |used| {
                let after = used.checked_add(bytes)?;
                (after <= bound).then_some(after)
            });
            if taken.is_ok() {
                held.bytes += bytes;
                return true;
            }
            if !self.evict() {
                return false;
            }
        }
        false
    }

    /// Removes the entry that the future will miss least. False when there is none.
    fn evict(&self) -> bool {
        let mut turns = self.turns.lock();
        while let Some(place) = turns.next() {
            let judged = self.shard(&place.url).write().judge(&place.url, place.id, place.new);
            match judged {
                Judged::Gone => {}
                Judged::Stays => turns.stays(place),
                Judged::Goes(entry) => {
                    turns.went(&place);
                    drop(turns);
                    drop(entry);
                    self.counts.evicted.fetch_add(1, Relaxed);
                    return true;
                }
            }
        }
        false
    }

    /// Gives an entry its turn, and forgets the turns of what is gone before they are more than those of what is there.
    fn queue(&self, url: &Arc<str>, id: u64, weight: u64) {
        let mut turns = self.turns.lock();
        turns.add(url.clone(), id, weight);
        // Counted seldom: it takes all shards.
        if turns.len().is_power_of_two() && turns.len() > SHARDS {
            let count: usize = self.shards.iter().map(|shard| shard.read().count()).sum();
            if turns.len() > 2 * count {
                turns.sweep(|place| self.shard(&place.url).read().has(&place.url, place.id));
            }
        }
    }
}

#[cfg(test)]
mod tests;
