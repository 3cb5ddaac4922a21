//! Connections to endpoints that wait for their next request.
//!
//! One shelf for each worker, so that workers do not wait for each other: a lock is taken by its own worker alone, but for a worker
//! that has none left and looks at the others', and the broom that takes away what has waited for too long.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, ReadBuf};

use crate::{endpoint::Endpoint, wire::Stream};

/// Idle connections that are kept in all, as a bound on descriptors and memory.
const MOST: usize = 8192;

/// How often the broom looks.
const SWEEP: Duration = Duration::from_secs(1);

/// Where connections may serve: one endpoint, over TLS with settings of this digest or in cleartext.
#[derive(Debug, Clone)]
pub(super) struct Place {
    endpoint: Arc<Endpoint>,
    tls: Option<u64>,
}

impl Place {
    pub(super) fn new(endpoint: &Arc<Endpoint>, tls: Option<u64>) -> Self {
        Self { endpoint: endpoint.clone(), tls }
    }

    /// An endpoint that is held keeps its address in memory.
    fn key(&self) -> Key {
        (Arc::as_ptr(&self.endpoint).addr(), self.tls)
    }
}

type Key = (usize, Option<u64>);

#[derive(Debug)]
struct Idle {
    stream: Stream,
    until: Option<Instant>,
    /// Held for the key.
    _endpoint: Arc<Endpoint>,
}

type Shelf = Mutex<BTreeMap<Key, Vec<Idle>>>;

/// The idle connections of a process.
#[derive(Debug)]
pub struct Pool {
    shelves: Box<[Shelf]>,
    count: AtomicUsize,
}

impl Pool {
    /// An empty one for so many workers.
    pub fn new(workers: usize) -> Arc<Self> {
        let shelves = (0..workers.max(1)).map(|_| Shelf::default()).collect();
        Arc::new(Self { shelves, count: AtomicUsize::new(0) })
    }

    /// The shelf of this worker.
    fn own(&self) -> usize {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static NUMBER: usize = NEXT.fetch_add(1, Relaxed);
        }
        NUMBER.with(|number| number % self.shelves.len())
    }

    /// A connection that is still open at this moment, as far as that can be known.
    pub(super) fn take(&self, place: &Place, now: Instant) -> Option<Stream> {
        let (own, key) = (self.own(), place.key());
        let others = (0..self.shelves.len()).filter(|shelf| *shelf != own);
        std::iter::once(own).chain(others).find_map(|shelf| self.take_from(shelf, key, now))
    }

    fn take_from(&self, shelf: usize, key: Key, now: Instant) -> Option<Stream> {
        let mut shelf = self.shelves[shelf].lock();
        let waiting = shelf.get_mut(&key)?;
        // The last one that came: the others may grow old and go.
        while let Some(mut idle) = waiting.pop() {
            self.count.fetch_sub(1, Relaxed);
            let late = idle.until.is_some_and(|until| now >= until);
            if !late && is_open(&mut idle.stream) {
                return Some(idle.stream);
            }
        }
        None
    }

    /// Keeps a connection for the next request, for as long as `patience`.
    pub(super) fn put(&self, place: Place, stream: Stream, patience: Option<Duration>) {
        if self.count.fetch_add(1, Relaxed) >= MOST {
            self.count.fetch_sub(1, Relaxed);
            return;
        }
        let until = patience.map(|patience| Instant::now() + patience);
        let mut shelf = self.shelves[self.own()].lock();
        shelf.entry(place.key()).or_default().push(Idle { stream, until, _endpoint: place.endpoint });
    }

    /// Takes away what has waited for too long, and what the endpoint has closed.
    fn sweep(&self) {
        for shelf in &self.shelves {
            let mut gone = Vec::new();
            let now = Instant::now();
            shelf.lock().retain(|_, waiting| {
                let keep = |idle: &mut Idle| idle.until.is_none_or(|until| now < until) && is_open(&mut idle.stream);
                let (kept, left): (Vec<_>, Vec<_>) =
                    waiting.drain(..).map(|mut idle| (keep(&mut idle), idle)).partition(|(kept, _)| *kept);
                waiting.extend(kept.into_iter().map(|(_, idle)| idle));
                gone.extend(left);
                !waiting.is_empty()
            });
            self.count.fetch_sub(gone.len(), Relaxed);
            // Closed outside the lock.
            drop(gone);
        }
    }

    /// Sweeps for as long as the pool is there.
    pub fn run(self: &Arc<Self>) -> impl Future<Output = ()> + use<> {
        let pool = Arc::downgrade(self);
        async move {
            let mut ticks = tokio::time::interval(SWEEP);
            loop {
                ticks.tick().await;
                let Some(pool) = pool.upgrade() else { return };
                pool.sweep();
            }
        }
    }
}

/// Has the endpoint neither closed it nor said anything? Costs no system call where nothing has happened to the socket.
fn is_open(stream: &mut Stream) -> bool {
    let mut space = [0; 1];
    let mut read = ReadBuf::new(&mut space);
    let cx = &mut Context::from_waker(Waker::noop());
    matches!(Pin::new(stream).poll_read(cx, &mut read), Poll::Pending)
}
