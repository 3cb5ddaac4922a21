//! The part of the cache that is on a disk: what was stored survives a restart, and there may be more of it than memory.
//!
//! Everything passes through memory. What is stored there is handed to one thread that writes it; what is not found there and is
//! here is read by a thread of the runtime that may wait, and is in memory from then on. No worker ever waits for the disk, and no
//! request fails by it: a disk that is full or broken is left alone for a while, and said to be.

mod file;
mod index;
mod worker;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        mpsc::{SyncSender, sync_channel},
    },
    time::Duration,
};

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use self::index::Index;
use super::{Cache, DiskSettings, Entry, Head, Key, Variance};
use crate::types::hex;

/// Responses that wait to be written. More would only hold memory while the disk is busy: what does not fit is not written.
const QUEUE: usize = 256;

/// What the thread is told.
enum Order {
    /// Write it, unless its URL was purged since that mark.
    Write(Key, Arc<Entry>, u64),
    /// These files are not wanted any more.
    Remove(Vec<Arc<str>>),
    /// The bound has changed.
    Trim,
}

/// See above.
#[derive(Debug)]
pub(super) struct Disk {
    shared: Arc<Shared>,
    orders: SyncSender<Order>,
}

/// What the thread and its askers share.
#[derive(Debug)]
struct Shared {
    root: PathBuf,
    bound: AtomicU64,
    index: Mutex<Index>,
    /// It can be written to, as far as is known.
    works: AtomicBool,
    /// There are files that nobody could be told to remove.
    untidy: AtomicBool,
    /// Responses that were not written since the disk was busy or broken.
    skipped: AtomicU64,
    /// Orders that are not carried out yet.
    ordered: Mutex<usize>,
    /// The last one was.
    done: Condvar,
}

/// What the disk holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnDisk {
    /// Responses.
    pub entries: usize,
    /// Bytes of their files.
    pub bytes: u64,
    /// The bound of those.
    pub bound: u64,
    /// It can be written to.
    pub works: bool,
    /// Responses that were not written, since it was busy or could not be written to.
    pub skipped: u64,
}

impl Disk {
    /// Begins to read what is there, in a thread of its own.
    pub(super) fn open(settings: &DiskSettings, cache: &'static Cache) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            root: settings.path.clone(),
            bound: AtomicU64::new(settings.max),
            index: Mutex::default(),
            works: AtomicBool::new(true),
            untidy: AtomicBool::new(false),
            skipped: AtomicU64::new(0),
            ordered: Mutex::new(0),
            done: Condvar::new(),
        });
        let (orders, taken) = sync_channel(QUEUE);
        let worker = worker::Worker::new(shared.clone(), cache);
        // It ends when nobody can send it orders any more.
        std::thread::Builder::new().name("weir-cache-disk".to_owned()).spawn(move || worker.run(&taken))?;
        Ok(Self { shared, orders })
    }

    /// Is it this one, but for its bound?
    pub(super) fn is_at(&self, path: &Path) -> bool {
        self.shared.root == path
    }

    pub(super) fn set_bound(&self, bound: u64) {
        if self.shared.bound.swap(bound, Relaxed) > bound {
            self.order(Order::Trim);
        }
    }

    /// False when the queue is full.
    fn order(&self, order: Order) -> bool {
        *self.shared.ordered.lock() += 1;
        let sent = self.orders.try_send(order).is_ok();
        if !sent {
            self.shared.carried_out();
        }
        sent
    }

    /// Waits until all that was ordered is done, at most so long. What is left.
    pub(super) fn flush(&self, patience: Duration) -> usize {
        let mut ordered = self.shared.ordered.lock();
        self.shared.done.wait_while_for(&mut ordered, |ordered| *ordered > 0, patience);
        *ordered
    }

    /// Has it written, when there is time.
    pub(super) fn write(&self, key: &Key, entry: &Arc<Entry>, mark: u64) {
        if !self.shared.works.load(Relaxed) || !self.order(Order::Write(key.clone(), entry.clone(), mark)) {
            self.shared.skipped.fetch_add(1, Relaxed);
        }
    }

    /// The file that has it, if one does.
    pub(super) fn find(&self, key: &Key, variance: Option<&Variance>) -> Option<Arc<str>> {
        self.shared.index.lock().find(key, variance)
    }

    /// Reads a file: its head and its body in pieces, with what the body takes reserved by the caller's `reserve` before it is read.
    /// `None` when there is no room or the file is not what it should be. Waits for the disk.
    pub(super) fn read<R>(&self, key: &Key, name: &str, reserve: impl FnOnce(u64) -> Option<R>) -> Option<(Head, Vec<Bytes>, R)> {
        let opened = match file::open(&self.shared.path(name)) {
            Ok(opened) if opened.key == *key => opened,
            _ => {
                self.shared.index.lock().drop_file(&key.url, name);
                return None;
            }
        };
        let reserved = reserve(opened.length())?;
        match opened.body() {
            Ok((head, pieces)) => Some((head, pieces, reserved)),
            Err(error) => {
                log::warn!("cache: {} cannot be used: {error}", self.shared.path(name).display());
                self.shared.index.lock().drop_file(&key.url, name);
                self.remove(vec![name.into()]);
                None
            }
        }
    }

    /// Removes what this holds for. The number of responses.
    pub(super) fn purge(&self, holds: impl Fn(&str) -> bool) -> usize {
        let gone = self.shared.index.lock().remove(holds);
        self.remove(gone)
    }

    /// Removes one URL. The number of responses.
    pub(super) fn purge_url(&self, url: &str) -> usize {
        let gone = self.shared.index.lock().remove_url(url);
        self.remove(gone)
    }

    fn remove(&self, names: Vec<Arc<str>>) -> usize {
        let count = names.len();
        if count > 0 && !self.order(Order::Remove(names)) {
            // They are not in the index, so nobody is served by them. The thread looks for such files when it can.
            self.shared.untidy.store(true, Relaxed);
        }
        count
    }

    pub(super) fn holdings(&self) -> OnDisk {
        let index = self.shared.index.lock();
        OnDisk {
            entries: index.count,
            bytes: index.bytes,
            bound: self.shared.bound.load(Relaxed),
            works: self.shared.works.load(Relaxed),
            skipped: self.shared.skipped.load(Relaxed),
        }
    }
}

impl Shared {
    fn path(&self, name: &str) -> PathBuf {
        self.root.join(&name[..2]).join(name)
    }

    /// One order less.
    fn carried_out(&self) {
        let mut ordered = self.ordered.lock();
        *ordered -= 1;
        if *ordered == 0 {
            self.done.notify_all();
        }
    }
}

/// The ending of our files.
const ENDING: &str = ".response";
/// The ending of a file that is being written.
const UNFINISHED: &str = ".unfinished";
/// The digits before it.
const DIGITS: usize = 32;

/// The name of the file: one for each key and variant, so that what is stored anew takes the place of the old.
fn name(key: &Key, variance: Option<&Variance>) -> Arc<str> {
    let mut text = key.text().into_bytes();
    text.push(b'\n');
    text.extend(variance.into_iter().flatten());
    let digest = digest(&SHA256, &text);
    (hex(&digest.as_ref()[..DIGITS / 2]) + ENDING).into()
}

/// Is it a name of ours?
fn is_name(name: &str, ending: &str) -> bool {
    let digits = name.strip_suffix(ending);
    digits.is_some_and(|digits| digits.len() == DIGITS && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')))
}

#[cfg(test)]
mod tests;
