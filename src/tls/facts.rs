//! What a certificate says of itself, for logs, metrics and the admin API.

use std::{
    fmt::Write,
    net::IpAddr,
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::digest;
use x509_parser::{
    der_parser::asn1_rs::Oid,
    extensions::GeneralName,
    prelude::{FromDer, X509Certificate},
    x509::{X509Name, X509Version},
};

use crate::types::{bare_host, hex};

/// Where a certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Read from this file.
    File(PathBuf),
    /// Made in memory for development.
    SelfSigned,
    /// Obtained from this authority while running.
    Acme(String),
}

/// One certificate, in the words of its leaf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFacts {
    /// The name it goes by: its first subject alternative name, or its subject.
    pub name: String,
    /// Every DNS name (lower case) and IP address it is for.
    pub names: Vec<String>,
    /// The first moment it is valid.
    pub not_before: SystemTime,
    /// The last moment it is valid.
    pub not_after: SystemTime,
    /// Who signed it, in RFC 4514 form.
    pub issuer: String,
    /// SHA-256 of the leaf, in hex.
    pub fingerprint: String,
    /// Where it comes from.
    pub source: Source,
}

impl CertificateFacts {
    /// Reads a leaf; the error says why it is not an X.509 certificate.
    pub(super) fn read(der: &[u8], source: Source) -> Result<Self, String> {
        let (_, leaf) = X509Certificate::from_der(der).map_err(|error| format!("it is not an X.509 certificate: {error}"))?;
        let names = match leaf.subject_alternative_name() {
            Ok(Some(extension)) => extension.value.general_names.iter().filter_map(name_text).collect(),
            Ok(None) => Vec::new(),
            Err(error) => return Err(format!("its subject alternative names cannot be read: {error}")),
        };
        let name = names.first().cloned().unwrap_or_else(|| distinguished(leaf.subject()));
        Ok(Self {
            name,
            names,
            not_before: time(leaf.validity().not_before.timestamp()),
            not_after: time(leaf.validity().not_after.timestamp()),
            issuer: distinguished(leaf.issuer()),
            fingerprint: fingerprint(der),
            source,
        })
    }

    /// Is the certificate for this host (lower case; an IPv6 address with or without its brackets)?
    pub fn covers(&self, host: &str) -> bool {
        if let Ok(address) = bare_host(host).parse::<IpAddr>() {
            return self.names.iter().any(|name| name.parse() == Ok(address));
        }
        let parent = host.split_once('.').map(|(_, parent)| parent);
        self.names.iter().any(|name| name == host || name.strip_prefix("*.").is_some_and(|suffix| Some(suffix) == parent))
    }
}

fn name_text(name: &GeneralName<'_>) -> Option<String> {
    match *name {
        GeneralName::DNSName(name) => Some(name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()),
        GeneralName::IPAddress(&[a, b, c, d]) => Some(IpAddr::from([a, b, c, d]).to_string()),
        GeneralName::IPAddress(bytes) => Some(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?).to_string()),
        _ => None,
    }
}

/// Seconds since 1970; what was before is 1970, which is as expired.
fn time(seconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// SHA-256 in lower-case hex.
pub(super) fn fingerprint(der: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, der).as_ref())
}

/// The subject of a certificate, in RFC 4514 form.
pub(super) fn subject(der: &[u8]) -> Option<String> {
    X509Certificate::from_der(der).ok().map(|(_, certificate)| distinguished(certificate.subject()))
}

/// Is its last moment over? What cannot be read is.
pub(super) fn expired(der: &[u8], now: SystemTime) -> bool {
    X509Certificate::from_der(der).map_or(true, |(_, certificate)| time(certificate.validity().not_after.timestamp()) < now)
}

/// Is it of a version that has extensions, and so names of its own? What cannot be read is told elsewhere.
pub(super) fn has_extensions(der: &[u8]) -> bool {
    X509Certificate::from_der(der).is_ok_and(|(_, certificate)| certificate.version() == X509Version::V3)
}

/// RFC 4514: the most specific part first. Everything but printable ASCII is escaped, so that the text
/// may stand in a header field and in a log line whoever had the certificate signed.
pub(super) fn distinguished(name: &X509Name<'_>) -> String {
    let mut text = String::new();
    let parts: Vec<_> = name.iter_rdn().collect();
    for (position, part) in parts.iter().rev().enumerate() {
        if position > 0 {
            text.push(',');
        }
        for (position, attribute) in part.iter().enumerate() {
            if position > 0 {
                text.push('+');
            }
            match (short_name(attribute.attr_type()), attribute.as_str()) {
                (Some(short), Ok(value)) => {
                    let _ = write!(text, "{short}=");
                    escape(value, &mut text);
                }
                _ => {
                    let _ = write!(text, "{}=#", attribute.attr_type());
                    for byte in attribute.as_slice() {
                        let _ = write!(text, "{byte:02x}");
                    }
                }
            }
        }
    }
    text
}

/// The table of RFC 4514 section 3.
fn short_name(oid: &Oid<'_>) -> Option<&'static str> {
    Some(match oid.to_id_string().as_str() {
        "2.5.4.3" => "CN",
        "2.5.4.6" => "C",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.9" => "STREET",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "0.9.2342.19200300.100.1.25" => "DC",
        "0.9.2342.19200300.100.1.1" => "UID",
        _ => return None,
    })
}

/// RFC 4514 section 2.4.
fn escape(value: &str, text: &mut String) {
    let last = value.len().saturating_sub(1);
    for (position, byte) in value.bytes().enumerate() {
        match byte {
            b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'\\' => text.extend(['\\', byte as char]),
            b'#' if position == 0 => text.push_str("\\#"),
            b' ' if position == 0 || position == last => text.push_str("\\ "),
            b' '..=b'~' => text.push(byte as char),
            _ => {
                let _ = write!(text, "\\{byte:02x}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(names: &[&str]) -> CertificateFacts {
        CertificateFacts {
            name: String::new(),
            names: names.iter().map(|name| name.to_string()).collect(),
            not_before: UNIX_EPOCH,
            not_after: UNIX_EPOCH,
            issuer: String::new(),
            fingerprint: String::new(),
            source: Source::SelfSigned,
        }
    }

    #[test]
    fn a_wildcard_covers_one_label() {
        let wild = facts(&["*.example.com"]);
        assert!(wild.covers("a.example.com"));
        for host in ["example.com", "a.b.example.com", ".example.com.evil", "badexample.com"] {
            assert!(!wild.covers(host), "{host}");
        }
    }

    #[test]
    fn addresses_are_compared_as_addresses() {
        let addresses = facts(&["127.0.0.1", "::1"]);
        assert!(addresses.covers("127.0.0.1") && addresses.covers("[::1]") && addresses.covers("0:0::1"));
        assert!(!addresses.covers("127.0.0.2"));
        assert!(!facts(&["*.0.0.1"]).covers("127.0.0.1"));
    }

    #[test]
    fn a_hostile_subject_stays_one_line_of_ascii() {
        let mut text = String::new();
        escape(" a,b=\r\nX-Admin: 1;é #\" ", &mut text);
        assert_eq!(text, "\\ a\\,b=\\0d\\0aX-Admin: 1\\;\\c3\\a9 #\\\"\\ ");
    }
}
