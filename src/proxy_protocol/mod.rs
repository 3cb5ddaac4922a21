//! Layer 2: the PROXY protocol, versions 1 and 2, by which a load balancer in front of us says who the
//! client is. Bytes in, addresses out; reading from the connection and whom to believe is the listener's.
//!
//! The rules are those of HAProxy's `proxy-protocol.txt` (revision of 2020 and later). Where it leaves a choice:
//! - A header that is not well-formed in every byte we use is refused, and so is one with a reserved
//!   command, family or transport. A connection whose first bytes lie has no place to continue from.
//! - Sources that have no IP address over a stream (UNKNOWN, UNSPEC, unix sockets, datagrams) are
//!   `None`: the connection's own addresses hold.
//! - Of the TLVs the checksum is verified; the rest is only skipped.

mod crc32c;
mod v1;
mod v2;
mod write;

use std::net::SocketAddr;

pub use write::{Version, write};

/// The longest header that is read: version 2 with 2 KiB of addresses and TLVs. The format allows
/// 64 KiB; load balancers send some hundred bytes, and a client's certificate at most.
pub const MAX_HEADER: usize = 16 + 2048;

/// How far reading got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed {
    /// At least so many bytes are missing. Reading up to that many never takes a byte of what follows the header.
    Incomplete(usize),
    /// The header is whole.
    Done {
        /// Its length: what follows belongs to the client.
        consumed: usize,
        /// Who connected to the load balancer, when it says so.
        source: Option<SocketAddr>,
        /// Where they connected to.
        destination: Option<SocketAddr>,
        /// The load balancer speaks for itself: a health check.
        local: bool,
    },
}

/// Why the bytes are not a PROXY header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadProxyHeader {
    /// Something else: most often a client that connects past the load balancer.
    #[error("the connection does not start with a PROXY header")]
    NotProxy,
    /// More than [`MAX_HEADER`] bytes, or 107 of version 1.
    #[error("the PROXY header is too long")]
    TooLong,
    /// A version, command, family or transport that is reserved.
    #[error("the PROXY header has a reserved version, command or family")]
    Reserved,
    /// An address or a port that is none.
    #[error("the PROXY header has a malformed address")]
    Address,
    /// TLVs that do not fit.
    #[error("the PROXY header has malformed TLVs")]
    Tlv,
    /// The checksum says otherwise.
    #[error("the PROXY header does not match its checksum")]
    Checksum,
}

impl BadProxyHeader {
    /// One word for logs and metrics.
    pub const fn reason(self) -> &'static str {
        match self {
            BadProxyHeader::NotProxy => "not_proxy",
            BadProxyHeader::TooLong => "too_long",
            BadProxyHeader::Reserved => "reserved",
            BadProxyHeader::Address => "address",
            BadProxyHeader::Tlv => "tlv",
            BadProxyHeader::Checksum => "checksum",
        }
    }
}

/// Reads a header from the first bytes of a connection. An error is final: more bytes do not mend it.
pub fn parse(bytes: &[u8]) -> Result<Parsed, BadProxyHeader> {
    match bytes {
        // The shortest header of both versions.
        [] => Ok(Parsed::Incomplete(v1::MIN)),
        [b'P', ..] => v1::parse(bytes),
        _ => v2::parse(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn address() -> impl Strategy<Value = SocketAddr> {
        any::<SocketAddr>().prop_map(|address| SocketAddr::new(address.ip(), address.port()))
    }

    /// Headers of every kind, whole.
    fn header() -> impl Strategy<Value = Vec<u8>> {
        let version = prop_oneof![Just(Version::V1), Just(Version::V2)];
        let addresses = proptest::option::of((address(), address()));
        let tlv = (prop_oneof![4u8..=0xff, Just(0)], proptest::collection::vec(any::<u8>(), 0..40));
        let tlvs = proptest::collection::vec(tlv, 0..4);
        (version, addresses, tlvs).prop_map(|(version, addresses, tlvs)| {
            let mut header = write(version, addresses);
            if version == Version::V2 {
                for (kind, value) in tlvs {
                    header.extend([kind, 0, value.len() as u8]);
                    header.extend(value);
                }
                let length = (header.len() - 16) as u16;
                header[14..16].copy_from_slice(&length.to_be_bytes());
            }
            header
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(source in address(), destination in address(), v2 in any::<bool>(), rest in any::<Vec<u8>>()) {
            let version = if v2 { Version::V2 } else { Version::V1 };
            let mut bytes = write(version, Some((source, destination)));
            let consumed = bytes.len();
            bytes.extend(rest);
            let Parsed::Done { consumed: read, source: Some(from), destination: Some(to), local: false } = parse(&bytes).unwrap()
            else { panic!("{bytes:?}") };
            prop_assert_eq!(read, consumed);
            prop_assert_eq!((from.ip().to_canonical(), from.port()), (source.ip().to_canonical(), source.port()));
            prop_assert_eq!((to.ip().to_canonical(), to.port()), (destination.ip().to_canonical(), destination.port()));
        }

        #[test]
        fn how_a_header_is_cut_makes_no_difference(header in header(), rest in any::<Vec<u8>>()) {
            let bytes = [header.as_slice(), &rest].concat();
            let whole = parse(&bytes);
            let ends_well = matches!(whole, Ok(Parsed::Done { consumed, .. }) if consumed == header.len());
            prop_assert!(ends_well, "{:?}", whole);
            for cut in 0..bytes.len() {
                let part = parse(&bytes[..cut]);
                match cut < header.len() {
                    // Never asks for a byte that is not the header's.
                    true => prop_assert!(matches!(part, Ok(Parsed::Incomplete(n)) if (1..=header.len() - cut).contains(&n)), "{part:?}"),
                    false => prop_assert_eq!(part, whole),
                }
            }
        }

        #[test]
        fn damage_is_an_error_that_stays(mut header in header(), at in any::<prop::sample::Index>(), to in any::<u8>()) {
            let at = at.index(header.len());
            header[at] = to;
            let mut known = None;
            for cut in 0..=header.len() {
                let now = parse(&header[..cut]);
                if let Some(known) = known {
                    prop_assert_eq!(now, known);
                } else if !matches!(now, Ok(Parsed::Incomplete(_))) {
                    known = Some(now);
                }
            }
        }

        #[test]
        fn nothing_panics(bytes in any::<Vec<u8>>(), version in 0..3) {
            let start: &[u8] = [&b""[..], b"PROXY ", v2::SIGNATURE][version as usize];
            let _ = parse(&[start, &bytes].concat());
        }
    }

    #[test]
    fn other_protocols_are_told_at_once() {
        for bytes in
            [&b"GET / HTTP/1.1\r\n"[..], b"G", b"POST /", b"PRI * HTTP/2.0", b"\x16\x03\x01", b"\r\n\r\nX", b"proxy TCP4"]
        {
            assert_eq!(parse(bytes), Err(BadProxyHeader::NotProxy), "{bytes:?}");
        }
    }
}
