//! The head of an HTTP/1 request, read strictly and without copying.
//!
//! [`scan`] finds the end of a head in a growing buffer; [`parse`] reads it. The parser is our own rather than
//! `httparse`, which takes bare LF, any number of empty lines, and raw bytes above ASCII in a target, and says
//! only "invalid" where we count by reason. The tests hold it against `httparse`: what is accepted here reads
//! the same there.

use bytes::Bytes;
use http::header::{COOKIE, HOST};
use memchr::{memchr, memchr2, memrchr};
use smallvec::SmallVec;

use super::{
    Refusal,
    syntax::{is_field_value, is_tchar, is_token, trim},
};
use crate::types::{Fields, Version, header_map};

/// The longest method: the longest registered one is `UPDATEREDIRECTREF` with 17 bytes.
pub const MAX_METHOD: usize = 32;

/// The longest target and the longest field name that the `http` crate can hold, whatever a listener allows.
pub(super) const MAX_TARGET: usize = u16::MAX as usize - 1;
const MAX_NAME: usize = u16::MAX as usize;

/// What precedes and follows the target in the longest request line: an empty line, the method, two spaces, the version.
const AROUND_TARGET: usize = 2 + MAX_METHOD + 2 + "HTTP/1.1\r\n".len();

/// The largest head of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The whole head, from the first byte through the empty line: 431.
    pub max_header_bytes: usize,
    /// Fields: 431.
    pub max_header_count: usize,
    /// One field line, name and value: 431.
    pub max_field_bytes: usize,
    /// The target: 414.
    pub max_target_bytes: usize,
}

impl Limits {
    /// One field may have half of the whole, the target a quarter: a request that spends more on one thing
    /// leaves no room for what every request carries.
    pub fn new(max_header_bytes: u64, max_header_count: u32) -> Self {
        let bytes = usize::try_from(max_header_bytes).unwrap_or(usize::MAX);
        Self {
            max_header_bytes: bytes,
            max_header_count: usize::try_from(max_header_count).unwrap_or(usize::MAX),
            max_field_bytes: bytes / 2,
            max_target_bytes: (bytes / 4).min(MAX_TARGET),
        }
    }

    /// How far the first line may reach.
    fn first_line(&self) -> usize {
        self.max_target_bytes.saturating_add(AROUND_TARGET)
    }

    /// Holds a head that a library has parsed to the same limits: HTTP/2, where the library bounds only the size of the whole
    /// list. What counts is the request as HTTP/1.1 writes it, so that a limit means the same in both: `:authority` is a Host, and
    /// the cookies, which HTTP/2 may send in any number of fields (RFC 9113 section 8.2.3), are one field.
    pub fn check(&self, request: &http::request::Parts) -> Result<(), Refusal> {
        let target = request.uri.path_and_query().map_or(0, |target| target.as_str().len());
        if target > self.max_target_bytes {
            return Err(Refusal::UriTooLong);
        }
        let mut seen = Seen { limits: self, count: 0, bytes: 0, first: None };
        let mut cookie: Option<usize> = None;
        let named = request.headers.contains_key(HOST);
        if let Some(authority) = request.uri.authority().filter(|_| !named) {
            seen.field("host".len(), authority.as_str().len());
        }
        for (name, value) in &request.headers {
            if *name == COOKIE {
                cookie = Some(cookie.map_or(0, |length| length + "; ".len()) + value.len());
            } else {
                seen.field(name.as_str().len(), value.len());
            }
        }
        if let Some(length) = cookie {
            seen.field("cookie".len(), length);
        }
        let around = request.method.as_str().len() + "  HTTP/1.1\r\n".len() + "\r\n".len();
        if target + around + seen.bytes > self.max_header_bytes {
            return Err(Refusal::HeaderTooLarge);
        }
        seen.first.map_or(Ok(()), Err)
    }

    /// The largest list of fields that an HTTP/2 library should take in, by the count of RFC 9113 section 6.5.2: 32 bytes on top of
    /// each field, which must not refuse what [`Limits::check`] lets through. The second `max_header_bytes` is for cookies in
    /// fields of their own, one for each 32 bytes of it: browsers keep some hundreds for a site, and what a head may make us hold
    /// stays bounded.
    pub fn list_bytes(&self) -> u32 {
        let fields = self.max_header_count.saturating_mul(32);
        u32::try_from(self.max_header_bytes.saturating_mul(2).saturating_add(fields)).unwrap_or(u32::MAX)
    }
}

/// Fields as lines of HTTP/1.1.
struct Seen<'l> {
    limits: &'l Limits,
    count: usize,
    bytes: usize,
    first: Option<Refusal>,
}

impl Seen<'_> {
    fn field(&mut self, name: usize, value: usize) {
        let line = name + ": ".len() + value;
        self.bytes += line + "\r\n".len();
        self.count += 1;
        let refusal = match () {
            () if self.count > self.limits.max_header_count => Refusal::TooManyHeaders,
            () if line > self.limits.max_field_bytes => Refusal::FieldTooLarge,
            () => return,
        };
        self.first.get_or_insert(refusal);
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::new(32 * 1024, 100)
    }
}

/// Looks for the end of a head in a buffer that grows from call to call.
///
/// `scanned` starts at 0 for each request and remembers how far the search came: a client that sends one byte
/// at a time costs linear work. Answers the length of the head including its empty line, or `None` when
/// more bytes are needed. What cannot become a head is refused as soon as it shows.
pub fn scan(buf: &[u8], limits: &Limits, scanned: &mut usize) -> Result<Option<usize>, Refusal> {
    refuse_start(buf)?;
    let end = buf.len().min(limits.max_header_bytes);
    let first_line = limits.first_line();
    while *scanned < end {
        let stop = if *scanned < first_line { first_line.min(end) } else { end };
        let Some(at) = memchr2(b'\n', 0, &buf[*scanned..stop]).map(|at| at + *scanned) else {
            *scanned = stop;
            if stop == first_line && memchr(b'\n', skip_empty_line(&buf[..stop])).is_none() {
                return Err(Refusal::UriTooLong);
            }
            continue;
        };
        *scanned = at + 1;
        match &buf[..at] {
            _ if buf[at] == 0 => return Err(Refusal::NulByte),
            [.., b'\r', b'\n', b'\r'] => return Ok(Some(at + 1)),
            [.., b'\r'] => {}
            _ => return Err(Refusal::BareLf),
        }
    }
    if end < limits.max_header_bytes {
        return Ok(None);
    }
    let in_first_line = memchr(b'\n', skip_empty_line(&buf[..end])).is_none();
    Err(if in_first_line { Refusal::UriTooLong } else { Refusal::HeaderTooLarge })
}

/// One empty line before the request line is tolerated (RFC 9112 section 2.2).
fn skip_empty_line(buf: &[u8]) -> &[u8] {
    buf.strip_prefix(b"\r\n").unwrap_or(buf)
}

/// Refuses what starts like something else than a request.
fn refuse_start(buf: &[u8]) -> Result<(), Refusal> {
    const TLS_HANDSHAKE: u8 = 0x16;
    match skip_empty_line(buf) {
        [] => Ok(()),
        [TLS_HANDSHAKE, ..] => Err(Refusal::TlsOnCleartext),
        [b'\r'] if buf.len() == 1 => Ok(()),
        [b'\n', ..] => Err(Refusal::BareLf),
        [0, ..] => Err(Refusal::NulByte),
        [first, ..] if !is_tchar(*first) => Err(Refusal::LeadingGarbage),
        rest if rest.starts_with(b"PRI * HTTP/2.0\r\n") => Err(Refusal::Http2Preface),
        _ => Ok(()),
    }
}

/// One header field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'b> {
    /// The name, as sent.
    pub name: &'b str,
    /// The value without white space around it.
    pub value: &'b [u8],
}

/// A head over the buffer it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head<'b> {
    /// The method, as sent: a token.
    pub method: &'b str,
    /// The target, as sent: visible ASCII.
    pub target: &'b str,
    /// The version.
    pub version: Version,
    /// The fields in order. A browser sends 10 to 25, which need no allocation.
    fields: SmallVec<[Field<'b>; 28]>,
}

impl<'b> Head<'b> {
    /// The fields in the order they were sent.
    pub fn fields(&self) -> &[Field<'b>] {
        &self.fields
    }

    /// The values of a field in order, whatever the case of its name.
    pub fn values<'s>(&'s self, name: &'s str) -> impl DoubleEndedIterator<Item = &'b [u8]> + 's {
        self.fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    }
}

impl Head<'_> {
    /// The request as policy works on it, for this target. Values share the memory of `source`, which this head was parsed from.
    ///
    /// # Errors
    /// When the `http` crate cannot hold it, which has no form for every target.
    pub fn request(&self, target: &str, source: &Bytes) -> Result<http::request::Parts, Refusal> {
        let (mut parts, ()) = http::Request::new(()).into_parts();
        parts.method = http::Method::from_bytes(self.method.as_bytes()).map_err(|_| Refusal::BadMethod)?;
        // A target that was rewritten is in memory of its own.
        let within = source.as_ptr_range().contains(&target.as_ptr());
        let shared = if within { source.slice_ref(target.as_bytes()) } else { Bytes::copy_from_slice(target.as_bytes()) };
        parts.uri = http::Uri::from_maybe_shared(shared).map_err(|_| Refusal::BadTarget)?;
        parts.version = if self.version == Version::Http10 { http::Version::HTTP_10 } else { http::Version::HTTP_11 };
        // With room for what is added on the way.
        let mut fields = header_map(self.fields.len() + 6);
        for field in &self.fields {
            let name = http::HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Refusal::BadFieldName)?;
            let value = http::HeaderValue::from_maybe_shared(source.slice_ref(field.value));
            fields.append(name, value.map_err(|_| Refusal::BadFieldValue)?);
        }
        parts.headers = fields;
        Ok(parts)
    }
}

impl Fields for Head<'_> {
    fn get(&self, name: &str) -> Option<&[u8]> {
        self.fields.iter().find(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    }
    fn get_all<'a>(&'a self, name: &str) -> Box<dyn Iterator<Item = &'a [u8]> + 'a> {
        let name = name.to_owned();
        Box::new(self.fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(&name)).map(|field| field.value))
    }
    fn each(&self, see: &mut dyn FnMut(&str, &[u8])) {
        self.fields.iter().for_each(|field| see(&field.name.to_ascii_lowercase(), field.value));
    }
}

/// Reads the head that [`scan`] found, exactly: from the first byte through the empty line.
pub fn parse<'b>(head: &'b [u8], limits: &Limits) -> Result<Head<'b>, Refusal> {
    if head.len() > limits.max_header_bytes {
        return Err(Refusal::HeaderTooLarge);
    }
    refuse_start(head)?;
    // Checked once: names are parts of it. A value may have other bytes, and then each name is checked by itself.
    let whole = std::str::from_utf8(head).ok();
    let (line, mut rest) = split_line(skip_empty_line(head))?;
    let (method, target, version) = request_line(line, limits)?;
    let mut fields = SmallVec::new();
    loop {
        let (line, after) = split_line(rest)?;
        rest = after;
        if line.is_empty() {
            break;
        }
        if fields.len() == limits.max_header_count {
            return Err(Refusal::TooManyHeaders);
        }
        if line.len() > limits.max_field_bytes {
            return Err(Refusal::FieldTooLarge);
        }
        fields.push(field(line, head, whole)?);
    }
    if rest.is_empty() { Ok(Head { method, target, version, fields }) } else { Err(Refusal::IncompleteHead) }
}

/// The first line without its CRLF, and what follows.
fn split_line(bytes: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    let at = memchr(b'\n', bytes).ok_or(Refusal::IncompleteHead)?;
    match &bytes[..at] {
        [line @ .., b'\r'] => Ok((line, &bytes[at + 1..])),
        _ => Err(Refusal::BareLf),
    }
}

/// `method SP request-target SP HTTP-version` (RFC 9112 section 3): exactly two spaces.
fn request_line<'b>(line: &'b [u8], limits: &Limits) -> Result<(&'b str, &'b str, Version), Refusal> {
    let space = memchr(b' ', line).ok_or(Refusal::BadRequestLine)?;
    let (method, rest) = (&line[..space], &line[space + 1..]);
    if !is_token(method) {
        return Err(Refusal::BadMethod);
    }
    if method.len() > MAX_METHOD {
        return Err(Refusal::MethodTooLong);
    }
    let space = memrchr(b' ', rest).ok_or(Refusal::Http09)?;
    let (target, version) = (&rest[..space], &rest[space + 1..]);
    let version = match version {
        b"HTTP/1.1" => Version::Http11,
        b"HTTP/1.0" => Version::Http10,
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor] if minor.is_ascii_digit() => Version::Http11,
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
            return Err(Refusal::BadVersion);
        }
        _ => return Err(Refusal::BadRequestLine),
    };
    if target.len() > limits.max_target_bytes {
        return Err(Refusal::UriTooLong);
    }
    if target.is_empty() || !target.iter().all(u8::is_ascii_graphic) {
        return Err(if target.contains(&0) { Refusal::NulByte } else { Refusal::BadTarget });
    }
    Ok((text(method)?, text(target)?, version))
}

/// `field-name ":" OWS field-value OWS` (RFC 9112 section 5).
fn field<'b>(line: &'b [u8], head: &'b [u8], whole: Option<&'b str>) -> Result<Field<'b>, Refusal> {
    let colon = match line.iter().position(|&b| !is_tchar(b)) {
        Some(at) if line[at] == b':' && at > 0 => at,
        Some(0) if matches!(line[0], b' ' | b'\t') => return Err(Refusal::ObsFold),
        Some(at) if at > 0 && matches!(line[at], b' ' | b'\t') && line.contains(&b':') => return Err(Refusal::SpaceBeforeColon),
        _ => return Err(Refusal::BadFieldName),
    };
    if colon > MAX_NAME {
        return Err(Refusal::FieldTooLarge);
    }
    let value = trim(&line[colon + 1..]);
    if !is_field_value(value) {
        return Err(match memchr2(0, b'\r', value) {
            Some(at) if value[at] == 0 => Refusal::NulByte,
            Some(_) => Refusal::BareCr,
            None => Refusal::BadFieldValue,
        });
    }
    let at = line.as_ptr().addr() - head.as_ptr().addr();
    let name = match whole.and_then(|text| text.get(at..at + colon)) {
        Some(name) => name,
        None => text(&line[..colon])?,
    };
    Ok(Field { name, value })
}

/// ASCII that was checked before: the error cannot happen, and is an answer rather than a panic.
fn text(bytes: &[u8]) -> Result<&str, Refusal> {
    std::str::from_utf8(bytes).map_err(|_| Refusal::BadRequestLine)
}
