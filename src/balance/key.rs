//! What a hash strategy goes by.

use std::{borrow::Cow, fmt, net::IpAddr, ops::Deref, str::FromStr};

use http::{HeaderName, header};

use crate::{
    string_type,
    types::{Client, RequestHead, is_cookie_name},
};

/// The part of a request that decides where it goes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum SelectionKey {
    /// The client's address.
    #[default]
    ClientIp,
    /// The first value of a header field. `host` is the request's host without its port, which HTTP/2 has in no field.
    Header(HeaderName),
    /// The value of a cookie.
    Cookie(String),
    /// The path.
    Path,
    /// The first value of a query parameter, as sent.
    Query(String),
}

impl SelectionKey {
    /// The key of a request. One that has no such field, cookie or parameter goes by the client's address,
    /// so that requests without the key do not all meet at one endpoint.
    pub fn of<'a>(&self, head: &RequestHead<'a>, client: &Client) -> Key<'a> {
        let found = match self {
            SelectionKey::ClientIp => None,
            SelectionKey::Header(name) if *name == header::HOST => Some(head.host.as_bytes()).filter(|host| !host.is_empty()),
            SelectionKey::Header(name) => head.fields.get(name.as_str()),
            SelectionKey::Cookie(name) => head.cookie(name).map(str::as_bytes),
            SelectionKey::Path => Some(head.path.as_bytes()),
            SelectionKey::Query(name) => head.query_values(name).next().map(str::as_bytes),
        };
        found.map_or_else(|| Key::address(client.ip), Key::Part)
    }
}

/// The bytes of a key.
#[derive(Debug, Clone, Copy)]
pub enum Key<'a> {
    /// Nothing: the strategy does not look at it.
    None,
    /// A part of the request.
    Part(&'a [u8]),
    /// An IPv4 address.
    V4([u8; 4]),
    /// An IPv6 address.
    V6([u8; 16]),
}

impl Key<'_> {
    /// The key of an address. An IPv4 address mapped into IPv6 is the same client.
    pub fn address(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Key::V4(ip.octets()),
            IpAddr::V6(ip) => Key::V6(ip.octets()),
        }
    }
}

impl Deref for Key<'_> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Key::None => &[],
            Key::Part(bytes) => bytes,
            Key::V4(octets) => octets,
            Key::V6(octets) => octets,
        }
    }
}

impl FromStr for SelectionKey {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "client_ip" => Ok(SelectionKey::ClientIp),
            None if text == "path" => Ok(SelectionKey::Path),
            Some((_, "")) => Err(format!("`{text}` lacks a name behind the colon")),
            Some(("header", name)) => {
                HeaderName::from_str(name).map(SelectionKey::Header).map_err(|_| format!("`{name}` is not a header field's name"))
            }
            Some(("cookie", name)) if is_cookie_name(name) => Ok(SelectionKey::Cookie(name.into())),
            Some(("cookie", name)) => Err(format!("`{name}` is not the name of a cookie")),
            Some(("query", name)) => Ok(SelectionKey::Query(name.into())),
            _ => Err(format!("`{text}` is not a key; write `client_ip`, `header:NAME`, `cookie:NAME`, `path` or `query:NAME`")),
        }
    }
}

impl fmt::Display for SelectionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&match self {
            SelectionKey::ClientIp => Cow::Borrowed("client_ip"),
            SelectionKey::Path => "path".into(),
            SelectionKey::Header(name) => format!("header:{name}").into(),
            SelectionKey::Cookie(name) => format!("cookie:{name}").into(),
            SelectionKey::Query(name) => format!("query:{name}").into(),
        })
    }
}
string_type!(
    SelectionKey,
    "SelectionKey",
    "What decides where a request goes: `client_ip`, `header:NAME`, `cookie:NAME`, `path` or `query:NAME`.",
    Some(r"^(client_ip|path|(header|cookie|query):.+|.*\$\{.*)$")
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Scheme;

    #[test]
    fn a_key_is_a_part_of_the_request_or_else_the_client() {
        let fields: http::HeaderMap = [("x-tenant", "a"), ("cookie", "b=1; session=s7")]
            .map(|(name, value)| (HeaderName::from_static(name), http::HeaderValue::from_static(value)))
            .into_iter()
            .collect();
        let head =
            RequestHead { method: "GET", host: "example.com", path: "/p", query: Some("a=1&user=u&user=v"), fields: &fields };
        let client = Client {
            ip: "::ffff:192.0.2.1".parse().unwrap(),
            port: 1,
            scheme: Scheme::Http,
            listener: "web".parse().unwrap(),
            tls: None,
            whereabouts: Default::default(),
        };
        let client_ip: &[u8] = &[192, 0, 2, 1];
        for (text, want) in [
            ("client_ip", client_ip),
            ("header:x-tenant", b"a"),
            ("header:x-other", client_ip),
            ("header:host", b"example.com"),
            ("cookie:session", b"s7"),
            ("cookie:other", client_ip),
            ("path", b"/p"),
            ("query:user", b"u"),
            ("query:other", client_ip),
        ] {
            let key: SelectionKey = text.parse().unwrap();
            assert_eq!(&*key.of(&head, &client), want, "{text}");
            assert_eq!(key.to_string(), text);
        }
    }

    #[test]
    fn what_is_not_a_key_is_refused() {
        for text in ["", "ip", "header", "header:", "header:a b", "cookie:", "cookie:a b", "cookie:a=b", "host:x"] {
            assert!(text.parse::<SelectionKey>().is_err(), "{text}");
        }
    }
}
