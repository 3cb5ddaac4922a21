//! Host names as requests carry them and as routes match them.

use std::{fmt, net::Ipv6Addr, str::FromStr};

use compact_str::{CompactString, format_compact};

use crate::string_type;

/// Why a host or a host pattern was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct HostError(String);

/// Splits `uri-host[:port]` (RFC 9110 section 7.2) and validates both parts strictly.
///
/// Returns the host lower-cased without a trailing dot (IPv6 in its brackets), and the port. `None` when
/// it is not one valid authority: user information, a bad character, an empty host, a port above 65535.
pub fn parse_authority(text: &str) -> Option<(CompactString, Option<u16>)> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (inside, after) = rest.split_once(']')?;
        let address: Ipv6Addr = inside.parse().ok()?;
        let port = match after {
            "" => None,
            _ => Some(after.strip_prefix(':')?),
        };
        (format_compact!("[{address}]"), port)
    } else {
        let (host, port) = match text.bytes().position(|b| b == b':') {
            Some(colon) => (&text[..colon], Some(&text[colon + 1..])),
            None => (text, None),
        };
        let host = host.strip_suffix('.').unwrap_or(host);
        if !valid_name(host) {
            return None;
        }
        let mut host = CompactString::from(host);
        host.make_ascii_lowercase();
        (host, port)
    };
    let port = match port {
        None | Some("") => None,
        Some(digits) if digits.len() <= 5 && digits.bytes().all(|b| b.is_ascii_digit()) => Some(digits.parse().ok()?),
        Some(_) => return None,
    };
    Some((host, port))
}

/// A host as it stands in a URL, without the brackets that an IPv6 address has there.
pub fn bare_host(host: &str) -> &str {
    host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host)
}

/// Letters, digits, `-` and `_` in dot-separated labels: what DNS and the services behind an edge use.
fn valid_name(host: &str) -> bool {
    let label = |label: &[u8]| {
        (1..=63).contains(&label.len()) && label.iter().all(|&b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    !host.is_empty() && host.len() <= 253 && host.as_bytes().split(|&b| b == b'.').all(label)
}

/// `api.example.com`, `*.example.com` (any labels in front), or `*` (every host).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPattern {
    /// This host and no other.
    Exact(String),
    /// Every host that ends with this suffix, which starts with a dot.
    Suffix(String),
    /// Every host.
    Any,
}

impl HostPattern {
    /// Does the pattern cover this host (lower case, without a port)?
    pub fn matches(&self, host: &str) -> bool {
        match self {
            HostPattern::Exact(name) => name == host,
            HostPattern::Suffix(suffix) => host.len() > suffix.len() && host.ends_with(suffix.as_str()),
            HostPattern::Any => true,
        }
    }

    /// Does the pattern cover every host that the other one covers?
    pub fn covers(&self, other: &HostPattern) -> bool {
        match (self, other) {
            (HostPattern::Any, _) => true,
            (_, HostPattern::Any) => false,
            (_, HostPattern::Exact(host)) => self.matches(host),
            (HostPattern::Suffix(suffix), HostPattern::Suffix(other)) => other.ends_with(suffix.as_str()),
            (HostPattern::Exact(_), HostPattern::Suffix(_)) => false,
        }
    }
}

impl FromStr for HostPattern {
    type Err = HostError;
    fn from_str(text: &str) -> Result<Self, HostError> {
        if text == "*" {
            return Ok(HostPattern::Any);
        }
        let (wildcard, name) = match text.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, text),
        };
        match parse_authority(name) {
            Some((_, Some(port))) => {
                Err(HostError(format!("`{text}`: a host pattern has no port; listeners choose the port, so remove `:{port}`")))
            }
            Some((host, None)) if wildcard && !host.starts_with('[') => Ok(HostPattern::Suffix(format!(".{host}"))),
            Some((host, None)) if !wildcard => Ok(HostPattern::Exact(host.into())),
            _ => Err(HostError(format!("`{text}` is not a host; write `example.com`, `*.example.com` or `*`"))),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostPattern::Exact(host) => f.write_str(host),
            HostPattern::Suffix(suffix) => write!(f, "*{suffix}"),
            HostPattern::Any => f.write_str("*"),
        }
    }
}
string_type!(HostPattern, "HostPattern", "A host: `example.com`, `*.example.com` (any subdomain), or `*`.", None);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_covers_what_is_narrower() {
        let covers =
            |broad: &str, narrow: &str| broad.parse::<HostPattern>().unwrap().covers(&narrow.parse::<HostPattern>().unwrap());
        for (broad, narrow) in [("*", "*"), ("*", "a.b"), ("*.b", "a.b"), ("*.b", "*.b"), ("*.b", "*.a.b"), ("a.b", "a.b")] {
            assert!(covers(broad, narrow), "{broad} {narrow}");
        }
        for (broad, narrow) in [("*.b", "*"), ("*.b", "b"), ("*.a.b", "*.b"), ("a.b", "*.a.b"), ("*.b", "*.ab"), ("a.b", "b.b")] {
            assert!(!covers(broad, narrow), "{broad} {narrow}");
        }
    }

    #[test]
    fn an_authority_is_one_host_and_maybe_a_port() {
        assert_eq!(parse_authority("Example.COM:8443"), Some(("example.com".into(), Some(8443))));
        assert_eq!(parse_authority("example.com."), Some(("example.com".into(), None)));
        assert_eq!(parse_authority("[::1]:80"), Some(("[::1]".into(), Some(80))));
        assert_eq!(parse_authority("a:"), Some(("a".into(), None)));
        for bad in
            ["", ":80", "u@a", "a b", "a,b", "a:b", "a:99999", "a:1:2", "[::1", "[::1]x", "[1.2.3.4]", "a..b", "a/b", "a\u{e9}"]
        {
            assert_eq!(parse_authority(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_wildcard_covers_subdomains_and_not_the_domain() {
        let pattern: HostPattern = "*.example.com".parse().unwrap();
        assert!(pattern.matches("a.example.com") && pattern.matches("a.b.example.com"));
        assert!(!pattern.matches("example.com") && !pattern.matches("badexample.com"));
        assert!("a.*.com".parse::<HostPattern>().is_err());
        assert!("example.com:80".parse::<HostPattern>().unwrap_err().to_string().contains("port"));
    }
}
