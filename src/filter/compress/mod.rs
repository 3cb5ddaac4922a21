//! The `compress` filter: sends clients less than the endpoint said, in a coding that they take.
//!
//! What is left alone is left alone whole: parts (206), what is encoded already, what must not be transformed, events and
//! gRPC. Encoding happens piece by piece, so that nothing waits for a whole body, and apart from the workers, so that no other
//! request waits for a long piece.

mod apart;
mod encoder;
mod media;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::{apart::apart, encoder::Encoder, media::MediaRange};
use super::{
    Filter, FilterRequest, FilterResponse, Slot, Verdict,
    coding::{Accepted, Coding},
    exchange::{DIGESTS, vary},
};
use crate::types::{At, Code, Fields, FieldsMut, OneOrMany, Size};

/// Compresses responses for clients that take it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CompressSpec {
    /// What to choose from, in the order of preference among those that a client likes equally.
    pub algorithms: OneOrMany<Coding>,
    /// A response whose length is known to be smaller is left alone.
    pub min_size: Size,
    /// The media types that are worth it: `text/html`, `text/*`, `application/*+json`.
    pub types: OneOrMany<MediaRange>,
    /// How hard to try. Higher is smaller and slower.
    #[serde(skip_serializing_if = "LevelSpec::is_default")]
    pub level: LevelSpec,
}

/// How hard each algorithm tries.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LevelSpec {
    /// 1 to 6. Left out: 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zstd: Option<u8>,
    /// 1 to 6. Left out: 4.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub br: Option<u8>,
    /// 1 to 9. Left out: 5.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gzip: Option<u8>,
}

/// Text of every kind, and what is text under another name. Pictures, films and archives are compressed as they are.
const TYPES: [&str; 10] = [
    "text/*",
    "application/json",
    "application/*+json",
    "application/xml",
    "application/*+xml",
    "application/javascript",
    "application/x-ndjson",
    "application/wasm",
    "image/svg+xml",
    "font/ttf",
];

impl Default for CompressSpec {
    fn default() -> Self {
        Self {
            algorithms: OneOrMany(vec![Coding::Zstd, Coding::Br, Coding::Gzip]),
            min_size: Size::bytes(1024),
            types: OneOrMany(TYPES.iter().filter_map(|text| text.parse().ok()).collect()),
            level: LevelSpec::default(),
        }
    }
}

impl LevelSpec {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// What is written, what holds where nothing is, and the highest. Beyond that Brotli and
    /// Zstandard hold many times the memory for each response: up to 40 MiB.
    fn of(&self, coding: Coding) -> (Option<u8>, u8, u8) {
        match coding {
            Coding::Zstd => (self.zstd, 3, 6),
            Coding::Br => (self.br, 4, 6),
            Coding::Gzip => (self.gzip, 5, 9),
        }
    }
}

impl CompressSpec {
    pub(super) fn compile(&self, at: &At) -> Option<Arc<dyn Filter>> {
        let mut sound = true;
        let mut refuse = |at: At, code, message: String, hint: &str| {
            at.problem(code, message).hint(hint);
            sound = false;
        };
        if self.algorithms.is_absent() {
            let hint = "name some of `zstd`, `br`, `gzip`, or leave the key out";
            refuse(at.key("algorithms"), Code::MissingKey, "there is no algorithm to compress with".into(), hint);
        }
        for (index, coding) in self.algorithms.iter().enumerate().filter(|(at, one)| self.algorithms[..*at].contains(one)) {
            let message = format!("`{}` is in the list already", coding.name());
            refuse(at.key("algorithms").index(index), Code::Duplicate, message, "the first counts: remove this one");
        }
        if self.types.is_absent() {
            let hint = "name some, as `text/*`, or leave the key out";
            refuse(at.key("types"), Code::MissingKey, "there is no media type to compress".into(), hint);
        }
        for coding in [Coding::Zstd, Coding::Br, Coding::Gzip] {
            let (Some(level), _, highest) = self.level.of(coding) else { continue };
            let (at, name) = (at.key("level").key(coding.name()), coding.name());
            if !self.algorithms.contains(&coding) {
                let message = format!("`{name}` is none of the algorithms, so its level means nothing");
                refuse(at, Code::Conflict, message, "add it to `algorithms`, or remove the level");
            } else if !(1..=highest).contains(&level) {
                let message = format!("{level} is no level of `{name}` for responses");
                refuse(at, Code::BadValue, message, &format!("write a number from 1 to {highest}"));
            }
        }
        sound.then(|| -> Arc<dyn Filter> { Arc::new(Compress { spec: self.clone() }) })
    }
}

#[derive(Debug)]
struct Compress {
    spec: CompressSpec,
}

/// What is kept of a request whose client takes a coding.
struct Chosen {
    coding: Coding,
    /// The client takes no plain bytes: short responses are worth it, too.
    refuses_plain: bool,
    /// Made for the first piece: a response without any needs no room.
    encoder: Option<Encoder>,
}

/// A piece that takes longer than handing it over: a tenth of a millisecond and more, by coding and level.
const LONG: usize = 8 << 10;

impl Filter for Compress {
    fn kind(&self) -> &'static str {
        "compress"
    }

    fn request(&self, request: &mut FilterRequest<'_>, slot: &mut Slot) -> Verdict {
        // Only a strong tag names the bytes that a client lacks a part of. A date is the same in all codings, and what is
        // plain would be put behind what is not.
        if request.fields.get("if-range").is_some_and(|tag| !tag.trim_ascii_start().starts_with(b"\"")) {
            request.fields.remove(&header::RANGE);
            request.fields.remove(&header::IF_RANGE);
        }
        let accepted = Accepted::of(&self.spec.algorithms, &*request.fields);
        if let Some(coding) = accepted.codings.first().copied().filter(|_| !forbids(&*request.fields)) {
            *slot = Some(Box::new(Chosen { coding, refuses_plain: accepted.refuses_plain, encoder: None }));
        }
        Verdict::Continue
    }

    fn response(&self, response: &mut FilterResponse<'_>, slot: &mut Slot) {
        if !self.could(response) {
            return;
        }
        // What the client takes decides.
        vary(response.fields, "accept-encoding");
        let Some(chosen) = slot.as_ref().and_then(|slot| slot.downcast_ref::<Chosen>()) else { return };
        if response.status == 304 {
            // The tag that the client was told.
            weaken(response.fields);
            return;
        }
        let length = response.fields.get("content-length").and_then(|length| std::str::from_utf8(length).ok()?.parse().ok());
        let short = length.is_some_and(|length: u64| length < self.spec.min_size.get());
        if response.status == 206 || length == Some(0) || short && !chosen.refuses_plain {
            return;
        }
        weaken(response.fields);
        response.fields.set(header::CONTENT_ENCODING, HeaderValue::from_static(chosen.coding.name()));
        response.fields.remove(&header::ACCEPT_RANGES);
        DIGESTS.iter().for_each(|digest| response.fields.remove(digest));
        if response.method == "HEAD" {
            // The fields of a GET, and no body that anything could be put in the place of.
            response.fields.remove(&header::CONTENT_LENGTH);
        } else {
            response.replace_body();
        }
    }

    fn response_body(&self, piece: &mut Bytes, end: bool, slot: &mut Slot) -> Result<(), &'static str> {
        let Some(chosen) = slot.as_mut().and_then(|slot| slot.downcast_mut::<Chosen>()) else { return Ok(()) };
        let long = piece.len() >= LONG;
        let mut encode = || self.encode(piece, end, chosen);
        let encoded = if long { apart(encode) } else { encode() };
        encoded.map_err(|error| {
            log::error!("a response cannot be compressed: {error}");
            "compress_failed"
        })
    }
}

impl Compress {
    /// Could this response be sent in a coding, to a client that takes one?
    fn could(&self, response: &FilterResponse<'_>) -> bool {
        let fields = &*response.fields;
        let kind = fields.get("content-type");
        let worth_it = match kind {
            Some(kind) => self.spec.types.iter().any(|range| range.has(kind)) && !streams_itself(kind),
            // What has not changed need not say what it is.
            None => response.status == 304,
        };
        worth_it
            && !matches!(response.status, 100..200 | 204)
            && fields.get("content-encoding").is_none()
            && (fields.get("content-range").is_none() || response.status == 206)
            // Trailers would be lost behind the bytes that close a coding.
            && fields.get("trailer").is_none()
            && !forbids(fields)
    }

    fn encode(&self, piece: &mut Bytes, end: bool, chosen: &mut Chosen) -> std::io::Result<()> {
        let mut encoder = match chosen.encoder.take() {
            Some(encoder) => encoder,
            None => {
                let (level, usual, _) = self.spec.level.of(chosen.coding);
                Encoder::new(chosen.coding, level.unwrap_or(usual))?
            }
        };
        if end {
            *piece = encoder.last(piece)?;
        } else {
            *piece = encoder.piece(piece)?;
            chosen.encoder = Some(encoder);
        }
        Ok(())
    }
}

/// Events and messages have a rhythm and a framing of their own.
fn streams_itself(kind: &[u8]) -> bool {
    let is = |name: &[u8]| kind.len() >= name.len() && kind[..name.len()].eq_ignore_ascii_case(name);
    is(b"text/event-stream") || is(b"application/grpc")
}

/// `no-transform` (RFC 9111 sections 5.2.1.6 and 5.2.2.6).
fn forbids(fields: &dyn Fields) -> bool {
    let directive = |one: &[u8]| one.trim_ascii().eq_ignore_ascii_case(b"no-transform");
    fields.any("cache-control", &mut |line| line.split(|byte| *byte == b',').any(directive))
}

/// A strong tag would say that the bytes are those of the plain response (RFC 9110 section 8.8.1).
fn weaken(fields: &mut dyn FieldsMut) {
    let Some(tag) = fields.get("etag").filter(|tag| tag.starts_with(b"\"")) else { return };
    if let Ok(weak) = HeaderValue::from_bytes(&[b"W/", tag].concat()) {
        fields.set(header::ETAG, weak);
    }
}

#[cfg(test)]
mod tests;
