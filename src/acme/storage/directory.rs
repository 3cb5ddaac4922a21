//! A directory, of this machine or shared by several: one file for each value, mode 0600.
//!
//! A lock is a file that its holder writes again and again. Clocks of several machines need not agree: who waits sees that it has not changed
//! for a while. A holder of this machine whose process is gone is not waited for. Taking it from one that is dead needs a lock of the system for a moment, so that two who wait do not both take it.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Instant,
};

use async_trait::async_trait;
use nix::fcntl::{Flock, FlockArg};
use uuid::Uuid;

use super::{BEAT, LOOK, LOST, Lock, Marks, Shelf, Storage, StorageError};

/// Longer values are not ours: a chain with its key has some 10 KiB.
const LARGEST: u64 = 1 << 20;

/// Answers to authorities that are older than this were left behind by a process that died, in seconds.
const OLD_CHALLENGE: u64 = 24 * 3600;

/// A directory of our own.
#[derive(Debug, Clone)]
pub(crate) struct Directory(PathBuf);

impl Directory {
    /// The directory, which is made if it is not there.
    pub(crate) fn open(path: &Path) -> Result<Self, StorageError> {
        let failed = |path: &Path, error: &io::Error| {
            StorageError(format!("`{}` cannot be used: {}", path.display(), crate::types::unreadable(error)))
        };
        let shelves = Shelf::ALL.iter().map(|shelf| shelf.name()).chain(["locks"]);
        for directory in std::iter::once(path.to_owned()).chain(shelves.map(|name| path.join(name))) {
            DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(|error| failed(&directory, &error))?;
        }
        // A directory that is there and belongs to somebody else is found out now, and not at the first order.
        let probe = path.join("locks").join(format!(".{}", Uuid::new_v4()));
        write_new(&probe, b"").and_then(|()| fs::remove_file(&probe)).map_err(|error| failed(path, &error))?;
        let directory = Self(path.to_owned());
        directory.sweep();
        Ok(directory)
    }

    fn shelf(&self, shelf: Shelf) -> PathBuf {
        self.0.join(shelf.name())
    }

    /// Removes what processes that died have left behind.
    fn sweep(&self) {
        let old = |path: &Path| {
            let age = fs::metadata(path).and_then(|found| found.modified()).ok().and_then(|at| at.elapsed().ok());
            age.is_some_and(|age| age.as_secs() > OLD_CHALLENGE)
        };
        for shelf in Shelf::ALL {
            let Ok(entries) = fs::read_dir(self.shelf(shelf)) else { continue };
            for path in entries.flatten().map(|entry| entry.path()) {
                let unfinished = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
                if (unfinished || shelf == Shelf::Challenges) && old(&path) {
                    let _ = fs::remove_file(path);
                }
            }
        }
    }

    /// Runs something with the file system, off the threads that serve requests.
    async fn blocking<T: Send + 'static>(
        &self,
        path: PathBuf,
        work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T, StorageError> {
        let shown = path.display().to_string();
        let done = tokio::task::spawn_blocking(move || work(&path)).await.map_err(io::Error::other);
        done.and_then(|done| done).map_err(|error| StorageError(format!("`{shown}`: {}", crate::types::unreadable(&error))))
    }
}

#[async_trait]
impl Storage for Directory {
    async fn read(&self, shelf: Shelf, name: &str) -> Result<Option<Vec<u8>>, StorageError> {
        self.blocking(self.shelf(shelf).join(file_name(name)), read).await
    }

    async fn write(&self, shelf: Shelf, name: &str, value: Vec<u8>) -> Result<(), StorageError> {
        self.blocking(self.shelf(shelf).join(file_name(name)), move |path| write(path, &value)).await
    }

    async fn remove(&self, shelf: Shelf, name: &str) -> Result<(), StorageError> {
        self.blocking(self.shelf(shelf).join(file_name(name)), remove).await
    }

    async fn list(&self, shelf: Shelf) -> Result<Marks, StorageError> {
        let list = |path: &Path| {
            let mut marks = Marks::new();
            for entry in fs::read_dir(path)? {
                let entry = entry?;
                let Some(name) = entry.file_name().to_str().and_then(named) else { continue };
                // One that has just been removed.
                let Ok(found) = entry.metadata() else { continue };
                // A file that was replaced is another one.
                let changed = found.mtime() as u64 ^ (found.mtime_nsec() as u64) << 32 ^ found.ino() ^ found.len() << 20;
                marks.insert(name, changed);
            }
            Ok(marks)
        };
        self.blocking(self.shelf(shelf), list).await
    }

    async fn lock(&self, name: &str) -> Result<Lock, StorageError> {
        let me = Holder::new();
        let path = self.0.join("locks").join(file_name(name));
        let mut seen: Option<(String, Instant)> = None;
        loop {
            let dead = seen.as_ref().filter(|(_, since)| since.elapsed() >= LOST).map(|(holder, _)| holder.clone());
            let holder = self
                .blocking(path.clone(), {
                    let me = me.clone();
                    move |path| take(path, &me, dead.as_deref())
                })
                .await?;
            let Some(holder) = holder else { break };
            if seen.as_ref().is_none_or(|(known, _)| *known != holder) {
                seen = Some((holder, Instant::now()));
            }
            tokio::time::sleep(LOOK).await;
        }
        let (this, at, holder) = (self.clone(), path.clone(), me.clone());
        let beat = async move {
            for count in 1_u64.. {
                tokio::time::sleep(BEAT).await;
                let holder = holder.clone();
                // One that fails is made up for by the next.
                let _ = this.blocking(at.clone(), move |path| beat(path, &holder, count)).await;
            }
        };
        let release = move || {
            let release = move || drop(release(&path, &me));
            match tokio::runtime::Handle::try_current() {
                Ok(runtime) => drop(runtime.spawn_blocking(release)),
                Err(_) => release(),
            }
        };
        Ok(Lock::held(beat, release))
    }
}

/// The file of a name: `*` and `:` are no characters for files everywhere, and a dot in front is for files that are being written.
fn file_name(name: &str) -> String {
    let name = name.replace('*', "_").replace(':', "+");
    format!("{name}.json")
}

/// The name of a file.
fn named(file: &str) -> Option<String> {
    let name = file.strip_suffix(".json").filter(|name| !name.starts_with('.'))?.replace('+', ":");
    // A label that is `_` alone stands for any.
    Some(name.strip_prefix("_.").map_or(name.clone(), |rest| format!("*.{rest}")))
}

fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        // Somebody has copied it here: the key in it is for nobody else.
        let _ = file.set_permissions(fs::Permissions::from_mode(0o600));
    }
    let mut value = Vec::new();
    file.take(LARGEST).read_to_end(&mut value)?;
    Ok(Some(value))
}

fn write_new(path: &Path, value: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(value)?;
    file.sync_all()
}

/// Writes a file beside and puts it in place, so that there is the old value or the new one whenever the process or the machine dies.
fn write(path: &Path, value: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let beside = directory.join(format!(".{}", Uuid::new_v4()));
    let written = write_new(&beside, value).and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written?;
    File::open(directory)?.sync_all()
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The lock of the system around what takes, keeps and releases locks.
fn guarded<T>(path: &Path, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let guard = path.with_file_name(".guard");
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(guard)?;
    let _guard = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| io::Error::from(error))?;
    work()
}

/// Who holds a lock: a random name, and the process where it can be looked for.
#[derive(Debug, Clone)]
struct Holder(String);

impl Holder {
    fn new() -> Self {
        let process = std::process::id();
        let (place, began) = (place().unwrap_or_default(), began(process).unwrap_or_default());
        Self(format!("{} {process} {began} {place}", Uuid::new_v4()))
    }

    /// Is this one of this machine whose process is gone? Numbers of processes are used again, and so their beginning is looked at, too.
    fn is_gone(text: &str) -> bool {
        let mut words = text.split(' ').skip(1);
        let (Some(process), Some(started), Some(at)) = (words.next(), words.next(), words.next()) else { return false };
        let Ok(process) = process.parse() else { return false };
        !at.is_empty() && place().as_deref() == Some(at) && began(process).is_none_or(|began| began != started)
    }
}

/// This machine since its start, and the processes that can be seen here: containers see their own.
fn place() -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let processes = fs::metadata("/proc/self/ns/pid").ok()?.ino();
    Some(format!("{}/{processes}", boot.trim()))
}

/// When a process began, in ticks since the start of the machine: `proc_pid_stat(5)`.
fn began(process: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name, in brackets, may have spaces and brackets in it.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19).map(str::to_owned)
}

fn holder(path: &Path) -> io::Result<Option<String>> {
    Ok(read(path)?.map(|value| String::from_utf8_lossy(&value).into_owned()))
}

/// Takes a lock that is free or whose holder is the `dead` one. Who holds it otherwise.
fn take(path: &Path, me: &Holder, dead: Option<&str>) -> io::Result<Option<String>> {
    guarded(path, || match holder(path)? {
        Some(holder) if Some(&*holder) != dead && !Holder::is_gone(&holder) => Ok(Some(holder)),
        _ => write(path, format!("{} 0", me.0).as_bytes()).map(|()| None),
    })
}

fn is_mine(path: &Path, me: &Holder) -> io::Result<bool> {
    Ok(holder(path)?.is_some_and(|holder| holder.starts_with(&me.0)))
}

fn beat(path: &Path, me: &Holder, count: u64) -> io::Result<()> {
    guarded(path, || if is_mine(path, me)? { write(path, format!("{} {count}", me.0).as_bytes()) } else { Ok(()) })
}

fn release(path: &Path, me: &Holder) -> io::Result<()> {
    guarded(path, || if is_mine(path, me)? { remove(path) } else { Ok(()) })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_value_is_there_whole_and_for_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let storage = Directory::open(directory.path()).unwrap();
        for name in ["a.test", "*.a.test", "2001:db8::1", "a_b-c"] {
            assert_eq!(storage.read(Shelf::Orders, name).await, Ok(None));
            storage.write(Shelf::Orders, name, b"one".to_vec()).await.unwrap();
            let before = storage.list(Shelf::Orders).await.unwrap();
            storage.write(Shelf::Orders, name, b"two".to_vec()).await.unwrap();
            assert_eq!(storage.read(Shelf::Orders, name).await, Ok(Some(b"two".to_vec())));
            let after = storage.list(Shelf::Orders).await.unwrap();
            assert_eq!((before.len(), after.len()), (1, 1), "{after:?}");
            assert_ne!(before[name], after[name], "another mark");
            storage.remove(Shelf::Orders, name).await.unwrap();
            storage.remove(Shelf::Orders, name).await.unwrap();
            assert!(storage.list(Shelf::Orders).await.unwrap().is_empty());
        }
        let mode = fs::metadata(directory.path().join("orders")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        let file = Directory::open(Path::new("/proc/nowhere")).unwrap_err().to_string();
        assert!(file.contains("/proc/nowhere"), "{file}");
    }

    #[tokio::test]
    async fn a_lock_is_held_by_one_and_passed_on() {
        let directory = tempfile::tempdir().unwrap();
        let (one, two) = (Directory::open(directory.path()).unwrap(), Directory::open(directory.path()).unwrap());
        let held = one.lock("a.test").await.unwrap();
        tokio::time::timeout(Duration::from_millis(600), two.lock("a.test")).await.err().expect("it is held");
        two.lock("b.test").await.unwrap();
        drop(held);
        two.lock("a.test").await.unwrap();
    }

    #[tokio::test]
    async fn who_is_gone_from_this_machine_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let storage = Directory::open(directory.path()).unwrap();
        let path = directory.path().join("locks/a.test.json");
        // The number of this process, which another one had before.
        let text = format!("{} {} 1 {} 5", Uuid::new_v4(), std::process::id(), place().unwrap());
        write(&path, text.as_bytes()).unwrap();
        let began = Instant::now();
        drop(storage.lock("a.test").await.unwrap());
        assert!(began.elapsed() < LOST / 2);
        // Of another machine nothing is known but whether it writes.
        assert!(!Holder::is_gone("x 1 1 elsewhere/1 5") && !Holder::is_gone("x") && !Holder::is_gone(&Holder::new().0));
    }
}
