//! Connection ids, which say which process a connection belongs to.
//!
//! Packets of connections that the process before this one has made come to this one, once it owns the socket. The first four bytes of
//! each id are those of the process that gave it out, so that the others can tell (RFC 9000 section 5.1).

use quinn::{ConnectionId, ConnectionIdGenerator};
use rand::Rng;
use serde::{Deserialize, Serialize};

/// A process, among those that hand a socket on to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tag([u8; 4]);

/// Bytes of an id: the process, and eight that nobody can guess.
const LENGTH: usize = 12;

impl Tag {
    /// Of a process that begins.
    pub(super) fn new() -> Self {
        Self(rand::rng().random())
    }

    /// Whose connection a datagram belongs to, if it says. Clients choose the id of their first packets themselves, so that what it says
    /// may mean nothing.
    pub(super) fn of(datagram: &[u8]) -> Option<Self> {
        let first = datagram.first()?;
        let id = if first & 0x80 == 0 {
            datagram.get(1..1 + LENGTH)?
        } else {
            // Form, version, length of the id (RFC 8999 section 5.1).
            let length = usize::from(*datagram.get(5)?);
            datagram.get(6..6 + length).filter(|id| id.len() == LENGTH)?
        };
        id.first_chunk().copied().map(Self)
    }
}

/// Makes ids of this process.
pub(super) struct Ids(pub(super) Tag);

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id: [u8; LENGTH] = rand::rng().random();
        id[..4].copy_from_slice(&self.0.0);
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        LENGTH
    }

    fn cid_lifetime(&self) -> Option<std::time::Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_says_whose_it_is() {
        let tag = Tag::new();
        let id = Ids(tag).generate_cid();
        let short = [&[0x41][..], &id[..], b"rest"].concat();
        let long = [&[0xc3, 0, 0, 0, 1, 12][..], &id[..], b"rest"].concat();
        assert_eq!((Tag::of(&short), Tag::of(&long)), (Some(tag), Some(tag)));
        for other in [&b""[..], &short[..12], &long[..17], &[0xc3, 0, 0, 0, 1, 8, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]] {
            assert_eq!(Tag::of(other), None, "{other:?}");
        }
    }
}
