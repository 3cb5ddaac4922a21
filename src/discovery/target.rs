//! Where an endpoint is, as users write it in the configuration.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
    str::FromStr,
};

use crate::{
    string_type,
    types::{Address, AddressError, bare_host, parse_authority},
};

/// An address, or the name of one that is looked up in DNS; either may be written as a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    scheme: Option<Scheme>,
    place: Place,
}

/// How the endpoint is spoken to, where the user said so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// `http://`: in cleartext.
    Http,
    /// `https://`: over TLS.
    Https,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Address(Address),
    Name(String, u16),
}

impl Target {
    /// How it is spoken to, where the user said so.
    pub fn scheme(&self) -> Option<Scheme> {
        self.scheme
    }

    /// The address, unless it is named.
    pub fn address(&self) -> Option<&Address> {
        match &self.place {
            Place::Address(address) => Some(address),
            Place::Name(..) => None,
        }
    }

    /// The name and the port, where it is named.
    pub fn name(&self) -> Option<(&str, u16)> {
        match &self.place {
            Place::Address(_) => None,
            Place::Name(name, port) => Some((name, *port)),
        }
    }

    /// The same by its address, where it is not named.
    fn bare(text: &str, default_port: Option<u16>) -> Result<Place, String> {
        if text.starts_with("unix:") {
            return text.parse().map(Place::Address).map_err(|error: AddressError| error.to_string());
        }
        let wrong = |reason: &str| format!("`{text}` is not an endpoint: {reason}");
        let Some((host, port)) = parse_authority(text) else {
            // Whatever is wrong with an address is known there.
            let reason = text.parse::<Address>().err().map(|error| error.to_string()).unwrap_or_default();
            let reason = reason.split_once("is not an address: ").map_or("", |(_, reason)| reason);
            return Err(wrong(if reason.is_empty() || reason.starts_with("a name") {
                "write `IP:port`, `[IPv6]:port`, `name:port`, `http://name`, `https://name` or `unix:/path`"
            } else {
                reason
            }));
        };
        let Some(port) = port.or(default_port) else {
            return Err(wrong(&match text.parse::<u16>() {
                Ok(port) => format!("did you mean `127.0.0.1:{port}`?"),
                Err(_) => format!("a port is missing, as in `{host}:8080`"),
            }));
        };
        if let Ok(ip) = bare_host(&host).parse::<IpAddr>() {
            return Ok(Place::Address(Address::Tcp((ip, port).into())));
        }
        if host == "localhost" {
            return Ok(Place::Address(Address::Tcp((Ipv4Addr::LOCALHOST, port).into())));
        }
        // No name of a host ends in a number (RFC 1123 section 2.1).
        if host.rsplit('.').next().is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit())) {
            return Err(wrong(&format!("`{host}` is neither an IP address nor a name")));
        }
        Ok(Place::Name(host.into(), port))
    }
}

impl From<Address> for Target {
    fn from(address: Address) -> Self {
        Self { scheme: None, place: Place::Address(address) }
    }
}

impl FromStr for Target {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Ok(Self { scheme: None, place: Self::bare(text, None)? });
        };
        let (scheme, port) = match scheme.to_ascii_lowercase().as_str() {
            "http" => (Scheme::Http, 80),
            "https" => (Scheme::Https, 443),
            "h2c" => return Err(format!("write `{rest}`, and `connections: {{protocol: h2c}}` in the upstream")),
            _ => return Err(format!("`{text}` is not an endpoint: it may begin with `http://` or `https://`")),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if let Some(at) = rest.find(['/', '?', '#']) {
            let (server, path) = rest.split_at(at);
            let scheme = &text[..text.len() - text.split_once("://").map_or(0, |(_, rest)| rest.len())];
            return Err(format!(
                "an endpoint is a server, without a path: write `{scheme}{server}`, and put `{path}` in front of paths with the filter `rewrite`"
            ));
        }
        if rest.contains('@') {
            return Err("an endpoint has no user name and password: set `authorization` with the filter `headers`".into());
        }
        Ok(Self { scheme: Some(scheme), place: Self::bare(rest, Some(port))? })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.scheme {
            None => "",
            Some(Scheme::Http) => "http://",
            Some(Scheme::Https) => "https://",
        })?;
        match &self.place {
            Place::Address(address) => address.fmt(f),
            Place::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}
string_type!(
    Target,
    "EndpointAddress",
    "Where an endpoint is: `IP:port`, `[IPv6]:port`, `name:port`, `http://name`, `https://name` or `unix:/path`.",
    None
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_written_in_many_ways() {
        for (text, printed) in [
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("[::1]:80", "[::1]:80"),
            ("unix:/run/app.sock", "unix:/run/app.sock"),
            ("app:8080", "app:8080"),
            ("App.Internal.:8080", "app.internal:8080"),
            ("localhost:3000", "127.0.0.1:3000"),
            ("http://127.0.0.1:3000", "http://127.0.0.1:3000"),
            ("http://127.0.0.1:3000/", "http://127.0.0.1:3000"),
            ("http://localhost", "http://127.0.0.1:80"),
            ("https://api.example.com", "https://api.example.com:443"),
            ("HTTPS://[2001:db8::1]:8443", "https://[2001:db8::1]:8443"),
        ] {
            let target: Target = text.parse().unwrap();
            assert_eq!(target.to_string(), printed, "{text}");
            assert_eq!(printed.parse::<Target>().unwrap(), target);
            assert_ne!(target.name().is_some(), target.address().is_some());
        }
    }

    #[test]
    fn a_mistake_is_named() {
        for (text, reason) in [
            ("app", "a port is missing, as in `app:8080`"),
            ("8080", "did you mean `127.0.0.1:8080`?"),
            (":8080", "did you mean `0.0.0.0:8080`?"),
            ("app:99999", "port 99999 is out of range"),
            ("::1:80", "brackets: `[::1]:80`"),
            ("10.0.0.256:80", "neither an IP address nor a name"),
            ("http://app:8080/api", "write `http://app:8080`, and put `/api` in front of paths with the filter `rewrite`"),
            ("https://u:p@app", "set `authorization` with the filter `headers`"),
            ("ftp://app", "`http://` or `https://`"),
            ("h2c://app:80", "protocol: h2c"),
            ("a b:80", "`name:port`"),
            ("unix:", "needs a path"),
        ] {
            let error = text.parse::<Target>().unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
