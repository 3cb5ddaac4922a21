//! Who the client is when proxies stand in front of us, and what the services behind us are told about it.
//!
//! Nothing that the peer says about others counts unless the peer is trusted. Of a trusted one only the dialect that it
//! evidently speaks counts: `X-Forwarded-*` when there is an `X-Forwarded-For` (or no `Forwarded`), else RFC 7239. The
//! fields of the other dialect are removed, because a proxy that maintains one of them passes the other on as the client
//! forged it.
//!
//! Services get `X-Forwarded-For`, `-Proto`, `-Host` and `X-Real-IP`. `Forwarded` is continued where a trusted proxy
//! sent it and not started by us: the same facts in two dialects are bytes in every request.

use std::{
    fmt::Write,
    net::{IpAddr, SocketAddr},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header::FORWARDED};
use smallvec::SmallVec;

use super::names::is_forwarding;
use crate::{
    gate::syntax::{elements, trim},
    types::{CidrSet, Scheme, parse_authority},
};

/// Proxies between the client and us that are looked at. Real chains have two or three; a longer list is a
/// client's attempt to make us work.
const MAX_HOPS: usize = 32;

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// The other end of the connection, after the PROXY protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its address; unspecified for a unix socket.
    pub ip: IpAddr,
    /// Its port.
    pub port: u16,
    /// The scheme it speaks with us.
    pub scheme: Scheme,
}

impl Peer {
    /// The address as services are told it. A connection makes it once for all its requests.
    pub fn told(ip: IpAddr) -> HeaderValue {
        value(address(ip.to_canonical())).unwrap_or(HeaderValue::from_static("unknown"))
    }
}

/// Which fields tell about the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    /// None: the peer is the client.
    Untrusted,
    /// `X-Forwarded-*`.
    XForwarded,
    /// `Forwarded`, RFC 7239.
    Rfc7239,
}

/// The client of a request, and the edit that tells the services behind us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forwarded {
    /// The client's address: the right-most hop that no trusted proxy vouches for.
    pub ip: IpAddr,
    /// Its port; 0 when only the address is known.
    pub port: u16,
    /// The scheme the client used.
    pub scheme: Scheme,
    /// The host the client asked the first trusted proxy for, if that proxy said so.
    pub host: Option<String>,
    peer: Peer,
    dialect: Dialect,
}

impl Forwarded {
    /// Reads the fields of a request from this peer.
    pub fn resolve(peer: Peer, trusted: &CidrSet, fields: &HeaderMap) -> Self {
        let peer = Peer { ip: peer.ip.to_canonical(), ..peer };
        let itself = Self { ip: peer.ip, port: peer.port, scheme: peer.scheme, host: None, peer, dialect: Dialect::Untrusted };
        if !trusted.contains(peer.ip) {
            itself
        } else if fields.contains_key(FOR) || !fields.contains_key(FORWARDED) {
            itself.by_x_forwarded(trusted, fields)
        } else {
            itself.by_rfc7239(trusted, fields)
        }
    }

    /// Was the peer believed?
    pub fn trusted(&self) -> bool {
        self.dialect != Dialect::Untrusted
    }

    /// The walk from right to left, from trusted hop to trusted hop. What is no address ends it at the last good hop.
    /// Answers how many entries it used.
    fn walk<'f>(&mut self, trusted: &CidrSet, hops: impl Iterator<Item = &'f [u8]>) -> usize {
        let mut used = 0;
        for hop in hops.take(MAX_HOPS) {
            if !trusted.contains(self.ip) {
                break;
            }
            let Some((ip, port)) = node(hop) else { break };
            (self.ip, self.port) = (ip, port);
            used += 1;
        }
        used
    }

    fn by_x_forwarded(mut self, trusted: &CidrSet, fields: &HeaderMap) -> Self {
        self.dialect = Dialect::XForwarded;
        let used = self.walk(trusted, from_right(fields, &FOR));
        // Proxies that append keep the lists in step; one that sets a single value speaks for the whole chain.
        let said = |name: &HeaderName| from_right(fields, name).take(used.max(1)).last();
        if let Some(scheme) = said(&PROTO).and_then(scheme) {
            self.scheme = scheme;
        }
        self.host = said(&HOST).and_then(host);
        self
    }

    fn by_rfc7239(mut self, trusted: &CidrSet, fields: &HeaderMap) -> Self {
        self.dialect = Dialect::Rfc7239;
        let used =
            self.walk(trusted, from_right(fields, &FORWARDED).map(|element| parameter(element, b"for").unwrap_or_default()));
        if let Some(element) = from_right(fields, &FORWARDED).take(used.max(1)).last() {
            if let Some(scheme) = parameter(element, b"proto").and_then(scheme) {
                self.scheme = scheme;
            }
            self.host = parameter(element, b"host").and_then(host);
        }
        self
    }

    /// Sets the forwarding fields for the services behind us. `told` is [`Peer::told`], `host` the authority that the client asked us
    /// for, where it named one.
    pub fn apply(&self, fields: &mut HeaderMap, told: &HeaderValue, host: Option<HeaderValue>) {
        let chain = self.chain(fields);
        if fields.keys().any(|name| self.removes(name.as_str())) {
            let gone: SmallVec<[HeaderName; 8]> = fields.keys().filter(|name| self.removes(name.as_str())).cloned().collect();
            for name in &gone {
                fields.remove(name);
            }
        }
        let host = match &self.host {
            Some(host) => HeaderValue::from_str(host).ok(),
            None => host,
        };
        let client = if self.ip == self.peer.ip { Some(told.clone()) } else { value(address(self.ip)) };
        let chain = match chain {
            Some(chain) => value(chain),
            None => client.clone(),
        };
        if self.dialect == Dialect::Rfc7239
            && let Some(element) = value(self.element(host.as_ref().and_then(|host| host.to_str().ok()).unwrap_or_default()))
        {
            fields.append(FORWARDED, element);
        }
        for (name, value) in [(FOR, chain), (REAL_IP, client), (HOST, host)] {
            match value {
                Some(value) => drop(fields.insert(name, value)),
                None => drop(fields.remove(name)),
            }
        }
        fields.insert(PROTO, HeaderValue::from_static(self.scheme.as_str()));
    }

    /// What nobody whom we trust has said.
    fn removes(&self, name: &str) -> bool {
        match self.dialect {
            Dialect::Untrusted => is_forwarding(name),
            Dialect::XForwarded => name == "forwarded",
            Dialect::Rfc7239 => name.starts_with("x-forwarded-"),
        }
    }

    /// X-Forwarded-For where it is more than the client's address.
    fn chain(&self, fields: &HeaderMap) -> Option<String> {
        let mut chain = String::new();
        match self.dialect {
            Dialect::Untrusted => return None,
            Dialect::XForwarded => {
                for line in fields.get_all(FOR) {
                    chain.push_str(line.to_str().unwrap_or("unknown"));
                    chain.push_str(", ");
                }
            }
            Dialect::Rfc7239 if self.ip == self.peer.ip => {}
            Dialect::Rfc7239 => {
                chain.push_str(&address(self.ip));
                chain.push_str(", ");
            }
        }
        chain.push_str(&address(self.peer.ip));
        Some(chain)
    }

    /// Our own element of Forwarded: what the peer is and how it came.
    fn element(&self, host: &str) -> String {
        let mut element = match self.peer.ip {
            ip if ip.is_unspecified() => String::from("for=unknown"),
            IpAddr::V4(ip) => format!("for={ip}"),
            IpAddr::V6(ip) => format!("for=\"[{ip}]\""),
        };
        let _ = write!(element, ";proto={}", self.peer.scheme.as_str());
        if !host.is_empty() {
            let _ = write!(element, ";host=\"{host}\"");
        }
        element
    }
}

/// The elements of a list field from the right, over all its lines. A quoted comma would cut an element in two, and
/// neither half would be an address: the walk ends there.
fn from_right<'f>(fields: &'f HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'f [u8]> {
    fields.get_all(name).into_iter().rev().flat_map(|line| elements(line.as_bytes()).rev()).filter(|element| !element.is_empty())
}

/// An address, with or without a port, as both dialects write it.
fn node(text: &[u8]) -> Option<(IpAddr, u16)> {
    let text = std::str::from_utf8(text).ok()?;
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some((address.ip().to_canonical(), address.port()));
    }
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).filter(|inside| inside.contains(':'));
    bare.unwrap_or(text).parse::<IpAddr>().ok().map(|ip| (ip.to_canonical(), 0))
}

/// The value of a parameter of one `Forwarded` element, without its quotes.
fn parameter<'f>(element: &'f [u8], name: &[u8]) -> Option<&'f [u8]> {
    element.split(|&b| b == b';').map(trim).find_map(|pair| {
        let equals = pair.iter().position(|&b| b == b'=')?;
        let value = &pair[equals + 1..];
        let unquoted = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
        pair[..equals].eq_ignore_ascii_case(name).then(|| unquoted.unwrap_or(value))
    })
}

fn scheme(value: &[u8]) -> Option<Scheme> {
    match value {
        _ if value.eq_ignore_ascii_case(b"https") || value.eq_ignore_ascii_case(b"wss") => Some(Scheme::Https),
        _ if value.eq_ignore_ascii_case(b"http") || value.eq_ignore_ascii_case(b"ws") => Some(Scheme::Http),
        _ => None,
    }
}

/// A host is believed only if it is one.
fn host(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?;
    parse_authority(text).map(|_| text.to_owned())
}

/// A client on a unix socket has no address.
fn address(ip: IpAddr) -> String {
    if ip.is_unspecified() { "unknown".to_owned() } else { ip.to_string() }
}

fn value(text: String) -> Option<HeaderValue> {
    HeaderValue::from_maybe_shared(Bytes::from(text)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trusted() -> CidrSet {
        ["10.0.0.0/8", "2001:db8::/32"].iter().map(|text| text.parse().unwrap()).collect()
    }

    fn peer(ip: &str) -> Peer {
        Peer { ip: ip.parse().unwrap(), port: 1234, scheme: Scheme::Http }
    }

    /// Sets the fields for a request from this peer that names this authority.
    fn apply(found: &Forwarded, fields: &mut HeaderMap, host: &str) {
        let host = Some(host).filter(|host| !host.is_empty()).map(|host| HeaderValue::from_str(host).unwrap());
        found.apply(fields, &Peer::told(found.peer.ip), host);
    }

    fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    fn client(from: &str, lines: &[(&'static str, &'static str)]) -> (String, u16) {
        let found = Forwarded::resolve(peer(from), &trusted(), &fields(lines));
        (found.ip.to_string(), found.port)
    }

    #[test]
    fn an_untrusted_peer_is_the_client_whatever_it_says() {
        let mut fields = fields(&[
            ("x-forwarded-for", "6.6.6.6"),
            ("forwarded", "for=6.6.6.6"),
            ("x-real-ip", "6.6.6.6"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil"),
            ("x-forwarded-prefix", "/evil"),
            ("x-client-cert", "evil"),
            ("x-client-cert-subject", "evil"),
            ("accept", "*/*"),
        ]);
        let found = Forwarded::resolve(peer("::ffff:192.0.2.1"), &trusted(), &fields);
        assert_eq!((found.ip.to_string().as_str(), found.port, found.scheme), ("192.0.2.1", 1234, Scheme::Http));
        assert!(!found.trusted());
        apply(&found, &mut fields, "example.com:8080");
        let mut left: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        left.sort_unstable();
        assert_eq!(
            left,
            [
                ("accept", "*/*"),
                ("x-forwarded-for", "192.0.2.1"),
                ("x-forwarded-host", "example.com:8080"),
                ("x-forwarded-proto", "http"),
                ("x-real-ip", "192.0.2.1"),
            ]
        );
    }

    #[test]
    fn the_client_is_the_rightmost_untrusted_hop() {
        for (chain, ip, port) in [
            ("192.0.2.1", "192.0.2.1", 0),
            ("6.6.6.6, 192.0.2.1", "192.0.2.1", 0),
            ("6.6.6.6, 192.0.2.1, 10.2.2.2", "192.0.2.1", 0),
            ("192.0.2.1:5555, 10.2.2.2", "192.0.2.1", 5555),
            ("[2001:db9::1]:5555", "2001:db9::1", 5555),
            ("2001:db9::1", "2001:db9::1", 0),
            ("10.3.3.3,10.2.2.2", "10.3.3.3", 0),
            ("192.0.2.1, unknown, 10.2.2.2", "10.2.2.2", 0),
            ("192.0.2.1, , 10.2.2.2,", "192.0.2.1", 0),
            ("::ffff:192.0.2.1", "192.0.2.1", 0),
            ("garbage", "10.1.1.1", 1234),
            ("[192.0.2.1]", "10.1.1.1", 1234),
            ("", "10.1.1.1", 1234),
        ] {
            assert_eq!(client("10.1.1.1", &[("x-forwarded-for", chain)]), (ip.to_owned(), port), "{chain}");
        }
        let lines = [("x-forwarded-for", "192.0.2.1"), ("x-forwarded-for", "10.2.2.2")];
        assert_eq!(client("10.1.1.1", &lines), ("192.0.2.1".into(), 0));
    }

    #[test]
    fn the_walk_is_bounded() {
        let chain = ["10.9.9.9"; MAX_HOPS + 1].join(", ");
        let mut fields = HeaderMap::new();
        fields.insert(FOR, HeaderValue::from_str(&format!("192.0.2.1, {chain}")).unwrap());
        assert_eq!(Forwarded::resolve(peer("10.1.1.1"), &trusted(), &fields).ip.to_string(), "10.9.9.9");
    }

    #[test]
    fn a_trusted_chain_is_continued() {
        let mut fields = fields(&[
            ("x-forwarded-for", "6.6.6.6, 192.0.2.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "shop.example"),
            ("x-forwarded-prefix", "/shop"),
            ("forwarded", "for=7.7.7.7;host=evil"),
        ]);
        let found = Forwarded::resolve(peer("10.1.1.1"), &trusted(), &fields);
        assert_eq!((found.scheme, found.host.as_deref()), (Scheme::Https, Some("shop.example")));
        apply(&found, &mut fields, "inner");
        assert_eq!(fields["x-forwarded-for"], "6.6.6.6, 192.0.2.1, 10.1.1.1");
        assert_eq!(fields["x-real-ip"], "192.0.2.1");
        assert_eq!(fields["x-forwarded-proto"], "https");
        assert_eq!(fields["x-forwarded-host"], "shop.example");
        assert_eq!(fields["x-forwarded-prefix"], "/shop");
        assert!(!fields.contains_key("forwarded"), "the client may have forged the dialect that the proxy does not speak");
    }

    #[test]
    fn the_scheme_is_the_one_of_the_hop_that_was_used() {
        let scheme = |chain, protos| {
            let lines = [("x-forwarded-for", chain), ("x-forwarded-proto", protos)];
            Forwarded::resolve(peer("10.1.1.1"), &trusted(), &fields(&lines)).scheme
        };
        assert_eq!(scheme("192.0.2.1, 10.2.2.2", "https, http"), Scheme::Https);
        assert_eq!(scheme("192.0.2.1", "https, http"), Scheme::Http, "the left one is the client's own word");
        assert_eq!(scheme("192.0.2.1, 10.2.2.2", "https"), Scheme::Https);
        assert_eq!(scheme("192.0.2.1", "gopher"), Scheme::Http);
    }

    #[test]
    fn rfc7239_is_believed_where_it_is_the_only_dialect() {
        let mut fields = fields(&[
            ("forwarded", "for=6.6.6.6, for=\"[2001:db9::1]:4711\";proto=https;host=shop.example, For=10.2.2.2"),
            ("x-forwarded-host", "evil"),
        ]);
        let found = Forwarded::resolve(peer("2001:db8::5"), &trusted(), &fields);
        assert_eq!((found.ip.to_string().as_str(), found.port, found.scheme), ("2001:db9::1", 4711, Scheme::Https));
        apply(&found, &mut fields, "inner");
        let lines: Vec<_> = fields.get_all("forwarded").iter().collect();
        assert_eq!(lines[1], "for=\"[2001:db8::5]\";proto=http;host=\"shop.example\"");
        assert_eq!(fields["x-forwarded-host"], "shop.example");
        assert_eq!(fields["x-forwarded-for"], "2001:db9::1, 2001:db8::5");
        for bad in ["for=unknown", "for=_hidden", "by=1.2.3.4", "for=\"1.2.3.4, x\"", "for"] {
            assert_eq!(client("10.1.1.1", &[("forwarded", bad)]).0, "10.1.1.1", "{bad}");
        }
    }

    #[test]
    fn of_a_request_without_a_host_no_host_is_told() {
        let mut forged = fields(&[("x-forwarded-host", "evil")]);
        apply(&Forwarded::resolve(peer("192.0.2.1"), &trusted(), &forged), &mut forged, "");
        assert!(!forged.contains_key("x-forwarded-host"));
        assert_eq!(forged["x-real-ip"], "192.0.2.1");
        let mut told = fields(&[("forwarded", "for=192.0.2.1")]);
        apply(&Forwarded::resolve(peer("10.1.1.1"), &trusted(), &told), &mut told, "");
        assert_eq!(told.get_all("forwarded").iter().next_back().unwrap(), "for=10.1.1.1;proto=http");
    }

    #[test]
    fn a_unix_peer_is_unknown() {
        let mut fields = HeaderMap::new();
        apply(&Forwarded::resolve(peer("0.0.0.0"), &trusted(), &fields), &mut fields, "a");
        assert_eq!(fields["x-forwarded-for"], "unknown");
    }
}
