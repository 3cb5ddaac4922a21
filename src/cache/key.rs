//! What a response is kept under: the URL as the client asked for it, how it was spelled, and the route that served it.
//!
//! The URL holds scheme, host and port (RUSTSEC-2026-0035 was a key without them), the canonical path and the query. The
//! route is part of the identity since two routes may serve one URL from different upstreams, by a header field, say. So is
//! another spelling, since that is what is forwarded: to many a service `//a` is not there, and its 404 must not be
//! everybody's answer to `/a`.

use std::sync::Arc;

use crate::types::{Name, Scheme, parse_authority};

use super::QueryRule;

/// A key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// `https://example.com/a?b`: the host in lower case, the port only where it is not the scheme's.
    pub url: Arc<str>,
    /// The route.
    pub route: Name,
    /// Host and path as they are forwarded, where they are not spelled as in the URL.
    pub spelling: Option<Arc<str>>,
}

/// Why a text is no URL that anything could be kept under.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Neither `http://` nor `https://`.
    #[error("a URL starts with `http://` or `https://`")]
    Scheme,
    /// No host, or none that a request could have.
    #[error("there is no valid host in this URL")]
    Host,
    /// A path that no request could have.
    #[error("there is no valid path in this URL: {0}")]
    Path(String),
}

impl Key {
    /// The key of a request that is spelled as its URL: its host lower case and without a port, its path canonical.
    pub fn new(
        route: &Name,
        scheme: Scheme,
        host: &str,
        port: Option<u16>,
        path: &str,
        query: Option<&str>,
        rule: &QueryRule,
    ) -> Self {
        Self { url: url(scheme, host, port, path, query, rule).into(), route: route.clone(), spelling: None }
    }

    /// As one text, for those who keep one: neither names of routes nor URLs have a line feed in them.
    pub fn text(&self) -> String {
        match &self.spelling {
            None => format!("{}\n{}", self.route, self.url),
            Some(spelling) => format!("{}\n{}\n{spelling}", self.route, self.url),
        }
    }

    /// What it takes beside the URL.
    pub(super) fn length(&self) -> usize {
        self.url.len() + self.route.len() + self.spelling.as_ref().map_or(0, |spelling| spelling.len())
    }
}

/// The URL of a key.
fn url(scheme: Scheme, host: &str, port: Option<u16>, path: &str, query: Option<&str>, rule: &QueryRule) -> String {
    let mut url = String::with_capacity(16 + host.len() + path.len() + query.map_or(0, str::len));
    url.push_str(scheme.as_str());
    url.push_str("://");
    url.push_str(host);
    if let Some(port) = port.filter(|&port| port != scheme.default_port()) {
        url.push(':');
        url.push_str(&port.to_string());
    }
    url.push_str(path);
    if let Some(query) = query {
        rule.append(&mut url, query);
    }
    url
}

/// The canonical form of a URL that somebody typed, to look up what is kept under it. `canonical` is the rule for paths.
///
/// # Errors
/// When no request could have had it.
pub fn typed(text: &str, canonical: impl FnOnce(&str) -> Result<String, String>) -> Result<String, KeyError> {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (Scheme::Http, rest),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (Scheme::Https, rest),
        _ => return Err(KeyError::Scheme),
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(end);
    let (host, port) = parse_authority(authority).ok_or(KeyError::Host)?;
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let path = canonical(if path.is_empty() { "/" } else { path }).map_err(KeyError::Path)?;
    Ok(url(scheme, &host, port, &path, query, &QueryRule::All))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(scheme: Scheme, host: &str, port: Option<u16>, path: &str, query: Option<&str>) -> String {
        url(scheme, host, port, path, query, &QueryRule::All)
    }

    #[test]
    fn every_part_tells_keys_apart() {
        let base = key(Scheme::Https, "a.example", None, "/x", Some("q"));
        assert_eq!(base, "https://a.example/x?q");
        for other in [
            key(Scheme::Http, "a.example", None, "/x", Some("q")),
            key(Scheme::Https, "b.example", None, "/x", Some("q")),
            key(Scheme::Https, "a.example", Some(8443), "/x", Some("q")),
            key(Scheme::Https, "a.example", None, "/X", Some("q")),
            key(Scheme::Https, "a.example", None, "/x", Some("r")),
            key(Scheme::Https, "a.example", None, "/x", None),
        ] {
            assert_ne!(base, other);
        }
        assert_ne!(key(Scheme::Http, "a", None, "/x", Some("")), key(Scheme::Http, "a", None, "/x", None));
    }

    #[test]
    fn a_port_that_goes_without_saying_is_not_said() {
        assert_eq!(key(Scheme::Https, "a", Some(443), "/", None), "https://a/");
        assert_eq!(key(Scheme::Http, "a", Some(80), "/", None), "http://a/");
        assert_eq!(key(Scheme::Http, "a", Some(443), "/", None), "http://a:443/");
    }

    #[test]
    fn what_is_typed_meets_what_was_asked_for() {
        let plain = |path: &str| Ok(path.to_owned());
        assert_eq!(typed("HTTPS://A.Example:443", plain).unwrap(), "https://a.example/");
        assert_eq!(typed("http://a.example:8080/x?y", plain).unwrap(), "http://a.example:8080/x?y");
        assert_eq!(typed("http://a.example?y", plain).unwrap(), "http://a.example/?y");
        assert_eq!(typed("a.example/x", plain), Err(KeyError::Scheme));
        assert_eq!(typed("ftp://a/", plain), Err(KeyError::Scheme));
        assert_eq!(typed("http:///x", plain), Err(KeyError::Host));
        assert_eq!(typed("http://a b/x", plain), Err(KeyError::Host));
    }

    proptest! {
        #[test]
        fn a_key_can_be_read_back(
            https: bool,
            host in "[a-z]{1,8}(\\.[a-z]{1,8}){0,2}",
            port in proptest::option::of(1_u16..),
            path in "/[a-z/%0-9]{0,16}",
            query in proptest::option::of("[a-z=&%?]{0,16}"),
        ) {
            let scheme = if https { Scheme::Https } else { Scheme::Http };
            let text = key(scheme, &host, port, &path, query.as_deref());
            prop_assert_eq!(typed(&text, |path| Ok(path.to_owned())).unwrap(), text);
        }
    }
}
