//! Who is counted together: the keys of `rate_limit` and `concurrency`.

use std::{borrow::Cow, fmt, net::IpAddr, str::FromStr};

use http::{HeaderName, header};

use super::FilterRequest;
use crate::{
    string_type,
    types::{RequestHead, is_cookie_name},
};

/// The part of a request that says with whom it is counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LimitKey {
    /// The client's address: an IPv4 address, or the /64 network of an IPv6 one.
    ClientIp,
    /// The first value of a header field. `host` is the request's host without its port, which HTTP/2 has in no field.
    Header(HeaderName),
    /// The value of a cookie.
    Cookie(String),
    /// The route: all its requests together.
    Route,
}

impl LimitKey {
    /// Feeds what is this request's own to a hash, in a form that no other value of another part has.
    /// A request without the field or cookie goes by the client's address, so that leaving it out gains nothing.
    fn feed(&self, request: &FilterRequest<'_>, see: &mut dyn FnMut(&[u8])) {
        let mut part = |kind: u8, bytes: &[u8]| {
            see(&[kind]);
            see(&(bytes.len() as u64).to_be_bytes());
            see(bytes);
        };
        let found = match self {
            LimitKey::Route => return part(b'r', request.route.as_bytes()),
            LimitKey::ClientIp => None,
            LimitKey::Header(name) if *name == header::HOST => Some(request.host.as_bytes()).filter(|host| !host.is_empty()),
            LimitKey::Header(name) => request.fields.get(name.as_str()),
            LimitKey::Cookie(name) => cookie(request, name),
        };
        match (found, request.client.ip.to_canonical()) {
            (Some(value), _) => part(b'v', value),
            (None, IpAddr::V4(ip)) => part(b'4', &ip.octets()),
            // One customer has at least a /64, and addresses in it for each of their requests.
            (None, IpAddr::V6(ip)) => part(b'6', &ip.octets()[..8]),
        }
    }
}

fn cookie<'a>(request: &'a FilterRequest<'_>, name: &str) -> Option<&'a [u8]> {
    let FilterRequest { method, host, path, query, .. } = *request;
    RequestHead { method, host, path, query, fields: &*request.fields }.cookie(name).map(str::as_bytes)
}

/// Feeds all the parts of a key, in order.
pub(super) fn feed(parts: &[LimitKey], request: &FilterRequest<'_>, see: &mut dyn FnMut(&[u8])) {
    parts.iter().for_each(|part| part.feed(request, see));
}

impl FromStr for LimitKey {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "client_ip" => Ok(LimitKey::ClientIp),
            None if text == "route" => Ok(LimitKey::Route),
            Some((_, "")) => Err(format!("`{text}` lacks a name behind the colon")),
            Some(("header", name)) => {
                HeaderName::from_str(name).map(LimitKey::Header).map_err(|_| format!("`{name}` is not a header field's name"))
            }
            Some(("cookie", name)) if is_cookie_name(name) => Ok(LimitKey::Cookie(name.into())),
            Some(("cookie", name)) => Err(format!("`{name}` is not the name of a cookie")),
            _ => Err(format!("`{text}` is not a key; write `client_ip`, `header:NAME`, `cookie:NAME` or `route`")),
        }
    }
}

impl fmt::Display for LimitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&match self {
            LimitKey::ClientIp => Cow::Borrowed("client_ip"),
            LimitKey::Route => "route".into(),
            LimitKey::Header(name) => format!("header:{name}").into(),
            LimitKey::Cookie(name) => format!("cookie:{name}").into(),
        })
    }
}
string_type!(
    LimitKey,
    "LimitKey",
    "Who is counted together: `client_ip`, `header:NAME`, `cookie:NAME` or `route`.",
    Some(r"^(client_ip|route|(header|cookie):.+|.*\$\{.*)$")
);

/// The parts as one text, for telling filters apart.
pub(super) fn text(parts: &[LimitKey]) -> String {
    parts.iter().map(LimitKey::to_string).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_key_is_refused() {
        for text in ["", "ip", "header", "header:", "header:a b", "cookie:", "cookie:a b", "cookie:a=b", "cookie:a;b", "path"] {
            assert!(text.parse::<LimitKey>().is_err(), "{text}");
        }
        for text in ["client_ip", "route", "header:x-key", "cookie:session", "cookie:a[b]"] {
            assert_eq!(text.parse::<LimitKey>().unwrap().to_string(), text);
        }
    }
}
