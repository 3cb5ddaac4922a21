//! A response on its way into the store.
//!
//! What it takes is reserved before it is kept, so that what is being received counts like what is there. A fill that finds no
//! room, or grows over its bound, lets go of everything and only says so: the client's response is not touched by it.

use bytes::{Bytes, BytesMut};

use super::{Body, Cache, Head, Key, store::Reserved};

/// The largest piece that a body is kept in: what goes out in one write, what a filter that changes bodies gets at a time, and what a
/// fetch may hold for bytes that are yet to come.
pub(super) const PIECE: usize = 128 * 1024;

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
    /// What the head says of its length.
    declared: Option<u64>,
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
        let declared = head.fields.get(http::header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        Self { cache, key, head, kept: Some(kept), declared, received: 0, bound, began }
    }

    /// The next piece.
    pub fn write(&mut self, piece: &[u8]) {
        let left = self.declared.map(|declared| declared.saturating_sub(self.received));
        self.received += piece.len() as u64;
        let fits = self.received <= self.bound && self.kept.as_mut().is_some_and(|kept| kept.write(self.cache, piece, left));
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
        if self.declared.is_some_and(|declared| declared != self.received) {
            return Err(GaveUp::Incomplete);
        }
        if self.declared.is_none() && head.status != http::StatusCode::NO_CONTENT {
            // Known by now, which saves the next client chunks.
            head.fields.insert(http::header::CONTENT_LENGTH, self.received.into());
        }
        let body = Body::new(pieces, held.shrunk(self.received));
        self.cache.keep(&self.key, head, body.into(), self.began)
    }
}

impl Kept {
    /// `left` is what is still to come by what the head says, this piece included.
    fn write(&mut self, cache: &Cache, mut piece: &[u8], mut left: Option<u64>) -> bool {
        while !piece.is_empty() {
            if self.last.len() == self.last.capacity() {
                if !self.last.is_empty() {
                    self.pieces.push(std::mem::take(&mut self.last).freeze());
                }
                // As much as will come; where that is not known, a small body gets what it needs.
                let expected = match left {
                    Some(left) => usize::try_from(left).unwrap_or(PIECE),
                    None if self.pieces.is_empty() => 0,
                    None => PIECE,
                };
                let size = expected.max(piece.len()).min(PIECE);
                if !cache.grow(&mut self.held, size as u64) {
                    return false;
                }
                self.last = BytesMut::with_capacity(size);
            }
            let (now, later) = piece.split_at(piece.len().min(self.last.capacity() - self.last.len()));
            self.last.extend_from_slice(now);
            left = left.map(|left| left.saturating_sub(now.len() as u64));
            piece = later;
        }
        true
    }
}

/// Without the room behind it, where that is more than a little.
fn exact(last: BytesMut) -> Bytes {
    if last.capacity() - last.len() > last.len() / 16 { Bytes::copy_from_slice(&last) } else { last.freeze() }
}
