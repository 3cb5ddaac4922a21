//! The lab's load: connections that are kept busy for a while, and how long answers took.
//!
//! Each connection sends its next request when the last one is answered (a closed loop), so what is measured is how fast
//! the service is at this many requests at a time, not how it fares when more come than it can take.
//! Over TCP the other side is expected to send back what it gets, byte for byte.

mod report;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use hdrhistogram::Histogram;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

pub use report::Report;

use super::send::{Connection, HttpRequest, SendError, Transport};

/// The longest time that is told apart from longer ones, in microseconds: an hour.
const LONGEST: u64 = 3_600_000_000;
/// How long a connection waits after a failure, so that a service that is down is not flooded, nor this machine.
const PAUSE: Duration = Duration::from_millis(10);

/// What is asked.
#[derive(Debug, Clone)]
pub enum Target {
    /// An HTTP request.
    Http(Box<HttpRequest>, Box<Transport>),
    /// Bytes that come back.
    Tcp {
        /// Where to.
        address: String,
        /// The bytes.
        bytes: Vec<u8>,
        /// For each exchange, and for connecting.
        timeout: Duration,
    },
}

/// What to do.
#[derive(Debug, Clone)]
pub struct Load {
    /// What is asked.
    pub target: Target,
    /// By how many connections at a time.
    pub connections: usize,
    /// For how long.
    pub duration: Duration,
}

/// How far it is, for who watches.
#[derive(Debug, Default)]
pub struct Progress {
    answers: AtomicU64,
    errors: AtomicU64,
}

impl Progress {
    /// Answers so far.
    pub fn answers(&self) -> u64 {
        self.answers.load(Relaxed)
    }
    /// Failures so far.
    pub fn errors(&self) -> u64 {
        self.errors.load(Relaxed)
    }
}

/// Keeps all connections busy until the time is over. What is under way then is not counted.
pub async fn run(load: &Load, progress: &Arc<Progress>) -> Report {
    let started = Instant::now();
    let until = started + load.duration;
    let busy = |_| one(load.target.clone(), progress.clone(), until);
    let mut running: JoinSet<Report> = (0..load.connections).map(busy).collect();
    let mut total = Report::default();
    while let Some(report) = running.join_next().await {
        // A connection that panicked was reported by the panic hook; the others' numbers stand.
        total.merge(&report.unwrap_or_default());
    }
    total.elapsed = started.elapsed();
    total
}

/// One connection, opened again when it fails.
async fn one(target: Target, progress: Arc<Progress>, until: Instant) -> Report {
    let mut report = Report::default();
    let mut line = Line { target, open: None };
    while Instant::now() < until {
        let started = Instant::now();
        let Ok(result) = tokio::time::timeout_at(until, line.exchange()).await else { break };
        match result {
            Ok(bytes) => {
                report.answer(started.elapsed(), bytes);
                progress.answers.fetch_add(1, Relaxed);
            }
            Err(failure) => {
                line.open = None;
                report.failure(failure);
                progress.errors.fetch_add(1, Relaxed);
                sleep(PAUSE).await;
            }
        }
    }
    report
}

/// A connection that may have to be opened first.
struct Line {
    target: Target,
    open: Option<Open>,
}

enum Open {
    Http(Connection),
    Tcp(TcpStream, Vec<u8>),
}

impl Line {
    /// Sends once and reads the answer: how many bytes went over TCP.
    async fn exchange(&mut self) -> Result<u64, Failure> {
        let patience = match &self.target {
            Target::Http(_, transport) => transport.timeout,
            Target::Tcp { timeout, .. } => *timeout,
        };
        match timeout(patience, self.exchange_in_time()).await {
            Ok(result) => result,
            Err(_) => Err(Failure::Send(SendError::Timeout(patience).word())),
        }
    }

    async fn exchange_in_time(&mut self) -> Result<u64, Failure> {
        let mut open = match self.open.take() {
            Some(Open::Http(connection)) if !connection.is_usable() => self.connect().await?,
            Some(open) => open,
            None => self.connect().await?,
        };
        let moved = match (&mut open, &self.target) {
            (Open::Http(connection), Target::Http(request, _)) => {
                let (status, _) = connection.exchange_discarding(request).await.map_err(|error| Failure::Send(error.word()))?;
                if status.as_u16() >= 400 {
                    self.open = Some(open);
                    return Err(Failure::Status(status.as_u16()));
                }
                0
            }
            (Open::Tcp(stream, back), Target::Tcp { bytes, .. }) => echo(stream, bytes, back).await?,
            _ => 0,
        };
        self.open = Some(open);
        Ok(moved)
    }

    async fn connect(&self) -> Result<Open, Failure> {
        match &self.target {
            Target::Http(request, transport) => {
                let connection = Connection::open(&request.uri, transport).await;
                Ok(Open::Http(connection.map_err(|error| Failure::Send(error.word()))?))
            }
            Target::Tcp { address, bytes, .. } => {
                let stream = TcpStream::connect(address).await.map_err(|_| Failure::Send("connect"))?;
                let _ = stream.set_nodelay(true);
                Ok(Open::Tcp(stream, vec![0; bytes.len()]))
            }
        }
    }
}

/// Both directions at once: more bytes than all buffers hold would otherwise wait for each other.
async fn echo(stream: &mut TcpStream, bytes: &[u8], back: &mut [u8]) -> Result<u64, Failure> {
    let (mut reader, mut writer) = stream.split();
    let exchanged = tokio::try_join!(writer.write_all(bytes), reader.read_exact(back));
    exchanged.map_err(|_| Failure::Send("broken"))?;
    if back == bytes { Ok(bytes.len() as u64 * 2) } else { Err(Failure::Send("wrong_bytes")) }
}

/// Why there is no answer, to count by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// A status from 400 on.
    Status(u16),
    /// None at all.
    Send(&'static str),
}

/// Microseconds, exact to three digits.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST, 3).expect("bounds in order, and digits of which a histogram has 0 to 5")
}
