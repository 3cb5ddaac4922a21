//! The thread that writes, removes and, at first, reads what is there.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    path::Path,
    sync::{
        Arc,
        atomic::Ordering::Relaxed,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use super::{
    ENDING, Order, Shared, UNFINISHED, file,
    index::{BOOKKEEPING, Filed},
    is_name, name,
};
use crate::cache::{Cache, Entry, Head, Key, vary::named};

/// A disk that could not be written to is left alone for so long.
const REST: Duration = Duration::from_secs(10);

/// What is being written is touched more often than this.
const UNTOUCHED: Duration = Duration::from_secs(60);

pub(super) struct Worker {
    shared: Arc<Shared>,
    cache: &'static Cache,
    /// When it may be tried again.
    resting: Option<Instant>,
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>, cache: &'static Cache) -> Self {
        Self { shared, cache, resting: None }
    }

    /// Until nobody sends orders any more.
    pub(super) fn run(mut self, orders: &Receiver<Order>) {
        self.scan();
        loop {
            match orders.recv_timeout(REST) {
                Ok(order) => {
                    self.carry_out(order);
                    self.shared.carried_out();
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.wake();
            if self.shared.untidy.swap(false, Relaxed) {
                self.tidy();
            }
        }
    }

    fn carry_out(&mut self, order: Order) {
        match order {
            Order::Write(key, entry, mark) => {
                if self.resting.is_some() {
                    self.shared.skipped.fetch_add(1, Relaxed);
                } else if let Err(error) = self.write(&key, &entry, mark) {
                    self.rest(&error);
                }
            }
            Order::Remove(names) => names.iter().for_each(|name| self.remove(name)),
            Order::Trim => self.make_room(0),
        }
    }

    fn remove(&self, name: &str) {
        // What is not there need not be removed, and what cannot be is found by the next start.
        let _ = fs::remove_file(self.shared.path(name));
    }

    fn make_room(&self, bytes: u64) {
        loop {
            let bound = self.shared.bound.load(Relaxed);
            let gone = {
                let mut index = self.shared.index.lock();
                if index.bytes.saturating_add(bytes) <= bound {
                    return;
                }
                index.evict()
            };
            let Some(gone) = gone else { return };
            self.remove(&gone);
        }
    }

    fn write(&self, key: &Key, entry: &Entry, mark: u64) -> io::Result<()> {
        let name = name(key, entry.head.variance.as_ref());
        let path = self.shared.path(&name);
        let unfinished = path.with_extension(&UNFINISHED[1..]);
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        // Before it is written, so that there is never more than the bound. Heads are small beside what they are estimated at.
        let estimate = entry.body.length() + 4 * entry.head.weight(key.url.len());
        if estimate > self.shared.bound.load(Relaxed) {
            return Ok(());
        }
        self.make_room(estimate);
        let written = file::write(&unfinished, key, entry).and_then(|size| fs::rename(&unfinished, &path).map(|()| size));
        let size = match written {
            Ok(size) => size,
            Err(error) => {
                let _ = fs::remove_file(&unfinished);
                return Err(error);
            }
        };
        if !self.enter(key, &entry.head, &name, size, mark) {
            self.remove(&name);
        }
        Ok(())
    }

    /// Enters a file in the index. False when it must go: it was purged meanwhile, it is not right any
    /// more, or there is no memory to know of it.
    fn enter(&self, key: &Key, head: &Head, name: &Arc<str>, size: u64, mark: u64) -> bool {
        let Some(held) = self.cache.reserve(BOOKKEEPING + 2 * key.length() as u64) else { return false };
        let mut index = self.shared.index.lock();
        if self.cache.purged_since(mark, &key.url) {
            return false;
        }
        let filed = Filed {
            route: key.route.clone(),
            spelling: key.spelling.clone(),
            variance: head.variance,
            varies_on: hash_of(&named(&head.fields)),
            created: head.created,
            size,
            name: name.clone(),
            _held: held,
            asked: false,
            id: 0,
        };
        let gone = index.put(key.url.clone(), filed);
        drop(index);
        gone.iter().filter(|gone| *gone != name).for_each(|gone| self.remove(gone));
        !gone.contains(name)
    }

    fn rest(&mut self, error: &io::Error) {
        if self.shared.works.swap(false, Relaxed) {
            log::warn!(
                "cache: {} cannot be written to: {error}; what is stored stays in memory only, until it can be",
                self.shared.root.display()
            );
        }
        self.resting = Some(Instant::now() + REST);
    }

    /// Sees whether the disk can be written to again, when it has rested.
    fn wake(&mut self) {
        if self.resting.is_none_or(|until| Instant::now() < until) {
            return;
        }
        let probe = self.shared.root.join("probe.unfinished");
        let works = fs::create_dir_all(&self.shared.root).and_then(|()| fs::write(&probe, [0; 4096]));
        let _ = fs::remove_file(&probe);
        match works {
            Ok(()) => {
                self.resting = None;
                self.shared.works.store(true, Relaxed);
                log::info!("cache: {} can be written to again", self.shared.root.display());
            }
            Err(_) => self.resting = Some(Instant::now() + REST),
        }
    }

    /// Learns what is there from the last time.
    fn scan(&mut self) {
        let mark = self.cache.mark();
        if let Err(error) = fs::create_dir_all(&self.shared.root) {
            self.rest(&error);
            return;
        }
        let (mut known, mut useless, mut strange) = (0_usize, 0_usize, 0_usize);
        each_file(&self.shared.root, |path, name| match () {
            () if is_name(name, UNFINISHED) => {
                if is_old(path) {
                    let _ = fs::remove_file(path);
                }
            }
            () if !is_name(name, ENDING) => strange += 1,
            () => match file::open(path) {
                Ok(opened) if self.take_in(&opened, name, mark) => known += 1,
                Ok(_) => {
                    let _ = fs::remove_file(path);
                }
                Err(_) => {
                    useless += 1;
                    let _ = fs::remove_file(path);
                }
            },
        });
        self.make_room(0);
        let root = self.shared.root.display();
        log::info!("cache: {known} responses are in {root}");
        if useless > 0 {
            log::warn!("cache: {useless} files in {root} were broken, and are removed");
        }
        if strange > 0 {
            log::warn!("cache: {strange} files in {root} are none of Weir's, and are left alone");
        }
    }

    /// False for a file that is not wanted: not in its place, gone from the bound, purged.
    fn take_in(&self, opened: &file::Opened, found: &str, mark: u64) -> bool {
        let name = name(&opened.key, opened.head.variance.as_ref());
        if *name != *found {
            return false;
        }
        let fits = self.shared.index.lock().bytes + opened.size <= self.shared.bound.load(Relaxed);
        fits && self.enter(&opened.key, &opened.head, &name, opened.size, mark)
    }

    /// Removes files that are in no index.
    fn tidy(&self) {
        let names = self.shared.index.lock().names();
        each_file(&self.shared.root, |path, name| {
            if is_name(name, ENDING) && !names.contains(name) {
                let _ = fs::remove_file(path);
            }
        });
    }
}

fn hash_of(names: &[String]) -> u64 {
    let mut hasher = DefaultHasher::new();
    names.hash(&mut hasher);
    hasher.finish()
}

/// Nobody is writing it any more: a process that takes over from another shares the directory for a while.
fn is_old(path: &Path) -> bool {
    let modified = fs::metadata(path).and_then(|found| found.modified());
    modified.ok().and_then(|modified| modified.elapsed().ok()).is_some_and(|age| age > UNTOUCHED)
}

/// Every file in the directories that are named by two hexadecimal digits. What cannot be read is passed over.
fn each_file(root: &Path, mut see: impl FnMut(&Path, &str)) {
    let directories = (0..=255_u8).map(|number| root.join(format!("{number:02x}")));
    for entries in directories.filter_map(|directory| fs::read_dir(directory).ok()) {
        for entry in entries.flatten() {
            if let Some(name) = entry.file_name().to_str() {
                see(&entry.path(), name);
            }
        }
    }
}
