//! Version 2: a signature that no other protocol starts with, then fixed fields and TLVs.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{BadProxyHeader, MAX_HEADER, Parsed, crc32c::Crc32c};

pub(super) const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, version and command, family and transport, length.
const FIXED: usize = 16;

/// The TLV that holds a CRC-32C of the whole header.
const CHECKSUM: u8 = 0x03;

pub(super) fn parse(bytes: &[u8]) -> Result<Parsed, BadProxyHeader> {
    let known = bytes.len().min(SIGNATURE.len());
    if bytes[..known] != SIGNATURE[..known] {
        return Err(BadProxyHeader::NotProxy);
    }
    let Some(&[version_command, family, high, low]) = bytes.get(SIGNATURE.len()..FIXED) else {
        return Ok(Parsed::Incomplete(FIXED - bytes.len()));
    };
    let local = match version_command {
        0x20 => true,
        0x21 => false,
        _ => return Err(BadProxyHeader::Reserved),
    };
    let total = FIXED + usize::from(u16::from_be_bytes([high, low]));
    if total > MAX_HEADER {
        return Err(BadProxyHeader::TooLong);
    }
    let Some(header) = bytes.get(..total) else { return Ok(Parsed::Incomplete(total - bytes.len())) };
    if local {
        // To be accepted whatever else it says, and nothing of it is used.
        return Ok(Parsed::Done { consumed: total, source: None, destination: None, local });
    }
    let (addresses, length) = addresses(family, &header[FIXED..])?;
    checksum(header, FIXED + length)?;
    let (source, destination) = addresses.unzip();
    Ok(Parsed::Done { consumed: total, source, destination, local })
}

/// The addresses, if they are of IP over a stream, and how many bytes they take.
fn addresses(family: u8, payload: &[u8]) -> Result<(Option<(SocketAddr, SocketAddr)>, usize), BadProxyHeader> {
    if family & 0x0f > 2 {
        return Err(BadProxyHeader::Reserved);
    }
    let stream = family & 0x0f == 1;
    let (addresses, length) = match family >> 4 {
        0 => (None, 0),
        1 => (v4(payload), 12),
        2 => (v6(payload), 36),
        3 => (None, 216),
        _ => return Err(BadProxyHeader::Reserved),
    };
    match payload.len() < length {
        true => Err(BadProxyHeader::Address),
        false => Ok((addresses.filter(|_| stream), length)),
    }
}

fn v4(payload: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let (source, rest) = payload.split_first_chunk::<4>()?;
    let (destination, rest) = rest.split_first_chunk::<4>()?;
    let (from, to) = ports(rest)?;
    Some(((Ipv4Addr::from(*source), from).into(), (Ipv4Addr::from(*destination), to).into()))
}

fn v6(payload: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let (source, rest) = payload.split_first_chunk::<16>()?;
    let (destination, rest) = rest.split_first_chunk::<16>()?;
    let (from, to) = ports(rest)?;
    Some(((Ipv6Addr::from(*source), from).into(), (Ipv6Addr::from(*destination), to).into()))
}

fn ports(rest: &[u8]) -> Option<(u16, u16)> {
    let &[a, b, c, d] = rest.first_chunk::<4>()?;
    Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
}

/// Walks the TLVs, and verifies the checksum if there is one: computed with zeros in its place.
fn checksum(header: &[u8], mut at: usize) -> Result<(), BadProxyHeader> {
    while at < header.len() {
        let Some(&[kind, high, low]) = header.get(at..at + 3) else { return Err(BadProxyHeader::Tlv) };
        let value = at + 3;
        let end = value + usize::from(u16::from_be_bytes([high, low]));
        let Some(content) = header.get(value..end) else { return Err(BadProxyHeader::Tlv) };
        if kind == CHECKSUM {
            let stated = <[u8; 4]>::try_from(content).map_err(|_| BadProxyHeader::Tlv)?;
            let computed = Crc32c::default().add(&header[..value]).add(&[0; 4]).add(&header[end..]).finish();
            if computed != u32::from_be_bytes(stated) {
                return Err(BadProxyHeader::Checksum);
            }
        }
        at = end;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(version_command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[version_command, family], &length, payload].concat()
    }

    const V4: &[u8] = &[192, 0, 2, 1, 198, 51, 100, 2, 0xdc, 0x04, 0x01, 0xbb];

    fn sources(bytes: &[u8]) -> (Option<String>, Option<String>, bool) {
        match parse(bytes) {
            Ok(Parsed::Done { consumed, source, destination, local }) if consumed == bytes.len() => {
                (source.map(|address| address.to_string()), destination.map(|address| address.to_string()), local)
            }
            other => panic!("{bytes:?}: {other:?}"),
        }
    }

    #[test]
    fn every_family_is_read_or_passed_over() {
        let both = (Some("192.0.2.1:56324".into()), Some("198.51.100.2:443".into()), false);
        assert_eq!(sources(&header(0x21, 0x11, V4)), both);
        let mut v6 = [0; 36];
        (v6[15], v6[31], v6[33], v6[35]) = (1, 2, 80, 81);
        assert_eq!(sources(&header(0x21, 0x21, &v6)), (Some("[::1]:80".into()), Some("[::2]:81".into()), false));
        for (family, length) in [(0x00, 0), (0x01, 0), (0x12, 12), (0x22, 36), (0x31, 216), (0x32, 216), (0x10, 12)] {
            assert_eq!(sources(&header(0x21, family, &vec![0; length])), (None, None, false), "{family:x}");
        }
        // A health check may say anything of addresses.
        for (family, payload) in [(0x00, &b""[..]), (0x11, V4), (0x11, b""), (0xff, b"\x01")] {
            assert_eq!(sources(&header(0x20, family, payload)), (None, None, true));
        }
        // TLVs follow the addresses: ALPN, and one of no content.
        let tlvs = [V4, &[0x01, 0, 2, b'h', b'2', 0x04, 0, 0]].concat();
        assert_eq!(sources(&header(0x21, 0x11, &tlvs)), both);
    }

    #[test]
    fn malformed_headers_are_refused() {
        use BadProxyHeader::{Address, NotProxy, Reserved, Tlv, TooLong};
        let tlvs = |tlvs: &[u8]| header(0x21, 0x11, &[V4, tlvs].concat());
        let mut damaged = header(0x21, 0x11, V4);
        damaged[5] = b'X';
        for (bytes, error) in [
            (damaged, NotProxy),
            (header(0x11, 0x11, V4), Reserved),
            (header(0x31, 0x11, V4), Reserved),
            (header(0x22, 0x11, V4), Reserved),
            (header(0x21, 0x41, V4), Reserved),
            (header(0x21, 0x13, V4), Reserved),
            (header(0x21, 0x11, &V4[..11]), Address),
            (header(0x21, 0x21, V4), Address),
            (header(0x21, 0x31, V4), Address),
            (tlvs(&[4]), Tlv),
            (tlvs(&[4, 0]), Tlv),
            (tlvs(&[4, 0, 1]), Tlv),
            (tlvs(&[4, 0xff, 0xff, 1]), Tlv),
            (tlvs(&[CHECKSUM, 0, 3, 1, 2, 3]), Tlv),
            (header(0x21, 0x11, &[0; 2049]), TooLong),
        ] {
            assert_eq!(parse(&bytes), Err(error), "{bytes:?}");
        }
        assert!(matches!(parse(&header(0x20, 0x00, &[0; 2048])), Ok(Parsed::Done { consumed: MAX_HEADER, .. })));
    }

    #[test]
    fn a_checksum_is_verified() {
        let payload = [V4, &[0x04, 0, 1, 0, CHECKSUM, 0, 4, 0, 0, 0, 0, 0x04, 0, 1, 9]].concat();
        let mut bytes = header(0x21, 0x11, &payload);
        let sum = Crc32c::default().add(&bytes).finish().to_be_bytes();
        assert_eq!(parse(&bytes), Err(BadProxyHeader::Checksum));
        let at = FIXED + V4.len() + 7;
        bytes[at..at + 4].copy_from_slice(&sum);
        assert!(matches!(parse(&bytes), Ok(Parsed::Done { .. })));
        for at in [FIXED, FIXED + 5, bytes.len() - 1] {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(parse(&damaged), Err(BadProxyHeader::Checksum), "{at}");
        }
    }
}
