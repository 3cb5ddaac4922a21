//! What rustls says of a failure, in words that operators search for.

use std::time::{Duration, UNIX_EPOCH};

use rustls::CertificateError;

const INVALID: &str = "invalid peer certificate: ";

/// The text of a rustls error, from wherever it was written down: Pingora keeps no more than the text.
pub fn in_words(text: &str) -> String {
    match text {
        "tls handshake eof" => "the connection was closed during the handshake".to_owned(),
        // The first byte is no record of TLS.
        _ if text.starts_with("received corrupt message of type InvalidContentType") => {
            "the other side does not speak TLS".to_owned()
        }
        _ => match text.strip_prefix(INVALID) {
            Some(reason) => format!("invalid certificate: {}", of_certificate(reason)),
            None => text.to_owned(),
        },
    }
}

/// Why a certificate is invalid.
pub(super) fn certificate(error: &CertificateError) -> String {
    of_certificate(&error.to_string())
}

fn of_certificate(reason: &str) -> String {
    let at = |before: &str| {
        let seconds: String = reason.split_once(before)?.1.chars().take_while(char::is_ascii_digit).collect();
        let time = UNIX_EPOCH.checked_add(Duration::from_secs(seconds.parse().ok()?))?;
        Some(humantime::format_rfc3339_seconds(time).to_string())
    };
    match reason {
        "UnknownIssuer" => "unknown issuer".to_owned(),
        "Expired" => "certificate expired".to_owned(),
        "NotValidYet" => "certificate not valid yet".to_owned(),
        "BadSignature" => "bad signature: it was signed with another key than that of the issuer with this name".to_owned(),
        "Revoked" => "certificate revoked".to_owned(),
        _ if reason.starts_with("certificate expired") => match at("is not valid after ") {
            Some(time) => format!("certificate expired at {time}"),
            None => reason.to_owned(),
        },
        _ if reason.starts_with("certificate not valid yet") => match at("is not valid before ") {
            Some(time) => format!("certificate not valid before {time}"),
            None => reason.to_owned(),
        },
        // `DnsName("a.test")` are the words of a type.
        _ => reason.replace("DnsName(\"", "\"").replace("\")", "\""),
    }
}

#[cfg(test)]
mod tests {
    use rustls::{
        Error,
        pki_types::{ServerName, UnixTime},
    };

    use super::*;

    #[test]
    fn what_rustls_says_is_said_in_words() {
        let expired = CertificateError::ExpiredContext {
            time: UnixTime::since_unix_epoch(Duration::from_secs(86_400)),
            not_after: UnixTime::since_unix_epoch(Duration::from_secs(60)),
        };
        let early = CertificateError::NotValidYetContext {
            time: UnixTime::since_unix_epoch(Duration::from_secs(0)),
            not_before: UnixTime::since_unix_epoch(Duration::from_secs(60)),
        };
        let named = |presented: &[&str]| CertificateError::NotValidForNameContext {
            expected: ServerName::try_from("a.test").unwrap(),
            presented: presented.iter().map(|name| format!("DnsName({name:?})")).collect(),
        };
        for (error, words) in [
            (CertificateError::UnknownIssuer, "unknown issuer"),
            (CertificateError::Expired, "certificate expired"),
            (expired, "certificate expired at 1970-01-01T00:01:00Z"),
            (early, "certificate not valid before 1970-01-01T00:01:00Z"),
            (
                named(&["b.test", "c.test"]),
                "certificate not valid for name \"a.test\"; certificate is only valid for \"b.test\" or \"c.test\"",
            ),
        ] {
            assert_eq!(in_words(&Error::InvalidCertificate(error).to_string()), format!("invalid certificate: {words}"));
        }
        assert_eq!(
            in_words(&Error::AlertReceived(rustls::AlertDescription::HandshakeFailure).to_string()),
            "received fatal alert: HandshakeFailure"
        );
        let corrupt = Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType);
        assert_eq!(in_words(&corrupt.to_string()), "the other side does not speak TLS");
    }
}
