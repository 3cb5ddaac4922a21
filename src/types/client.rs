//! Who is asking: what one connection tells about the client.

use std::{net::IpAddr, sync::Arc};

use http::HeaderValue;

use super::{Country, Whereabouts};

/// The scheme a client used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Cleartext.
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    /// `http` or `https`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    /// The port of a URL that names none.
    pub const fn default_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

/// What the TLS handshake told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsClient {
    /// The server name the client asked for, lower case.
    pub sni: Option<Arc<str>>,
    /// `TLSv1.3` or `TLSv1.2`.
    pub version: &'static str,
    /// The subject of a verified client certificate, in RFC 4514 form.
    pub subject: Option<Arc<str>>,
    /// SHA-256 of that certificate, in hex.
    pub fingerprint: Option<Arc<str>>,
    /// That certificate as the value of `Client-Cert` (RFC 9440), where endpoints are to get it.
    pub certificate: Option<HeaderValue>,
}

/// The client of one request, after trusted proxies in front of us were believed.
#[derive(Debug, Clone)]
pub struct Client {
    /// The client's own address: the right-most hop that no trusted proxy vouches for.
    /// `0.0.0.0` for a client on a unix socket.
    pub ip: IpAddr,
    /// Its port; 0 when a proxy in front of us named only the address.
    pub port: u16,
    /// The scheme the client used with the first trusted proxy, or with us.
    pub scheme: Scheme,
    /// The name of the listener that accepted the connection.
    pub listener: crate::types::Name,
    /// The TLS facts of the connection to us.
    pub tls: Option<Arc<TlsClient>>,
    /// Where it is, for [`Client::country`].
    pub whereabouts: Whereabouts,
}

impl Client {
    /// The country that the address is in, as far as that is known: looked up by the first who asks.
    pub fn country(&self) -> Option<Country> {
        self.whereabouts.country(self.ip)
    }
}
