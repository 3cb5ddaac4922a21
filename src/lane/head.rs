//! Heads of HTTP/1 messages: written for the endpoint and the client, read from the endpoint.

use std::{cell::RefCell, mem::MaybeUninit, time::SystemTime};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts};
use smallvec::SmallVec;

use crate::{
    exchange::{Exchange, Plan},
    gate::{
        BodyFraming, Spelling, Version,
        response::{MAX_FIELDS, MAX_HEAD, parser},
    },
    types::{Fields, FieldsMut, header_map},
    upstream::Fault,
};

/// The head of a response that came from an endpoint.
#[derive(Debug)]
pub(super) struct ResponseHead {
    pub(super) status: StatusCode,
    pub(super) version: Version,
    pub(super) fields: HeaderMap,
    pub(super) spelling: Spelling,
    /// The endpoint keeps the connection open behind it.
    pub(super) keeps_alive: bool,
}

/// Reads the head of a response, and how many bytes it has. `None` when more of them are needed.
///
/// # Errors
/// When it is nothing of HTTP.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<(ResponseHead, usize)>, Fault> {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut []);
    let length = match parser().parse_response_with_uninit_headers(&mut response, bytes, &mut fields) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD => return Ok(None),
        Ok(httparse::Status::Partial) | Err(_) => return Err(Fault::NotHttp),
    };
    let head = read(&response, bytes, length).ok_or(Fault::NotHttp)?;
    Ok(Some((head, length)))
}

fn read(response: &httparse::Response<'_, '_>, bytes: &[u8], length: usize) -> Option<ResponseHead> {
    let version = if response.version == Some(0) { Version::Http10 } else { Version::Http11 };
    let status = StatusCode::from_u16(response.code?).ok()?;
    let head = Bytes::copy_from_slice(&bytes[..length]);
    let own = |part: &[u8]| {
        let at = part.as_ptr().addr() - bytes.as_ptr().addr();
        head.slice(at..at + part.len())
    };
    let mut fields = header_map(response.headers.len() + 4);
    let mut spelling = Spelling::new(head.clone());
    let (mut close, mut keep) = (false, false);
    for field in response.headers.iter() {
        let at = field.name.as_ptr().addr() - bytes.as_ptr().addr();
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        if let Ok(spelt) = std::str::from_utf8(&head[at..at + field.name.len()]) {
            spelling.note(spelt);
        }
        if name == header::CONNECTION {
            for option in field.value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                close |= option.eq_ignore_ascii_case(b"close");
                keep |= option.eq_ignore_ascii_case(b"keep-alive");
            }
        }
        fields.append(name, value(field.value, own)?);
    }
    let keeps_alive = !close && (version == Version::Http11 || keep);
    Some(ResponseHead { status, version, fields, spelling, keeps_alive })
}

/// A value. A line break within it is a fold, which is as good as a space (RFC 9112 section 5.2).
fn value(bytes: &[u8], own: impl Fn(&[u8]) -> Bytes) -> Option<HeaderValue> {
    if !bytes.contains(&b'\n') {
        return HeaderValue::from_maybe_shared(own(bytes)).ok();
    }
    let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).collect();
    HeaderValue::from_bytes(&lines.join(&b' ')).ok()
}

/// The request's fields for one attempt: what is added for it stands beside what is the same for all.
struct Onward<'a> {
    fields: &'a HeaderMap,
    /// The host where no field names it: `:authority` of HTTP/2.
    authority: Option<&'a str>,
    added: SmallVec<[(HeaderName, HeaderValue); 4]>,
    /// Those that are not written as they are in `fields`.
    hidden: SmallVec<[HeaderName; 4]>,
}

impl Fields for Onward<'_> {
    fn get(&self, name: &str) -> Option<&[u8]> {
        let authority = || self.authority.filter(|_| name == header::HOST.as_str()).map(str::as_bytes);
        Fields::get(self.fields, name).or_else(authority)
    }
    fn get_all<'a>(&'a self, name: &str) -> Box<dyn Iterator<Item = &'a [u8]> + 'a> {
        Fields::get_all(self.fields, name)
    }
    fn each(&self, see: &mut dyn FnMut(&str, &[u8])) {
        self.fields.each(see);
    }
}

impl FieldsMut for Onward<'_> {
    fn set(&mut self, name: HeaderName, value: HeaderValue) {
        self.hidden.push(name.clone());
        self.added.push((name, value));
    }
    fn append(&mut self, name: HeaderName, value: HeaderValue) {
        self.added.push((name, value));
    }
    fn remove(&mut self, name: &HeaderName) {
        self.hidden.push(name.clone());
    }
}

const CHUNKED: HeaderValue = HeaderValue::from_static("chunked");

/// Writes the head of a request for the attempt under way.
pub(super) fn write_request(out: &mut BytesMut, request: &Parts, exchange: &Exchange, spelling: &Spelling) {
    let authority = request.uri.authority().map(|authority| authority.as_str());
    let authority = authority.filter(|_| !request.headers.contains_key(header::HOST));
    let mut onward = Onward { fields: &request.headers, authority, added: SmallVec::new(), hidden: SmallVec::new() };
    exchange.onward(&mut onward);
    let target = match &exchange.rewritten {
        Some(target) => target.as_str(),
        None => request.uri.path_and_query().map_or("/", |target| target.as_str()),
    };
    for part in [request.method.as_str(), " ", target, " HTTP/1.1\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    if let Some(authority) = authority.filter(|_| !onward.hidden.contains(&header::HOST)) {
        for part in ["host: ", authority, "\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
    }
    if exchange.admitted.body == BodyFraming::Stream {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    let mut hint = 0;
    for (name, value) in &request.headers {
        // What is left of TE says that the client takes trailers, for which there is no way through here.
        if *name == header::TE || onward.hidden.contains(name) {
            continue;
        }
        let spelt = spelling.of(name.as_str(), &mut hint);
        // The one coding there is, whose case a client may choose and a server may not know.
        let value = if *name == header::TRANSFER_ENCODING { &CHUNKED } else { value };
        field(out, spelt, value);
    }
    for (name, value) in &onward.added {
        field(out, spelling.of(name.as_str(), &mut hint), value);
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes the head of an interim response.
pub(super) fn write_interim(out: &mut BytesMut, status: StatusCode, fields: &HeaderMap, spelling: &Spelling) {
    line(out, status);
    write_fields(out, fields, spelling);
    out.extend_from_slice(b"\r\n");
}

/// Writes the head of a final response, or of one that opens a tunnel.
pub(super) fn write_response(
    out: &mut BytesMut,
    status: StatusCode,
    fields: &HeaderMap,
    spelling: &Spelling,
    plan: &Plan,
    version: Version,
) {
    line(out, status);
    write_fields(out, fields, spelling);
    if !fields.contains_key(header::DATE) {
        field(out, b"date", &date());
    }
    if status != StatusCode::SWITCHING_PROTOCOLS {
        out.extend_from_slice(match (plan.keep_alive, version) {
            (false, _) => b"connection: close\r\n",
            (true, Version::Http10) => b"connection: keep-alive\r\n",
            (true, _) => b"",
        });
    }
    out.extend_from_slice(b"\r\n");
}

fn line(out: &mut BytesMut, status: StatusCode) {
    out.reserve(512);
    if status == StatusCode::OK {
        return out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.extend_from_slice(b" ");
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn write_fields(out: &mut BytesMut, fields: &HeaderMap, spelling: &Spelling) {
    let mut hint = 0;
    for (name, value) in fields {
        field(out, spelling.of(name.as_str(), &mut hint), value);
    }
}

fn field(out: &mut BytesMut, name: &[u8], value: &HeaderValue) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// The date of now in the form of RFC 9110 section 5.6.7, made once in a second.
pub(super) fn date() -> HeaderValue {
    thread_local! {
        static DATE: RefCell<(u64, HeaderValue)> = const { RefCell::new((0, HeaderValue::from_static(""))) };
    }
    let now = SystemTime::now();
    let second = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    DATE.with_borrow_mut(|(made, value)| {
        if *made != second
            && let Ok(written) = HeaderValue::try_from(httpdate::fmt_http_date(now))
        {
            (*made, *value) = (second, written);
        }
        value.clone()
    })
}
