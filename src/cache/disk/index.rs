//! Which responses are on the disk, and in which order they go: first in, first out, but what was asked for again gets a second
//! turn.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::SystemTime,
};

use smallvec::SmallVec;

use crate::{
    cache::{Key, Variance, shard::MOST_VARIANTS, store::Reserved},
    types::Name,
};

/// What the index takes in memory for one file, beside its URL.
pub(super) const BOOKKEEPING: u64 = 320;

/// One file.
#[derive(Debug)]
pub(super) struct Filed {
    pub(super) route: Name,
    pub(super) spelling: Option<Arc<str>>,
    pub(super) variance: Option<Variance>,
    /// A hash of the names in its `Vary`.
    pub(super) varies_on: u64,
    pub(super) created: SystemTime,
    /// Bytes of the file.
    pub(super) size: u64,
    /// Its name in the directory.
    pub(super) name: Arc<str>,
    /// The memory of this.
    pub(super) _held: Reserved,
    pub(super) asked: bool,
    pub(super) id: u64,
}

/// See above.
#[derive(Debug, Default)]
pub(super) struct Index {
    files: HashMap<Arc<str>, SmallVec<[Filed; 1]>>,
    order: VecDeque<(Arc<str>, u64)>,
    ids: u64,
    pub(super) bytes: u64,
    pub(super) count: usize,
}

impl Index {
    /// The file of this variant, or of the one that was stored first.
    pub(super) fn find(&mut self, key: &Key, variance: Option<&Variance>) -> Option<Arc<str>> {
        let own = |filed: &&mut Filed| filed.route == key.route && filed.spelling == key.spelling;
        let files = self.files.get_mut(&key.url)?.iter_mut().filter(own);
        let found = match variance {
            None => files.min_by_key(|filed| (filed.created, filed.id)),
            Some(variance) => files.into_iter().find(|filed| filed.variance.as_ref() == Some(variance)),
        }?;
        found.asked = true;
        Some(found.name.clone())
    }

    /// Enters a file, in the place of the one with its name. The order is that of the calls. The names of the files that are not
    /// right any more, by the rules that hold in memory, too; its own, when it is the one.
    pub(super) fn put(&mut self, url: Arc<str>, mut filed: Filed) -> Vec<Arc<str>> {
        let known = self.files.get(&url).map(|files| &files[..]).unwrap_or_default();
        let outdates = |one: &Filed, other: &Filed| {
            (&one.route, &one.spelling) == (&other.route, &other.spelling)
                && one.varies_on != other.varies_on
                && one.created >= other.created
        };
        if known.iter().any(|known| known.created > filed.created && outdates(known, &filed)) {
            return vec![filed.name];
        }
        self.forget(&url, |known| known.name == filed.name);
        let mut gone = self.forget(&url, |known| outdates(&filed, known));
        let left = self.files.get(&url).map(|files| &files[..]).unwrap_or_default();
        if left.len() >= MOST_VARIANTS
            && let Some(oldest) = left.iter().min_by_key(|known| (known.spelling.is_none(), known.id)).map(|known| known.id)
        {
            gone.extend(self.forget(&url, |known| known.id == oldest));
        }
        self.ids += 1;
        filed.id = self.ids;
        self.bytes += filed.size;
        self.count += 1;
        self.order.push_back((url.clone(), filed.id));
        self.files.entry(url).or_default().push(filed);
        if self.order.len() > 2 * self.count + 64 {
            let files = &self.files;
            self.order.retain(|(url, id)| files.get(url).is_some_and(|files| files.iter().any(|filed| filed.id == *id)));
        }
        gone
    }

    /// Takes the next one out that has to go.
    pub(super) fn evict(&mut self) -> Option<Arc<str>> {
        loop {
            let (url, id) = self.order.pop_front()?;
            let Some(filed) = self.files.get_mut(&url).and_then(|files| files.iter_mut().find(|filed| filed.id == id)) else {
                continue;
            };
            if std::mem::take(&mut filed.asked) {
                self.order.push_back((url, id));
                continue;
            }
            return self.forget(&url, |filed| filed.id == id).pop();
        }
    }

    /// Takes out what this holds for. The names of the files.
    pub(super) fn remove(&mut self, holds: impl Fn(&str) -> bool) -> Vec<Arc<str>> {
        let urls: Vec<Arc<str>> = self.files.keys().filter(|url| holds(url)).cloned().collect();
        urls.iter().flat_map(|url| self.forget(url, |_| true)).collect()
    }

    /// Takes one URL out.
    pub(super) fn remove_url(&mut self, url: &str) -> Vec<Arc<str>> {
        self.forget(url, |_| true)
    }

    /// Takes one file out that is not what it should be.
    pub(super) fn drop_file(&mut self, url: &str, name: &str) {
        self.forget(url, |filed| *filed.name == *name);
    }

    /// The names of all files.
    pub(super) fn names(&self) -> HashSet<Arc<str>> {
        self.files.values().flatten().map(|filed| filed.name.clone()).collect()
    }

    fn forget(&mut self, url: &str, goes: impl Fn(&Filed) -> bool) -> Vec<Arc<str>> {
        let Some(files) = self.files.get_mut(url) else { return Vec::new() };
        let mut gone = Vec::new();
        files.retain(|filed| {
            if !goes(filed) {
                return true;
            }
            self.bytes -= filed.size;
            self.count -= 1;
            gone.push(filed.name.clone());
            false
        });
        if files.is_empty() {
            self.files.remove(url);
        }
        gone
    }
}
