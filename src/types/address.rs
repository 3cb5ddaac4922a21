//! Where to listen or connect: `IP:port`, `[IPv6]:port`, or `unix:/path`.

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr};

use crate::string_type;

/// A socket address or the path of a unix socket. Host names are not addresses: they are discovered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// TCP over IPv4 or IPv6.
    Tcp(SocketAddr),
    /// A unix stream socket.
    Unix(PathBuf),
}

/// Why the text is not an [`Address`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AddressError(String);

/// `sun_path` holds 108 bytes with the final NUL.
const UNIX_PATH_MAX: usize = 107;

impl Address {
    /// True for loopback IP addresses and unix sockets: reachable from this machine only.
    pub fn is_local(&self) -> bool {
        match self {
            Address::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Address::Unix(_) => true,
        }
    }
    /// What a request for this address itself has in its Host.
    pub fn authority(&self) -> String {
        match self {
            Address::Tcp(address) => address.to_string(),
            Address::Unix(_) => "localhost".into(),
        }
    }
    /// The TCP address, if it is one.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Address::Tcp(address) => Some(*address),
            Address::Unix(_) => None,
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path.len() {
                0 => Err(AddressError("`unix:` needs a path: `unix:/run/weir.sock`".into())),
                n if n > UNIX_PATH_MAX => {
                    Err(AddressError(format!("the path has {n} bytes; a unix socket's path has at most {UNIX_PATH_MAX}")))
                }
                _ => Ok(Address::Unix(path.into())),
            };
        }
        if let Ok(address) = text.parse() {
            return Ok(Address::Tcp(address));
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            let rest = rest.split(['/', '?', '#']).next().unwrap_or_default();
            return Err(AddressError(format!("`{text}` is not an address: write it without `{scheme}://`, as in `{rest}`")));
        }
        let reason = match text.rsplit_once(':') {
            None if text.parse::<u16>().is_ok() => format!("did you mean `0.0.0.0:{text}`?"),
            None => format!("a port is missing, as in `{}:8080`", if text.is_empty() { "127.0.0.1" } else { text }),
            Some((_, "")) => "a port is missing after the colon".into(),
            Some((_, port)) if port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_err() => {
                format!("port {port} is out of range: ports go from 0 to 65535")
            }
            Some(("", port)) if port.parse::<u16>().is_ok() => format!("did you mean `0.0.0.0:{port}`?"),
            Some(("*", port)) if port.parse::<u16>().is_ok() => {
                format!("did you mean `0.0.0.0:{port}`, or `[::]:{port}` for IPv6, too?")
            }
            Some(("localhost", port)) => format!("a name is not an address; write `127.0.0.1:{port}`"),
            Some((host, port)) if host.contains(':') && !host.starts_with('[') => {
                format!("an IPv6 address goes in brackets: `[{host}]:{port}`")
            }
            Some((host, _)) if host.bytes().any(|b| b.is_ascii_alphabetic()) => {
                "a name is not an address; write an IP address".into()
            }
            Some(_) => "expected `IP:port`, `[IPv6]:port` or `unix:/path`".into(),
        };
        Err(AddressError(format!("`{text}` is not an address: {reason}")))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => address.fmt(f),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
string_type!(Address, "Address", "An address: `IP:port`, `[IPv6]:port` or `unix:/path`.", None);

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Address::Tcp(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_print_as_they_are_written() {
        for text in ["127.0.0.1:80", "[::1]:8443", "0.0.0.0:0", "unix:/run/weir.sock"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_mistake_is_named() {
        for (text, reason) in [
            ("127.0.0.1:84430", "84430 is out of range"),
            ("127.0.0.1", "port is missing"),
            (":80", "0.0.0.0:80"),
            ("8080", "0.0.0.0:8080"),
            ("*:8080", "did you mean `0.0.0.0:8080`"),
            ("localhost:80", "127.0.0.1:80"),
            ("::1:80", "brackets"),
            ("http://127.0.0.1:3000/x", "write it without `http://`, as in `127.0.0.1:3000`"),
            ("example.com:80", "a name is not an address"),
            ("unix:", "needs a path"),
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
