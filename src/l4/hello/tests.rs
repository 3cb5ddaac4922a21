use std::sync::Arc;

use proptest::prelude::*;
use rustls::{ClientConfig, ClientConnection, RootCertStore, pki_types::ServerName};

use super::*;

/// What a real client sends: rustls, asking for this name or none.
fn greeting(name: &str, sni: bool) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    config.enable_sni = sni;
    let mut client = ClientConnection::new(Arc::new(config), ServerName::try_from(name.to_owned()).unwrap()).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

/// The same message in records of these sizes.
fn in_records(greeting: &[u8], sizes: &[usize]) -> Vec<u8> {
    let mut message = &greeting[RECORD_HEADER..];
    let mut bytes = Vec::new();
    for size in sizes.iter().copied().chain(std::iter::repeat(usize::MAX)) {
        if message.is_empty() {
            return bytes;
        }
        let (part, rest) = message.split_at(size.min(message.len()));
        bytes.extend([22, 3, 1]);
        bytes.extend((part.len() as u16).to_be_bytes());
        bytes.extend(part);
        message = rest;
    }
    bytes
}

/// A message by hand, with these extensions.
fn message(extensions: &[(u16, &[u8])]) -> Vec<u8> {
    let mut all = Vec::new();
    for (kind, content) in extensions {
        all.extend(kind.to_be_bytes());
        all.extend((content.len() as u16).to_be_bytes());
        all.extend(*content);
    }
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x13, 1, 1, 0]);
    body.extend((all.len() as u16).to_be_bytes());
    body.extend(all);
    let mut bytes = vec![22, 3, 1];
    bytes.extend((body.len() as u16 + 4).to_be_bytes());
    bytes.push(1);
    bytes.extend(&(body.len() as u32).to_be_bytes()[1..]);
    bytes.extend(body);
    bytes
}

fn host(name: &[u8]) -> Vec<u8> {
    let mut extension = (name.len() as u16 + 3).to_be_bytes().to_vec();
    extension.push(0);
    extension.extend((name.len() as u16).to_be_bytes());
    extension.extend(name);
    extension
}

#[test]
fn a_real_client_is_understood() {
    assert_eq!(parse(&greeting("DB.example.com", true)), Ok(Hello::Whole(Some("db.example.com".into()))));
    assert_eq!(parse(&greeting("db.example.com", false)), Ok(Hello::Whole(None)));
    // An address is not sent.
    assert_eq!(parse(&greeting("192.0.2.1", true)), Ok(Hello::Whole(None)));
}

#[test]
fn other_protocols_are_told_at_once() {
    for bytes in [&b"GET / HTTP/1.1\r\n"[..], b"S", b"SSH-2.0-x\r\n", b"\x16\x02", b"\x80\x2e\x01\x03", b"\x15\x03\x01\0\x02"] {
        assert_eq!(parse(bytes), Err(BadHello::NotTls), "{bytes:?}");
    }
}

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    let (a, b) = (host(b"a.example"), host(b"b.example"));
    assert_eq!(parse(&message(&[(5, &[]), (0, &a)])), Ok(Hello::Whole(Some("a.example".into()))));
    assert_eq!(parse(&message(&[(0, &a), (0, &b)])), Err(BadHello::Malformed), "two extensions");
    let mut two = a.clone();
    two.extend(&b[2..]);
    two[1] = (two.len() - 2) as u8;
    assert_eq!(parse(&message(&[(0, &two)])), Err(BadHello::Malformed), "two names");
    for name in [&b""[..], b"a b", b"a\0b", b"a:1", b"[::1]", b"caf\xc3\xa9", b"a..b", b"\xff"] {
        assert_eq!(parse(&message(&[(0, &host(name))])), Err(BadHello::Malformed), "{name:?}");
    }
    // Something behind the message.
    let mut more = message(&[(0, &a)]);
    let length = more.len();
    more.push(1);
    more[3..5].copy_from_slice(&((length - 4) as u16).to_be_bytes());
    assert_eq!(parse(&more), Err(BadHello::Malformed));
}

#[test]
fn the_length_is_bounded() {
    assert_eq!(parse(b"\x16\x03\x01\x40\x00\x01\x00\x40\x00"), Err(BadHello::TooLong));
    assert_eq!(parse(b"\x16\x03\x01\x40\x00\x01\x00\x3f\xf0"), Ok(Hello::Part(RECORD_HEADER + 0x4000)));
    assert_eq!(parse(b"\x16\x03\x01\x00\x00"), Err(BadHello::Malformed), "an empty record");
    // A byte in each record.
    let whole = message(&[(5, &[0; 4000])]);
    assert_eq!(parse(&in_records(&whole, &[1; 4000])), Err(BadHello::TooLong));
}

proptest! {
    #[test]
    fn how_it_is_cut_makes_no_difference(sizes in proptest::collection::vec(1usize..200, 0..40), sni in any::<bool>()) {
        let bytes = in_records(&greeting("a.b.example.com", sni), &sizes);
        let whole = Ok(Hello::Whole(sni.then(|| "a.b.example.com".to_owned())));
        prop_assert_eq!(parse(&bytes), whole);
        for cut in 0..bytes.len() {
            let part = parse(&bytes[..cut]);
            // Never asks for a byte that the client does not send.
            prop_assert!(matches!(part, Ok(Hello::Part(needed)) if (cut + 1..=bytes.len()).contains(&needed)), "{part:?}");
        }
    }

    #[test]
    fn damage_is_an_error_that_stays(at in any::<prop::sample::Index>(), to in any::<u8>(), sizes in proptest::collection::vec(1usize..200, 0..5)) {
        let mut bytes = in_records(&greeting("a.example.com", true), &sizes);
        let at = at.index(bytes.len());
        bytes[at] = to;
        let mut known = None;
        for cut in 0..=bytes.len() {
            let now = parse(&bytes[..cut]);
            match &known {
                Some(known) => prop_assert_eq!(&now, known),
                None if matches!(now, Ok(Hello::Part(_))) => {}
                None => known = Some(now),
            }
        }
    }

    #[test]
    fn nothing_panics(bytes in any::<Vec<u8>>(), start in 0..4) {
        let header = message(&[]);
        let start: &[u8] = [&b""[..], b"\x16\x03\x01", b"\x16\x03\x01\0\x40\x01\0\0\x3c", &header[..45]][start as usize];
        let _ = parse(&[start, &bytes].concat());
    }
}
