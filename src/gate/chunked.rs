//! The framing of a request body, checked while its raw bytes pass.
//!
//! The validator answers how many of the bytes it was shown belong to this message, never one more, so the
//! driver knows where the next request begins. It is strict where RFC 9112 section 7.1 lets a recipient be lenient
//! (white space around extensions, bare LF): every leniency there has been a request smuggled past somebody.

use std::ops::Range;

use super::{
    Limits, Refusal,
    hop::is_forbidden_trailer,
    syntax::{is_field_value, is_tchar},
};

/// Hexadecimal digits of a chunk size: what 64 bits need.
const MAX_SIZE_DIGITS: u8 = 16;
/// Bytes of framing that are free. Beyond, framing may be [`OVERHEAD_PER_BYTE`] times the body.
const FREE_OVERHEAD: u64 = 16 * 1024;
/// A body in chunks of one byte has five bytes of framing for each, and such clients exist (a character device
/// behind `curl -T -`). More than eight takes padding: leading zeros or extensions, which nobody needs.
const OVERHEAD_PER_BYTE: u64 = 8;

/// What became of the bytes of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fed {
    /// So many of the bytes, from the first, belong to this message.
    pub used: usize,
    /// The message is complete.
    pub complete: bool,
}

/// Counts a body with a declared length.
#[derive(Debug, Clone, Copy)]
pub struct LengthCounter {
    left: u64,
}

impl LengthCounter {
    /// A body of this length.
    pub const fn new(length: u64) -> Self {
        Self { left: length }
    }

    /// Bytes of the body that are still to come.
    pub const fn left(&self) -> u64 {
        self.left
    }

    /// Takes what belongs to the body.
    pub fn feed(&mut self, bytes: &[u8]) -> Fed {
        let used = usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
        self.left -= used as u64;
        Fed { used, complete: self.left == 0 }
    }
}

/// Where in the framing the next byte is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In the size, after so many digits.
    Size { digits: u8 },
    /// After `;`: the first byte of an extension's name.
    ExtensionName { empty: bool },
    /// After `=`.
    ExtensionValue,
    /// In a value that is a token.
    ExtensionToken,
    /// In a quoted value.
    Quoted,
    /// After a backslash in a quoted value.
    QuotedPair,
    /// After a quoted value.
    AfterQuoted,
    /// After the CR of a size line.
    SizeLf,
    /// In the data of a chunk, with so much of it left (at least 1).
    Data(u64),
    /// After the data.
    DataCr,
    /// After the CR behind the data.
    DataLf,
    /// At the start of a line of the trailer section.
    TrailerStart,
    /// In the name of a trailer.
    TrailerName,
    /// In its value.
    TrailerValue,
    /// After the CR of a trailer.
    TrailerLf,
    /// After the CR of the last empty line.
    LastLf,
    /// Complete.
    Done,
    /// Refused before: stays so.
    Broken(Refusal),
}

/// Checks the framing of a chunked body, whatever the pieces it comes in.
#[derive(Debug, Clone)]
pub struct ChunkValidator {
    state: State,
    /// The size that is being read; whether it is 0 decides what follows its line.
    size: u64,
    body: u64,
    overhead: u64,
    trailers: Trailers,
}

impl ChunkValidator {
    /// A body whose trailers are held to the limits of header fields.
    pub fn new(limits: &Limits) -> Self {
        Self { state: State::Size { digits: 0 }, size: 0, body: 0, overhead: 0, trailers: Trailers::new(limits) }
    }

    /// Bytes of content so far, without framing.
    pub const fn body_bytes(&self) -> u64 {
        self.body
    }

    /// Checks the next bytes.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Fed, Refusal> {
        let mut used = 0;
        loop {
            let (fed, content) = self.next(&bytes[used..])?;
            used += fed.used;
            if fed.complete || content.is_empty() {
                return Ok(Fed { used, complete: fed.complete });
            }
        }
    }

    /// Checks the next bytes up to the end of the first content in them, and says where that is; nowhere, when there is none.
    pub fn next(&mut self, bytes: &[u8]) -> Result<(Fed, Range<usize>), Refusal> {
        let mut used = 0;
        while let Some(&byte) = bytes.get(used) {
            match self.state {
                State::Done => break,
                State::Broken(refusal) => return Err(refusal),
                State::Data(left) => {
                    let from = used;
                    used += self.data(left, bytes.len() - used);
                    return Ok((Fed { used, complete: false }, from..used));
                }
                state => {
                    self.state = self.framing(state, byte).inspect_err(|&refusal| self.state = State::Broken(refusal))?;
                    used += 1;
                }
            }
        }
        Ok((Fed { used, complete: self.state == State::Done }, used..used))
    }

    /// Passes over the data of a chunk, of which so much is here.
    fn data(&mut self, left: u64, here: usize) -> usize {
        let taken = usize::try_from(left).map_or(here, |left| left.min(here));
        let left = left - taken as u64;
        self.body += taken as u64;
        self.state = if left == 0 { State::DataCr } else { State::Data(left) };
        taken
    }

    /// One byte of framing.
    fn framing(&mut self, state: State, byte: u8) -> Result<State, Refusal> {
        self.overhead += 1;
        if self.overhead > FREE_OVERHEAD.saturating_add(self.body.saturating_mul(OVERHEAD_PER_BYTE)) && !state.in_trailers() {
            return Err(Refusal::ChunkOverhead);
        }
        match state {
            State::Size { digits } => self.size(digits, byte),
            State::ExtensionName { .. }
            | State::ExtensionValue
            | State::ExtensionToken
            | State::Quoted
            | State::QuotedPair
            | State::AfterQuoted => extension(state, byte),
            State::SizeLf => self.size_line_ends(byte),
            State::DataCr => expect(byte, b'\r', State::DataLf),
            State::DataLf => {
                self.size = 0;
                expect(byte, b'\n', State::Size { digits: 0 })
            }
            State::LastLf => expect(byte, b'\n', State::Done),
            State::TrailerStart | State::TrailerName | State::TrailerValue | State::TrailerLf => self.trailers.take(state, byte),
            State::Data(_) | State::Done | State::Broken(_) => Ok(state),
        }
    }

    fn size(&mut self, digits: u8, byte: u8) -> Result<State, Refusal> {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            b'\r' if digits > 0 => return Ok(State::SizeLf),
            b';' if digits > 0 => return Ok(State::ExtensionName { empty: true }),
            _ => return Err(Refusal::BadChunk),
        };
        if digits == MAX_SIZE_DIGITS {
            return Err(Refusal::BadChunk);
        }
        self.size = self.size << 4 | u64::from(digit);
        Ok(State::Size { digits: digits + 1 })
    }

    /// A body of 2^63 bytes and more would overflow what somebody counts with.
    fn size_line_ends(&mut self, byte: u8) -> Result<State, Refusal> {
        if self.body.checked_add(self.size).is_none_or(|total| total >= 1 << 63) {
            return Err(Refusal::BadChunk);
        }
        expect(byte, b'\n', if self.size == 0 { State::TrailerStart } else { State::Data(self.size) })
    }
}

impl State {
    fn in_trailers(self) -> bool {
        matches!(self, Self::TrailerStart | Self::TrailerName | Self::TrailerValue | Self::TrailerLf | Self::LastLf)
    }
}

fn expect(byte: u8, wanted: u8, next: State) -> Result<State, Refusal> {
    if byte == wanted { Ok(next) } else { Err(Refusal::BadChunk) }
}

/// `*( ";" chunk-ext-name [ "=" ( token / quoted-string ) ] )`, without the optional white space. Their length is
/// bounded with all other framing.
fn extension(state: State, byte: u8) -> Result<State, Refusal> {
    Ok(match (state, byte) {
        (State::ExtensionName { empty: false } | State::ExtensionToken | State::AfterQuoted, b'\r') => State::SizeLf,
        (State::ExtensionName { empty: false } | State::ExtensionToken | State::AfterQuoted, b';') => {
            State::ExtensionName { empty: true }
        }
        (State::ExtensionName { empty: false }, b'=') => State::ExtensionValue,
        (State::ExtensionName { .. }, _) if is_tchar(byte) => State::ExtensionName { empty: false },
        (State::ExtensionValue, b'"') => State::Quoted,
        (State::ExtensionValue | State::ExtensionToken, _) if is_tchar(byte) => State::ExtensionToken,
        (State::Quoted, b'"') => State::AfterQuoted,
        (State::Quoted, b'\\') => State::QuotedPair,
        (State::Quoted | State::QuotedPair, _) if is_field_value(&[byte]) => State::Quoted,
        _ => return Err(Refusal::BadChunk),
    })
}

/// The longest name that is looked at whole: one that is longer is none of the forbidden ones, whose families
/// (`x-forwarded-`) show in their first bytes.
const NAME_BYTES: usize = 40;

/// The trailer section: its bounds, and the name that is being read.
#[derive(Debug, Clone)]
struct Trailers {
    bytes_left: usize,
    count_left: usize,
    max_line: usize,
    line: usize,
    name: [u8; NAME_BYTES],
    name_len: usize,
}

impl Trailers {
    fn new(limits: &Limits) -> Self {
        Self {
            bytes_left: limits.max_header_bytes,
            count_left: limits.max_header_count,
            max_line: limits.max_field_bytes,
            line: 0,
            name: [0; NAME_BYTES],
            name_len: 0,
        }
    }

    fn take(&mut self, state: State, byte: u8) -> Result<State, Refusal> {
        self.bytes_left = self.bytes_left.checked_sub(1).ok_or(Refusal::TrailersTooLarge)?;
        self.line += usize::from(!matches!(byte, b'\r' | b'\n'));
        if state != State::TrailerStart && self.line > self.max_line {
            return Err(Refusal::TrailersTooLarge);
        }
        match (state, byte) {
            (State::TrailerStart, b'\r') => Ok(State::LastLf),
            (State::TrailerStart, _) => {
                self.count_left = self.count_left.checked_sub(1).ok_or(Refusal::TrailersTooLarge)?;
                (self.line, self.name_len) = (1, 0);
                self.name_byte(byte)
            }
            (State::TrailerName, b':') => {
                let name = &self.name[..self.name_len.min(NAME_BYTES)];
                if is_forbidden_trailer(name) { Err(Refusal::BadTrailer) } else { Ok(State::TrailerValue) }
            }
            (State::TrailerName, _) => self.name_byte(byte),
            (State::TrailerValue, b'\r') => Ok(State::TrailerLf),
            (State::TrailerValue, _) if is_field_value(&[byte]) => Ok(State::TrailerValue),
            (State::TrailerLf, b'\n') => Ok(State::TrailerStart),
            _ => Err(Refusal::BadTrailer),
        }
    }

    fn name_byte(&mut self, byte: u8) -> Result<State, Refusal> {
        if !is_tchar(byte) {
            return Err(Refusal::BadTrailer);
        }
        if let Some(slot) = self.name.get_mut(self.name_len) {
            *slot = byte.to_ascii_lowercase();
        }
        self.name_len += 1;
        Ok(State::TrailerName)
    }
}

#[cfg(test)]
mod tests;
