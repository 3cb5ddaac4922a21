//! One stored response as a file: a fixed start, the head as JSON, the body as it is.
//!
//! ```text
//! "WEIRRESP" | version, 4 bytes | length of the head, 4 | length of the body, 8 | SHA-256 of head and body, 32 | head | body
//! ```
//!
//! Numbers are big-endian. A file is written under another name and renamed, so a crash leaves a whole file or none; what a loss of
//! power may leave is told by the digest when the file is read.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::digest::{Context, SHA256};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};

use crate::{
    cache::{Entry, Freshness, Head, Key, fill::PIECE},
    types::Name,
};

const MAGIC: [u8; 8] = *b"WEIRRESP";
/// Another one is no file of ours.
const VERSION: u32 = 1;
const START: usize = 8 + 4 + 4 + 8 + 32;
/// The gate and Pingora admit less.
const LONGEST_HEAD: usize = 1 << 20;

/// A head, as it is written.
#[derive(Serialize, Deserialize)]
struct Written {
    url: String,
    route: Name,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    spelling: Option<String>,
    status: u16,
    /// Values in Base64: they need not be text.
    fields: Vec<(String, String)>,
    epoch: u64,
    fresh_until: u64,
    created: u64,
    stale_while_revalidate: u32,
    stale_if_error: u32,
    variance: Option<String>,
}

/// Microseconds since 1970.
fn micros(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

fn time(micros: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_micros(micros)).unwrap_or(UNIX_EPOCH)
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Writes it. The number of bytes.
pub(super) fn write(path: &Path, key: &Key, entry: &Entry) -> io::Result<u64> {
    let head = serde_json::to_vec(&Written::of(key, &entry.head))?;
    let pieces = || {
        (0..).scan(0, |at, _: u64| {
            let piece = entry.body.piece(*at, u64::MAX)?;
            *at += piece.len() as u64;
            Some(piece)
        })
    };
    let mut digest = Context::new(&SHA256);
    digest.update(&head);
    pieces().for_each(|piece| digest.update(&piece));
    let head_length = u32::try_from(head.len()).map_err(|_| broken("a head of this length"))?;
    let mut start = Vec::with_capacity(START + head.len());
    start.extend_from_slice(&MAGIC);
    start.extend_from_slice(&VERSION.to_be_bytes());
    start.extend_from_slice(&head_length.to_be_bytes());
    start.extend_from_slice(&entry.body.length().to_be_bytes());
    start.extend_from_slice(digest.finish().as_ref());
    start.extend_from_slice(&head);
    let mut file = File::create(path)?;
    file.write_all(&start)?;
    for piece in pieces() {
        file.write_all(&piece)?;
    }
    Ok(start.len() as u64 + entry.body.length())
}

/// What is known of a file before its body is read.
pub(super) struct Opened {
    pub(super) key: Key,
    pub(super) head: Head,
    pub(super) size: u64,
    body: u64,
    digest: [u8; 32],
    context: Context,
    file: File,
}

/// Reads the head, and sees that the file is as long as it says.
pub(super) fn open(path: &Path) -> io::Result<Opened> {
    let mut file = File::open(path)?;
    let mut start = [0; START];
    file.read_exact(&mut start)?;
    let number = |from: usize, count: usize| start[from..from + count].iter().fold(0_u64, |n, &byte| n << 8 | u64::from(byte));
    let (head, body) = (number(12, 4), number(16, 8));
    if start[..8] != MAGIC || number(8, 4) != u64::from(VERSION) || head > LONGEST_HEAD as u64 {
        return Err(broken("it is no stored response"));
    }
    let size = (START as u64 + head).checked_add(body).ok_or_else(|| broken("a length that cannot be"))?;
    if file.metadata()?.len() != size {
        return Err(broken("it is not as long as it says"));
    }
    let mut text = vec![0; head as usize];
    file.read_exact(&mut text)?;
    let mut context = Context::new(&SHA256);
    context.update(&text);
    let mut digest = [0; 32];
    digest.copy_from_slice(&start[24..START]);
    let written: Written = serde_json::from_slice(&text)?;
    let (key, head) = written.read().ok_or_else(|| broken("its head cannot be read"))?;
    Ok(Opened { key, head, size, body, digest, context, file })
}

impl Opened {
    /// The length of the body.
    pub(super) fn length(&self) -> u64 {
        self.body
    }

    /// Reads the body, and sees that all of it is what was written.
    pub(super) fn body(mut self) -> io::Result<(Head, Vec<Bytes>)> {
        let mut pieces = Vec::new();
        let mut left = self.body;
        while left > 0 {
            // At most a piece, so it fits.
            let mut piece = BytesMut::zeroed(left.min(PIECE as u64) as usize);
            self.file.read_exact(&mut piece)?;
            self.context.update(&piece);
            left -= piece.len() as u64;
            pieces.push(piece.freeze());
        }
        if self.context.finish().as_ref() != self.digest {
            return Err(broken("it is not what was written"));
        }
        Ok((self.head, pieces))
    }
}

impl Written {
    fn of(key: &Key, head: &Head) -> Self {
        let Freshness { epoch, fresh_until, stale_while_revalidate, stale_if_error } = head.freshness;
        Self {
            url: key.url.to_string(),
            route: key.route.clone(),
            spelling: key.spelling.as_deref().map(str::to_owned),
            status: head.status.as_u16(),
            fields: head.fields.iter().map(|(name, value)| (name.as_str().to_owned(), STANDARD.encode(value))).collect(),
            epoch: micros(epoch),
            fresh_until: micros(fresh_until),
            created: micros(head.created),
            stale_while_revalidate,
            stale_if_error,
            variance: head.variance.map(|variance| STANDARD.encode(variance)),
        }
    }

    fn read(self) -> Option<(Key, Head)> {
        let mut fields = HeaderMap::with_capacity(self.fields.len());
        for (name, value) in &self.fields {
            let value = HeaderValue::from_bytes(&STANDARD.decode(value).ok()?).ok()?;
            fields.append(HeaderName::from_bytes(name.as_bytes()).ok()?, value);
        }
        let variance = match self.variance {
            None => None,
            Some(text) => Some(STANDARD.decode(text).ok()?.try_into().ok()?),
        };
        let freshness = Freshness {
            epoch: time(self.epoch),
            fresh_until: time(self.fresh_until),
            stale_while_revalidate: self.stale_while_revalidate,
            stale_if_error: self.stale_if_error,
        };
        let head =
            Head { status: StatusCode::from_u16(self.status).ok()?, fields, freshness, created: time(self.created), variance };
        Some((Key { url: self.url.into(), route: self.route, spelling: self.spelling.map(Into::into) }, head))
    }
}
