//! What can be told of a request that was refused, as far as it was read: for the log, so that somebody finds the client or the
//! page that sends it.
//!
//! Nothing here is trusted or decided on. The bytes may be anything, so whatever does not look like a part of a request is left
//! out, and each part is bounded. The query is not told, as in every log line.

use compact_str::CompactString;
use http::header::{HOST, REFERER, USER_AGENT};

use super::{
    syntax::{is_token, trim},
    target::canonical,
};
use crate::types::Version;

/// The parts of a request that a log line names. Empty or `None` is what could not be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Glimpse {
    /// The version.
    pub http: Option<Version>,
    /// The method.
    pub method: CompactString,
    /// The host as the client sent it, lower case, without a port where it is one.
    pub host: CompactString,
    /// The path: canonical where it can be, else as sent.
    pub path: CompactString,
    /// The user agent.
    pub user_agent: Option<CompactString>,
    /// The referring page.
    pub referer: Option<CompactString>,
}

/// Bytes of a head that are looked at: a head that is too long may be endless.
const LOOKED_AT: usize = 16 * 1024;
/// The longest method and the longest other part that is kept, in bytes. What is longer is cut.
const METHOD: usize = super::head::MAX_METHOD;
const PART: usize = 2048;

impl Glimpse {
    /// Of the bytes of an HTTP/1 connection, from where a request should begin.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        let bytes = &bytes[..bytes.len().min(LOOKED_AT)];
        let bytes = bytes.strip_prefix(b"\r\n").unwrap_or(bytes);
        let mut lines = bytes.split(|&b| b == b'\n');
        let mut seen = Self::default();
        if !seen.request_line(lines.next().unwrap_or_default()) {
            return seen;
        }
        for line in lines {
            let Some(colon) = line.iter().position(|&b| b == b':') else { continue };
            let (name, value) = (trim(&line[..colon]), trim(line[colon + 1..].trim_ascii_end()));
            match name {
                // Of several hosts the first one, below that of an absolute-form.
                _ if name.eq_ignore_ascii_case(b"host") && seen.host.is_empty() => seen.host = host(value),
                _ if name.eq_ignore_ascii_case(b"user-agent") => seen.user_agent = Some(part(value, PART)),
                _ if name.eq_ignore_ascii_case(b"referer") => seen.referer = Some(part(value, PART)),
                _ => {}
            }
        }
        seen
    }

    /// Of a head of this version that a library has parsed.
    pub fn of_parts(parts: &http::request::Parts, version: Version) -> Self {
        let field = |name| parts.headers.get(name).map(http::HeaderValue::as_bytes);
        let authority = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
        Self {
            http: Some(version),
            method: part(parts.method.as_str().as_bytes(), METHOD),
            host: authority.or_else(|| field(HOST)).map(host).unwrap_or_default(),
            path: path(parts.uri.path().as_bytes()),
            user_agent: field(USER_AGENT).map(|value| part(value, PART)),
            referer: field(REFERER).map(|value| part(value, PART)),
        }
    }

    /// False where it is no request line at all.
    fn request_line(&mut self, line: &[u8]) -> bool {
        let line = line.trim_ascii_end();
        let Some(space) = line.iter().position(|&b| b == b' ') else { return false };
        if !is_token(&line[..space]) {
            return false;
        }
        self.method = part(&line[..space], METHOD);
        let rest = &line[space + 1..];
        // The last word is the version, unless there is none: the target may hold spaces, which is what is wrong with it.
        let (target, version) = match rest.iter().rposition(|&b| b == b' ') {
            Some(space) if rest[space + 1..].starts_with(b"HTTP/") => (&rest[..space], &rest[space + 1..]),
            _ => (rest, &b""[..]),
        };
        self.http = match version {
            b"HTTP/1.0" => Some(Version::Http10),
            [b'H', b'T', b'T', b'P', b'/', b'1', b'.', _] => Some(Version::Http11),
            _ => None,
        };
        let absolute = target.windows(3).position(|window| window == b"://").filter(|_| !target.starts_with(b"/"));
        let target = match absolute {
            None => target,
            Some(at) => {
                let rest = &target[at + 3..];
                let end = rest.iter().position(|b| matches!(b, b'/' | b'?' | b'#')).unwrap_or(rest.len());
                self.host = host(&rest[..end]);
                &rest[end..]
            }
        };
        self.path = path(target);
        true
    }
}

fn path(target: &[u8]) -> CompactString {
    let path = target.split(|&b| b == b'?').next().unwrap_or_default();
    match std::str::from_utf8(path).ok().and_then(|path| canonical(path).ok()) {
        Some(canonical) => part(canonical.as_bytes(), PART),
        None => part(path, PART),
    }
}

fn host(value: &[u8]) -> CompactString {
    let mut text = part(value, 255);
    text.make_ascii_lowercase();
    crate::types::parse_authority(&text).map_or(text, |(host, _)| host)
}

/// The text of these bytes, cut.
fn part(bytes: &[u8], most: usize) -> CompactString {
    CompactString::from_utf8_lossy(&bytes[..bytes.len().min(most)])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const V11: Option<Version> = Some(Version::Http11);
    const V10: Option<Version> = Some(Version::Http10);

    fn of(bytes: &str) -> (Option<Version>, String, String, String) {
        let seen = Glimpse::of_bytes(bytes.as_bytes());
        (seen.http, seen.method.into(), seen.host.into(), seen.path.into())
    }

    #[test]
    fn a_refused_request_is_told_as_far_as_it_was_read() {
        for (bytes, (http, method, host, path)) in [
            ("GET /a\\b?secret HTTP/1.1\r\nHost: A.example:80\r\n\r\n", (V11, "GET", "a.example", "/a\\b")),
            ("GET /x/../y HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", (V11, "GET", "a", "/y")),
            ("GET /a b HTTP/1.0\r\nHOST : a b\r\n", (V10, "GET", "a b", "/a b")),
            ("\r\nGET http://B.example/x?y HTTP/1.1\nHost: a\n", (V11, "GET", "b.example", "/x")),
            ("GET /y?u=http://c/ HTTP/1.7\r\nHost: a\r\nHost: b\r\n\r\n", (V11, "GET", "a", "/y")),
            ("BREW /pot\r\n", (None, "BREW", "", "/pot")),
            ("GET /a HTTP/2.0\r\n\r\n", (None, "GET", "", "/a")),
            ("GET", (None, "", "", "")),
            ("\u{16}\u{3}\u{1} x", (None, "", "", "")),
            ("", (None, "", "", "")),
        ] {
            assert_eq!(of(bytes), (http, method.to_owned(), host.to_owned(), path.to_owned()), "{bytes:?}");
        }
        let seen = Glimpse::of_bytes(b"GET / HTTP/1.1\r\nUser-Agent: curl/8\r\nX: \x01\r\nReferer:  /page\t\r\nUser-Ag");
        assert_eq!((seen.user_agent.as_deref(), seen.referer.as_deref()), (Some("curl/8"), Some("/page")));
    }

    #[test]
    fn a_client_does_not_decide_how_much_is_kept() {
        let long = "x".repeat(100_000);
        let seen = Glimpse::of_bytes(format!("{long} /{long} HTTP/1.1\r\n").as_bytes());
        assert_eq!(seen, Glimpse::default(), "no request line within what is looked at");
        let seen = Glimpse::of_bytes(format!("GET /{} HTTP/1.1\r\nUser-Agent: {}\r\n", &long[..9000], &long[..5000]).as_bytes());
        assert_eq!((seen.path.len(), seen.user_agent.map(|agent| agent.len())), (PART, Some(PART)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200), line in any::<bool>()) {
            let bytes = [if line { &b"GET /"[..] } else { b"" }, &bytes].concat();
            let seen = Glimpse::of_bytes(&bytes);
            prop_assert!(seen.method.len() <= METHOD && seen.path.len() <= 3 * PART);
        }
    }
}
