//! Where clients put what shows who they are: keys, tokens. And how they are asked for it.

use std::{borrow::Cow, fmt, str::FromStr};

use http::{HeaderName, HeaderValue, header};
use percent_encoding::percent_decode_str;

use super::FilterRequest;
use crate::{
    string_type,
    types::{At, Code},
};

/// Where a credential is in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialPlace {
    /// The value of this field.
    Header(HeaderName),
    /// The value of this cookie.
    Cookie(String),
    /// The value of this query parameter.
    Query(String),
    /// `Authorization: Bearer`.
    Bearer,
}

impl FromStr for CredentialPlace {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let plain = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic() && !b"&=#%+;,\"".contains(&b));
        match text.split_once(':') {
            None if text == "bearer" => Ok(Self::Bearer),
            Some(("header", name)) => HeaderName::from_bytes(name.as_bytes())
                .map(Self::Header)
                .map_err(|_| format!("`{name}` is not the name of a header field")),
            Some(("cookie", name)) if plain(name) => Ok(Self::Cookie(name.into())),
            Some(("query", name)) if plain(name) => Ok(Self::Query(name.into())),
            _ => Err(format!("`{text}` is no place in a request; write `bearer`, `header:NAME`, `cookie:NAME` or `query:NAME`")),
        }
    }
}

impl fmt::Display for CredentialPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::Query(name) => write!(f, "query:{name}"),
            Self::Bearer => f.write_str("bearer"),
        }
    }
}
string_type!(
    CredentialPlace,
    "CredentialPlace",
    "Where a key or token is in a request: `bearer`, `header:NAME`, `cookie:NAME` or `query:NAME`.",
    None
);

/// What a request has in one place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sent<'a> {
    Nothing,
    One(Cow<'a, str>),
    /// Two of them, or none that could be one.
    Unusable,
}

impl CredentialPlace {
    pub(super) fn sent<'r>(&self, request: &'r FilterRequest<'_>) -> Sent<'r> {
        match self {
            Self::Header(name) => one(request.fields.get_all(name.as_str()).map(text)),
            Self::Bearer => bearer(request.fields.get_all(header::AUTHORIZATION.as_str())),
            Self::Cookie(name) => one(request.fields.get_all(header::COOKIE.as_str()).flat_map(move |line| {
                pairs(line).filter(move |(key, _)| *key == name.as_bytes()).map(|(_, value)| text(value.unwrap_or_default()))
            })),
            Self::Query(name) => one(request.query.unwrap_or_default().split('&').filter_map(|pair| {
                let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                is_named(key, name).then(|| percent_decode_str(value).decode_utf8().ok())
            })),
        }
    }

    /// Takes it out of the request that is forwarded, and leaves what is beside it.
    pub(super) fn remove(&self, request: &mut FilterRequest<'_>) {
        match self {
            Self::Header(name) => request.fields.remove(name),
            Self::Bearer => request.fields.remove(&header::AUTHORIZATION),
            Self::Cookie(name) => {
                let kept: Vec<_> =
                    request.fields.get_all(header::COOKIE.as_str()).filter_map(|line| without(line, name)).collect();
                request.fields.remove(&header::COOKIE);
                kept.into_iter().for_each(|line| request.fields.append(header::COOKIE, line));
            }
            Self::Query(name) => {
                let (path, query) = request.target();
                let kept = |pair: &&str| !is_named(pair.split_once('=').map_or(*pair, |(key, _)| key), name);
                let query: Vec<&str> = query.unwrap_or_default().split('&').filter(kept).collect();
                let query = query.join("&");
                *request.forward = Some(if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") });
            }
        }
    }
}

/// Is it this parameter, as the service would read it? What is written in another way (`%6bey`) is a second one, or one that
/// nobody has looked at.
fn is_named(key: &str, name: &str) -> bool {
    percent_decode_str(key).eq(name.bytes())
}

fn text(value: &[u8]) -> Option<Cow<'_, str>> {
    std::str::from_utf8(value).ok().map(|value| value.trim().into())
}

fn one<'r>(mut values: impl Iterator<Item = Option<Cow<'r, str>>>) -> Sent<'r> {
    match (values.next(), values.next()) {
        (None, _) => Sent::Nothing,
        (Some(Some(value)), None) => Sent::One(value),
        // Who reads the first of two and who reads the last would not agree on who asks.
        _ => Sent::Unusable,
    }
}

/// The field may be there once (RFC 9110 section 11.6.2): beside a bearer there is no other.
fn bearer<'r>(mut values: impl Iterator<Item = &'r [u8]>) -> Sent<'r> {
    let Some(first) = values.next() else { return Sent::Nothing };
    let token = scheme_bearer(first);
    match values.any(|other| token.is_some() || scheme_bearer(other).is_some()) {
        true => Sent::Unusable,
        false => token.map_or(Sent::Nothing, |token| one(std::iter::once(text(token)))),
    }
}

/// What follows the scheme, if that is `Bearer`. Whatever follows that word is meant as a token: services take more than a space
/// for a space (a tab, a no-break space).
fn scheme_bearer(value: &[u8]) -> Option<&[u8]> {
    let value = value.trim_ascii_start();
    let ends = |byte: &u8| !byte.is_ascii_alphanumeric() && *byte != b'-';
    let (scheme, token) = value.split_at(value.iter().position(ends).unwrap_or(value.len()));
    scheme.eq_ignore_ascii_case(b"bearer").then_some(token)
}

/// The cookies of one line.
fn pairs(line: &[u8]) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
    line.split(|&b| b == b';').map(|pair| match pair.iter().position(|&b| b == b'=') {
        Some(equals) => (pair[..equals].trim_ascii(), Some(pair[equals + 1..].trim_ascii())),
        None => (pair.trim_ascii(), None),
    })
}

/// The line without this cookie; `None` when it held nothing else.
fn without(line: &[u8], name: &str) -> Option<HeaderValue> {
    let kept = pairs(line).filter(|(key, value)| *key != name.as_bytes() && !(key.is_empty() && value.is_none()));
    let kept: Vec<Vec<u8>> = kept
        .map(|(key, value)| match value {
            Some(value) => [key, b"=", value].concat(),
            None => key.to_vec(),
        })
        .collect();
    (!kept.is_empty()).then(|| HeaderValue::from_bytes(&kept.join(&b"; "[..])).ok()).flatten()
}

/// Can this stand in the quotes of a challenge? Reports it where it cannot.
pub(super) fn is_realm(realm: &str, at: &At) -> bool {
    let quotable = realm.bytes().all(|b| matches!(b, b' '..=b'~') && !matches!(b, b'"' | b'\\'));
    if !quotable {
        at.problem(Code::BadValue, format!("{realm:?} cannot stand in a header field"));
    }
    quotable
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::filter::tests_support::Exchange;

    fn sent(place: &str, fields: &[(&'static str, &str)]) -> String {
        let mut exchange = Exchange { query: Some("t=a%2eb&u=1&u=2&%77=1&xy=1&x%79=2".into()), ..Exchange::default() };
        for (name, value) in fields {
            exchange.fields.append(*name, value.parse().unwrap());
        }
        let place: CredentialPlace = place.parse().unwrap();
        exchange.with_request(|request| format!("{:?}", place.sent(request)))
    }

    #[test]
    fn one_is_found_and_two_are_nobody_s() {
        for (place, fields, found) in [
            ("bearer", &[][..], "Nothing"),
            ("bearer", &[("authorization", "Basic a")], "Nothing"),
            ("bearer", &[("authorization", "bEARER  a.b ")], "One(\"a.b\")"),
            ("bearer", &[("authorization", "Bearer")], "One(\"\")"),
            ("bearer", &[("authorization", "Bearer\ta.b")], "One(\"a.b\")"),
            ("bearer", &[("authorization", "Bearer,a.b")], "One(\",a.b\")"),
            ("bearer", &[("authorization", "Bearer\u{a0}a.b")], "One(\"a.b\")"),
            ("bearer", &[("authorization", "Bearers a")], "Nothing"),
            ("bearer", &[("authorization", "Bearer a"), ("authorization", "Bearer a")], "Unusable"),
            ("bearer", &[("authorization", "Basic a"), ("authorization", "Bearer a")], "Unusable"),
            ("bearer", &[("authorization", "Bearer a"), ("authorization", "Basic a")], "Unusable"),
            ("bearer", &[("authorization", "Basic a"), ("authorization", "Basic b")], "Nothing"),
            ("header:x-t", &[("x-t", "a")], "One(\"a\")"),
            ("header:x-t", &[("x-t", "a"), ("x-t", "a")], "Unusable"),
            ("cookie:t", &[("cookie", "a=1; t=x=y;b")], "One(\"x=y\")"),
            ("cookie:t", &[("cookie", "a=1"), ("cookie", "t=x")], "One(\"x\")"),
            ("cookie:t", &[("cookie", "t=x; t=y")], "Unusable"),
            ("cookie:t", &[("cookie", "t=x"), ("cookie", "t=y")], "Unusable"),
            ("cookie:t", &[("cookie", "tt=x; T=y")], "Nothing"),
            ("query:t", &[], "One(\"a.b\")"),
            ("query:u", &[], "Unusable"),
            ("query:v", &[], "Nothing"),
            ("query:w", &[], "One(\"1\")"),
            ("query:xy", &[], "Unusable"),
        ] {
            assert_eq!(sent(place, fields), found, "{place} {fields:?}");
        }
    }

    #[test]
    fn what_is_beside_it_stays() {
        for (lines, kept) in [
            (&["a=1; t=x; b=2"][..], &["a=1; b=2"][..]),
            (&["t=x"], &[]),
            (&["t=x;", "b"], &["b"]),
            (&["a=1", "t=x; t=y; c=\"q\""], &["a=1", "c=\"q\""]),
        ] {
            let mut exchange = Exchange::default();
            for line in lines {
                exchange.fields.append("cookie", line.parse().unwrap());
            }
            exchange.with_request(|request| CredentialPlace::Cookie("t".into()).remove(request));
            let left: Vec<&str> = HeaderMap::get_all(&exchange.fields, "cookie").iter().map(|v| v.to_str().unwrap()).collect();
            assert_eq!(left, kept, "{lines:?}");
        }
    }

    #[test]
    fn a_parameter_goes_however_it_is_written() {
        for (query, forward) in [("t=1&a=2", "/?a=2"), ("%74=1", "/"), ("a&%74", "/?a"), ("tt=1&T=2", "/?tt=1&T=2")] {
            let mut exchange = Exchange { query: Some(query.into()), ..Exchange::default() };
            exchange.with_request(|request| CredentialPlace::Query("t".into()).remove(request));
            assert_eq!(exchange.forward.as_deref(), Some(forward), "{query}");
        }
    }

    #[test]
    fn a_place_prints_as_it_is_written() {
        for wrong in ["x-api-key", "header:", "header:a b", "query:", "query:a=b", "cookie:", "cookie:a;b", "bearer:x"] {
            assert!(wrong.parse::<CredentialPlace>().is_err(), "{wrong}");
        }
        for right in ["header:x-a", "query:key", "cookie:key", "bearer"] {
            assert_eq!(right.parse::<CredentialPlace>().unwrap().to_string(), right);
        }
    }
}
