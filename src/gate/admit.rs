//! From a request head to what the rest of Weir works on, or a refusal.
//!
//! Framing, Host, target, method, Expect and Upgrade, by RFC 9112 sections 3 and 6, RFC 9110 sections 7 and 10, and RFC
//! 9113 section 8. Fields are read once, in one pass, into the few that matter here.

use compact_str::{CompactString, format_compact};
use http::{HeaderMap, Uri};
use memchr::memchr;

use super::{
    Refusal,
    head::{Head, MAX_TARGET},
    hop::{CONNECTION_FIELDS, is_suspicious},
    syntax::{digits, elements, is_token, trim},
    target::{self, canonical},
};
use crate::types::{Version, parse_authority};

/// A host and its port.
type Authority = (CompactString, Option<u16>);

/// How the end of the request body is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyFraming {
    /// There is no body.
    None,
    /// Exactly so many bytes.
    Length(u64),
    /// HTTP/1 chunks.
    Chunked,
    /// HTTP/2 without a content-length: until END_STREAM, which may have come with the head.
    Stream,
}

/// A protocol that a connection may be upgraded to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upgrade {
    /// RFC 6455.
    Websocket,
}

/// A request that may go on to routing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// The host, lower case, without a port. Empty for an HTTP/1.0 request that names none.
    pub host: CompactString,
    /// The port that the client named.
    pub port: Option<u16>,
    /// The canonical path; `*` for the asterisk-form of OPTIONS.
    pub path: CompactString,
    /// The query without its `?`, as it is forwarded.
    pub query: Option<CompactString>,
    /// Where the body ends.
    pub body: BodyFraming,
    /// May the connection be used again? HTTP/2 connections always may.
    pub keep_alive: bool,
    /// The protocol to upgrade to, if the endpoint agrees.
    pub upgrade: Option<Upgrade>,
    /// The client waits for `100 Continue` before it sends the body.
    pub expect_continue: bool,
    /// The version it came in.
    pub http: Version,
    /// What to send as the target when the client's was in absolute-form, or holds what goes on percent-encoded.
    pub origin_form: Option<String>,
    /// Names with `_` are present, or others that services may take for what they are not: see [`super::UnderscoreFields`].
    pub underscores: bool,
    /// Max-Forwards of an OPTIONS request; other methods ignore it. More than 255 counts as 255, which RFC
    /// 9110 section 7.6.2 allows.
    pub max_forwards: Option<u8>,
}

impl Admitted {
    /// Host and port as the client named them; empty where it named none.
    pub fn authority(&self) -> CompactString {
        match self.port {
            None => self.host.clone(),
            Some(port) => format_compact!("{}:{port}", self.host),
        }
    }
}

/// Judges an HTTP/1 request. `secure` says whether the connection is TLS.
pub fn admit_h1(head: &Head<'_>, secure: bool) -> Result<Admitted, Refusal> {
    refuse_method(head.method)?;
    let facts = Facts::of(head)?;
    let body = facts.framing(head.version)?;
    let upgrade = facts.upgrade(head, body)?;
    let target = Target::of(head, secure)?;
    let (host, port) = facts.host(head.version, target.authority)?;
    Ok(Admitted {
        host,
        port,
        path: target.path,
        query: target.query.map(target::written_query),
        body,
        keep_alive: facts.keep_alive(head.version),
        upgrade,
        expect_continue: facts.expect_continue(head.version, body)?,
        http: head.version,
        origin_form: target.origin_form,
        underscores: facts.underscores,
        max_forwards: max_forwards(head.method, facts.max_forwards)?,
    })
}

/// Judges a request of HTTP/2 or HTTP/3 that the library has taken apart. Pseudo-header fields, lower-case names and the declared length
/// against the DATA frames were checked; the rest is here.
pub fn admit_stream(parts: &http::request::Parts, version: Version) -> Result<Admitted, Refusal> {
    refuse_method(parts.method.as_str())?;
    refuse_connection_fields(&parts.headers)?;
    let (host, port) = h2_host(&parts.uri, &parts.headers)?;
    let path = match parts.uri.path() {
        "*" if parts.method == http::Method::OPTIONS => "*".into(),
        path => canonical(path)?.into(),
    };
    if let Some(query) = parts.uri.query() {
        check_query(query)?;
    }
    let body = match only(&parts.headers, "content-length", Refusal::DuplicateContentLength)? {
        None => BodyFraming::Stream,
        Some(value) => BodyFraming::Length(digits(value).ok_or(Refusal::BadContentLength)?),
    };
    let mut expect = false;
    for value in parts.headers.get_all("expect") {
        expect |= expects_continue(value.as_bytes())?;
    }
    let forwards = parts.headers.get("max-forwards").map(http::HeaderValue::as_bytes);
    Ok(Admitted {
        host,
        port,
        path,
        query: parts.uri.query().map(CompactString::from),
        body,
        keep_alive: true,
        upgrade: None,
        expect_continue: expect && body != BodyFraming::Length(0),
        http: version,
        origin_form: None,
        underscores: parts.headers.keys().any(|name| is_suspicious(name.as_str())),
        max_forwards: max_forwards(parts.method.as_str(), forwards)?,
    })
}

/// TRACE shows a client the fields that we add (RFC 9110 section 9.3.8), CONNECT would make a tunnel of us.
fn refuse_method(method: &str) -> Result<(), Refusal> {
    if matches!(method, "TRACE" | "CONNECT") { Err(Refusal::MethodNotAllowed) } else { Ok(()) }
}

/// The fields that the gate reads, each in the one value that it may have.
#[derive(Default)]
struct Facts<'h> {
    host: Option<&'h [u8]>,
    content_length: Option<&'h [u8]>,
    transfer_encoding: Option<Result<(), Refusal>>,
    close: bool,
    keep: bool,
    connection_upgrade: bool,
    websocket: bool,
    expect: Option<Result<(), Refusal>>,
    max_forwards: Option<&'h [u8]>,
    underscores: bool,
}

impl<'h> Facts<'h> {
    /// One pass; the length of a name rules out almost every comparison.
    fn of(head: &Head<'h>) -> Result<Self, Refusal> {
        let mut facts = Self::default();
        for field in head.fields() {
            let is = |name: &str| field.name.eq_ignore_ascii_case(name);
            match field.name.len() {
                4 if is("host") && facts.host.replace(field.value).is_some() => return Err(Refusal::DuplicateHost),
                6 if is("expect") => {
                    let sound = facts.expect.unwrap_or(Ok(()));
                    facts.expect = Some(sound.and(expects_continue(field.value).map(|_| ())));
                }
                7 if is("upgrade") => {
                    facts.websocket |= elements(field.value).any(|protocol| protocol.eq_ignore_ascii_case(b"websocket"));
                }
                10 if is("connection") => facts.connection(field.value),
                12 if is("max-forwards") => facts.max_forwards = Some(field.value),
                14 if is("content-length") && facts.content_length.replace(field.value).is_some() => {
                    return Err(Refusal::DuplicateContentLength);
                }
                17 if is("transfer-encoding") => {
                    let coding = chunked(field.value);
                    let again = if coding.is_ok() { Err(Refusal::BadTransferEncoding) } else { coding };
                    facts.transfer_encoding = Some(facts.transfer_encoding.map_or(coding, |before| before.and(again)));
                }
                _ => {}
            }
            facts.underscores |= is_suspicious(field.name);
        }
        Ok(facts)
    }

    /// The options that concern us. What others nominate is removed later, by `gate::hop`.
    fn connection(&mut self, value: &[u8]) {
        for option in elements(value) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep |= option.eq_ignore_ascii_case(b"keep-alive");
            self.connection_upgrade |= option.eq_ignore_ascii_case(b"upgrade");
        }
    }

    /// RFC 9112 section 6.3, without its tolerance.
    fn framing(&self, version: Version) -> Result<BodyFraming, Refusal> {
        match (self.transfer_encoding, self.content_length) {
            (Some(_), Some(_)) => Err(Refusal::TeAndCl),
            (Some(_), None) if version == Version::Http10 => Err(Refusal::TeOnHttp10),
            (Some(coding), None) => coding.map(|()| BodyFraming::Chunked),
            (None, Some(value)) => digits(value).map(BodyFraming::Length).ok_or(Refusal::BadContentLength),
            (None, None) => Ok(BodyFraming::None),
        }
    }

    /// RFC 9110 section 7.8: what is not honoured is ignored, and `gate::hop` removes it. A body would be sent before
    /// the protocol is agreed on, and its bytes could be taken for the new protocol's.
    fn upgrade(&self, head: &Head<'_>, body: BodyFraming) -> Result<Option<Upgrade>, Refusal> {
        if !self.websocket || !self.connection_upgrade || head.method != "GET" || head.version != Version::Http11 {
            return Ok(None);
        }
        match body {
            BodyFraming::None | BodyFraming::Length(0) => Ok(Some(Upgrade::Websocket)),
            _ => Err(Refusal::UpgradeWithBody),
        }
    }

    /// HTTP/1.0 has no Host (RFC 1945), so its clients may leave it out: RFC 9112 section 3.2 requires it of 1.1. The target's own
    /// authority is the one that counts, and must be the same.
    fn host(&self, version: Version, target: Option<(&'static str, &str)>) -> Result<Authority, Refusal> {
        let host = match self.host {
            Some(value) => Some(authority(value)?),
            None if version == Version::Http10 => None,
            None => return Err(Refusal::MissingHost),
        };
        let Some((scheme, text)) = target else { return Ok(host.unwrap_or_default()) };
        let named = parse_authority(text).ok_or(Refusal::BadTarget)?;
        match host {
            Some(host) if !same_authority(scheme, &named, &host) => Err(Refusal::HostMismatch),
            _ => Ok(named),
        }
    }

    /// RFC 9112 section 9.3.
    fn keep_alive(&self, version: Version) -> bool {
        !self.close && (version == Version::Http11 || self.keep)
    }

    /// An expectation of an HTTP/1.0 client is ignored, and one without a body is met (RFC 9110 section 10.1.1).
    fn expect_continue(&self, version: Version, body: BodyFraming) -> Result<bool, Refusal> {
        match self.expect {
            Some(expectation) if version == Version::Http11 => {
                expectation.map(|()| !matches!(body, BodyFraming::None | BodyFraming::Length(0)))
            }
            _ => Ok(false),
        }
    }
}

/// Is this exactly `chunked`, once?
fn chunked(value: &[u8]) -> Result<(), Refusal> {
    let mut codings = 0;
    let mut chunked = 0;
    for coding in elements(value) {
        let name = coding.split(|&b| b == b';').next().map(trim).unwrap_or_default();
        if !is_token(name) {
            return Err(Refusal::BadTransferEncoding);
        }
        codings += 1;
        chunked += u32::from(coding.eq_ignore_ascii_case(b"chunked"));
    }
    match (codings, chunked) {
        (1, 1) => Ok(()),
        (_, 0 | 1) => Err(Refusal::UnknownTransferCoding),
        _ => Err(Refusal::BadTransferEncoding),
    }
}

/// Is this the one expectation there is?
fn expects_continue(value: &[u8]) -> Result<bool, Refusal> {
    if value.eq_ignore_ascii_case(b"100-continue") { Ok(true) } else { Err(Refusal::BadExpectation) }
}

/// OPTIONS is the only method left that Max-Forwards is for.
fn max_forwards(method: &str, value: Option<&[u8]>) -> Result<Option<u8>, Refusal> {
    match value {
        Some(value) if method == "OPTIONS" => {
            let number = digits(value).ok_or(Refusal::BadMaxForwards)?;
            Ok(Some(u8::try_from(number).unwrap_or(u8::MAX)))
        }
        _ => Ok(None),
    }
}

fn authority(value: &[u8]) -> Result<Authority, Refusal> {
    std::str::from_utf8(value).ok().and_then(parse_authority).ok_or(Refusal::BadHost)
}

/// Compares hosts and the ports they come down to.
fn same_authority(scheme: &str, one: &Authority, other: &Authority) -> bool {
    let default = if scheme == "https" { 443 } else { 80 };
    one.0 == other.0 && one.1.unwrap_or(default) == other.1.unwrap_or(default)
}

/// A request target taken apart (RFC 9112 section 3.2).
struct Target<'h> {
    /// The scheme and authority of an absolute-form.
    authority: Option<(&'static str, &'h str)>,
    path: CompactString,
    query: Option<&'h str>,
    origin_form: Option<String>,
}

impl<'h> Target<'h> {
    fn of(head: &Head<'h>, secure: bool) -> Result<Self, Refusal> {
        match head.target {
            "*" if head.method == "OPTIONS" => Ok(Self { authority: None, path: "*".into(), query: None, origin_form: None }),
            target if target.starts_with('/') => Self::origin(target),
            target => Self::absolute(target, head.method, secure),
        }
    }

    fn origin(target: &'h str) -> Result<Self, Refusal> {
        let (path, query) = split_query(target)?;
        let origin_form = written(target)?;
        Ok(Self { authority: None, path: canonical(path)?.into(), query, origin_form })
    }

    /// The scheme must be the connection's: RFC 9110 section 7.4 has an https request outside TLS refused, and an
    /// http one inside TLS would be routed and cached under the wrong scheme.
    fn absolute(target: &'h str, method: &str, secure: bool) -> Result<Self, Refusal> {
        let (scheme, rest) = target.split_once("://").ok_or_else(|| not_a_form(target))?;
        let scheme = match scheme {
            _ if scheme.eq_ignore_ascii_case("http") => "http",
            _ if scheme.eq_ignore_ascii_case("https") => "https",
            _ => return Err(not_a_form(target)),
        };
        if secure != (scheme == "https") {
            return Err(Refusal::Misdirected);
        }
        let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        // A missing path is `/`, and for OPTIONS the last proxy sends `*` (RFC 9112 section 3.2.4).
        let origin_form = match rest {
            "" if method == "OPTIONS" => "*".to_owned(),
            _ if rest.starts_with('/') => rest.to_owned(),
            _ => format!("/{rest}"),
        };
        let (path, query) = split_query(rest)?;
        let origin_form = written(&origin_form)?.unwrap_or(origin_form);
        let path = match path {
            "" if origin_form == "*" => "*".into(),
            "" => "/".into(),
            _ => canonical(path)?.into(),
        };
        Ok(Self { authority: Some((scheme, authority)), path, query, origin_form: Some(origin_form) })
    }
}

/// The target as it goes on, where that is not as it came. Encoded it may be too long for the `http` crate.
fn written(target: &str) -> Result<Option<String>, Refusal> {
    match target::written(target) {
        Some(written) if written.len() > MAX_TARGET => Err(Refusal::UriTooLong),
        written => Ok(written),
    }
}

/// Why a target has none of the four forms.
fn not_a_form(target: &str) -> Refusal {
    target.bytes().find(|b| matches!(b, b'#' | b'\\')).map_or(Refusal::BadTarget, target::refuse)
}

/// Path and query. The query is opaque to us: all visible ASCII passes, as browsers and scripts send it.
fn split_query(target: &str) -> Result<(&str, Option<&str>), Refusal> {
    match memchr(b'?', target.as_bytes()) {
        None => Ok((target, None)),
        Some(at) => check_query(&target[at + 1..]).map(|()| (&target[..at], Some(&target[at + 1..]))),
    }
}

/// A `%` without digits passes (`?discount=50%` is common and harmless), and so does `%5c`; `%00` does not: it ends
/// a string in the languages that services are written in.
fn check_query(query: &str) -> Result<(), Refusal> {
    if let Some(byte) = query.bytes().find(|b| !b.is_ascii_graphic() || *b == b'#') {
        return Err(target::refuse(byte));
    }
    if query.contains("%00") { Err(Refusal::NulInTarget) } else { Ok(()) }
}

/// The value of a field that may be there once.
fn only<'h>(fields: &'h HeaderMap, name: &str, twice: Refusal) -> Result<Option<&'h [u8]>, Refusal> {
    let mut values = fields.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() { Err(twice) } else { Ok(first.map(http::HeaderValue::as_bytes)) }
}

/// `:authority`, or `host` when there is none; both must agree (RFC 9113 section 8.3.1).
fn h2_host(uri: &Uri, fields: &HeaderMap) -> Result<Authority, Refusal> {
    let field = only(fields, "host", Refusal::DuplicateHost)?.map(authority).transpose()?;
    match (uri.authority(), field) {
        (None, None) => Err(Refusal::MissingHost),
        (None, Some(host)) => Ok(host),
        (Some(text), field) => {
            let named = parse_authority(text.as_str()).ok_or(Refusal::BadHost)?;
            match field {
                Some(host) if !same_authority(uri.scheme_str().unwrap_or("https"), &named, &host) => Err(Refusal::HostMismatch),
                _ => Ok(named),
            }
        }
    }
}

/// RFC 9113 section 8.2.2: a request with these is malformed, because it was translated by somebody careless.
fn refuse_connection_fields(fields: &HeaderMap) -> Result<(), Refusal> {
    let te = fields.get_all("te").iter().all(|value| value.as_bytes().eq_ignore_ascii_case(b"trailers"));
    if te && !CONNECTION_FIELDS.iter().any(|name| fields.contains_key(name)) { Ok(()) } else { Err(Refusal::ConnectionField) }
}

#[cfg(test)]
mod tests;
