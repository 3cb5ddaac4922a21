//! Header blocks of HTTP/3: RFC 9204 without its dynamic table, which neither side of a test asks for.

use super::hpack::{Block, Fields};

/// A header block of literals without Huffman coding (section 4.5.6): any bytes may be in it, also those that no library would send.
pub fn encode(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = vec![0, 0];
    for (name, value) in fields {
        text(&mut block, 0x20, 3, name);
        text(&mut block, 0, 7, value);
    }
    block
}

/// A text whose length has a prefix of so many bits, in a byte with these others.
fn text(block: &mut Vec<u8>, first: u8, prefix: u8, text: &str) {
    let mask = (1 << prefix) - 1;
    if text.len() < mask {
        block.push(first | text.len() as u8);
    } else {
        block.push(first | mask as u8);
        let mut rest = text.len() - mask;
        while rest >= 128 {
            block.push((rest % 128) as u8 | 128);
            rest /= 128;
        }
        block.push(rest as u8);
    }
    block.extend(text.as_bytes());
}

/// The fields of a complete block.
pub fn decode(block: &[u8]) -> Result<Fields, String> {
    let mut block = Block(block);
    let (inserted, base) = (block.integer(8)?, block.integer(7)?);
    if (inserted, base) != (0, 0) {
        return Err(format!("a header block that needs {inserted} fields of a table that is empty"));
    }
    let mut fields = Vec::new();
    while let Some(&first) = block.0.first() {
        let at = |index: usize| STATIC.get(index).ok_or_else(|| format!("no field has the index {index}"));
        fields.push(match first {
            0xc0.. => {
                let (name, value) = at(block.integer(6)?)?;
                ((*name).to_owned(), (*value).to_owned())
            }
            0x50..0x60 | 0x70..0x80 => {
                let (name, _) = at(block.integer(4)?)?;
                ((*name).to_owned(), block.text(7)?)
            }
            0x20..0x40 => (block.text(3)?, block.text(7)?),
            _ => return Err(format!("a field of a table that is empty: {first:#x}")),
        });
    }
    Ok(fields)
}

/// Appendix A.
const STATIC: [(&str, &str); 99] = [
    (":authority", ""),
    (":path", "/"),
    ("age", "0"),
    ("content-disposition", ""),
    ("content-length", "0"),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("referer", ""),
    ("set-cookie", ""),
    (":method", "CONNECT"),
    (":method", "DELETE"),
    (":method", "GET"),
    (":method", "HEAD"),
    (":method", "OPTIONS"),
    (":method", "POST"),
    (":method", "PUT"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "103"),
    (":status", "200"),
    (":status", "304"),
    (":status", "404"),
    (":status", "503"),
    ("accept", "*/*"),
    ("accept", "application/dns-message"),
    ("accept-encoding", "gzip, deflate, br"),
    ("accept-ranges", "bytes"),
    ("access-control-allow-headers", "cache-control"),
    ("access-control-allow-headers", "content-type"),
    ("access-control-allow-origin", "*"),
    ("cache-control", "max-age=0"),
    ("cache-control", "max-age=2592000"),
    ("cache-control", "max-age=604800"),
    ("cache-control", "no-cache"),
    ("cache-control", "no-store"),
    ("cache-control", "public, max-age=31536000"),
    ("content-encoding", "br"),
    ("content-encoding", "gzip"),
    ("content-type", "application/dns-message"),
    ("content-type", "application/javascript"),
    ("content-type", "application/json"),
    ("content-type", "application/x-www-form-urlencoded"),
    ("content-type", "image/gif"),
    ("content-type", "image/jpeg"),
    ("content-type", "image/png"),
    ("content-type", "text/css"),
    ("content-type", "text/html; charset=utf-8"),
    ("content-type", "text/plain"),
    ("content-type", "text/plain;charset=utf-8"),
    ("range", "bytes=0-"),
    ("strict-transport-security", "max-age=31536000"),
    ("strict-transport-security", "max-age=31536000; includesubdomains"),
    ("strict-transport-security", "max-age=31536000; includesubdomains; preload"),
    ("vary", "accept-encoding"),
    ("vary", "origin"),
    ("x-content-type-options", "nosniff"),
    ("x-xss-protection", "1; mode=block"),
    (":status", "100"),
    (":status", "204"),
    (":status", "206"),
    (":status", "302"),
    (":status", "400"),
    (":status", "403"),
    (":status", "421"),
    (":status", "425"),
    (":status", "500"),
    ("accept-language", ""),
    ("access-control-allow-credentials", "FALSE"),
    ("access-control-allow-credentials", "TRUE"),
    ("access-control-allow-headers", "*"),
    ("access-control-allow-methods", "get"),
    ("access-control-allow-methods", "get, post, options"),
    ("access-control-allow-methods", "options"),
    ("access-control-expose-headers", "content-length"),
    ("access-control-request-headers", "content-type"),
    ("access-control-request-method", "get"),
    ("access-control-request-method", "post"),
    ("alt-svc", "clear"),
    ("authorization", ""),
    ("content-security-policy", "script-src 'none'; object-src 'none'; base-uri 'none'"),
    ("early-data", "1"),
    ("expect-ct", ""),
    ("forwarded", ""),
    ("if-range", ""),
    ("origin", ""),
    ("purpose", "prefetch"),
    ("server", ""),
    ("timing-allow-origin", "*"),
    ("upgrade-insecure-requests", "1"),
    ("user-agent", ""),
    ("x-forwarded-for", ""),
    ("x-frame-options", "deny"),
    ("x-frame-options", "sameorigin"),
];

#[test]
fn rfc9204_b_1_a_literal_with_a_name_of_the_table() {
    let block = [&[0, 0, 0x51, 0x0b][..], b"/index.html"].concat();
    assert_eq!(decode(&block), Ok(vec![(":path".to_owned(), "/index.html".to_owned())]));
}

#[test]
fn what_was_encoded_is_decoded() {
    let long = "v".repeat(300);
    let fields = [("a", ""), ("content-length", "7"), ("x-a-name-of-some-length", &*long)];
    let owned: Fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    assert_eq!(decode(&encode(&fields)), Ok(owned));
    assert!(decode(&[2, 0, 0x80]).is_err(), "there is no dynamic table");
}
