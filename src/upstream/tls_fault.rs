//! TLS with an endpoint that failed: the reason, and a line of the process log.

use std::{error::Error as StdError, io};

use log::Level;
use pingora_core::Error;

use crate::{
    observe::process_log::{self, Notice},
    tls::in_words,
    types::Name,
    wire::Unconnected,
};

/// Why there was no connection, where an attempt failed for want of one.
pub fn unconnected(error: &Error) -> Option<&Unconnected> {
    find(error)
}

/// Why TLS failed, in words; `None` when something else did. An endpoint that requires a client certificate sends its alert after the
/// handshake (TLS 1.3), so that is an error of reading or writing.
pub fn tls_fault(error: &Error) -> Option<String> {
    if let Some(unconnected) = unconnected(error) {
        return unconnected.tls.clone();
    }
    find(error).and_then(alert)
}

/// The same of an error of reading or writing.
pub fn tls_alert(error: &io::Error) -> Option<String> {
    error.get_ref()?.downcast_ref().and_then(alert)
}

fn alert(error: &rustls::Error) -> Option<String> {
    matches!(error, rustls::Error::AlertReceived(_)).then(|| in_words(&error.to_string()))
}

/// The first of this type among the causes of an error.
pub fn find<T: StdError + 'static>(error: &Error) -> Option<&T> {
    let mut next: Option<&(dyn StdError + 'static)> = error.cause.as_deref().map(|cause| cause as _);
    while let Some(cause) = next {
        if let Some(found) = cause.downcast_ref() {
            return Some(found);
        }
        next = if let Some(error) = cause.downcast_ref::<Box<Error>>() {
            error.cause.as_deref().map(|cause| cause as _)
        } else if let Some(error) = cause.downcast_ref::<io::Error>() {
            error.get_ref().map(|inner| inner as _)
        } else {
            cause.source()
        };
    }
    None
}

/// Says in the process log that TLS with an endpoint failed.
pub fn tell_tls_fault(upstream: &Name, endpoint: &str, fault: &str) {
    let notice = Notice { level: Level::Warn, target: module_path!(), kind: "endpoint_tls", about: upstream };
    notice.tell(|| {
        let facts = [("upstream", upstream.as_str().into()), ("endpoint", endpoint.into()), ("reason", fault.into())];
        let message = format!("TLS handshake failed with endpoint {endpoint} of upstream {upstream}: {fault}");
        (message, process_log::facts(facts))
    });
}

#[cfg(test)]
mod tests {
    use pingora_core::ErrorType;
    use rustls::AlertDescription;

    use super::*;
    use crate::wire::Hindrance;

    #[test]
    fn the_reason_is_found_among_the_causes() {
        let unknown = Unconnected { hindrance: Hindrance::Certificate, tls: Some("unknown issuer".to_owned()), socket: None };
        let inner = Error::because(ErrorType::InvalidCert, "connecting to an endpoint", unknown.clone());
        let error = Error::because(ErrorType::InvalidCert, "in an attempt", inner).into_up();
        assert_eq!(unconnected(&error), Some(&unknown));
        assert_eq!(tls_fault(&error).as_deref(), Some("unknown issuer"));
        let alert = io::Error::other(rustls::Error::AlertReceived(AlertDescription::CertificateRequired));
        let error = Error::because(ErrorType::ReadError, "while reading response headers", alert);
        assert_eq!(tls_fault(&error).as_deref(), Some("received fatal alert: CertificateRequired"));
        let required = rustls::Error::AlertReceived(AlertDescription::CertificateRequired);
        assert_eq!(tls_alert(&io::Error::other(required)).as_deref(), Some("received fatal alert: CertificateRequired"));
        assert_eq!(tls_alert(&io::Error::other(rustls::Error::DecryptError)), None);
        let refused = Unconnected { hindrance: Hindrance::Refused, tls: None, socket: None };
        for other in [
            Error::because(ErrorType::ConnectRefused, "connecting to an endpoint", refused),
            Error::because(ErrorType::ReadError, "while reading response headers", io::Error::other("reset")),
            Error::explain(ErrorType::HandshakeError, "connection reset"),
        ] {
            assert_eq!(tls_fault(&other), None);
        }
    }
}
