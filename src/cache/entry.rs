//! What is kept of a response.

use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::{Freshness, Variance, store::Reserved};
use std::sync::Arc;

/// The head of a stored response, with the times that go with it.
#[derive(Debug, Clone)]
pub struct Head {
    /// The status.
    pub status: StatusCode,
    /// The fields, without those that belonged to one connection.
    pub fields: HeaderMap,
    /// For how long it may be used.
    pub freshness: Freshness,
    /// When it was stored first: validation does not change it.
    pub created: SystemTime,
    /// Which requests it answers.
    pub variance: Option<Variance>,
}

/// What an entry takes beside the text in it: its place in the index, its part of the queue, reference counts.
const BOOKKEEPING: u64 = 512;
/// What a field takes beside its text, in a `HeaderMap`.
const PER_FIELD: u64 = 128;

impl Head {
    /// The memory that it takes in the index, with a key of this length.
    pub(super) fn weight(&self, key: usize) -> u64 {
        let fields: u64 = self.fields.iter().map(|(name, value)| (name.as_str().len() + value.len()) as u64 + PER_FIELD).sum();
        BOOKKEEPING + fields + 2 * key as u64
    }

    /// The same in memory of its own: values that were read from a connection hold on to the whole buffer that they were read into,
    /// which would be several times what is accounted for.
    pub(super) fn compact(mut self) -> Self {
        let mut text = BytesMut::with_capacity(self.fields.values().map(HeaderValue::len).sum());
        self.fields.values().for_each(|value| text.extend_from_slice(value.as_bytes()));
        let text = text.freeze();
        let mut fields = HeaderMap::with_capacity(self.fields.keys_len());
        let mut from = 0;
        for (name, value) in &self.fields {
            let until = from + value.len();
            // They are bytes of a value, so this cannot fail.
            if let Ok(value) = HeaderValue::from_maybe_shared(text.slice(from..until)) {
                fields.append(name.clone(), value);
            }
            from = until;
        }
        self.fields = fields;
        self
    }
}

/// A body, in pieces that are handed out as they are.
#[derive(Debug)]
pub struct Body {
    pieces: Box<[Bytes]>,
    length: u64,
    _held: Reserved,
}

impl Body {
    /// `held` is the memory of the pieces.
    pub(super) fn new(pieces: Vec<Bytes>, held: Reserved) -> Self {
        let length = pieces.iter().map(|piece| piece.len() as u64).sum();
        Self { pieces: pieces.into(), length, _held: held }
    }

    /// Its bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The piece that holds this byte, from it on, and no further than `end`. `None` at the end.
    pub fn piece(&self, from: u64, end: u64) -> Option<Bytes> {
        let end = end.min(self.length);
        let mut start = 0;
        for piece in &self.pieces {
            let next = start + piece.len() as u64;
            if from < next {
                // Both are within the piece, whose length is a usize.
                let (first, last) = ((from - start) as usize, (end.min(next).saturating_sub(start)) as usize);
                return (first < last).then(|| piece.slice(first..last));
            }
            start = next;
        }
        None
    }
}

/// A stored response.
#[derive(Debug)]
pub struct Entry {
    /// Its head.
    pub head: Head,
    /// Its body, which a head that was validated shares with the one before.
    pub body: Arc<Body>,
    pub(super) _held: Reserved,
}
