//! Header blocks as they are read: RFC 7541, without any of the tolerance of a library.

use std::{collections::VecDeque, sync::LazyLock};

/// Fields in order. What is no UTF-8 is replaced.
pub type Fields = Vec<(String, String)>;

/// What one side of a connection remembers of the header blocks it was sent.
#[derive(Debug)]
pub struct Decoder {
    table: VecDeque<(String, String)>,
    size: usize,
    max: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { table: VecDeque::new(), size: 0, max: MAX_TABLE }
    }
}

/// The default of SETTINGS_HEADER_TABLE_SIZE, which no fixture changes.
const MAX_TABLE: usize = 4096;

impl Decoder {
    /// The fields of a complete block.
    pub fn decode(&mut self, block: &[u8]) -> Result<Fields, String> {
        let mut block = Block(block);
        let mut fields = Vec::new();
        while let Some(&first) = block.0.first() {
            match first {
                0x80.. => {
                    let index = block.integer(7)?;
                    fields.push(self.at(index)?);
                }
                0x40..0x80 => {
                    let field = self.literal(&mut block, 6)?;
                    self.insert(field.clone());
                    fields.push(field);
                }
                0x20..0x40 => {
                    let max = block.integer(5)?;
                    if max > MAX_TABLE || !fields.is_empty() {
                        return Err(format!("a change of the table's size to {max} after {} fields", fields.len()));
                    }
                    self.max = max;
                    self.evict(0);
                }
                _ => fields.push(self.literal(&mut block, 4)?),
            }
        }
        Ok(fields)
    }

    fn literal(&self, block: &mut Block<'_>, prefix: u8) -> Result<(String, String), String> {
        let name = match block.integer(prefix)? {
            0 => block.text(7)?,
            index => self.at(index)?.0,
        };
        Ok((name, block.text(7)?))
    }

    fn at(&self, index: usize) -> Result<(String, String), String> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let fixed = index.checked_sub(1).and_then(|index| STATIC.get(index)).map(owned);
        let learned = || self.table.get(index.checked_sub(STATIC.len() + 1)?).cloned();
        fixed.or_else(learned).ok_or_else(|| format!("no field has the index {index}"))
    }

    fn insert(&mut self, field: (String, String)) {
        let size = cost(&field);
        self.evict(size);
        if size <= self.max {
            self.size += size;
            self.table.push_front(field);
        }
    }

    fn evict(&mut self, room: usize) {
        while self.size + room > self.max {
            let Some(field) = self.table.pop_back() else { return };
            self.size -= cost(&field);
        }
    }
}

/// RFC 7541, section 4.1.
fn cost((name, value): &(String, String)) -> usize {
    name.len() + value.len() + 32
}

/// What is left of a block.
pub(super) struct Block<'a>(pub(super) &'a [u8]);

impl Block<'_> {
    fn byte(&mut self) -> Result<u8, String> {
        let (&byte, rest) = self.0.split_first().ok_or("a header block that breaks off")?;
        self.0 = rest;
        Ok(byte)
    }

    /// Section 5.1.
    pub(super) fn integer(&mut self, prefix: u8) -> Result<usize, String> {
        let mask = (1 << prefix) - 1;
        let first = usize::from(self.byte()?) & mask;
        if first < mask {
            return Ok(first);
        }
        let (mut number, mut shift) = (first, 0);
        loop {
            let byte = self.byte()?;
            number += usize::from(byte & 0x7f) << shift;
            shift += 7;
            match byte {
                ..0x80 => return Ok(number),
                _ if shift > 28 => return Err("an integer of more than four bytes".to_owned()),
                _ => {}
            }
        }
    }

    /// Section 5.2, with a length whose prefix has so many bits: 7 in HPACK, also fewer in QPACK.
    pub(super) fn text(&mut self, prefix: u8) -> Result<String, String> {
        let coded = self.0.first().is_some_and(|byte| byte >> prefix & 1 == 1);
        let length = self.integer(prefix)?;
        let (text, rest) = self.0.split_at_checked(length).ok_or("a text that breaks off")?;
        self.0 = rest;
        let bytes = if coded { decompress(text)? } else { text.to_vec() };
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// Undoes the Huffman code of appendix B.
fn decompress(text: &[u8]) -> Result<Vec<u8>, String> {
    let code = &*CODE;
    let (mut bytes, mut bits, mut length) = (Vec::new(), 0_usize, 0_usize);
    for bit in text.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1)) {
        bits = bits << 1 | usize::from(bit);
        length += 1;
        // Codes of one length are consecutive, from the first on.
        let (first, symbols) = code.get(length).ok_or("a code that does not exist")?;
        if let Some(&symbol) = bits.checked_sub(*first).and_then(|at| symbols.get(at)) {
            bytes.push(symbol);
            (bits, length) = (0, 0);
        }
    }
    // What fills the last byte is the beginning of the end's code, all ones.
    if length > 7 || bits != (1 << length) - 1 { Err("a text that ends within a code".to_owned()) } else { Ok(bytes) }
}

/// By the length of codes: the first code, and the symbols that it and those after it stand for.
static CODE: LazyLock<Vec<(usize, Vec<u8>)>> = LazyLock::new(|| {
    let mut next = 0;
    let by_length = |length: u8| {
        let symbols: Vec<u8> = (0..=255).filter(|symbol| LENGTHS[usize::from(*symbol)] == length).collect();
        let first = next << 1;
        next = first + symbols.len();
        (first, symbols)
    };
    (0..=30).map(by_length).collect()
});

const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28,
    28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7,
    6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24,
    23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22,
    23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27,
    26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25,
    24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];

/// Appendix A.
const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

#[test]
fn rfc7541_c_4_requests_of_the_appendix() {
    let mut decoder = Decoder::default();
    let hex = |text: &str| -> Vec<u8> {
        text.as_bytes().chunks(2).map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap()).collect()
    };
    let first = decoder.decode(&hex("828684418cf1e3c2e5f23a6ba0ab90f4ff")).expect("C.4.1");
    assert_eq!(first[3], (":authority".to_owned(), "www.example.com".to_owned()));
    let second = decoder.decode(&hex("828684be5886a8eb10649cbf")).expect("C.4.2");
    assert_eq!(second[3..], [first[3].clone(), ("cache-control".to_owned(), "no-cache".to_owned())]);
    let third = decoder.decode(&hex("828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf")).expect("C.4.3");
    assert_eq!(third[3..], [first[3].clone(), ("custom-key".to_owned(), "custom-value".to_owned())]);
}
