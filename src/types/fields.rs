//! A request head as policy reads it: no type of any HTTP library's own session.
//!
//! Matchers, filters and strategies work on these, so the same policy serves the Pingora pipeline today and
//! other drivers later.

use http::{HeaderMap, HeaderName, HeaderValue};

/// Header fields, by lower-case name.
pub trait Fields {
    /// The first value of the field.
    fn get(&self, name: &str) -> Option<&[u8]>;
    /// All values of the field, in order.
    fn get_all<'a>(&'a self, name: &str) -> Box<dyn Iterator<Item = &'a [u8]> + 'a>;
    /// Does any value of the field pass the test? What matchers ask: it need not allocate.
    fn any(&self, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        self.get_all(name).any(test)
    }
    /// Every field, by lower-case name; those of one name in order.
    fn each(&self, see: &mut dyn FnMut(&str, &[u8]));
}

/// Header fields that may be changed.
pub trait FieldsMut: Fields {
    /// Replaces all values of the field by one.
    fn set(&mut self, name: HeaderName, value: HeaderValue);
    /// Adds a value after those that are there.
    fn append(&mut self, name: HeaderName, value: HeaderValue);
    /// Removes all values of the field.
    fn remove(&mut self, name: &HeaderName);
}

impl Fields for HeaderMap {
    fn get(&self, name: &str) -> Option<&[u8]> {
        HeaderMap::get(self, name).map(HeaderValue::as_bytes)
    }
    fn get_all<'a>(&'a self, name: &str) -> Box<dyn Iterator<Item = &'a [u8]> + 'a> {
        match HeaderName::from_bytes(name.as_bytes()) {
            Ok(name) => Box::new(HeaderMap::get_all(self, name).into_iter().map(HeaderValue::as_bytes)),
            Err(_) => Box::new(std::iter::empty()),
        }
    }
    fn any(&self, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        HeaderMap::get_all(self, name).into_iter().any(|value| test(value.as_bytes()))
    }
    fn each(&self, see: &mut dyn FnMut(&str, &[u8])) {
        self.iter().for_each(|(name, value)| see(name.as_str(), value.as_bytes()));
    }
}

impl FieldsMut for HeaderMap {
    fn set(&mut self, name: HeaderName, value: HeaderValue) {
        self.insert(name, value);
    }
    fn append(&mut self, name: HeaderName, value: HeaderValue) {
        HeaderMap::append(self, name, value);
    }
    fn remove(&mut self, name: &HeaderName) {
        HeaderMap::remove(self, name);
    }
}

/// Can a cookie have this name? Wider than RFC 6265, as browsers and services are; what could not be found again is none.
pub fn is_cookie_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() && !b"=;,\"".contains(&byte))
}

/// The head of a request that passed the gate.
#[derive(Clone, Copy)]
pub struct RequestHead<'a> {
    /// The method, as sent.
    pub method: &'a str,
    /// The host, lower case, without a port.
    pub host: &'a str,
    /// The canonical path (see `gate::target`): what every matcher and filter sees.
    pub path: &'a str,
    /// The query without its `?`, as sent.
    pub query: Option<&'a str>,
    /// The header fields.
    pub fields: &'a dyn Fields,
}

impl<'a> RequestHead<'a> {
    /// The raw values of a query parameter, in order, percent-encoding left as sent.
    pub fn query_values(&self, name: &str) -> impl Iterator<Item = &'a str> {
        let name = name.to_owned();
        self.query.unwrap_or_default().split('&').filter_map(move |pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (key == name).then_some(value)
        })
    }

    /// The value of a cookie.
    pub fn cookie(&self, name: &str) -> Option<&'a str> {
        for line in self.fields.get_all("cookie") {
            for pair in std::str::from_utf8(line).unwrap_or_default().split(';') {
                if let Some((key, value)) = pair.trim().split_once('=')
                    && key == name
                {
                    return Some(value);
                }
            }
        }
        None
    }
}
