//! The name in the first message of a TLS client, read from bytes that strangers send, without terminating TLS.
//!
//! The message is a ClientHello (RFC 8446, section 4.1.2) with a `server_name` extension (RFC 6066, section 3). It may be
//! spread over several records (section 5.1) and over as many segments. Own code rather than that of rustls, which takes
//! only what it could serve itself: what versions and ciphers the endpoint accepts is not for us to say. What is wrong
//! with the part that we go by is refused, since the endpoint might read something else in it.

use std::{borrow::Cow, time::Duration};

use crate::types::parse_authority;

/// How long the message may take: as long as a handshake with us.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// The longest message that is read. Browsers send 2 KiB with a post-quantum key, 16 KiB is what OpenSSL takes.
const MAX_HELLO: usize = 16 * 1024;
/// The same with the headers of its records: nobody needs more than a few of them.
const MAX_BYTES: usize = MAX_HELLO + 64 * RECORD_HEADER;
const RECORD_HEADER: usize = 5;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;

/// How far reading got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Hello {
    /// So many bytes are needed at least, from the first one on.
    Part(usize),
    /// The message is whole; the name in it, in lower case.
    Whole(Option<String>),
}

/// Why there is no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadHello {
    /// Another protocol.
    NotTls,
    /// Longer than anybody's.
    TooLong,
    /// It contradicts itself.
    Malformed,
}

impl BadHello {
    /// One word for logs and metrics.
    pub(super) const fn reason(self) -> &'static str {
        match self {
            BadHello::NotTls => "not_tls",
            BadHello::TooLong => "long_client_hello",
            BadHello::Malformed => "bad_client_hello",
        }
    }
}

/// Reads the first bytes of a connection. An error is final: more bytes do not mend it.
pub(super) fn parse(bytes: &[u8]) -> Result<Hello, BadHello> {
    let message = match records(bytes)? {
        Records::Part(needed) => return Ok(Hello::Part(needed)),
        Records::Whole(message) => message,
    };
    name(&message).map(Hello::Whole).ok_or(BadHello::Malformed)
}

enum Records<'a> {
    Part(usize),
    Whole(Cow<'a, [u8]>),
}

/// Joins the handshake message out of its records.
fn records(bytes: &[u8]) -> Result<Records<'_>, BadHello> {
    let mut message = Cow::Borrowed(&[][..]);
    let mut at = 0;
    loop {
        let Some(length) = record(&bytes[at..], at == 0)? else { return Ok(Records::Part(at + RECORD_HEADER)) };
        let content = at + RECORD_HEADER;
        if content + length > MAX_BYTES {
            return Err(BadHello::TooLong);
        }
        // The first bytes of a record tell enough, so that a message too long is refused before it is there.
        let there = &bytes[content..bytes.len().min(content + length)];
        match message.is_empty() {
            true => message = Cow::Borrowed(there),
            false => message.to_mut().extend_from_slice(there),
        }
        if let Some(whole) = message_length(&message)?
            && message.len() >= whole
        {
            // Nothing follows a ClientHello before the server has answered.
            return if message.len() == whole { Ok(Records::Whole(message)) } else { Err(BadHello::Malformed) };
        }
        at = content + length;
        if bytes.len() < at {
            return Ok(Records::Part(at));
        }
    }
}

/// The length of the record that begins here; `None` when its header is not there yet.
fn record(bytes: &[u8], first: bool) -> Result<Option<usize>, BadHello> {
    let other = if first { BadHello::NotTls } else { BadHello::Malformed };
    if bytes.first().is_some_and(|kind| *kind != HANDSHAKE) || bytes.get(1).is_some_and(|major| *major != 3) {
        return Err(other);
    }
    let &[_, _, _, high, low, ..] = bytes else { return Ok(None) };
    match usize::from(u16::from_be_bytes([high, low])) {
        0 => Err(BadHello::Malformed),
        length if length > 16 * 1024 => Err(BadHello::Malformed),
        length => Ok(Some(length)),
    }
}

/// The length of the message with its header; `None` when that is not there yet.
fn message_length(message: &[u8]) -> Result<Option<usize>, BadHello> {
    if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
        return Err(BadHello::Malformed);
    }
    let &[_, high, middle, low, ..] = message else { return Ok(None) };
    let length = 4 + u32::from_be_bytes([0, high, middle, low]) as usize;
    if length > MAX_HELLO { Err(BadHello::TooLong) } else { Ok(Some(length)) }
}

/// The name in a whole message, if it has one. `None` when it is malformed.
fn name(message: &[u8]) -> Option<Option<String>> {
    let mut hello = Reader(message.get(4..)?);
    hello.take(2 + 32)?;
    let (session, ciphers, compressions) = (hello.short()?, hello.long()?, hello.short()?);
    if session.0.len() > 32 || ciphers.0.len() < 2 || ciphers.0.len() % 2 != 0 || compressions.0.is_empty() {
        return None;
    }
    if hello.0.is_empty() {
        // SSL 3.0 had no extensions.
        return Some(None);
    }
    let mut extensions = hello.long()?;
    if !hello.0.is_empty() {
        return None;
    }
    let mut found = None;
    while !extensions.0.is_empty() {
        let (kind, content) = (extensions.number()?, extensions.long()?);
        if kind == SERVER_NAME {
            // Which of two the endpoint would go by, nobody knows.
            if found.is_some() {
                return None;
            }
            found = Some(server_name(content)?);
        }
    }
    Some(found)
}

/// The one name in the extension.
fn server_name(mut extension: Reader<'_>) -> Option<String> {
    let mut names = extension.long()?;
    if !extension.0.is_empty() || names.byte()? != HOST_NAME {
        return None;
    }
    let host = std::str::from_utf8(names.long()?.0).ok()?;
    match parse_authority(host)? {
        (name, None) if names.0.is_empty() && !host.contains([':', '[']) => Some(name.into()),
        _ => None,
    }
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }
    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }
    fn number(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }
    /// A vector with a length of one byte.
    fn short(&mut self) -> Option<Reader<'a>> {
        let length = self.byte()?;
        self.take(length.into()).map(Reader)
    }
    /// A vector with a length of two bytes.
    fn long(&mut self) -> Option<Reader<'a>> {
        let length = self.number()?;
        self.take(length.into()).map(Reader)
    }
}

#[cfg(test)]
mod tests;
