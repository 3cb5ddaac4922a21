//! The field names that the rules of an intermediary speak of. All of them lower case.

use http::{HeaderName, header};

/// Fields of HTTP/1 connections, which no message of HTTP/2 has (RFC 9113 section 8.2.2).
pub const CONNECTION_FIELDS: [HeaderName; 5] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Fields of one connection (RFC 9110 section 7.6.1), and what is addressed to a proxy or to us. TE and Upgrade are put back when
/// they are to go on.
pub(super) fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "te"
            | "upgrade"
            | "http2-settings"
            | "proxy"
            | "proxy-connection"
            | "proxy-authorization"
            | "proxy-authenticate"
            | "proxy-authentication-info"
            | "x-weir-explain"
    )
}

/// Fields that `Connection` cannot take away: they are for all recipients (which the RFC already forbids to nominate), and
/// removing one of them changes who the request is from, what it asks for, or where it ends.
pub(super) fn is_protected(name: &str) -> bool {
    is_framing(name)
        || is_forwarding(name)
        || matches!(
            name,
            "host"
                | "authorization"
                | "cookie"
                | "set-cookie"
                | "via"
                | "date"
                | "expect"
                | "max-forwards"
                | "cache-control"
                | "vary"
                | "origin"
                | "range"
                | "location"
                | "www-authenticate"
                | "traceparent"
                | "tracestate"
                | "x-request-id"
        )
        || name.starts_with("content-")
        || name.starts_with("if-")
        || name.starts_with("sec-")
        || name.starts_with("access-control-")
}

/// Where a message ends.
fn is_framing(name: &str) -> bool {
    matches!(name, "content-length" | "transfer-encoding" | "trailer")
}

/// What proxies say about the client.
pub(super) fn is_forwarding(name: &str) -> bool {
    matches!(name, "forwarded" | "x-real-ip" | "client-cert" | "client-cert-chain")
        || name.starts_with("x-forwarded-")
        || name.starts_with("x-client-cert")
}

/// Might a service take it for a field that Weir sets or removes itself? Some make one variable of `x-forwarded-for` and
/// `x.forwarded.for`. The name may be in any case.
pub(super) fn passes_for_ours(name: &str) -> bool {
    let odd = |b: u8| !(b.is_ascii_alphanumeric() || b == b'-');
    // Almost no name comes past this.
    if !name.bytes().any(odd) {
        return false;
    }
    let plain = name.to_ascii_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    is_forwarding(&plain) || is_framing(&plain) || is_hop_by_hop(&plain) || matches!(&*plain, "max-forwards" | "x-request-id")
}

/// Fields that must not come as a trailer (RFC 9110 section 6.5.1): framing, routing, authentication, request modifiers,
/// and how to read the content. A recipient that merged one into the header would act on it after it was checked.
pub fn is_forbidden_trailer(name: &[u8]) -> bool {
    let Ok(name) = std::str::from_utf8(name) else { return true };
    is_hop_by_hop(name)
        || is_forwarding(name)
        || matches!(
            name,
            "content-length"
                | "transfer-encoding"
                | "trailer"
                | "host"
                | "authorization"
                | "cookie"
                | "set-cookie"
                | "www-authenticate"
                | "cache-control"
                | "expect"
                | "max-forwards"
                | "pragma"
                | "range"
                | "via"
                | "age"
                | "date"
                | "expires"
                | "location"
                | "retry-after"
                | "vary"
                | "warning"
                | "content-encoding"
                | "content-type"
                | "content-range"
        )
        || name.starts_with("if-")
}
