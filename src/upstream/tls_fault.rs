//! TLS with an endpoint that failed: the reason, and a line of the process log.

use log::Level;
use pingora_core::{Error, ErrorType};

use crate::{
    observe::process_log::{self, Notice},
    tls::in_words,
    types::Name,
};

/// How rustls begins when the other side gave up. An endpoint that requires a client certificate sends its alert after the
/// handshake (TLS 1.3), so that is an error of reading.
const ALERT: &str = "received fatal alert: ";

/// Why TLS failed, in words; `None` when something else did. Pingora passes on the text of rustls' error and not the error.
pub fn tls_fault(error: &Error) -> Option<String> {
    use ErrorType::{InvalidCert, ReadError, TLSHandshakeFailure, TLSWantX509Lookup, WriteError};
    match error.etype() {
        TLSHandshakeFailure | InvalidCert | TLSWantX509Lookup => {
            let text = error.to_string();
            let text = text.rsplit_once(", SNI: ").map_or(text.as_str(), |(before, _)| before);
            Some(in_words(text.rsplit_once(" cause: ").map_or(text, |(_, cause)| cause)))
        }
        ReadError | WriteError => {
            let text = error.to_string();
            text.split_once(ALERT).map(|(_, alert)| format!("{ALERT}{alert}"))
        }
        _ => None,
    }
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
    use super::*;

    #[test]
    fn the_reason_is_found_in_what_pingora_says() {
        let inner = Error::because(
            ErrorType::TLSHandshakeFailure,
            "tls connect error",
            std::io::Error::other("invalid peer certificate: UnknownIssuer"),
        );
        let text = format!("TLS connect() failed: {inner}, SNI: api.internal");
        let error = Error::explain(ErrorType::TLSHandshakeFailure, text).into_up();
        assert_eq!(tls_fault(&error).as_deref(), Some("invalid certificate: unknown issuer"));
        let alert = std::io::Error::other("received fatal alert: CertificateRequired");
        let error = Error::because(ErrorType::ReadError, "while reading response headers", alert);
        assert_eq!(tls_fault(&error).as_deref(), Some("received fatal alert: CertificateRequired"));
        for other in [ErrorType::ReadError, ErrorType::ConnectRefused, ErrorType::HandshakeError] {
            assert_eq!(tls_fault(&Error::explain(other, "connection reset")), None);
        }
    }
}
