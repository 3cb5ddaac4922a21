//! What an endpoint says of its own paths, names and addresses, as its client must read it ([`crate::filter::Back`]).
//!
//! It is done before the filters of the response pass see the answer. What Weir answers itself is not touched. A stored response is as the
//! endpoint sent it, so it is mapped for each client that gets it.

use std::{net::IpAddr, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::Exchange;
use crate::{
    discovery::DiscoverSpec,
    endpoint::Endpoint,
    filter::{Back, Own, Seen},
    types::{Address, Scheme, bare_host, parse_authority},
    upstream::Upstream,
};

/// How a value is mapped; `None` leaves it as it is.
type Map = fn(&Back, &str, &Seen<'_>) -> Option<String>;

/// The fields, and how the value of each is mapped.
const MAPPED: [(HeaderName, Map); 4] = [
    (header::LOCATION, Back::location),
    (header::CONTENT_LOCATION, Back::location),
    (header::REFRESH, Back::refresh),
    (header::SET_COOKIE, Back::cookie),
];

impl Exchange {
    /// Maps the fields of a response that an endpoint has sent, now or before it was stored.
    pub(super) fn map_back(&self, fields: &mut HeaderMap) {
        for (name, map) in &MAPPED {
            if fields.contains_key(name) && !self.back.is_off() {
                self.map_field(fields, name, *map);
            }
        }
    }

    #[cold]
    fn map_field(&self, fields: &mut HeaderMap, name: &HeaderName, map: Map) {
        let Some(upstream) = self.upstream() else { return };
        let named = self.named.as_ref().and_then(|host| parse_authority(host.to_str().ok()?));
        let (host, port) = named.as_ref().map_or((&self.outcome.host, self.admitted.port), |(host, port)| (host, *port));
        let endpoint = self.attempt.as_ref().map(|attempt| attempt.guard.endpoint());
        let behind = Behind { upstream, endpoint, host, port };
        let seen = Seen { scheme: self.client.scheme, host: &self.outcome.host, port: self.admitted.port, own: &behind };
        if let header::Entry::Occupied(mut values) = fields.entry(name) {
            for value in values.iter_mut() {
                let mapped = std::str::from_utf8(value.as_bytes()).ok().and_then(|text| map(&self.back, text, &seen));
                if let Some(mapped) = mapped.and_then(|mapped| HeaderValue::try_from(mapped).ok()) {
                    *value = mapped;
                }
            }
        }
    }
}

/// What stands behind an exchange.
struct Behind<'a> {
    upstream: &'a Upstream,
    /// The endpoint that has answered; `None` for a stored response, which any of them may have sent.
    endpoint: Option<&'a Arc<Endpoint>>,
    /// What it was asked for as.
    host: &'a str,
    port: Option<u16>,
}

/// Is this the host of a URL for such an address?
fn is_ip(host: &str, address: &Address) -> bool {
    let named = || bare_host(host).parse::<IpAddr>().ok();
    address.tcp().is_some_and(|address| named().is_some_and(|ip| ip.to_canonical() == address.ip().to_canonical()))
}

impl Behind<'_> {
    fn any_endpoint(&self, test: impl Fn(&Address) -> bool) -> bool {
        match self.endpoint {
            Some(endpoint) => test(endpoint.address()),
            None => self.upstream.endpoints().iter().any(|endpoint| test(endpoint.address())),
        }
    }

    /// Does an endpoint have this port?
    fn has_port(&self, port: u16) -> bool {
        self.any_endpoint(|address| address.tcp().is_some_and(|address| address.port() == port))
    }

    /// Names that the configuration has for the endpoints: the upstream's, and those that are looked up.
    fn is_name(&self, host: &str) -> bool {
        let spec = self.upstream.spec();
        let discovered = spec.discover.as_ref().and_then(DiscoverSpec::host);
        let mut listed = spec.endpoints.iter().filter_map(|listed| listed.target.name());
        self.upstream.name().eq_ignore_ascii_case(host)
            || discovered.is_some_and(|name| name.trim_end_matches('.').eq_ignore_ascii_case(host))
            || listed.any(|(name, _)| name == host)
    }
}

impl Own for Behind<'_> {
    fn authority(&self, scheme: Scheme, host: &str, port: Option<u16>) -> bool {
        let port = port.unwrap_or(scheme.default_port());
        let usual = if host == self.host { self.port } else { None };
        if host == self.host || self.is_name(host) {
            // Many write their own port behind whatever they were asked for as.
            return port == usual.unwrap_or(scheme.default_port()) || self.has_port(port);
        }
        self.any_endpoint(|address| is_ip(host, address) && address.tcp().is_some_and(|address| address.port() == port))
    }

    fn host(&self, host: &str) -> bool {
        host == self.host || self.is_name(host) || self.any_endpoint(|address| is_ip(host, address))
    }
}
