//! A database of countries, in MaxMind's format (version 2.0 of the MaxMind DB file format specification).
//!
//! As small as the format allows: one tree with records of 24 bits over IPv6 addresses, IPv4 in `::/96`.

use std::net::IpAddr;

/// A side of a node.
#[derive(Clone, Copy)]
enum Record {
    Nothing,
    Node(usize),
    /// At this offset of the data section.
    Data(usize),
}

/// A database in which these networks, which must not overlap, are in these countries.
pub fn countries(networks: &[(&str, &str)]) -> Vec<u8> {
    let mut nodes = vec![[Record::Nothing; 2]];
    let mut data = Vec::new();
    for (network, code) in networks {
        let offset = data.len();
        map(&mut data, 1);
        string(&mut data, "country");
        map(&mut data, 1);
        string(&mut data, "iso_code");
        string(&mut data, code);
        insert(&mut nodes, network, offset);
    }
    let count = nodes.len();
    let mut file = Vec::new();
    for record in nodes.iter().flatten() {
        let value = match *record {
            Record::Nothing => count,
            Record::Node(index) => index,
            Record::Data(offset) => count + 16 + offset,
        };
        file.extend_from_slice(&u32::try_from(value).expect("a small tree").to_be_bytes()[1..]);
    }
    file.extend_from_slice(&[0; 16]);
    file.extend_from_slice(&data);
    file.extend_from_slice(b"\xab\xcd\xefMaxMind.com");
    metadata(&mut file, count);
    file
}

fn insert(nodes: &mut Vec<[Record; 2]>, network: &str, offset: usize) {
    let (address, length) = network.split_once('/').expect("a prefix length");
    let length: usize = length.parse().expect("a prefix length");
    let (bits, length) = match address.parse().expect("an address") {
        IpAddr::V4(ip) => (u128::from(u32::from(ip)), length + 96),
        IpAddr::V6(ip) => (u128::from(ip), length),
    };
    let side = |depth: usize| usize::from(bits >> (127 - depth) & 1 == 1);
    let mut at = 0;
    for depth in 0..length - 1 {
        at = match nodes[at][side(depth)] {
            Record::Node(next) => next,
            Record::Nothing => {
                nodes.push([Record::Nothing; 2]);
                let next = nodes.len() - 1;
                nodes[at][side(depth)] = Record::Node(next);
                next
            }
            Record::Data(_) => panic!("{network} overlaps another network"),
        };
    }
    let last = &mut nodes[at][side(length - 1)];
    assert!(matches!(last, Record::Nothing), "{network} overlaps another network");
    *last = Record::Data(offset);
}

fn metadata(out: &mut Vec<u8>, nodes: usize) {
    map(out, 9);
    for (key, value) in
        [("binary_format_major_version", 2), ("binary_format_minor_version", 0), ("ip_version", 6), ("record_size", 24)]
    {
        string(out, key);
        out.extend_from_slice(&[5 << 5 | 2, 0, value]);
    }
    string(out, "node_count");
    out.push(6 << 5 | 4);
    out.extend_from_slice(&u32::try_from(nodes).expect("a small tree").to_be_bytes());
    string(out, "build_epoch");
    // Of an extended type: 9, less 7. Midnight of the first of January 2026.
    out.extend_from_slice(&[8, 2]);
    out.extend_from_slice(&1_767_225_600_u64.to_be_bytes());
    string(out, "database_type");
    string(out, "Weir-Test-Country");
    string(out, "languages");
    out.extend_from_slice(&[0, 4]);
    string(out, "description");
    map(out, 1);
    string(out, "en");
    string(out, "Networks for tests");
}

fn map(out: &mut Vec<u8>, entries: u8) {
    out.push(7 << 5 | entries);
}

fn string(out: &mut Vec<u8>, text: &str) {
    assert!(text.len() < 29, "longer ones are written otherwise");
    out.push(2 << 5 | u8::try_from(text.len()).expect("a short text"));
    out.extend_from_slice(text.as_bytes());
}
