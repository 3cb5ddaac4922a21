//! The access log: one line for each exchange.
//!
//! A request only builds its line and puts it into a bounded queue; one thread writes. What does not fit is dropped and
//! counted, since a slow disk must not become a slow proxy. The queue holds at most 8192 lines (a tenth of a second
//! at 80 000 requests per second, more than a healthy sink ever falls behind) and 8 MiB (lines differ in length by
//! a factor of fifty, and clients choose it).

mod combined;
mod json;
mod template;
mod writer;

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
        mpsc::{self, SyncSender},
    },
    thread,
    time::{Duration, Instant},
};

pub(super) use json::quoted;
pub use template::LineTemplate;
use writer::{Entry, Shared, Sink, Writer};

use super::{AccessLogFormat, AccessLogSpec, Outcome};

const QUEUE_LINES: usize = 8192;
const QUEUE_BYTES: usize = 8 * 1024 * 1024;
/// How long the end of a log waits for its last lines: a stuck pipe must not keep the process alive.
const LAST_LINES: Duration = Duration::from_secs(2);

/// An open access log, or none. Once dropped, its writer ends when it has written what is queued; dropping does not
/// wait for that, since the last reference may be a request's. [`close`](Self::close) waits.
pub struct AccessLog {
    spec: AccessLogSpec,
    open: Option<Open>,
}

struct Open {
    queue: SyncSender<Entry>,
    shared: Arc<Shared>,
}

impl AccessLog {
    /// Opens the sink and starts the writer. `dropped` counts lines that are lost
    /// (see [`Metrics::access_log_dropped`](super::Metrics::access_log_dropped)).
    ///
    /// # Errors
    /// When the file cannot be opened, or no thread started.
    pub fn open(spec: &AccessLogSpec, dropped: Arc<AtomicU64>) -> io::Result<Self> {
        let sink = match spec.path.as_str() {
            "off" => return Ok(Self { spec: spec.clone(), open: None }),
            "stdout" => Sink::Stdout,
            "stderr" => Sink::Stderr,
            path => Sink::File(path.into()),
        };
        let in_context =
            |error: io::Error| io::Error::new(error.kind(), format!("cannot open the access log {}: {error}", spec.path));
        let output = Box::new(sink.open().map_err(in_context)?);
        Self::start(spec, sink, output, dropped)
    }

    fn start(spec: &AccessLogSpec, sink: Sink, output: Box<dyn Write + Send>, dropped: Arc<AtomicU64>) -> io::Result<Self> {
        let (queue, entries) = mpsc::sync_channel(QUEUE_LINES);
        let shared = Arc::new(Shared {
            dropped,
            queued_bytes: AtomicUsize::new(0),
            reopen: AtomicBool::new(false),
            overflowed: AtomicBool::new(false),
        });
        let writer = Writer::new(sink, output, shared.clone());
        thread::Builder::new().name("access-log".into()).spawn(move || writer.run(&entries))?;
        Ok(Self { spec: spec.clone(), open: Some(Open { queue, shared }) })
    }

    /// What it was opened with.
    pub fn spec(&self) -> &AccessLogSpec {
        &self.spec
    }

    /// Logs an exchange, unless it is not sampled. Never waits.
    pub fn finished(&self, outcome: &Outcome) {
        let Some(open) = &self.open else { return };
        if !self.is_sampled(outcome) {
            return;
        }
        let mut line = Vec::with_capacity(640);
        match &self.spec.format {
            AccessLogFormat::Json => json::write(&mut line, outcome),
            AccessLogFormat::Combined => combined::write(&mut line, outcome),
            AccessLogFormat::Template(template) => template.write(&mut line, outcome),
        }
        open.put(line);
    }

    /// Errors are never sampled away: 5xx, no answer at all, everything with a typed cause, refusals among them.
    fn is_sampled(&self, outcome: &Outcome) -> bool {
        let ratio = self.spec.sample.get();
        let important = outcome.status >= 500 || outcome.status == 0 || outcome.error().is_some();
        important || ratio >= 1.0 || (ratio > 0.0 && rand::random::<f64>() < ratio)
    }

    /// Opens the file anew, after it was moved away. Lines queued before may go to either.
    pub fn reopen(&self) {
        if let Some(open) = &self.open {
            open.shared.reopen.store(true, Relaxed);
            // When the queue is full the writer is awake anyway.
            open.send(Entry::Wake);
        }
    }

    /// Waits until what was logged so far is written, at most this long. False when that was not enough.
    pub fn flush(&self, timeout: Duration) -> bool {
        let Some(open) = &self.open else { return true };
        let deadline = Instant::now() + timeout;
        let (tell, told) = mpsc::sync_channel(1);
        while !open.send(Entry::Flush(tell.clone())) {
            if Instant::now() >= deadline {
                return false;
            }
            thread::sleep(Duration::from_millis(5));
        }
        told.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_ok()
    }

    /// As the process ends, or another log takes over: waits until what is queued is written, at most two seconds.
    pub fn close(&self) {
        if !self.flush(LAST_LINES) {
            log::warn!("access log: the last lines could not be written in time");
        }
    }
}

impl Open {
    fn put(&self, line: Vec<u8>) {
        let size = line.len();
        let fits = self.shared.queued_bytes.fetch_add(size, Relaxed) + size <= QUEUE_BYTES;
        if !fits || !self.send(Entry::Line(line)) {
            self.shared.queued_bytes.fetch_sub(size, Relaxed);
            self.shared.dropped.fetch_add(1, Relaxed);
            self.shared.overflowed.store(true, Relaxed);
        }
    }

    /// False when the queue is full (or its writer is gone, which only a panic could cause).
    fn send(&self, entry: Entry) -> bool {
        self.queue.try_send(entry).is_ok()
    }
}

/// The text, shortened to at most `limit` bytes between two characters.
pub(super) fn cut(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}

#[cfg(test)]
mod tests;
