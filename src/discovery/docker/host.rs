//! Where an engine answers.

use std::{fmt, path::PathBuf, str::FromStr};

use crate::{string_type, types::bare_host};

/// Where Docker's own tools look for it, too.
const DEFAULT: &str = "/var/run/docker.sock";

/// `unix:///path` or `tcp://host:port`, as in `DOCKER_HOST`. Unlike an address of an endpoint this may be a name:
/// a proxy in front of the engine's socket is a container itself, and its address another after each start.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EngineHost {
    /// The path of a socket.
    Unix(PathBuf),
    /// A name or an IP address, and a port.
    Tcp(String, u16),
}

impl Default for EngineHost {
    fn default() -> Self {
        Self::Unix(DEFAULT.into())
    }
}

impl FromStr for EngineHost {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix://") {
            return match path.starts_with('/') {
                true => Ok(Self::Unix(path.into())),
                false => Err(format!("`{text}` has no absolute path, as in `unix://{DEFAULT}`")),
            };
        }
        let Some(address) = text.strip_prefix("tcp://") else {
            return Err(format!("`{text}` is not where an engine answers: write `unix://{DEFAULT}` or `tcp://host:2375`"));
        };
        let address = address.strip_suffix('/').unwrap_or(address);
        let (host, port) = address.rsplit_once(':').ok_or_else(|| format!("`{text}` has no port: the engine's is 2375"))?;
        let host = bare_host(host);
        let sound = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':');
        if host.is_empty() || host.len() > 253 || !host.bytes().all(sound) {
            return Err(format!("`{host}` is neither a host name nor an IP address"));
        }
        match port.parse() {
            Ok(port) if port > 0 => Ok(Self::Tcp(host.into(), port)),
            _ => Err(format!("`{port}` is not a port")),
        }
    }
}

impl fmt::Display for EngineHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(host, port) if host.contains(':') => write!(f, "tcp://[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "tcp://{host}:{port}"),
        }
    }
}
string_type!(EngineHost, "EngineHost", "Where a Docker engine answers: `unix:///path` or `tcp://host:port`.", None);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_print_as_they_are_written() {
        for text in ["unix:///var/run/docker.sock", "tcp://socket-proxy:2375", "tcp://10.0.0.1:2376", "tcp://[::1]:2375"] {
            assert_eq!(text.parse::<EngineHost>().unwrap().to_string(), text);
        }
        assert_eq!(EngineHost::default().to_string(), "unix:///var/run/docker.sock");
    }

    #[test]
    fn a_mistake_is_named() {
        for (text, reason) in [
            ("/var/run/docker.sock", "write `unix:///var/run"),
            ("unix://docker.sock", "absolute path"),
            ("http://engine:2375", "tcp://host:2375"),
            ("tcp://engine", "no port"),
            ("tcp://engine:0", "not a port"),
            ("tcp://:2375", "neither a host name"),
            ("tcp://a/b:2375", "neither a host name"),
        ] {
            let error = text.parse::<EngineHost>().unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
