//! Version 1: one line of text.

use std::{
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use super::{BadProxyHeader, Parsed};

/// `PROXY UNKNOWN\r\n`.
pub(super) const MIN: usize = 15;

/// Two full IPv6 addresses with ports, and some: the number is the specification's.
pub(super) const MAX: usize = 107;

const START: &[u8] = b"PROXY ";

pub(super) fn parse(bytes: &[u8]) -> Result<Parsed, BadProxyHeader> {
    let known = bytes.len().min(START.len());
    if bytes[..known] != START[..known] {
        return Err(BadProxyHeader::NotProxy);
    }
    let window = &bytes[..bytes.len().min(MAX)];
    let Some(end) = window.iter().position(|&byte| byte == b'\r' || byte == b'\n') else {
        // The end of the line has two bytes, of which the window must have seen one.
        return match window.len() + 2 > MAX {
            true => Err(BadProxyHeader::TooLong),
            false => Ok(Parsed::Incomplete(MIN.saturating_sub(window.len()).max(2))),
        };
    };
    match (bytes[end], bytes.get(end + 1)) {
        (b'\r', Some(b'\n')) if end + 2 <= MAX => {}
        (b'\r', None) if end + 2 <= MAX => return Ok(Parsed::Incomplete(MIN.saturating_sub(window.len()).max(1))),
        (b'\r', _) if end + 2 > MAX => return Err(BadProxyHeader::TooLong),
        _ => return Err(BadProxyHeader::Address),
    }
    let line = std::str::from_utf8(&bytes[START.len()..end]).map_err(|_| BadProxyHeader::Address)?;
    let (source, destination) = addresses(line)?.unzip();
    Ok(Parsed::Done { consumed: end + 2, source, destination, local: false })
}

/// `TCP4 192.0.2.1 192.0.2.2 1111 443`; what follows `UNKNOWN` is to be ignored.
fn addresses(line: &str) -> Result<Option<(SocketAddr, SocketAddr)>, BadProxyHeader> {
    let mut parts = line.split(' ');
    let of = match parts.next() {
        Some("UNKNOWN") => return Ok(None),
        Some("TCP4") => |text: &str| text.parse().map(IpAddr::V4),
        Some("TCP6") => |text: &str| text.parse().map(IpAddr::V6),
        _ => return Err(BadProxyHeader::Reserved),
    };
    let (Some(source), Some(destination), Some(from), Some(to), None) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(BadProxyHeader::Address);
    };
    let ip = |text| of(text).map_err(|_| BadProxyHeader::Address);
    Ok(Some((SocketAddr::new(ip(source)?, port(from)?), SocketAddr::new(ip(destination)?, port(to)?))))
}

/// Digits without a sign or leading zeros.
fn port(text: &str) -> Result<u16, BadProxyHeader> {
    match u16::from_str(text) {
        Ok(port) if port.to_string() == text => Ok(port),
        _ => Err(BadProxyHeader::Address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(text: &str) -> (Option<String>, Option<String>) {
        match parse(text.as_bytes()) {
            Ok(Parsed::Done { consumed, source, destination, local: false }) if consumed == text.find('\n').unwrap() + 1 => {
                (source.map(|address| address.to_string()), destination.map(|address| address.to_string()))
            }
            other => panic!("{text:?}: {other:?}"),
        }
    }

    #[test]
    fn the_examples_of_the_specification() {
        let line = "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\nGET / HTTP/1.1\r\nHost: 192.168.0.11\r\n\r\n";
        assert_eq!(done(line), (Some("192.168.0.1:56324".into()), Some("192.168.0.11:443".into())));
        let longest =
            "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
        assert_eq!(longest.len(), 104);
        assert!(done(longest).0.is_some());
        let unknown =
            "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
        assert_eq!(unknown.len(), MAX);
        assert_eq!(done(unknown), (None, None));
        assert_eq!(done("PROXY UNKNOWN\r\n"), (None, None));
        assert_eq!(done("PROXY TCP6 ::1 2001:db8::1 0 443\r\n").0, Some("[::1]:0".into()));
    }

    #[test]
    fn malformed_lines_are_refused() {
        use BadProxyHeader::{Address, Reserved, TooLong};
        let long = |n: usize| format!("PROXY UNKNOWN {}", "x".repeat(n));
        for (line, error) in [
            ("PROXY TCP4 192.168.0.1 192.168.0.11 56324\r\n", Address),
            ("PROXY TCP4 192.168.0.1 192.168.0.11 56324 443 1\r\n", Address),
            ("PROXY TCP4  192.168.0.1 192.168.0.11 56324 443\r\n", Address),
            ("PROXY TCP4 192.168.0.1 192.168.0.11 56324 443 \r\n", Address),
            ("PROXY TCP4 192.168.0.01 192.168.0.11 56324 443\r\n", Address),
            ("PROXY TCP4 ::1 ::1 56324 443\r\n", Address),
            ("PROXY TCP6 192.168.0.1 192.168.0.11 56324 443\r\n", Address),
            ("PROXY TCP4 a.test b.test 56324 443\r\n", Address),
            ("PROXY TCP4 192.168.0.1 192.168.0.11 65536 443\r\n", Address),
            ("PROXY TCP4 192.168.0.1 192.168.0.11 +1 443\r\n", Address),
            ("PROXY TCP4 192.168.0.1 192.168.0.11 080 443\r\n", Address),
            ("PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\n", Address),
            ("PROXY UNKNOWN\rX", Address),
            ("PROXY UDP4 192.168.0.1 192.168.0.11 56324 443\r\n", Reserved),
            ("PROXY UNKNOWNS\r\n", Reserved),
            ("PROXY \r\n", Reserved),
            (&long(106 - 14), TooLong),
            (&format!("{}\r\n", long(106 - 14)), TooLong),
            (&format!("{}\r", long(107 - 14)), TooLong),
        ] {
            assert_eq!(parse(line.as_bytes()), Err(error), "{line:?}");
        }
        assert_eq!(parse(long(105 - 14).as_bytes()), Ok(Parsed::Incomplete(2)));
    }
}
