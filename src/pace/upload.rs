//! A request body on its way to an HTTP/2 endpoint.
//!
//! Whoever passes a piece on must not wait until the endpoint takes it: the same loop passes the response on, and an endpoint that
//! wants its response to be read first would wait as well, for good. So a piece is handed to the library at once, and it is the
//! reading of the next piece that waits.

use std::{
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use h2::SendStream;
use parking_lot::Mutex;

/// Asked of the library ahead of a piece: pieces are rarely longer, and what is missing is waited for by the next one.
const CAPACITY: usize = 16 * 1024;

/// How far the body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// It goes on as it comes.
    Flowing,
    /// The endpoint takes nothing, since then.
    Blocked(Instant),
    /// It was handed over whole, then.
    Done(Instant),
    /// It is not to go on, and neither is the exchange.
    Stopped,
}

/// The body of the attempt under way.
#[derive(Debug, Default)]
pub struct Upload {
    state: Mutex<Option<State>>,
    /// Whoever waits for the response, and judges by this how long that may take.
    watcher: AtomicWaker,
}

#[derive(Debug)]
struct State {
    stream: Option<SendStream<Bytes>>,
    progress: Progress,
}

impl Upload {
    /// An attempt begins whose head was sent. `stream` takes the body, if there is one.
    pub fn begin(&self, stream: SendStream<Bytes>, whole: bool) {
        let progress = if whole { Progress::Done(Instant::now()) } else { Progress::Flowing };
        *self.state.lock() = Some(State { stream: Some(stream), progress });
    }

    /// Does the endpoint take nothing?
    pub fn is_blocked(&self) -> bool {
        self.state.lock().as_ref().is_some_and(|state| matches!(state.progress, Progress::Blocked(_)))
    }

    /// Does an attempt at an HTTP/2 endpoint go on?
    pub fn is_open(&self) -> bool {
        self.state.lock().is_some()
    }

    /// The request is refused although it is under way: there is no response to wait for.
    pub fn stop(&self) {
        if let Some(state) = self.state.lock().as_mut() {
            (state.stream, state.progress) = (None, Progress::Stopped);
            self.watcher.wake();
        }
    }

    /// The attempt is over. What was not sent of the body is not sent.
    pub fn end(&self) {
        *self.state.lock() = None;
    }

    /// Resolves when the next piece may be read from the client.
    pub fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        let Some(State { stream: Some(stream), progress }) = state.as_mut() else { return Poll::Ready(()) };
        if stream.capacity() == 0 {
            stream.reserve_capacity(CAPACITY);
            // An endpoint that wants no more is no reason to wait: what is handed to it is dropped.
            if stream.poll_capacity(cx).is_pending() {
                if *progress == Progress::Flowing {
                    *progress = Progress::Blocked(Instant::now());
                    self.watcher.wake();
                }
                return Poll::Pending;
            }
        }
        if matches!(progress, Progress::Blocked(_)) {
            *progress = Progress::Flowing;
            self.watcher.wake();
        }
        Poll::Ready(())
    }

    /// Hands over a piece. One that the endpoint does not want any more is dropped: its response says why.
    pub fn send(&self, piece: Bytes, end: bool) {
        let mut state = self.state.lock();
        let Some(state) = state.as_mut() else { return };
        if let Some(stream) = &mut state.stream
            && (end || !piece.is_empty())
            && stream.send_data(piece, end).is_err()
        {
            state.stream = None;
        }
        if end && !matches!(state.progress, Progress::Done(_) | Progress::Stopped) {
            state.progress = Progress::Done(Instant::now());
            self.watcher.wake();
        }
    }

    /// How far it is. The watcher is woken when that changes.
    pub fn progress(&self, cx: &Context<'_>) -> Progress {
        self.watcher.register(cx.waker());
        // Where no attempt is told of, the request is over.
        self.state.lock().as_ref().map_or_else(|| Progress::Done(Instant::now()), |state| state.progress)
    }
}
