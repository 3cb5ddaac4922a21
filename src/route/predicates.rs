//! What a request must have beside its host and path.

use std::{borrow::Cow, fmt};

use http::HeaderName;

use super::{HeaderMatch, MatchSpec, PathPattern};
use crate::types::{At, Cidr, Client, Code, Country, Fields, Name, Regexp, RequestHead};

/// The conditions of one route on method, header fields, query, client and listener. All must hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Predicates {
    pub(super) methods: Box<[Box<str>]>,
    pub(super) headers: Box<[(Box<str>, HeaderMatch)]>,
    pub(super) query: Box<[(Box<str>, HeaderMatch)]>,
    pub(super) clients: Box<[Cidr]>,
    pub(super) countries: Box<[Country]>,
    pub(super) listeners: Box<[Name]>,
}

/// The first condition of a route that a request does not meet. `Display` says it in words.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Miss<'r> {
    /// The host is none of the route's.
    Host,
    /// The path is another.
    Path(&'r PathPattern),
    /// The method is another.
    Method(&'r [Box<str>]),
    /// A header field is not there, is there, or has another value.
    Header(&'r str, &'r HeaderMatch),
    /// A query parameter is not there, is there, or has another value.
    Query(&'r str, &'r HeaderMatch),
    /// The client's address is in none of the ranges.
    ClientIp,
    /// The client's country is another, or not known.
    Country(&'r [Country]),
    /// The connection came in elsewhere.
    Listener(&'r [Name]),
}

/// Order of routes with the same host and path: less is tried first. The last is the position in the file.
pub(super) type Rank = (bool, isize, isize, isize, usize);

impl Predicates {
    /// The predicates that the user wrote; `None` when a problem was reported instead.
    pub fn compile(spec: &MatchSpec, at: &At) -> Option<Self> {
        let mut sound = true;
        for (index, method) in spec.method.iter().enumerate() {
            let at = if spec.method.len() == 1 { at.key("method") } else { at.key("method").index(index) };
            sound &= check_method(method, &at);
        }
        let mut headers = Vec::new();
        for (name, value) in &spec.headers {
            let at = at.key("headers").key(name.clone());
            match HeaderName::from_bytes(name.as_bytes()) {
                Ok(name) if name == http::header::HOST => {
                    at.problem(Code::BadValue, "the host is not matched as a header field").hint("use `match.host`").at_key();
                    sound = false;
                }
                Ok(name) => headers.push((name.as_str().into(), value.clone())),
                Err(_) => {
                    let message = format!("`{name}` is not the name of a header field");
                    at.problem(Code::BadValue, message).hint("names hold letters, digits and `-`").at_key();
                    sound = false;
                }
            }
        }
        sound.then(|| Self {
            methods: spec.method.iter().map(|method| method.as_str().into()).collect(),
            headers: headers.into(),
            query: spec.query.iter().map(|(name, value)| (name.as_str().into(), value.clone())).collect(),
            clients: spec.client_ip.iter().copied().collect(),
            countries: spec.country.iter().copied().collect(),
            listeners: spec.listener.iter().cloned().collect(),
        })
    }

    /// The first condition that does not hold.
    pub fn miss(&self, head: &RequestHead<'_>, client: &Client) -> Option<Miss<'_>> {
        if !self.methods.is_empty() && !self.methods.iter().any(|method| **method == *head.method) {
            return Some(Miss::Method(&self.methods));
        }
        if let Some((name, want)) = self.headers.iter().find(|(name, want)| !field_holds(head.fields, name, want)) {
            return Some(Miss::Header(name, want));
        }
        if let Some((name, want)) = self.query.iter().find(|(name, want)| !parameter_holds(head.query, name, want)) {
            return Some(Miss::Query(name, want));
        }
        if !self.clients.is_empty() && !self.clients.iter().any(|range| range.contains(client.ip)) {
            return Some(Miss::ClientIp);
        }
        if !self.listeners.is_empty() && !self.listeners.contains(&client.listener) {
            return Some(Miss::Listener(&self.listeners));
        }
        // The last, since it takes a look-up.
        if !self.countries.is_empty() && !client.country().is_some_and(|country| self.countries.contains(&country)) {
            return Some(Miss::Country(&self.countries));
        }
        None
    }

    /// What is asked of header fields and of query parameters, by name.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &HeaderMatch)> {
        self.headers.iter().chain(&self.query).map(|(name, want)| (&**name, want))
    }

    /// True when every request passes.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// False when no request can meet both, as far as methods and listeners tell.
    pub(super) fn may_meet(&self, other: &Self) -> bool {
        fn share<T: PartialEq>(ours: &[T], theirs: &[T]) -> bool {
            ours.is_empty() || theirs.is_empty() || ours.iter().any(|one| theirs.contains(one))
        }
        share(&self.methods, &other.methods) && share(&self.listeners, &other.listeners)
    }

    pub(super) fn rank(&self, index: usize) -> Rank {
        let others = [self.clients.is_empty(), self.countries.is_empty(), self.listeners.is_empty()];
        let others = others.into_iter().filter(|absent| !absent).count();
        (self.methods.is_empty(), -(self.headers.len() as isize), -(self.query.len() as isize), -(others as isize), index)
    }

    /// True when every request that meets `other` is known to meet this too.
    pub(super) fn cover(&self, other: &Self) -> bool {
        fn any_of<T: PartialEq>(broad: &[T], narrow: &[T]) -> bool {
            broad.is_empty() || (!narrow.is_empty() && narrow.iter().all(|one| broad.contains(one)))
        }
        any_of(&self.methods, &other.methods)
            && self.headers.iter().all(|one| other.headers.contains(one))
            && self.query.iter().all(|one| other.query.contains(one))
            && any_of(&self.clients, &other.clients)
            && any_of(&self.countries, &other.countries)
            && any_of(&self.listeners, &other.listeners)
    }
}

/// A method is a token (RFC 9110 section 9.1) and case-sensitive. A known one in lower case is a mistake.
fn check_method(method: &str, at: &At) -> bool {
    const KNOWN: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    let upper = method.to_ascii_uppercase();
    match http::Method::from_bytes(method.as_bytes()) {
        Err(_) => {
            at.problem(Code::BadValue, format!("`{method}` is not a method")).nearest(&upper, KNOWN);
        }
        Ok(_) if matches!(&*upper, "TRACE" | "CONNECT") => {
            at.problem(Code::BadValue, format!("{upper} is refused before routing (405), so no route sees it"));
        }
        Ok(_) if method != upper && KNOWN.contains(&&*upper) => {
            let message = format!("methods are case-sensitive, so `{method}` never matches");
            at.problem(Code::BadValue, message).hint(format!("write `{upper}`"));
        }
        Ok(_) => return true,
    }
    false
}

/// Any value of a repeated field may be the one that matches.
fn field_holds(fields: &dyn Fields, name: &str, want: &HeaderMatch) -> bool {
    match want {
        HeaderMatch::Present(there) => fields.get(name).is_some() == *there,
        HeaderMatch::Exact(text) => fields.any(name, &mut |value| value == text.as_bytes()),
        HeaderMatch::Regex(regex) => {
            fields.any(name, &mut |value| std::str::from_utf8(value).is_ok_and(|value| regex.is_match(value)))
        }
    }
}

/// Names and values are compared as the application would read them: `+` and percent-escapes decoded.
fn parameter_holds(query: Option<&str>, name: &str, want: &HeaderMatch) -> bool {
    let mut values = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()).filter_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        decode(key).eq(name.bytes()).then_some(value)
    });
    match want {
        HeaderMatch::Present(there) => values.next().is_some() == *there,
        HeaderMatch::Exact(text) => values.any(|value| decode(value).eq(text.bytes())),
        HeaderMatch::Regex(regex) => values.any(|value| regex_on_value(regex, value)),
    }
}

fn regex_on_value(regex: &Regexp, value: &str) -> bool {
    let decoded: Cow<'_, str> = match value.bytes().any(|b| b == b'%' || b == b'+') {
        false => value.into(),
        true => match String::from_utf8(decode(value).collect()) {
            Ok(text) => text.into(),
            Err(_) => return false,
        },
    };
    regex.is_match(&decoded)
}

/// The bytes of a form-encoded text. A malformed escape stands for itself.
fn decode(text: &str) -> impl Iterator<Item = u8> {
    let mut rest = text.as_bytes();
    std::iter::from_fn(move || {
        let hex = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
        let (byte, used) = match rest {
            [] => return None,
            [b'+', ..] => (b' ', 1),
            [b'%', high, low, ..] => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => (high * 16 + low, 3),
                _ => (b'%', 1),
            },
            [byte, ..] => (*byte, 1),
        };
        rest = &rest[used..];
        Some(byte)
    })
}

impl fmt::Display for Miss<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = |f: &mut fmt::Formatter<'_>, what: &str, name: &str, want: &HeaderMatch| match want {
            HeaderMatch::Exact(text) => write!(f, "no {what} `{name}` with the value `{text}`"),
            HeaderMatch::Present(true) => write!(f, "no {what} `{name}`"),
            HeaderMatch::Present(false) => write!(f, "there is a {what} `{name}`"),
            HeaderMatch::Regex(regex) => write!(f, "no {what} `{name}` with a value matching `{regex}`"),
        };
        match self {
            Miss::Host => f.write_str("the host is another"),
            Miss::Path(pattern @ PathPattern::Regex(_)) => write!(f, "the path does not match the expression `{pattern}`"),
            Miss::Path(pattern) => write!(f, "the path is not `{pattern}`"),
            Miss::Method(methods) => write!(f, "the method is not {}", methods.join(" or ")),
            Miss::Header(name, want) => value(f, "header field", name, want),
            Miss::Query(name, want) => value(f, "query parameter", name, want),
            Miss::ClientIp => f.write_str("the client's address is in none of the ranges of `client_ip`"),
            Miss::Country(countries) => {
                let countries: Vec<&str> = countries.iter().map(Country::as_str).collect();
                write!(f, "the client's country is not {}, or not known", countries.join(" or "))
            }
            Miss::Listener(names) => {
                let names: Vec<&str> = names.iter().map(Name::as_str).collect();
                write!(f, "the connection did not come in by listener {}", names.join(" or "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(query: &str, name: &str, want: HeaderMatch) -> bool {
        parameter_holds(Some(query), name, &want)
    }

    #[test]
    fn parameters_are_compared_decoded_and_any_value_counts() {
        let exact = |text: &str| HeaderMatch::Exact(text.into());
        assert!(holds("debug=1", "debug", exact("1")));
        assert!(holds("a=0&d%65bug=%31", "debug", exact("1")));
        assert!(holds("debug=0&debug=1", "debug", exact("1")));
        assert!(holds("q=a+b", "q", exact("a b")));
        assert!(holds("q=100%", "q", exact("100%")));
        assert!(holds("debug", "debug", exact("")));
        assert!(!holds("debugx=1", "debug", exact("1")));
        assert!(holds("", "debug", HeaderMatch::Present(false)));
        assert!(holds("debug", "debug", HeaderMatch::Present(true)));
        assert!(holds("v=v%32", "v", HeaderMatch::Regex("^v[12]$".parse().unwrap())));
        assert!(!holds("v=%ff", "v", HeaderMatch::Regex(".".parse().unwrap())));
    }

    #[test]
    fn any_value_of_a_repeated_field_counts() {
        let mut fields = http::HeaderMap::new();
        fields.append("x-a", "1".parse().unwrap());
        fields.append("x-a", "2".parse().unwrap());
        assert!(field_holds(&fields, "x-a", &HeaderMatch::Exact("2".into())));
        assert!(field_holds(&fields, "x-a", &HeaderMatch::Regex("^2$".parse().unwrap())));
        assert!(!field_holds(&fields, "x-a", &HeaderMatch::Present(false)));
        assert!(field_holds(&fields, "x-b", &HeaderMatch::Present(false)));
    }
}
