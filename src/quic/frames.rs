//! The frames of a request stream, ahead of the library that serves them.
//!
//! A filter for the bytes that a client sends on a stream that carries a request (RFC 9114 section 4.1): heads and content go on, what has no
//! meaning is dropped, and what the library would hold, misread or wait for without end is refused here. The library reads a frame into
//! memory until it is whole, takes an empty DATA frame for the end of a body, and a stream that ends within a frame for one that has ended
//! in order.

use bytes::{Buf, Bytes, BytesMut};

/// Frame types (RFC 9114 section 7.2).
mod kind {
    pub(super) const DATA: u64 = 0x0;
    pub(super) const HEADERS: u64 = 0x1;
    /// Types that belong on another stream, or that HTTP/2 had: the library says what is wrong with them.
    pub(super) const KNOWN: [u64; 9] = [0x2, 0x3, 0x4, 0x5, 0x6, 0x7, 0x8, 0x9, 0xd];
}

/// A frame header: two numbers of up to eight bytes each.
const HEADER: usize = 16;

/// Frames without content or meaning that one stream may have: more are a flood.
const EMPTY: u32 = 100;

/// Why a stream is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    /// A header block that is too long.
    #[error("a header block that is too long")]
    HeaderBlock,
    /// The stream has ended within a frame.
    #[error("the stream ends within a frame")]
    Truncated,
    /// Frames without content or meaning, without end.
    #[error("too many frames without content")]
    Empty,
}

/// Where one stream is.
#[derive(Debug)]
pub struct Frames {
    /// Bytes that one header block may have.
    limit: u64,
    /// The beginning of a frame header.
    header: BytesMut,
    /// What is left of a frame that goes on, and of one that is dropped.
    passing: u64,
    dropping: u64,
    empty: u32,
}

impl Frames {
    /// A stream of which nothing was read, whose header blocks have at most so many bytes.
    pub fn new(limit: u64) -> Self {
        Self { limit, header: BytesMut::new(), passing: 0, dropping: 0, empty: 0 }
    }

    /// What goes on of the bytes that were read: a piece at a time, until there is none. Takes it from `read`.
    ///
    /// # Errors
    /// When the stream is refused.
    pub fn next(&mut self, read: &mut Bytes) -> Result<Option<Bytes>, BadFrame> {
        while !read.is_empty() {
            if self.passing > 0 {
                let piece = read.split_to(least(self.passing, read.len()));
                self.passing -= piece.len() as u64;
                return Ok(Some(piece));
            }
            if self.dropping > 0 {
                let count = least(self.dropping, read.len());
                read.advance(count);
                self.dropping -= count as u64;
                continue;
            }
            let before = self.header.len();
            self.header.extend_from_slice(&read[..read.len().min(HEADER - before)]);
            let Some((kind, length, size)) = header(&self.header) else {
                read.advance(self.header.len() - before);
                continue;
            };
            read.advance(size - before);
            self.header.truncate(size);
            let header = std::mem::take(&mut self.header).freeze();
            match kind {
                kind::HEADERS if length > self.limit => return Err(BadFrame::HeaderBlock),
                kind::DATA if length == 0 => self.drop_one(0)?,
                kind::HEADERS | kind::DATA => {
                    self.passing = length;
                    return Ok(Some(header));
                }
                // Nothing of it need be read to know that it is wrong.
                known if kind::KNOWN.contains(&known) => return Ok(Some(header)),
                _ => self.drop_one(length)?,
            }
        }
        Ok(None)
    }

    /// The client has ended the stream.
    ///
    /// # Errors
    /// When it has not ended where a frame does.
    pub fn end(&self) -> Result<(), BadFrame> {
        let whole = self.header.is_empty() && self.passing == 0 && self.dropping == 0;
        if whole { Ok(()) } else { Err(BadFrame::Truncated) }
    }

    fn drop_one(&mut self, length: u64) -> Result<(), BadFrame> {
        (self.empty, self.dropping) = (self.empty + 1, length);
        if self.empty > EMPTY { Err(BadFrame::Empty) } else { Ok(()) }
    }
}

fn least(left: u64, length: usize) -> usize {
    usize::try_from(left).map_or(length, |left| left.min(length))
}

/// Type, length, and how many bytes say so.
fn header(bytes: &[u8]) -> Option<(u64, u64, usize)> {
    let (kind, first) = number(bytes)?;
    let (length, second) = number(&bytes[first..])?;
    Some((kind, length, first + second))
}

/// A number of variable length (RFC 9000 section 16), and how many bytes it has.
fn number(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    let size = 1 << (first >> 6);
    let rest = bytes.get(1..size)?;
    Some((rest.iter().fold(u64::from(first & 0x3f), |number, byte| number << 8 | u64::from(*byte)), size))
}

/// The header of a DATA frame with so many bytes of content.
pub(super) fn data(length: usize) -> Bytes {
    let mut header = BytesMut::with_capacity(9);
    header.extend_from_slice(&[0]);
    let length = length as u64;
    match length {
        0..=0x3f => header.extend_from_slice(&[length as u8]),
        0x40..=0x3fff => header.extend_from_slice(&(length as u16 | 0x4000).to_be_bytes()),
        0x4000..=0x3fff_ffff => header.extend_from_slice(&(length as u32 | 0x8000_0000).to_be_bytes()),
        _ => header.extend_from_slice(&(length | 0xc000_0000_0000_0000).to_be_bytes()),
    }
    header.freeze()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Everything that goes on, when the bytes come in pieces of this size.
    fn through(bytes: &[u8], size: usize) -> Result<Vec<u8>, BadFrame> {
        let (mut frames, mut out) = (Frames::new(1000), Vec::new());
        for piece in bytes.chunks(size) {
            let mut read = Bytes::copy_from_slice(piece);
            while let Some(piece) = frames.next(&mut read)? {
                out.extend_from_slice(&piece);
            }
        }
        frames.end().map(|()| out)
    }

    fn frame(kind: u8, content: &[u8]) -> Vec<u8> {
        let mut frame = data(content.len()).to_vec();
        frame[0] = kind;
        frame.extend_from_slice(content);
        frame
    }

    #[test]
    fn heads_and_content_go_on_and_what_means_nothing_does_not() {
        let content = vec![b'x'; 70_000];
        let kept = [frame(1, b"head"), frame(0, &content), frame(0, b"y"), frame(1, b"trailers")];
        let sent = [&kept[0], &frame(0x21, &content), &kept[1], &frame(0, b""), &kept[2], &frame(0x21, b""), &kept[3]];
        let sent: Vec<u8> = sent.into_iter().flatten().copied().collect();
        for size in [1, 2, 3, 7, 1200, 100_000] {
            assert_eq!(through(&sent, size), Ok(kept.concat()), "in pieces of {size}");
        }
    }

    #[test]
    fn what_the_library_would_misread_is_refused() {
        let cases = [
            (frame(1, &[0; 1001]), BadFrame::HeaderBlock),
            (vec![1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], BadFrame::HeaderBlock),
            (frame(0, b"abc")[..4].to_vec(), BadFrame::Truncated),
            (vec![1], BadFrame::Truncated),
            (frame(0x21, b"abc")[..4].to_vec(), BadFrame::Truncated),
            (frame(0, b"").repeat(101), BadFrame::Empty),
            (frame(0x21, b"").repeat(101), BadFrame::Empty),
        ];
        for (sent, fault) in cases {
            for size in [1, 1000] {
                assert_eq!(through(&sent, size), Err(fault), "{sent:?}");
            }
        }
    }

    #[test]
    fn numbers_are_as_the_standard_has_them() {
        // RFC 9000 appendix A.1.
        for (bytes, value) in [
            (&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c][..], 151_288_809_941_952_652),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x25], 37),
            (&[0x40, 0x25], 37),
        ] {
            assert_eq!(number(bytes), Some((value, bytes.len())));
            assert_eq!(number(&bytes[..bytes.len() - 1]), None);
        }
        for length in [0, 63, 64, 16_383, 16_384, 0x3fff_ffff, 0x4000_0000] {
            let written = data(length);
            assert_eq!(header(&written), Some((0, length as u64, written.len())));
        }
    }

    proptest! {
        #[test]
        fn the_cut_of_the_reads_changes_nothing(bytes in prop::collection::vec(prop_oneof![0u8..4, any::<u8>()], 0..400), size in 1usize..50) {
            prop_assert_eq!(through(&bytes, size), through(&bytes, 1000));
        }
    }
}
