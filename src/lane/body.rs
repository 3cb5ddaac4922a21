//! Bodies as HTTP/1 frames them: taken apart where they come from, and put together for where they go.

use std::ops::Range;

use crate::gate::{BodyFraming, Limits, Refusal, chunked::ChunkValidator, response::ResponseFraming};

/// A body that is being read.
#[derive(Debug)]
pub(super) enum Body {
    /// Nothing more comes.
    Done,
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked(Box<ChunkValidator>),
    /// All until the connection closes.
    UntilClose,
}

/// What one look at the next bytes has found.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Decoded {
    /// So many of the bytes were used.
    pub(super) used: usize,
    /// Where among them content is.
    pub(super) content: Range<usize>,
}

impl Body {
    /// A request's.
    pub(super) fn of_request(framing: BodyFraming, limits: &Limits) -> Self {
        match framing {
            // `Stream` is HTTP/2's, whose bodies do not come this way.
            BodyFraming::None | BodyFraming::Stream | BodyFraming::Length(0) => Self::Done,
            BodyFraming::Length(length) => Self::Length(length),
            BodyFraming::Chunked => Self::Chunked(Box::new(ChunkValidator::new(limits))),
        }
    }

    /// A response's.
    pub(super) fn of_response(framing: ResponseFraming) -> Self {
        match framing {
            ResponseFraming::None | ResponseFraming::Length(0) => Self::Done,
            ResponseFraming::Length(length) => Self::Length(length),
            ResponseFraming::Chunked => Self::Chunked(Box::new(ChunkValidator::new(&Limits::default()))),
            ResponseFraming::UntilClose => Self::UntilClose,
        }
    }

    /// Was all of it read?
    pub(super) fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }

    /// Takes apart the next bytes, up to the end of the first content in them.
    pub(super) fn decode(&mut self, bytes: &[u8]) -> Result<Decoded, Refusal> {
        let decoded = match self {
            Self::Done => Decoded { used: 0, content: 0..0 },
            Self::UntilClose => Decoded { used: bytes.len(), content: 0..bytes.len() },
            Self::Length(left) => {
                let used = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                *left -= used as u64;
                if *left == 0 {
                    *self = Self::Done;
                }
                Decoded { used, content: 0..used }
            }
            Self::Chunked(validator) => {
                let (fed, content) = validator.next(bytes)?;
                if fed.complete {
                    *self = Self::Done;
                }
                Decoded { used: fed.used, content }
            }
        };
        Ok(decoded)
    }

    /// The connection has ended. Was that the end of the body, too?
    pub(super) fn ends_here(&mut self) -> bool {
        if matches!(self, Self::UntilClose) {
            *self = Self::Done;
        }
        self.is_done()
    }
}

/// A piece of content as it is written, in chunks or as it is, and the end of the body where this is the last one. The line in front
/// of a chunk is put into `space`.
pub(super) fn framed<'a>(chunked: bool, content: &'a [u8], end: bool, space: &'a mut [u8; 18]) -> [&'a [u8]; 4] {
    let last = if end { LAST_CHUNK } else { b"" };
    match (chunked, content.is_empty()) {
        (false, _) => [content, b"", b"", b""],
        (true, true) => [last, b"", b"", b""],
        (true, false) => [chunk_size(content.len(), space), content, CHUNK_END, last],
    }
}

/// The line in front of a chunk of this length, in `space`.
fn chunk_size(length: usize, space: &mut [u8; 18]) -> &[u8] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = (usize::BITS - length.leading_zeros()).div_ceil(4).max(1) as usize;
    for (at, digit) in space.iter_mut().take(digits).enumerate() {
        *digit = DIGITS[length >> (4 * (digits - 1 - at)) & 15];
    }
    space[digits..digits + 2].copy_from_slice(b"\r\n");
    &space[..digits + 2]
}

/// Behind the content of a chunk.
const CHUNK_END: &[u8] = b"\r\n";
/// The end of a body in chunks.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    fn content(mut body: Body, bytes: &[u8], step: usize) -> (Vec<u8>, usize) {
        let (mut content, mut used) = (Vec::new(), 0);
        while used < bytes.len() && !body.is_done() {
            let here = &bytes[used..bytes.len().min(used + step)];
            let decoded = body.decode(here).unwrap();
            content.extend_from_slice(&here[decoded.content]);
            used += decoded.used;
        }
        assert!(body.ends_here());
        (content, used)
    }

    #[test]
    fn content_is_found_wherever_reads_cut_a_body() {
        let chunks = b"3\r\nabc\r\n10;x=\"y\"\r\n0123456789abcdef\r\n0\r\nx-t: 1\r\n\r\nNEXT";
        for step in 1..chunks.len() {
            let body = Body::of_request(BodyFraming::Chunked, &Limits::default());
            assert_eq!(content(body, chunks, step), (b"abc0123456789abcdef".to_vec(), chunks.len() - 4), "{step}");
            assert_eq!(content(Body::Length(5), b"12345NEXT", step.min(9)), (b"12345".to_vec(), 5));
        }
        assert_eq!(content(Body::UntilClose, b"all of it", 4), (b"all of it".to_vec(), 9));
    }

    #[test]
    fn a_chunk_says_how_long_it_is() {
        for (length, line) in [(0, "0\r\n"), (1, "1\r\n"), (15, "f\r\n"), (16, "10\r\n"), (0xabcdef, "abcdef\r\n")] {
            assert_eq!(chunk_size(length, &mut [0; 18]), line.as_bytes());
        }
        assert_eq!(chunk_size(usize::MAX, &mut [0; 18]), b"ffffffffffffffff\r\n");
    }
}
