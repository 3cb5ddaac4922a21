//! Which response bodies an HTTP/2 connection is sending, and what the socket has taken of each.
//!
//! The library tells nobody when the bytes that it was given have left. The frames that it writes do.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use parking_lot::Mutex;

use super::Pace;

/// Responses that are complete for us, and whose bytes the library may still have: no connection has more streams than this that are
/// not over. The oldest beyond it were reset by the client, which no frame of ours tells.
const LEAVING: usize = 1024;

/// The responses of a connection, by the number of their stream.
#[derive(Debug, Default)]
pub struct Sending(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    paces: HashMap<u32, Arc<Pace>>,
    leaving: VecDeque<u32>,
}

impl Sending {
    /// A response begins.
    pub fn begin(self: &Arc<Self>, stream: u32, pace: Arc<Pace>) -> Sent {
        self.0.lock().paces.insert(stream, pace);
        Sent { sending: self.clone(), stream, is_whole: false }
    }

    /// The request is over.
    fn end(&self, stream: u32, is_whole: bool) {
        let mut state = self.0.lock();
        if !is_whole {
            state.paces.remove(&stream);
            return;
        }
        if state.paces.get(&stream).is_some_and(|pace| pace.window.held() == 0) {
            state.paces.remove(&stream);
            return;
        }
        state.leaving.push_back(stream);
        if state.leaving.len() > LEAVING
            && let Some(oldest) = state.leaving.pop_front()
        {
            state.paces.remove(&oldest);
        }
    }

    /// The socket has taken so many bytes of this stream's body.
    fn taken(&self, stream: u32, bytes: usize) {
        let pace = self.0.lock().paces.get(&stream).cloned();
        if let Some(pace) = pace {
            pace.window.taken(bytes);
        }
    }

    /// The socket has taken all of this stream.
    fn over(&self, stream: u32) {
        self.0.lock().paces.remove(&stream);
    }
}

/// A response that is being sent. Dropped when the request is over.
#[derive(Debug)]
pub struct Sent {
    sending: Arc<Sending>,
    stream: u32,
    /// The response was handed to the library whole.
    pub is_whole: bool,
}

impl Drop for Sent {
    fn drop(&mut self) {
        self.sending.end(self.stream, self.is_whole);
    }
}

const HEAD: usize = 9;
const DATA: u8 = 0;
const RST_STREAM: u8 = 3;
const END_STREAM: u8 = 1;

/// Reads the frames that are written, wherever the writes cut them.
#[derive(Debug)]
pub struct SentFrames {
    sending: Arc<Sending>,
    head: [u8; HEAD],
    filled: usize,
    /// Bytes of the payload that are to come.
    left: usize,
}

impl SentFrames {
    /// Of a connection whose responses are told here.
    pub fn new(sending: Arc<Sending>) -> Self {
        Self { sending, head: [0; HEAD], filled: 0, left: 0 }
    }

    /// The transport has taken these bytes.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.filled < HEAD {
                let count = (HEAD - self.filled).min(bytes.len());
                self.head[self.filled..self.filled + count].copy_from_slice(&bytes[..count]);
                self.filled += count;
                bytes = &bytes[count..];
                if self.filled < HEAD {
                    return;
                }
                let [high, middle, low, ..] = self.head;
                self.left = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
            }
            let count = self.left.min(bytes.len());
            self.left -= count;
            bytes = &bytes[count..];
            self.payload(count);
            if self.left == 0 {
                self.filled = 0;
            }
        }
    }

    fn payload(&self, count: usize) {
        let [_, _, _, kind, flags, a, b, c, d] = self.head;
        let stream = u32::from_be_bytes([a & 0x7f, b, c, d]);
        if kind == DATA && count > 0 {
            self.sending.taken(stream, count);
        }
        if self.left == 0 && (kind == RST_STREAM || (kind <= 1 && flags & END_STREAM != 0)) {
            self.sending.over(stream);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pace::{Allowance, Share};

    fn frame(kind: u8, flags: u8, stream: u32, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags];
        frame.extend(stream.to_be_bytes());
        frame.extend(vec![7; payload]);
        frame
    }

    #[test]
    fn bytes_of_a_body_are_told_to_their_response_wherever_writes_cut_them() {
        let bytes =
            [frame(1, 4, 5, 30), frame(0, 0, 5, 1000), frame(8, 0, 0, 4), frame(0, 0, 3, 10), frame(0, 1, 5, 500)].concat();
        for cut in [1, 2, 8, 9, 10, 100, bytes.len()] {
            let sending = Arc::new(Sending::default());
            let pace = Pace::sharing(Share::new(&Allowance::new()));
            pace.window.passed(2000);
            let _sent = sending.begin(5, pace.clone());
            let mut frames = SentFrames::new(sending.clone());
            bytes.chunks(cut).for_each(|piece| frames.feed(piece));
            assert_eq!(pace.window.held(), 500, "writes of {cut}");
            assert!(sending.0.lock().paces.is_empty());
        }
    }

    #[test]
    fn a_response_that_is_complete_counts_until_the_socket_has_it_and_is_not_kept_for_ever() {
        let sending = Arc::new(Sending::default());
        for stream in 0..2 * LEAVING as u32 {
            let pace = Pace::alone();
            pace.window.passed(1);
            sending.begin(stream, pace).is_whole = true;
        }
        assert_eq!(sending.0.lock().paces.len(), LEAVING);
        let mut frames = SentFrames::new(sending.clone());
        frames.feed(&frame(0, 1, 2 * LEAVING as u32 - 1, 1));
        assert_eq!(sending.0.lock().paces.len(), LEAVING - 1);
    }
}
