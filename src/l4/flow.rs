//! One direction of a connection.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

use super::pipe::Pipe;
use crate::wire::Stream;

/// What is read at once of a stream that has little to say, as of most.
const SMALL: usize = 16 * 1024;
/// What is read at once of one that filled the smaller buffer several times in a row.
const LARGE: usize = 64 * 1024;

/// Reads that fill the small buffer, in a row: then it is bulk, which is read in larger pieces or spliced.
const BULK: u8 = 4;
/// A splice that moves less than this is no bulk any more.
const TRICKLE: usize = 4 * 1024;

thread_local! {
    /// Through here all bytes of a thread pass that are not spliced. It is used within one poll and holds nothing between.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; LARGE].into_boxed_slice());
}

/// Which side a flow broke on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// Where bytes come from.
    From,
    /// Where they go.
    To,
}

/// A side failed.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) side: Side,
    pub(super) error: io::Error,
}

fn broken(side: Side) -> impl Fn(io::Error) -> Broken {
    move |error| Broken { side, error }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// More may come.
    Open,
    /// Everything was read; that is still to be told.
    Ending,
    /// The other side knows.
    Done,
}

/// One direction: what was read and not taken yet, and how it goes on.
#[derive(Debug)]
pub(super) struct Flow {
    state: State,
    /// Read, and not taken by the receiver yet.
    stuck: Vec<u8>,
    /// The part of it that was taken since.
    taken: usize,
    /// Bytes that are being spliced.
    pipe: Option<Pipe>,
    may_splice: bool,
    /// Full reads in a row.
    full: u8,
    unflushed: bool,
    /// Bytes that the receiver was given of what the sender sent.
    moved: u64,
    /// Bytes in front that nobody sent: they are not counted.
    uncounted: u64,
}

impl Flow {
    /// A flow that begins with these bytes, the last `sent` of which the sender has sent.
    pub(super) fn new(first: Vec<u8>, sent: u64, may_splice: bool) -> Self {
        let uncounted = first.len() as u64 - sent;
        Self {
            state: State::Open,
            stuck: first,
            taken: 0,
            pipe: None,
            may_splice,
            full: 0,
            unflushed: false,
            moved: 0,
            uncounted,
        }
    }

    /// Bytes passed on.
    pub(super) fn moved(&self) -> u64 {
        self.moved
    }
    /// Has the sender sent everything?
    pub(super) fn has_ended(&self) -> bool {
        self.state != State::Open
    }

    /// Moves what can be moved now. Ready when everything was passed on, the end included.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, from: &mut Stream, to: &mut Stream) -> Poll<Result<(), Broken>> {
        loop {
            ready!(self.poll_stuck(cx, to)).map_err(broken(Side::To))?;
            match self.state {
                State::Done => return Poll::Ready(Ok(())),
                State::Ending => {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx)).map_err(broken(Side::To))?;
                    self.state = State::Done;
                }
                State::Open if self.may_splice && self.full >= BULK => {
                    ready!(self.poll_splice(cx, from)).map_err(broken(Side::From))?;
                }
                State::Open => {
                    if self.poll_copy(cx, from, to)?.is_pending() {
                        if self.unflushed {
                            ready!(Pin::new(&mut *to).poll_flush(cx)).map_err(broken(Side::To))?;
                            self.unflushed = false;
                        }
                        return Poll::Pending;
                    }
                }
            }
        }
    }

    /// Gives the receiver what waits for it.
    fn poll_stuck(&mut self, cx: &mut Context<'_>, to: &mut Stream) -> Poll<io::Result<()>> {
        while self.taken < self.stuck.len() {
            let written = ready!(Pin::new(&mut *to).poll_write(cx, &self.stuck[self.taken..]))?;
            self.took(written)?;
            self.taken += written;
        }
        if self.taken > 0 {
            (self.stuck, self.taken) = (Vec::new(), 0);
        }
        self.poll_pipe(cx, to)
    }

    /// The same with what waits in the pipe.
    fn poll_pipe(&mut self, cx: &mut Context<'_>, to: &mut Stream) -> Poll<io::Result<()>> {
        let Some(pipe) = &mut self.pipe else { return Poll::Ready(Ok(())) };
        while pipe.held() > 0 {
            match ready!(to.poll_socket(cx, Interest::WRITABLE, |socket| pipe.drain(socket))) {
                Ok(written) => self.moved += written as u64,
                Err(error) if cannot_splice(&error) => {
                    (self.stuck, self.may_splice) = (pipe.take_back()?, false);
                    self.pipe = None;
                    return self.poll_stuck(cx, to);
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        if let Some(pipe) = self.pipe.take() {
            pipe.put();
        }
        Poll::Ready(Ok(()))
    }

    /// The receiver took so much.
    fn took(&mut self, written: usize) -> io::Result<()> {
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.unflushed = true;
        let uncounted = self.uncounted.min(written as u64);
        self.uncounted -= uncounted;
        self.moved += written as u64 - uncounted;
        Ok(())
    }

    /// Reads into the thread's buffer and writes from it; what is not taken at once is kept.
    fn poll_copy(&mut self, cx: &mut Context<'_>, from: &mut Stream, to: &mut Stream) -> Result<Poll<()>, Broken> {
        SCRATCH.with_borrow_mut(|scratch| {
            let size = if self.full >= BULK { LARGE } else { SMALL };
            let mut read = ReadBuf::new(&mut scratch[..size]);
            match Pin::new(from).poll_read(cx, &mut read) {
                Poll::Pending => return Ok(Poll::Pending),
                // Closed without close_notify, as many do. What is missing then, only the protocol inside can tell.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {}
                Poll::Ready(result) => result.map_err(broken(Side::From))?,
            }
            let bytes = read.filled();
            if bytes.is_empty() {
                self.state = State::Ending;
                return Ok(Poll::Ready(()));
            }
            self.full = if bytes.len() >= SMALL { self.full.saturating_add(1) } else { 0 };
            let mut written = 0;
            while written < bytes.len() {
                let Poll::Ready(result) = Pin::new(&mut *to).poll_write(cx, &bytes[written..]) else {
                    self.stuck = bytes[written..].to_vec();
                    break;
                };
                let count = result.map_err(broken(Side::To))?;
                self.took(count).map_err(broken(Side::To))?;
                written += count;
            }
            Ok(Poll::Ready(()))
        })
    }

    /// Lets the kernel read into a pipe, from where [`Flow::poll_stuck`] goes on.
    fn poll_splice(&mut self, cx: &mut Context<'_>, from: &Stream) -> Poll<io::Result<()>> {
        let Some(mut pipe) = Pipe::get() else {
            self.may_splice = false;
            return Poll::Ready(Ok(()));
        };
        let Poll::Ready(result) = from.poll_socket(cx, Interest::READABLE, |socket| pipe.fill(socket)) else {
            // Who waits may wait for long, and needs no pipe for that.
            pipe.put();
            return Poll::Pending;
        };
        match result {
            Ok(0) => self.state = State::Ending,
            Ok(count) if count < TRICKLE => self.full = 0,
            Ok(_) => {}
            // Nothing was moved.
            Err(error) if cannot_splice(&error) => self.may_splice = false,
            Err(error) => return Poll::Ready(Err(error)),
        }
        if pipe.held() > 0 {
            self.pipe = Some(pipe);
        } else {
            pipe.put();
        }
        Poll::Ready(Ok(()))
    }
}

/// Not this kind of socket, or not this kernel.
fn cannot_splice(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported)
}
