//! Heads between policy, which knows names in lower case, and Pingora, which writes them to HTTP/1 connections as they were spelt.

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, request, response};
use pingora_core::Result;
use pingora_http::{RequestHeader, ResponseHeader};

use crate::gate::Spelling;

/// A request as Pingora goes on with it.
pub(super) fn request(parts: request::Parts, spelling: &Spelling) -> Result<RequestHeader> {
    if spelling.is_plain() {
        return Ok(RequestHeader::from(parts));
    }
    let mut header = RequestHeader::build(parts.method, b"/", Some(parts.headers.len() + 4))?;
    header.set_uri(parts.uri);
    header.set_version(parts.version);
    spelt(&parts.headers, spelling, |name, value| header.append_header(name, value).map(drop))?;
    Ok(header)
}

/// A response as policy works on it, and how its names were spelt.
pub(super) fn taken(response: &mut ResponseHeader, keeps_case: bool) -> Result<(response::Parts, Spelling)> {
    let spelling = if keeps_case && response.has_case() { spelling(response) } else { Spelling::default() };
    let placeholder = ResponseHeader::build_no_case(response.status, Some(0))?;
    Ok((response::Parts::from(std::mem::replace(response, placeholder)), spelling))
}

/// The same on its way back.
pub(super) fn response(parts: response::Parts, spelling: &Spelling) -> Result<ResponseHeader> {
    if spelling.is_plain() {
        return Ok(ResponseHeader::from(parts));
    }
    let mut header = ResponseHeader::build(parts.status, Some(parts.headers.len() + 4))?;
    header.set_version(parts.version);
    spelt(&parts.headers, spelling, |name, value| header.append_header(name, value).map(drop))?;
    Ok(header)
}

fn spelling(response: &ResponseHeader) -> Spelling {
    let mut names = BytesMut::new();
    let mut ends = Vec::new();
    for (name, _) in response.case_header_iter() {
        names.put_slice(name.as_slice());
        ends.push(names.len());
    }
    let names: Bytes = names.freeze();
    let mut spelling = Spelling::new(names.clone());
    let mut from = 0;
    for end in ends {
        if let Ok(name) = std::str::from_utf8(&names[from..end]) {
            spelling.note(name);
        }
        from = end;
    }
    spelling
}

fn spelt(fields: &HeaderMap, spelling: &Spelling, mut add: impl FnMut(String, http::HeaderValue) -> Result<()>) -> Result<()> {
    let mut hint = 0;
    for (name, value) in fields {
        add(String::from_utf8_lossy(spelling.of(name.as_str(), &mut hint)).into_owned(), value.clone())?;
    }
    Ok(())
}
