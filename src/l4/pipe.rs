//! splice(2): bytes go from socket to socket inside the kernel, by way of a pipe.

use std::{
    cell::RefCell,
    io,
    os::fd::{BorrowedFd, OwnedFd},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use nix::{
    fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice},
    unistd::{pipe2, read},
};

/// What a pipe holds: enough that one pair of system calls moves much, little enough that [`MOST`] of them stay within
/// the 64 MiB that Linux lets the pipes of an ordinary user have.
const CAPACITY: usize = 256 * 1024;

/// Pipes of the process, spare ones included. Each takes two of its file descriptors, of which `max_connections` leaves a fifth unused. Who
/// gets none copies.
const MOST: usize = 128;

/// The file descriptors of all pipes are the process's, whoever uses them.
static PIPES: AtomicUsize = AtomicUsize::new(0);

/// Kept by each thread for those that come next: making one costs as much as moving a few kilobytes.
const MOST_SPARE: usize = 4;

thread_local! {
    static SPARE: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
}

/// A pipe, and how much is in it.
#[derive(Debug)]
pub(super) struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    held: usize,
    _counted: Counted,
}

#[derive(Debug)]
struct Counted;

impl Drop for Counted {
    fn drop(&mut self) {
        PIPES.fetch_sub(1, Relaxed);
    }
}

impl Pipe {
    /// An empty pipe; `None` when there are too many, or the system gives none.
    pub(super) fn get() -> Option<Self> {
        SPARE.with_borrow_mut(Vec::pop).or_else(Self::new)
    }

    /// Gives back a pipe for whoever needs one next. One that still holds something is closed.
    pub(super) fn put(self) {
        SPARE.with_borrow_mut(|spare| {
            if self.held == 0 && spare.len() < MOST_SPARE {
                spare.push(self);
            }
        });
    }

    fn new() -> Option<Self> {
        PIPES.fetch_update(Relaxed, Relaxed, |pipes| (pipes < MOST).then_some(pipes + 1)).ok()?;
        let counted = Counted;
        let (read, write) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).ok()?;
        // Where this is not allowed, the pipe is as large as the system makes them, which is fine, too.
        let _ = fcntl(&write, FcntlArg::F_SETPIPE_SZ(CAPACITY as i32));
        Some(Self { read, write, held: 0, _counted: counted })
    }

    /// Bytes in the pipe.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Moves into the empty pipe what the socket has. 0 at its end.
    pub(super) fn fill(&mut self, from: BorrowedFd<'_>) -> io::Result<usize> {
        debug_assert_eq!(self.held, 0, "a full pipe would look like a socket that has nothing");
        let moved = splice(from, None, &self.write, None, CAPACITY, flags())?;
        self.held += moved;
        Ok(moved)
    }

    /// Takes everything out of the pipe again, to be written as any bytes.
    pub(super) fn take_back(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.held];
        let mut taken = 0;
        while taken < bytes.len() {
            match read(&self.read, &mut bytes[taken..])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => taken += count,
            }
        }
        self.held = 0;
        Ok(bytes)
    }

    /// Moves out of the pipe what the socket takes.
    pub(super) fn drain(&mut self, to: BorrowedFd<'_>) -> io::Result<usize> {
        let moved = splice(&self.read, None, to, None, self.held, flags())?;
        self.held -= moved;
        Ok(moved)
    }
}

fn flags() -> SpliceFFlags {
    SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        os::{fd::AsFd, unix::net::UnixStream},
    };

    use super::*;

    #[test]
    fn what_goes_in_comes_out() {
        let (mut source, from) = UnixStream::pair().unwrap();
        let (to, mut sink) = UnixStream::pair().unwrap();
        from.set_nonblocking(true).unwrap();
        let mut pipe = Pipe::new().unwrap();
        let empty = pipe.fill(from.as_fd()).unwrap_err();
        assert_eq!(empty.kind(), io::ErrorKind::WouldBlock);
        source.write_all(b"some bytes").unwrap();
        assert_eq!((pipe.fill(from.as_fd()).unwrap(), pipe.held()), (10, 10));
        assert_eq!((pipe.drain(to.as_fd()).unwrap(), pipe.held()), (10, 0));
        let mut read = [0; 10];
        sink.read_exact(&mut read).unwrap();
        assert_eq!(&read, b"some bytes");
        source.write_all(b"others").unwrap();
        pipe.fill(from.as_fd()).unwrap();
        assert_eq!((pipe.take_back().unwrap(), pipe.held()), (b"others".to_vec(), 0));
        drop(source);
        assert_eq!(pipe.fill(from.as_fd()).unwrap(), 0);
    }
}
