//! Headers that we send to an upstream which wants them.

use std::net::{IpAddr, SocketAddr};

use super::v2::SIGNATURE;

/// Which form to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// The header for a connection from the first address to the second; `None` for one of our own (a health check).
pub fn write(version: Version, addresses: Option<(SocketAddr, SocketAddr)>) -> Vec<u8> {
    let addresses = addresses.map(|(source, destination)| same_family(source, destination));
    match version {
        Version::V1 => text(addresses).into_bytes(),
        Version::V2 => binary(addresses),
    }
}

/// A header has one family for both: IPv4 where both can be, else IPv6 with the other one mapped.
fn same_family(source: SocketAddr, destination: SocketAddr) -> (SocketAddr, SocketAddr) {
    let mapped = |address: SocketAddr| match address.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(ip) => SocketAddr::new(ip.into(), address.port()),
    };
    let plain = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    match (plain(source), plain(destination)) {
        both @ (SocketAddr::V4(_), SocketAddr::V4(_)) => both,
        _ => (mapped(source), mapped(destination)),
    }
}

fn text(addresses: Option<(SocketAddr, SocketAddr)>) -> String {
    match addresses {
        None => "PROXY UNKNOWN\r\n".into(),
        Some((source, destination)) => {
            let family = if source.is_ipv4() { 4 } else { 6 };
            let (from, to) = (source.port(), destination.port());
            format!("PROXY TCP{family} {} {} {from} {to}\r\n", source.ip(), destination.ip())
        }
    }
}

fn binary(addresses: Option<(SocketAddr, SocketAddr)>) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    match addresses {
        None => header.extend([0x20, 0x00, 0, 0]),
        Some((source, destination)) => {
            header.extend(if source.is_ipv4() { [0x21, 0x11, 0, 12] } else { [0x21, 0x21, 0, 36] });
            for ip in [source.ip(), destination.ip()] {
                match ip {
                    IpAddr::V4(ip) => header.extend(ip.octets()),
                    IpAddr::V6(ip) => header.extend(ip.octets()),
                }
            }
            header.extend(source.port().to_be_bytes());
            header.extend(destination.port().to_be_bytes());
        }
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_bytes_as_the_specification_has_them() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let line = |source, destination| String::from_utf8(write(Version::V1, Some((at(source), at(destination))))).unwrap();
        assert_eq!(line("192.0.2.1:56324", "192.0.2.2:443"), "PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n");
        assert_eq!(line("[::ffff:192.0.2.1]:1", "192.0.2.2:2"), "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n");
        assert_eq!(line("[2001:db8::1]:1", "192.0.2.2:2"), "PROXY TCP6 2001:db8::1 ::ffff:192.0.2.2 1 2\r\n");
        assert_eq!(write(Version::V1, None), b"PROXY UNKNOWN\r\n");
        let binary = write(Version::V2, Some((at("192.0.2.1:256"), at("192.0.2.2:443"))));
        assert_eq!(binary, b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc0\0\x02\x02\x01\0\x01\xbb");
        assert_eq!(write(Version::V2, None), b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0");
    }
}
