//! Addresses of sites: `example.com`, `http://example.com:8080`, `:8080`.

use crate::types::HostPattern;

/// Where a site answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Address {
    /// Its host; none for any.
    pub host: Option<HostPattern>,
    /// Its port.
    pub port: u16,
    /// Over TLS.
    pub tls: bool,
}

impl Address {
    /// An address as Caddy reads it, in a site with or without a `tls` line.
    pub fn parse(text: &str, with_tls: bool) -> Result<Self, &'static str> {
        if text.contains(['{', '$']) {
            return Err("a variable in an address: write the host that it stands for");
        }
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (Some(scheme), rest),
            None => (None, text),
        };
        let authority = rest.split('/').next().unwrap_or_default();
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                (host, Some(port.parse::<u16>().map_err(|_| "an address has one port")?))
            }
            _ => (authority, None),
        };
        let any = matches!(host, "" | "*");
        let host =
            if any { None } else { Some(host.to_ascii_lowercase().parse::<HostPattern>().map_err(|_| "this is no host")?) };
        let tls = match (scheme, port) {
            (Some("http"), _) | (None, Some(80)) => false,
            (Some("https"), _) => true,
            (Some(_), _) => return Err("there is no such scheme"),
            (None, Some(port)) => host.is_some() || with_tls || port == 443,
            (None, None) => host.is_some() || with_tls,
        };
        Ok(Self { host, port: port.unwrap_or(if tls { 443 } else { 80 }), tls })
    }

    /// A name for which there is no public certificate.
    pub fn is_local(&self) -> bool {
        self.host.as_ref().is_none_or(|host| {
            let host = host.to_string();
            let ends = [".localhost", ".local", ".internal", ".home.arpa", ".lan"];
            host == "localhost"
                || host.parse::<std::net::IpAddr>().is_ok()
                || ends.iter().any(|end| host.ends_with(end))
                || !host.contains('.')
        })
    }
}
