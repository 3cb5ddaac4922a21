//! The one thread that writes: it takes lines off the queue, joins them, and outlives every trouble of the sink.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{self, ErrorKind, Write},
    os::{fd::AsFd, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
        mpsc::{Receiver, SyncSender},
    },
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
};

/// Bytes joined into one write: enough to make the system call cheap, small enough to appear promptly.
const BATCH: usize = 64 * 1024;
/// How long lines gather behind a write before the next one. Without this pause each line of a busy edge would wake the writer, which
/// costs more than the line.
const PAUSE: Duration = Duration::from_millis(10);
/// How often, and how long apart, a sink that would block (a pipe set so by someone else) is tried again for one batch.
const WOULD_BLOCK: (u32, Duration) = (100, Duration::from_millis(10));

/// After an overflow, how long there must be none before the next one is worth a warning again.
const CALM: Duration = Duration::from_secs(60);

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sink {
    Stdout,
    Stderr,
    File(PathBuf),
}

impl Sink {
    /// Opens it for appending. A file is made when it is missing, readable by its owner and group: lines hold addresses.
    /// Opening a named pipe waits for its reader, for which neither the start nor the writer has the time: without one
    /// it is an error. Writing to it may wait again.
    pub(super) fn open(&self) -> io::Result<File> {
        match self {
            Sink::Stdout => Ok(io::stdout().as_fd().try_clone_to_owned()?.into()),
            Sink::Stderr => Ok(io::stderr().as_fd().try_clone_to_owned()?.into()),
            Sink::File(path) => open(path).map_err(|error| match error.raw_os_error() {
                Some(unread) if unread == Errno::ENXIO as i32 => io::Error::new(error.kind(), "nobody reads this pipe"),
                _ => error,
            }),
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().append(true).create(true).mode(0o640).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    let flags = OFlag::from_bits_retain(fcntl(&file, FcntlArg::F_GETFL)?);
    fcntl(&file, FcntlArg::F_SETFL(flags - OFlag::O_NONBLOCK))?;
    Ok(file)
}

/// What the queue holds.
pub(super) enum Entry {
    Line(Vec<u8>),
    /// Look at `Shared::reopen`.
    Wake,
    /// Everything before this is to be written, and then told.
    Flush(SyncSender<()>),
}

/// What the requests' side and the writer share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) dropped: Arc<AtomicU64>,
    pub(super) queued_bytes: AtomicUsize,
    pub(super) reopen: AtomicBool,
    /// A line was dropped because the queue was full.
    pub(super) overflowed: AtomicBool,
}

pub(super) struct Writer {
    pub(super) sink: Sink,
    pub(super) output: Box<dyn Write + Send>,
    pub(super) shared: Arc<Shared>,
    batch: Vec<u8>,
    lines: u64,
    failing: bool,
    torn: bool,
    overflowed: Option<Instant>,
}

impl Writer {
    pub(super) fn new(sink: Sink, output: Box<dyn Write + Send>, shared: Arc<Shared>) -> Self {
        Self { sink, output, shared, batch: Vec::with_capacity(BATCH), lines: 0, failing: false, torn: false, overflowed: None }
    }

    /// Writes until the queue is closed and empty.
    pub(super) fn run(mut self, queue: &Receiver<Entry>) {
        while let Ok(first) = queue.recv() {
            let mut flushed = Vec::new();
            let mut next = Some(first);
            while let Some(entry) = next {
                match entry {
                    Entry::Line(line) => self.take(&line),
                    Entry::Wake => {}
                    Entry::Flush(done) => flushed.push(done),
                }
                next = if self.batch.len() < BATCH { queue.try_recv().ok() } else { None };
            }
            if self.shared.reopen.swap(false, Relaxed) {
                self.reopen();
            }
            let full = self.batch.len() >= BATCH;
            self.write_batch();
            self.note_overflow();
            for done in flushed {
                let _ = done.try_send(());
            }
            if !full {
                thread::sleep(PAUSE);
            }
        }
    }

    fn take(&mut self, line: &[u8]) {
        self.shared.queued_bytes.fetch_sub(line.len(), Relaxed);
        self.batch.extend_from_slice(line);
        self.lines += 1;
    }

    fn write_batch(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        // A write that broke off inside a line leaves half of it behind: end that before the next one.
        let mut result = if self.torn { write_all(&mut *self.output, b"\n").1 } else { Ok(()) };
        if result.is_ok() {
            let (written, outcome) = write_all(&mut *self.output, &self.batch);
            self.torn = written > 0 && self.batch[written - 1] != b'\n';
            let lost = self.batch[written..].iter().filter(|byte| **byte == b'\n').count();
            self.shared.dropped.fetch_add(lost as u64, Relaxed);
            result = outcome;
        } else {
            self.shared.dropped.fetch_add(self.lines, Relaxed);
        }
        self.batch.clear();
        self.lines = 0;
        self.changed_to(result.err());
    }

    /// Says once that writing fails, and once that it works again.
    fn changed_to(&mut self, error: Option<io::Error>) {
        let failed = error.is_some();
        match error {
            Some(error) if !self.failing => log::warn!("access log: cannot write to {}, lines are lost: {error}", self.sink),
            None if self.failing => log::warn!("access log: writing to {} works again", self.sink),
            _ => {}
        }
        self.failing = failed;
    }

    /// Says once that the sink is slower than the requests, and says it again only after a calm time.
    fn note_overflow(&mut self) {
        if self.shared.overflowed.swap(false, Relaxed) {
            if self.overflowed.is_none_or(|last| last.elapsed() > CALM) {
                log::warn!("access log: {} is too slow, lines are dropped and counted", self.sink);
            }
            self.overflowed = Some(Instant::now());
        }
    }

    /// Lets go of a file that was moved away. When its path cannot be opened, the old file is better than none.
    fn reopen(&mut self) {
        match self.sink.open() {
            Ok(file) => {
                self.output = Box::new(file);
                self.torn = false;
                log::info!("access log: reopened {}", self.sink);
            }
            Err(error) => log::warn!("access log: cannot reopen {}, the old file is kept: {error}", self.sink),
        }
    }
}

impl fmt::Display for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sink::Stdout => f.write_str("stdout"),
            Sink::Stderr => f.write_str("stderr"),
            Sink::File(path) => path.display().fmt(f),
        }
    }
}

/// Writes it all and returns how far it came: `Write::write_all` does not tell, and gives up on a sink that would block.
fn write_all(output: &mut dyn Write, bytes: &[u8]) -> (usize, io::Result<()>) {
    let (mut written, mut blocked) = (0, 0);
    while written < bytes.len() {
        match output.write(&bytes[written..]) {
            Ok(0) => return (written, Err(ErrorKind::WriteZero.into())),
            Ok(more) => (written, blocked) = (written + more, 0),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock && blocked < WOULD_BLOCK.0 => {
                blocked += 1;
                thread::sleep(WOULD_BLOCK.1);
            }
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
}
