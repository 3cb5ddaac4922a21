//! A response on its way into the store.
//!
//! What it takes is reserved before it is kept, so that what is being received counts like what is there. A fill that finds no
//! room, or grows over its bound, lets go of everything and only says so: the client's response is not touched by it.

use bytes::{Bytes, BytesMut};

use super::{Body, Cache, Head, Key, store::Reserved};

/// The size of the pieces that a body is kept in: what goes out in one write, and hardly any waste at the end.
const PIECE: usize = 64 * 1024;

/// Why a fill ended without an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GaveUp {
    /// There was no room, or too much came.
    NoRoom,
    /// The body was not as long as it said.
    Incomplete,
    /// What was fetched was purged meanwhile.
    Purged,
}

/// A response that is being received. Dropping it forgets it.
#[derive(Debug)]
pub struct Fill {
    cache: &'static Cache,
    key: Key,
    head: Head,
    /// The body so far; `None` when it was given up.
    kept: Option<Kept>,
    received: u64,
    bound: u64,
    /// How many purges there had been when it began.
    began: u64,
}

#[derive(Debug)]
struct Kept {
    pieces: Vec<Bytes>,
    last: BytesMut,
    held: Reserved,
}

impl Fill {
    pub(super) fn new(cache: &'static Cache, key: Key, head: Head, bound: u64, began: u64) -> Self {
        let kept = Kept { pieces: Vec::new(), last: BytesMut::new(), held: cache.nothing() };
        Self { cache, key, head, kept: Some(kept), received: 0, bound, began }
    }

    /// The next piece.
    pub fn write(&mut self, piece: &[u8]) {
        self.received += piece.len() as u64;
        let fits = self.received <= self.bound && self.kept.as_mut().is_some_and(|kept| kept.write(self.cache, piece));
        if !fits {
            self.kept = None;
        }
    }

    /// All of it came: it is an entry from now on.
    ///
    /// # Errors
    /// Why it is none.
    pub fn finish(self) -> Result<(), GaveUp> {
        let Kept { mut pieces, last, held } = self.kept.ok_or(GaveUp::NoRoom)?;
        if !last.is_empty() {
            pieces.push(exact(last));
        }
        let mut head = self.head;
        let declared = head.fields.get(http::header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        if declared.is_some_and(|declared: u64| declared != self.received) {
            return Err(GaveUp::Incomplete);
        }
        if declared.is_none() && head.status != http::StatusCode::NO_CONTENT {
            // Known by now, which saves the next client chunks.
            head.fields.insert(http::header::CONTENT_LENGTH, self.received.into());
        }
        let body = Body::new(pieces, held.shrunk(self.received));
        self.cache.keep(&self.key, head, body.into(), self.began)
    }
}

impl Kept {
    fn write(&mut self, cache: &Cache, mut piece: &[u8]) -> bool {
        while !piece.is_empty() {
            if self.last.len() == self.last.capacity() {
                if !self.last.is_empty() {
                    self.pieces.push(std::mem::take(&mut self.last).freeze());
                }
                // Small bodies get what they need; the next piece of a large one is a whole one.
                let size = if self.pieces.is_empty() { piece.len().min(PIECE) } else { PIECE };
                if !cache.grow(&mut self.held, size as u64) {
                    return false;
                }
                self.last = BytesMut::with_capacity(size);
            }
            let (now, later) = piece.split_at(piece.len().min(self.last.capacity() - self.last.len()));
            self.last.extend_from_slice(now);
            piece = later;
        }
        true
    }
}

/// Without the room behind it, where that is more than a little.
fn exact(last: BytesMut) -> Bytes {
    if last.capacity() - last.len() > last.len() / 16 { Bytes::copy_from_slice(&last) } else { last.freeze() }
}
