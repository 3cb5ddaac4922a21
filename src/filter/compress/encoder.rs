//! One response body on its way through an encoder: each piece leaves as bytes that can be decoded at once.

use std::io::{self, Write};

use brotli::CompressorWriter;
use bytes::Bytes;
use flate2::write::GzEncoder;
use zstd::{stream::write::Encoder as ZstdEncoder, zstd_safe::CParameter};

use crate::filter::coding::Coding;

/// How far back repetition is found, as a power of two: 512 KiB. With the levels it bounds what one response holds, at most
/// 3.5 MiB with all tables, and is within the 8 MiB that every client has room for (RFC 9659).
const WINDOW: u32 = 19;

/// Input is handed over in slices of this size, so that what an encoder holds of it is bounded.
const SLICE: usize = 64 << 10;

/// Where Brotli puts its output before it is taken.
const BUFFER: usize = 16 << 10;

/// An encoder, and what it has written since that was last taken.
pub(super) enum Encoder {
    Br(Box<CompressorWriter<Vec<u8>>>),
    Zstd(ZstdEncoder<'static, Vec<u8>>),
    Gzip(GzEncoder<Vec<u8>>),
}

impl Encoder {
    pub(super) fn new(coding: Coding, level: u8) -> io::Result<Self> {
        Ok(match coding {
            Coding::Br => Encoder::Br(Box::new(CompressorWriter::new(Vec::new(), BUFFER, level.into(), WINDOW))),
            Coding::Gzip => Encoder::Gzip(GzEncoder::new(Vec::new(), flate2::Compression::new(level.into()))),
            Coding::Zstd => {
                let mut encoder = ZstdEncoder::new(Vec::new(), level.into())?;
                encoder.set_parameter(CParameter::WindowLog(WINDOW))?;
                Encoder::Zstd(encoder)
            }
        })
    }

    /// All of this piece, encoded, so that a client can decode it without what follows.
    pub(super) fn piece(&mut self, piece: &[u8]) -> io::Result<Bytes> {
        self.write(piece)?;
        self.writer().flush()?;
        Ok(std::mem::take(self.written()).into())
    }

    /// The last piece, which may be empty, and what closes the coding.
    pub(super) fn last(mut self, piece: &[u8]) -> io::Result<Bytes> {
        self.write(piece)?;
        let rest = match self {
            Encoder::Br(encoder) => encoder.into_inner(),
            Encoder::Zstd(encoder) => encoder.finish()?,
            Encoder::Gzip(encoder) => encoder.finish()?,
        };
        Ok(rest.into())
    }

    fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        piece.chunks(SLICE).try_for_each(|slice| self.writer().write_all(slice))
    }

    fn writer(&mut self) -> &mut dyn Write {
        match self {
            Encoder::Br(encoder) => &mut **encoder,
            Encoder::Zstd(encoder) => encoder,
            Encoder::Gzip(encoder) => encoder,
        }
    }

    fn written(&mut self) -> &mut Vec<u8> {
        match self {
            Encoder::Br(encoder) => encoder.get_mut(),
            Encoder::Zstd(encoder) => encoder.get_mut(),
            Encoder::Gzip(encoder) => encoder.get_mut(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// As much as can be decoded of these bytes, and whether they are complete.
    fn decoded(coding: Coding, bytes: &[u8]) -> (Vec<u8>, bool) {
        let mut reader: Box<dyn Read> = match coding {
            Coding::Br => Box::new(brotli::Decompressor::new(bytes, 4096)),
            Coding::Zstd => Box::new(zstd::stream::read::Decoder::new(bytes).unwrap()),
            Coding::Gzip => Box::new(flate2::read::GzDecoder::new(bytes)),
        };
        let (mut out, mut piece) = (Vec::new(), [0; 4096]);
        loop {
            match reader.read(&mut piece) {
                Ok(0) => return (out, true),
                Ok(count) => out.extend_from_slice(&piece[..count]),
                Err(_) => return (out, false),
            }
        }
    }

    #[test]
    fn each_piece_can_be_decoded_at_once() {
        let noise: Vec<u8> = (0..300_000_u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u8).collect();
        for coding in [Coding::Br, Coding::Zstd, Coding::Gzip] {
            let mut encoder = Encoder::new(coding, 4).unwrap();
            let (mut sent, mut plain) = (Vec::new(), Vec::new());
            for piece in [&b"a"[..], b"hello hello hello", &noise, b"{}"] {
                sent.extend_from_slice(&encoder.piece(piece).unwrap());
                plain.extend_from_slice(piece);
                let (out, complete) = decoded(coding, &sent);
                assert!(out == plain && !complete, "{coding:?}: {} of {}, {complete}", out.len(), plain.len());
            }
            sent.extend_from_slice(&encoder.last(b"bye").unwrap());
            plain.extend_from_slice(b"bye");
            assert!(decoded(coding, &sent) == (plain, true), "{coding:?}");
            let empty = Encoder::new(coding, 4).unwrap().last(b"").unwrap();
            assert_eq!(decoded(coding, &empty), (Vec::new(), true), "{coding:?}");
        }
    }
}
