//! Why a request was refused: one word, one status.

use crate::types::Cause;

/// Declares the refusals: variant, word, status. The table is the whole mapping.
macro_rules! refusals {
    ($($(#[$meta:meta])* $variant:ident = $word:literal, $status:literal;)+) => {
        /// Why the gate refused a request. On HTTP/1 every one of them also closes the connection: after a
        /// refusal nobody can be sure where the next request begins.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Refusal {
            $($(#[$meta])* $variant,)+
        }
        impl Refusal {
            /// All of them, so that a metric can be declared with every label it may get.
            pub const ALL: &'static [Refusal] = &[$(Refusal::$variant),+];
            /// The word in the log and in the metric label.
            pub const fn reason(self) -> &'static str {
                match self { $(Refusal::$variant => $word),+ }
            }
            /// The status of the answer.
            pub const fn status(self) -> u16 {
                match self { $(Refusal::$variant => $status),+ }
            }
        }
    };
}

refusals! {
    /// Bytes before the request line that are no method: RFC 9112 section 2.2 allows one empty line.
    LeadingGarbage = "leading_garbage", 400;
    /// A TLS handshake on a cleartext listener.
    TlsOnCleartext = "tls_on_cleartext", 400;
    /// The HTTP/2 preface where HTTP/2 is not spoken.
    Http2Preface = "http2_preface", 505;
    /// A line that ends in LF without CR.
    BareLf = "bare_lf", 400;
    /// A CR that ends no line.
    BareCr = "bare_cr", 400;
    /// A NUL byte in the head.
    NulByte = "nul_byte", 400;
    /// The bytes are not one whole head: the connection ended within it.
    IncompleteHead = "incomplete_head", 400;
    /// The first line is not `method SP target SP version`.
    BadRequestLine = "bad_request_line", 400;
    /// A request line without a version: HTTP/0.9.
    Http09 = "http_09", 400;
    /// A major version other than 1.
    BadVersion = "bad_version", 505;
    /// The method is not a token.
    BadMethod = "bad_method", 400;
    /// A method longer than any that exists.
    MethodTooLong = "method_too_long", 501;
    /// TRACE or CONNECT.
    MethodNotAllowed = "method_not_allowed", 405;
    /// A field name that is empty or no token, or a line without a colon.
    BadFieldName = "bad_field_name", 400;
    /// A control character in a field value.
    BadFieldValue = "bad_field_value", 400;
    /// A field continued on the next line.
    ObsFold = "obs_fold", 400;
    /// A field name with `_`, or one that passes for a field that Weir sets itself, where the listener refuses those.
    UnderscoreField = "underscore_field", 400;
    /// White space between a field name and its colon.
    SpaceBeforeColon = "space_before_colon", 400;
    /// The header block is over `max_header_bytes`.
    HeaderTooLarge = "header_too_large", 431;
    /// One field is over its share of `max_header_bytes`.
    FieldTooLarge = "field_too_large", 431;
    /// More fields than `max_header_count`.
    TooManyHeaders = "too_many_headers", 431;
    /// The target is over its share of `max_header_bytes`.
    UriTooLong = "uri_too_long", 414;
    /// Both Transfer-Encoding and Content-Length.
    TeAndCl = "te_and_cl", 400;
    /// A malformed Transfer-Encoding, or `chunked` twice.
    BadTransferEncoding = "bad_transfer_encoding", 400;
    /// A transfer coding other than `chunked`.
    UnknownTransferCoding = "unknown_transfer_coding", 501;
    /// Transfer-Encoding in an HTTP/1.0 request.
    TeOnHttp10 = "te_on_http10", 400;
    /// A Content-Length that is not one number below 2^63.
    BadContentLength = "bad_content_length", 400;
    /// Content-Length more than once, even when the values agree.
    DuplicateContentLength = "duplicate_content_length", 400;
    /// No Host (or `:authority`).
    MissingHost = "missing_host", 400;
    /// Host more than once.
    DuplicateHost = "duplicate_host", 400;
    /// A Host that is not `uri-host[:port]`.
    BadHost = "bad_host", 400;
    /// Host disagrees with the target or with `:authority`.
    HostMismatch = "host_mismatch", 400;
    /// The request belongs to another scheme, or to a certificate other than this connection's.
    Misdirected = "misdirected", 421;
    /// The target has no allowed form, or holds what no URI may hold.
    BadTarget = "bad_target", 400;
    /// A `%` without two hexadecimal digits in the path.
    BadEscape = "bad_escape", 400;
    /// `%00` in the target.
    NulInTarget = "nul_in_target", 400;
    /// A raw backslash in the path.
    Backslash = "backslash", 400;
    /// `#` in the target.
    Fragment = "fragment", 400;
    /// `..` above the root.
    PathAboveRoot = "path_above_root", 400;
    /// Dot segments that services resolve differently: `..;x`, `//..`, `%2f..`, `%5c..`.
    AmbiguousPath = "ambiguous_path", 400;
    /// An expectation other than `100-continue`.
    BadExpectation = "bad_expectation", 417;
    /// A request to upgrade that has a body.
    UpgradeWithBody = "upgrade_with_body", 400;
    /// A Max-Forwards that is no number.
    BadMaxForwards = "bad_max_forwards", 400;
    /// A field of HTTP/1 connections in an HTTP/2 request.
    ConnectionField = "connection_field", 400;
    /// The request has passed here too often.
    LoopDetected = "loop_detected", 508;
    /// Malformed chunked framing.
    BadChunk = "bad_chunk", 400;
    /// Chunks that are almost all framing.
    ChunkOverhead = "chunk_overhead", 400;
    /// A malformed trailer, or one that must not be a trailer.
    BadTrailer = "bad_trailer", 400;
    /// Trailers over the limits of header fields.
    TrailersTooLarge = "trailers_too_large", 431;
    /// The body is over its limit.
    BodyTooLarge = "body_too_large", 413;
    /// The header block took longer than `header_timeout`.
    HeaderTimeout = "header_timeout", 408;
    /// The body made no progress within `body_idle_timeout`.
    BodyTimeout = "body_timeout", 408;
    /// The body came slower than `min_body_rate`.
    BodyTooSlow = "body_too_slow", 408;
}

impl Refusal {
    /// The RFC 9209 error type of the refusal.
    pub const fn cause(self) -> Cause {
        match self {
            Refusal::LoopDetected => Cause::ProxyLoopDetected,
            _ => Cause::HttpRequestError,
        }
    }

    /// The Allow field that a 405 must have (RFC 9110 section 15.5.6): what everyone may try. Other methods
    /// are up to the service.
    pub const fn allow(self) -> Option<&'static str> {
        match self {
            Refusal::MethodNotAllowed => Some("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
            _ => None,
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_reason_is_its_own_label() {
        let words: BTreeSet<_> = Refusal::ALL.iter().map(|refusal| refusal.reason()).collect();
        assert_eq!(words.len(), Refusal::ALL.len());
        assert!(words.iter().all(|word| word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')));
    }

    #[test]
    fn only_a_405_allows() {
        for refusal in Refusal::ALL {
            assert_eq!(refusal.allow().is_some(), refusal.status() == 405, "{refusal}");
            assert!([400, 405, 408, 413, 414, 417, 421, 431, 501, 505, 508].contains(&refusal.status()), "{refusal}");
        }
    }
}
