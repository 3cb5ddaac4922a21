//! What a response of a service must be before a client gets it.
//!
//! A response that two recipients could cut in two places poisons the cache or the connection behind it, so it becomes a
//! 502, and the connection it came on is closed.

use http::HeaderMap;

use super::{Version, hop::is_forbidden_trailer, syntax::digits};
use crate::types::Cause;

/// How the end of a response body is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseFraming {
    /// There is none, whatever the fields say (they describe what a GET would have had).
    None,
    /// Exactly so many bytes.
    Length(u64),
    /// HTTP/1 chunks.
    Chunked,
    /// All until the connection closes: the connection cannot be used again, and truncation cannot be seen.
    UntilClose,
}

/// Why a response was not passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum BadResponse {
    /// A status outside 100 to 599, which is no class that a client knows.
    #[error("bad_status")]
    Status,
    /// A 101 that nobody asked for, or to another protocol.
    #[error("unasked_upgrade")]
    UnaskedUpgrade,
    /// Both Transfer-Encoding and Content-Length.
    #[error("te_and_cl")]
    TeAndCl,
    /// A Content-Length that is not one number, or more than one of them.
    #[error("bad_content_length")]
    ContentLength,
    /// A transfer coding other than exactly `chunked`, or any where none may be.
    #[error("bad_transfer_encoding")]
    TransferEncoding,
    /// A trailer that frames, routes or authenticates.
    #[error("bad_trailer")]
    Trailer,
}

impl BadResponse {
    /// The word in the log and in the metric label.
    pub const fn reason(self) -> &'static str {
        match self {
            BadResponse::Status => "bad_status",
            BadResponse::UnaskedUpgrade => "unasked_upgrade",
            BadResponse::TeAndCl => "te_and_cl",
            BadResponse::ContentLength => "bad_content_length",
            BadResponse::TransferEncoding => "bad_transfer_encoding",
            BadResponse::Trailer => "bad_trailer",
        }
    }

    /// The RFC 9209 error type: 502.
    pub const fn cause(self) -> Cause {
        Cause::HttpProtocolError
    }
}

/// Judges the trailers of a message over HTTP/2: the library has seen to the syntax of names and values.
pub fn admit_trailers(trailers: &HeaderMap) -> Result<(), BadResponse> {
    match trailers.keys().any(|name| is_forbidden_trailer(name.as_str().as_bytes())) {
        true => Err(BadResponse::Trailer),
        false => Ok(()),
    }
}

/// Fields of a response, and bytes of its head. What is larger is taken for something else than HTTP.
pub const MAX_FIELDS: usize = 256;
/// See [`MAX_FIELDS`].
pub const MAX_HEAD: usize = 256 * 1024;

/// How heads of responses are parsed: with the tolerance that Pingora has, so that whoever looks at one sees what is passed on.
pub fn parser() -> httparse::ParserConfig {
    let mut config = httparse::ParserConfig::default();
    config.allow_spaces_after_header_name_in_responses(true).allow_obsolete_multiline_headers_in_responses(true);
    config
}

/// May the response to this method with this status have a body (RFC 9110 section 6.4.1)?
pub fn has_body(method: &str, status: u16) -> bool {
    method != "HEAD" && !matches!(status, 100..=199 | 204 | 304)
}

/// Judges the head of a response to an HTTP/1 request of ours. `upgrading` says that the request asked for an upgrade.
pub fn admit_response(
    method: &str,
    status: u16,
    version: Version,
    upgrading: bool,
    fields: &HeaderMap,
) -> Result<ResponseFraming, BadResponse> {
    match status {
        // HTTP/1.0 knows no upgrades (RFC 9110 section 7.8).
        101 if !upgrading || version == Version::Http10 || !to_websocket(fields) => return Err(BadResponse::UnaskedUpgrade),
        100..=599 => {}
        _ => return Err(BadResponse::Status),
    }
    let length = content_length(fields)?;
    let chunked = chunked(fields)?;
    match (chunked, length) {
        (true, Some(_)) => Err(BadResponse::TeAndCl),
        // RFC 9112 section 6.1: not with 1xx and 204, and not by HTTP/1.0.
        (true, None) if version == Version::Http10 || matches!(status, 100..=199 | 204) => Err(BadResponse::TransferEncoding),
        _ if !has_body(method, status) => Ok(ResponseFraming::None),
        (true, None) => Ok(ResponseFraming::Chunked),
        (false, Some(length)) => Ok(ResponseFraming::Length(length)),
        (false, None) => Ok(ResponseFraming::UntilClose),
    }
}

/// Websocket is the one protocol that is ever asked for.
fn to_websocket(fields: &HeaderMap) -> bool {
    let mut protocols = fields.get_all("upgrade").iter();
    protocols.next().is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket")) && protocols.next().is_none()
}

fn content_length(fields: &HeaderMap) -> Result<Option<u64>, BadResponse> {
    let mut values = fields.get_all("content-length").iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => digits(value.as_bytes()).map(Some).ok_or(BadResponse::ContentLength),
        (Some(_), Some(_)) => Err(BadResponse::ContentLength),
    }
}

fn chunked(fields: &HeaderMap) -> Result<bool, BadResponse> {
    let mut values = fields.get_all("transfer-encoding").iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(false),
        (Some(value), None) if value.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(true),
        _ => Err(BadResponse::TransferEncoding),
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn judge(method: &str, status: u16, lines: &[(&'static str, &'static str)]) -> Result<ResponseFraming, BadResponse> {
        let mut fields = HeaderMap::new();
        for (name, value) in lines {
            fields.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        admit_response(method, status, Version::Http11, false, &fields)
    }

    const CL: (&str, &str) = ("content-length", "5");
    const TE: (&str, &str) = ("transfer-encoding", "chunked");

    #[test]
    fn rfc9112_6_3_the_end_of_a_response_is_known_in_one_way() {
        assert_eq!(judge("GET", 200, &[CL]), Ok(ResponseFraming::Length(5)));
        assert_eq!(judge("GET", 200, &[TE]), Ok(ResponseFraming::Chunked));
        assert_eq!(judge("GET", 200, &[]), Ok(ResponseFraming::UntilClose));
        assert_eq!(judge("GET", 200, &[CL, TE]), Err(BadResponse::TeAndCl));
        assert_eq!(judge("GET", 200, &[CL, CL]), Err(BadResponse::ContentLength));
        assert_eq!(judge("GET", 200, &[TE, TE]), Err(BadResponse::TransferEncoding));
        for length in ["", "-1", "+5", "5, 5", "5 5", "0x5", "9223372036854775808"] {
            assert_eq!(judge("GET", 200, &[("content-length", length)]), Err(BadResponse::ContentLength), "{length}");
        }
        for coding in ["", "gzip", "gzip, chunked", "chunked, chunked", "identity", "chunked;x"] {
            assert_eq!(judge("GET", 200, &[("transfer-encoding", coding)]), Err(BadResponse::TransferEncoding), "{coding}");
        }
    }

    #[test]
    fn rfc9110_6_4_1_some_responses_have_no_body() {
        assert_eq!(judge("HEAD", 200, &[CL]), Ok(ResponseFraming::None));
        assert_eq!(judge("HEAD", 200, &[TE]), Ok(ResponseFraming::None));
        assert_eq!(judge("GET", 204, &[("content-length", "0")]), Ok(ResponseFraming::None));
        assert_eq!(judge("GET", 304, &[CL]), Ok(ResponseFraming::None));
        assert_eq!(judge("GET", 103, &[]), Ok(ResponseFraming::None));
        assert_eq!(judge("GET", 204, &[TE]), Err(BadResponse::TransferEncoding));
        assert_eq!(judge("HEAD", 200, &[CL, TE]), Err(BadResponse::TeAndCl));
    }

    #[test]
    fn rfc9110_15_a_status_has_a_class() {
        for status in [0, 99, 600, 999] {
            assert_eq!(judge("GET", status, &[]), Err(BadResponse::Status));
        }
        assert_eq!(judge("GET", 101, &[]), Err(BadResponse::UnaskedUpgrade));
        let websocket = |value| HeaderMap::from_iter([(http::header::UPGRADE, HeaderValue::from_static(value))]);
        let switch = |fields: &HeaderMap| admit_response("GET", 101, Version::Http11, true, fields);
        assert_eq!(switch(&websocket("WebSocket")), Ok(ResponseFraming::None));
        assert_eq!(switch(&websocket("h2c")), Err(BadResponse::UnaskedUpgrade));
        assert_eq!(switch(&HeaderMap::new()), Err(BadResponse::UnaskedUpgrade));
        let old = admit_response("GET", 101, Version::Http10, true, &websocket("websocket"));
        assert_eq!(old, Err(BadResponse::UnaskedUpgrade));
        assert_eq!(
            admit_response(
                "GET",
                200,
                Version::Http10,
                false,
                &HeaderMap::from_iter([(http::header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"))])
            ),
            Err(BadResponse::TransferEncoding)
        );
    }

    #[test]
    fn the_word_is_the_text() {
        use BadResponse::{ContentLength, Status, TeAndCl, Trailer, TransferEncoding, UnaskedUpgrade};
        for bad in [Status, UnaskedUpgrade, TeAndCl, ContentLength, TransferEncoding, Trailer] {
            assert_eq!(bad.to_string(), bad.reason());
            assert_eq!(bad.cause().status(), 502);
        }
    }
}
