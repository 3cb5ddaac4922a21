//! Counts what an HTTP/2 client makes us do, from the raw frames, beside the library that serves them.
//!
//! HTTP/2 has frames that cost the sender nothing and the receiver work, and no status to refuse them with: a stream
//! opened and reset (CVE-2023-44487), a header block that never ends (CVE-2024-27316), pings and settings that
//! must be acknowledged, frames that carry nothing. The observer reads the nine bytes of each frame header, wherever
//! the reads cut the stream, and says [`Flood`] when a connection has had more of a kind than a client has a use for. The
//! driver then sends GOAWAY and closes.
//!
//! Each kind has a window of [`WINDOW`] which starts with its first frame; at its end the count starts anew. Limits are
//! so far above what clients do, and floods so far above the limits, that a twofold burst at the seam does not matter.

use std::time::{Duration, Instant};

/// The time over which frames of a kind are counted.
pub const WINDOW: Duration = Duration::from_secs(30);

/// What a connection may send within one [`WINDOW`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameLimits {
    /// RST_STREAM. A browser that leaves a page resets what is still open: at most the 100 streams of a connection,
    /// and twice that within half a minute is a hurried reader. An attack sends that many in a millisecond.
    pub resets: u32,
    /// PING, acknowledgements included. gRPC probes the bandwidth with a ping per round trip while data flows: some 30/s.
    pub pings: u32,
    /// SETTINGS. Clients send one at the start, acknowledge ours, and hardly ever change them.
    pub settings: u32,
    /// PRIORITY and PRIORITY_UPDATE. Older Firefox builds a tree of six at the start; browsers send one or two per
    /// stream when a tab gets or loses focus.
    pub priorities: u32,
    /// DATA without content that does not end its stream. A use for one is hard to find; some libraries flush with it.
    pub empty_data: u32,
    /// WINDOW_UPDATE of less than [`SMALL_UPDATE`]. Larger ones are bounded by the data that we send, since a window
    /// cannot grow beyond 2^31. Some clients give back each small message on its own: up to 300/s is put up with, and beside that one
    /// for each [`EARNS_AN_UPDATE`] bytes that were sent meanwhile.
    pub small_window_updates: u32,
    /// Frames of a type that we do not know, or that only servers send. Clients that grease send one now and then.
    pub unknown: u32,
    /// CONTINUATION frames of one header block: as many frames of 16 KiB as a block of `max_header_bytes` needs and a
    /// quarter more, five at the least. The library has the same bound; ours comes first, and is counted.
    pub continuations: u32,
    /// Bytes of one header block, compressed, all its frames together.
    pub header_block_bytes: usize,
}

/// The payload that a frame may have, since we announce no other maximum.
const FRAME: usize = 16 * 1024;

/// A WINDOW_UPDATE below this gives back less than what its own handling costs.
pub const SMALL_UPDATE: u32 = 1024;

/// Who reads more slowly than we send, and gives back frame by frame, gets ever smaller frames: a small update for each of so many bytes is
/// no flood. Who wants to be sent a byte at a time does not earn them.
pub const EARNS_AN_UPDATE: u64 = 128;

impl FrameLimits {
    /// The limits for a listener with this `max_header_bytes`: compression never makes a block longer than its
    /// fields by more than their length prefixes, for which there is a quarter on top.
    pub fn new(max_header_bytes: u64) -> Self {
        let bytes = usize::try_from(max_header_bytes).unwrap_or(usize::MAX);
        let block = bytes.saturating_add(bytes / 4);
        Self {
            resets: 200,
            pings: 1000,
            settings: 20,
            priorities: 1000,
            empty_data: 100,
            small_window_updates: 10_000,
            unknown: 100,
            continuations: u32::try_from(block / FRAME).unwrap_or(u32::MAX).max(5),
            header_block_bytes: block,
        }
    }
}

impl Default for FrameLimits {
    fn default() -> Self {
        Self::new(32 * 1024)
    }
}

/// What a client sent too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Flood {
    /// RST_STREAM: CVE-2023-44487.
    Resets,
    /// PING: CVE-2019-9512.
    Pings,
    /// SETTINGS: CVE-2019-9515.
    Settings,
    /// PRIORITY: CVE-2019-9513.
    Priorities,
    /// Empty DATA: CVE-2019-9518.
    EmptyData,
    /// Small WINDOW_UPDATE: CVE-2019-9511.
    WindowUpdates,
    /// Frames of unknown types.
    Unknown,
    /// CONTINUATION: CVE-2024-27316.
    Continuations,
    /// A header block that is too long.
    HeaderBlock,
}

impl Flood {
    /// The word in the log and in the metric label.
    pub const fn reason(self) -> &'static str {
        match self {
            Flood::Resets => "h2_reset_flood",
            Flood::Pings => "h2_ping_flood",
            Flood::Settings => "h2_settings_flood",
            Flood::Priorities => "h2_priority_flood",
            Flood::EmptyData => "h2_empty_data_flood",
            Flood::WindowUpdates => "h2_window_update_flood",
            Flood::Unknown => "h2_unknown_frame_flood",
            Flood::Continuations => "h2_continuation_flood",
            Flood::HeaderBlock => "h2_header_block_too_large",
        }
    }
}

impl std::fmt::Display for Flood {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for Flood {}

/// Frame types (RFC 9113 section 6).
mod kind {
    pub(super) const DATA: u8 = 0;
    pub(super) const HEADERS: u8 = 1;
    pub(super) const PRIORITY: u8 = 2;
    pub(super) const RST_STREAM: u8 = 3;
    pub(super) const SETTINGS: u8 = 4;
    pub(super) const PING: u8 = 6;
    pub(super) const GOAWAY: u8 = 7;
    pub(super) const WINDOW_UPDATE: u8 = 8;
    pub(super) const CONTINUATION: u8 = 9;
    pub(super) const PRIORITY_UPDATE: u8 = 16;
}

const END_STREAM: u8 = 1;
const PADDED: u8 = 8;
const HEADER: usize = 9;
/// The bytes of a payload that are ever looked at: the increment of a WINDOW_UPDATE.
const PEEK: usize = 4;

/// How many of a kind in the window that is running.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    since: Option<Instant>,
    seen: u32,
}

impl Count {
    fn add(&mut self, now: Instant, limit: u32, flood: Flood) -> Result<(), Flood> {
        match self.since {
            Some(since) if now.saturating_duration_since(since) < WINDOW => self.seen += 1,
            _ => *self = Self { since: Some(now), seen: 1 },
        }
        if self.seen > limit { Err(flood) } else { Ok(()) }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    resets: Count,
    pings: Count,
    settings: Count,
    priorities: Count,
    empty_data: Count,
    window_updates: Count,
    /// What had been sent when that window started.
    sent: u64,
    unknown: Count,
}

/// Watches the frames that one client sends.
#[derive(Debug, Clone)]
pub struct FrameObserver {
    limits: FrameLimits,
    /// The frame header and the first bytes of the payload, as far as they are here.
    front: [u8; HEADER + PEEK],
    filled: usize,
    /// Bytes of the payload (or the preface) that are passed over.
    skip: usize,
    counts: Counts,
    continuations: u32,
    block: usize,
    /// Bytes that were sent to the client.
    sent: u64,
    flooded: Option<Flood>,
}

impl FrameObserver {
    /// For a stream that starts after the preface.
    pub fn new(limits: FrameLimits) -> Self {
        Self {
            limits,
            front: [0; HEADER + PEEK],
            filled: 0,
            skip: 0,
            counts: Counts::default(),
            continuations: 0,
            block: 0,
            sent: 0,
            flooded: None,
        }
    }

    /// For a stream that starts with the preface, which the library checks.
    pub fn from_preface(limits: FrameLimits) -> Self {
        Self { skip: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len(), ..Self::new(limits) }
    }

    /// So many bytes were sent to the client.
    pub fn sent(&mut self, count: usize) {
        self.sent += count as u64;
    }

    /// Looks at the next bytes from the client. After a flood every call answers the same.
    pub fn feed(&mut self, mut bytes: &[u8], now: Instant) -> Result<(), Flood> {
        if let Some(flood) = self.flooded {
            return Err(flood);
        }
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            while self.filled < self.wanted() {
                let Some((byte, rest)) = bytes.split_first() else { return Ok(()) };
                self.front[self.filled] = *byte;
                self.filled += 1;
                bytes = rest;
            }
            self.frame(now).inspect_err(|&flood| self.flooded = Some(flood))?;
            self.skip = self.payload() - (self.filled - HEADER);
            self.filled = 0;
        }
        Ok(())
    }

    /// How much of the frame must be here before it is judged.
    fn wanted(&self) -> usize {
        if self.filled < HEADER {
            return HEADER;
        }
        let peek = match self.front[3] {
            kind::WINDOW_UPDATE => PEEK,
            kind::DATA if self.front[4] & PADDED != 0 => 1,
            _ => 0,
        };
        HEADER + peek.min(self.payload())
    }

    fn payload(&self) -> usize {
        let [high, middle, low, ..] = self.front;
        usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low)
    }

    /// Judges the frame whose front is here.
    fn frame(&mut self, now: Instant) -> Result<(), Flood> {
        let (payload, flags) = (self.payload(), self.front[4]);
        let (counts, limits) = (&mut self.counts, &self.limits);
        match self.front[3] {
            kind::HEADERS => {
                self.continuations = 0;
                self.block = 0;
                self.block(payload)
            }
            kind::CONTINUATION => {
                self.continuations = self.continuations.saturating_add(1);
                if self.continuations > limits.continuations { Err(Flood::Continuations) } else { self.block(payload) }
            }
            kind::DATA => {
                let padding = if flags & PADDED != 0 && payload > 0 { usize::from(self.front[HEADER]) + 1 } else { 0 };
                if payload > padding || flags & END_STREAM != 0 {
                    return Ok(());
                }
                counts.empty_data.add(now, limits.empty_data, Flood::EmptyData)
            }
            kind::RST_STREAM => counts.resets.add(now, limits.resets, Flood::Resets),
            kind::PING => counts.pings.add(now, limits.pings, Flood::Pings),
            kind::SETTINGS => counts.settings.add(now, limits.settings, Flood::Settings),
            kind::PRIORITY | kind::PRIORITY_UPDATE => counts.priorities.add(now, limits.priorities, Flood::Priorities),
            kind::WINDOW_UPDATE if payload == PEEK => self.window_update(now),
            kind::GOAWAY => Ok(()),
            _ => counts.unknown.add(now, limits.unknown, Flood::Unknown),
        }
    }

    fn block(&mut self, payload: usize) -> Result<(), Flood> {
        self.block = self.block.saturating_add(payload);
        if self.block > self.limits.header_block_bytes { Err(Flood::HeaderBlock) } else { Ok(()) }
    }

    /// An increment of 0 on a stream makes the server reset it (CVE-2025-8671): it counts as a reset by the client.
    fn window_update(&mut self, now: Instant) -> Result<(), Flood> {
        let [.., a, b, c, d] = self.front;
        match u32::from_be_bytes([a & 0x7f, b, c, d]) {
            0 => self.counts.resets.add(now, self.limits.resets, Flood::Resets),
            1..SMALL_UPDATE => self.small_window_update(now),
            _ => Ok(()),
        }
    }

    fn small_window_update(&mut self, now: Instant) -> Result<(), Flood> {
        let Counts { window_updates, sent, .. } = &mut self.counts;
        let earned = u32::try_from((self.sent - *sent) / EARNS_AN_UPDATE).unwrap_or(u32::MAX);
        window_updates.add(now, self.limits.small_window_updates.saturating_add(earned), Flood::WindowUpdates)?;
        if window_updates.seen == 1 {
            *sent = self.sent;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
