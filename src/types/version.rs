//! Versions of HTTP.

/// The version of HTTP that a message came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1, and any later minor version, which must be understood as 1.1 (RFC 9110 section 2.5).
    Http11,
    /// HTTP/2.
    Http2,
    /// HTTP/3.
    Http3,
}

impl Version {
    /// As the log, spans and Via name it: `1.0`, `1.1`, `2`, `3`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Version::Http10 => "1.0",
            Version::Http11 => "1.1",
            Version::Http2 => "2",
            Version::Http3 => "3",
        }
    }

    /// Is it one of HTTP/1, whose messages end by length, chunks or the connection?
    pub const fn is_http1(self) -> bool {
        matches!(self, Version::Http10 | Version::Http11)
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
