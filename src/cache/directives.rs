//! `Cache-Control`, read (RFC 9111 section 5.2).
//!
//! Read for a shared cache, with doubt resolved towards not keeping: of several `max-age` the shortest counts, and one that is
//! no number is zero. A list that is malformed is read as far as it can be; words inside of quotes are no directives.

use http::{HeaderMap, HeaderName, header};

/// The largest number of seconds that is told apart: a larger one means this (RFC 9111 section 1.2.2).
const MOST: u64 = 1 << 31;

/// What a response says about keeping it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResponseDirectives {
    /// `public`.
    pub public: bool,
    /// `private` without field names.
    pub private: bool,
    /// `no-store`.
    pub no_store: bool,
    /// `no-cache` without field names.
    pub no_cache: bool,
    /// `must-revalidate`.
    pub must_revalidate: bool,
    /// `proxy-revalidate`.
    pub proxy_revalidate: bool,
    /// `max-age`, in seconds.
    pub max_age: Option<u64>,
    /// `s-maxage`, in seconds.
    pub s_maxage: Option<u64>,
    /// `stale-while-revalidate` (RFC 5861), in seconds.
    pub stale_while_revalidate: Option<u64>,
    /// `stale-if-error` (RFC 5861), in seconds.
    pub stale_if_error: Option<u64>,
    /// The fields named by `private="..."` and `no-cache="..."`, which are not kept.
    pub fields: Vec<HeaderName>,
}

/// What a request says about the answer it wants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestDirectives {
    /// `no-store`.
    pub no_store: bool,
    /// `no-cache`, or `Pragma: no-cache` where there is no `Cache-Control`.
    pub no_cache: bool,
    /// `only-if-cached`.
    pub only_if_cached: bool,
    /// `max-age`, in seconds.
    pub max_age: Option<u64>,
    /// `min-fresh`, in seconds.
    pub min_fresh: Option<u64>,
    /// `max-stale`, in seconds; without a number, any.
    pub max_stale: Option<u64>,
}

impl ResponseDirectives {
    /// Of these fields.
    pub fn of(fields: &HeaderMap) -> Self {
        let mut read = Self::default();
        for value in fields.get_all(header::CACHE_CONTROL) {
            each(value.as_bytes(), |name, argument| read.take(name, argument));
        }
        read
    }

    fn take(&mut self, name: &str, argument: Option<&[u8]>) {
        match name {
            "public" => self.public = true,
            "no-store" => self.no_store = true,
            "must-revalidate" => self.must_revalidate = true,
            "proxy-revalidate" => self.proxy_revalidate = true,
            "private" => self.private |= !self.fields(argument),
            "no-cache" => self.no_cache |= !self.fields(argument),
            "max-age" => shorter(&mut self.max_age, argument),
            "s-maxage" => shorter(&mut self.s_maxage, argument),
            "stale-while-revalidate" => shorter(&mut self.stale_while_revalidate, argument),
            "stale-if-error" => shorter(&mut self.stale_if_error, argument),
            _ => {}
        }
    }

    /// Takes down the fields that a directive names. False when it names none that can be read: then it is meant as a whole.
    fn fields(&mut self, argument: Option<&[u8]>) -> bool {
        let Some(list) = argument.filter(|list| !list.trim_ascii().is_empty()) else { return false };
        let names: Result<Vec<_>, _> = list.split(|&b| b == b',').map(|name| HeaderName::from_bytes(name.trim_ascii())).collect();
        names.map(|names| self.fields.extend(names)).is_ok()
    }
}

impl RequestDirectives {
    /// Of these fields.
    pub fn of(fields: &HeaderMap) -> Self {
        let mut read = Self::default();
        let mut stated = false;
        for value in fields.get_all(header::CACHE_CONTROL) {
            stated = true;
            each(value.as_bytes(), |name, argument| read.take(name, argument));
        }
        if !stated && let Some(pragma) = fields.get(header::PRAGMA) {
            each(pragma.as_bytes(), |name, _| read.no_cache |= name == "no-cache");
        }
        read
    }

    fn take(&mut self, name: &str, argument: Option<&[u8]>) {
        match name {
            "no-store" => self.no_store = true,
            "no-cache" => self.no_cache = true,
            "only-if-cached" => self.only_if_cached = true,
            "max-age" => shorter(&mut self.max_age, argument),
            "min-fresh" => self.min_fresh = argument.and_then(seconds).max(self.min_fresh),
            "max-stale" => self.max_stale = Some(argument.map_or(MOST, |text| seconds(text).unwrap_or(0))),
            _ => {}
        }
    }
}

/// Keeps the shorter time; one that cannot be read is none at all.
fn shorter(known: &mut Option<u64>, argument: Option<&[u8]>) {
    let read = argument.and_then(seconds).unwrap_or(0);
    *known = Some(known.map_or(read, |known| known.min(read)));
}

/// 1*DIGIT; more than [`MOST`] is [`MOST`].
pub(super) fn seconds(text: &[u8]) -> Option<u64> {
    let digits = text.trim_ascii();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits.iter().fold(0_u64, |number, digit| (number * 10 + u64::from(digit - b'0')).min(MOST));
    Some(number)
}

/// The longest name of a directive that means something here, with room.
const LONGEST: usize = 32;

/// Shows each directive, its name in lower case, its argument without quotes.
fn each(mut list: &[u8], mut see: impl FnMut(&str, Option<&[u8]>)) {
    while !list.is_empty() {
        let end = end_of_directive(list);
        let (directive, rest) = list.split_at(end);
        list = rest.get(1..).unwrap_or_default();
        let (name, argument) = match directive.iter().position(|&b| b == b'=') {
            Some(at) => (&directive[..at], Some(unquoted(directive[at + 1..].trim_ascii()))),
            None => (directive, None),
        };
        let name = name.trim_ascii();
        let mut lower = [0; LONGEST];
        let Some(lower) = lower.get_mut(..name.len()) else { continue };
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        if let Ok(name) = std::str::from_utf8(lower) {
            see(name, argument);
        }
    }
}

/// Where the first comma outside of quotes is.
fn end_of_directive(list: &[u8]) -> usize {
    let (mut quoted, mut escaped) = (false, false);
    for (at, &byte) in list.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => return at,
            _ => {}
        }
    }
    list.len()
}

/// Without the quotes around it. Escapes stay: no directive that means something here has any.
fn unquoted(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\"").map_or(text, |inside| inside.strip_suffix(b"\"").unwrap_or(inside))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn fields(values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (header::CACHE_CONTROL, HeaderValue::from_str(value).unwrap())).collect()
    }

    fn response(value: &str) -> ResponseDirectives {
        ResponseDirectives::of(&fields(&[value]))
    }

    #[test]
    fn a_response_is_read_without_regard_to_case_and_spaces() {
        let read = response("Public ,MAX-AGE = 60,\ts-maxage=\"30\", stale-if-error=5 ,,");
        assert!(read.public && !read.private);
        assert_eq!((read.max_age, read.s_maxage, read.stale_if_error), (Some(60), Some(30), Some(5)));
        let several = ResponseDirectives::of(&fields(&["max-age=60", "no-store", "max-age=9"]));
        assert_eq!((several.max_age, several.no_store), (Some(9), true));
    }

    #[test]
    fn doubt_keeps_nothing() {
        for (value, max_age) in [
            ("max-age=", 0),
            ("max-age", 0),
            ("max-age=-1", 0),
            ("max-age=1.5", 0),
            ("max-age=+5", 0),
            ("max-age=60, max-age=x", 0),
            ("max-age=99999999999999999999999", MOST),
        ] {
            assert_eq!(response(value).max_age, Some(max_age), "{value}");
        }
        assert!(response("private=\"\"").private && response("private=\"a b\"").private && response("private=").private);
    }

    #[test]
    fn words_in_quotes_are_no_directives() {
        let read = response("ext=\"no-store, private\", max-age=5");
        assert_eq!((read.no_store, read.private, read.max_age), (false, false, Some(5)));
        let read = response("ext=\"a\\\", no-store\", public");
        assert_eq!((read.no_store, read.public), (false, true));
        assert!(!response("ext=\"open, no-store").no_store, "a quote that never ends");
        assert!(!response("xno-store, no-store-x").no_store);
    }

    #[test]
    fn fields_that_are_named_are_told_apart_from_the_whole() {
        let read = response("private=\"Set-Cookie, x-user\", no-cache=\"etag\"");
        assert!(!read.private && !read.no_cache);
        assert_eq!(read.fields, ["set-cookie", "x-user", "etag"]);
        assert!(response("no-cache, no-cache=\"a\"").no_cache);
    }

    #[test]
    fn a_request_is_read() {
        let read = RequestDirectives::of(&fields(&["no-cache, max-age=0, min-fresh=5, max-stale, only-if-cached, no-store"]));
        assert!(read.no_cache && read.only_if_cached && read.no_store);
        assert_eq!((read.max_age, read.min_fresh, read.max_stale), (Some(0), Some(5), Some(MOST)));
        let mut old = HeaderMap::new();
        old.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
        assert!(RequestDirectives::of(&old).no_cache);
        old.insert(header::CACHE_CONTROL, HeaderValue::from_static("max-age=5"));
        assert!(!RequestDirectives::of(&old).no_cache, "Pragma counts only alone");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_and_a_directive_in_front_always_counts(rest in proptest::collection::vec(32_u8..=255, 0..64)) {
            let mut value = b"no-store, ".to_vec();
            value.extend(rest.into_iter().filter(|&b| b != 127));
            let mut map = HeaderMap::new();
            map.insert(header::CACHE_CONTROL, HeaderValue::from_bytes(&value).unwrap());
            prop_assert!(ResponseDirectives::of(&map).no_store);
            prop_assert!(RequestDirectives::of(&map).no_store);
        }
    }
}
