//! How much of a response is between its endpoint and its client.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    task::{Context, Poll},
};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;

use super::allowance::Share;

/// What one response may hold. Pingora's reader of HTTP/1 responses keeps a copy of what it read last, and TLS a third in records, so that
/// with the structures around it is less than 64 KiB in memory at worst.
const MOST: usize = 10 * 1024;

/// The same where bytes are in memory once.
const MOST_ONCE: usize = 32 * 1024;

/// So little may wait while more is read.
const FEW: usize = 2 * 1024;

/// The bytes of one response that were read from the endpoint, and that the client has not taken.
///
/// They wait in two places, between which pieces may change their length (compression, replaced bodies): ahead of the filters, and
/// behind them.
#[derive(Debug, Default)]
pub struct Window {
    state: Mutex<State>,
    reader: AtomicWaker,
    writer: AtomicWaker,
}

#[derive(Debug, Default)]
struct State {
    /// Read, and not seen by the filters.
    ahead: usize,
    /// Out of the filters, and not taken by the client.
    unsent: usize,
    /// Of these, what was handed to the library that sends them.
    handed: usize,
    /// With the other responses of the client's connection, where there are others.
    share: Option<Share>,
    /// The reader found no room although the client has taken everything.
    probing: bool,
    /// There is no client that could be slow.
    unpaced: bool,
    /// Its bytes are in memory once.
    once: bool,
    attempt: u64,
}

impl State {
    fn held(&self) -> usize {
        if self.unpaced { 0 } else { self.ahead + self.unsent }
    }
    fn most(&self) -> usize {
        if self.once { MOST_ONCE } else { MOST }
    }
    /// How much may be read. A piece is in memory until its last byte is sent, so that the next one waits for most of it; but small
    /// pieces are collected.
    fn worthwhile_room(&mut self) -> usize {
        let (held, most) = (self.held(), self.most());
        let limit = self.share.as_mut().map_or(most, |share| share.limit(held, most));
        match held {
            0 => limit,
            1..=FEW => limit.saturating_sub(held).min(2 * FEW),
            _ => 0,
        }
    }
    fn shrink(&mut self) {
        let held = self.held();
        if let Some(share) = &mut self.share {
            share.shrink(held);
        }
    }
}

impl Window {
    /// Of a response beside others.
    pub(super) fn sharing(share: Share) -> Self {
        Self { state: Mutex::new(State { share: Some(share), ..State::default() }), ..Self::default() }
    }

    /// Resolves to how many bytes may be read from the endpoint now.
    ///
    /// A reader may count bytes that never come out as a piece of a body: a head, the framing of chunks. So where only bytes ahead of the
    /// filters are left, and the task was polled once more without the filters seeing any, those were such bytes.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<usize> {
        self.reader.register(cx.waker());
        let mut state = self.state.lock();
        let mut room = state.worthwhile_room();
        if room == 0 && state.unsent == 0 && state.ahead > 0 {
            if state.probing {
                state.ahead = 0;
                room = state.worthwhile_room();
            } else {
                cx.waker().wake_by_ref();
            }
            state.probing = !state.probing;
        }
        if room == 0 { Poll::Pending } else { Poll::Ready(room) }
    }

    /// Of a response that is for no client.
    pub(super) fn unpaced() -> Self {
        Self { state: Mutex::new(State { unpaced: true, ..State::default() }), ..Self::default() }
    }

    /// Whoever carries this response keeps no copy of its bytes: more of them may wait.
    pub fn widen(&self) {
        self.state.lock().once = true;
    }

    /// The client is gone. Whoever reads on does so for others: to keep the response for them.
    pub fn abandon(&self) {
        self.state.lock().unpaced = true;
        self.reader.wake();
        self.writer.wake();
    }

    /// Another attempt begins: what was read of the response before it goes nowhere.
    pub fn restart(&self) {
        // Counts the attempts of the process, so that a connection can tell one from another.
        static ATTEMPTS: AtomicU64 = AtomicU64::new(1);
        let mut state = self.state.lock();
        (state.ahead, state.attempt) = (0, ATTEMPTS.fetch_add(1, Relaxed));
    }

    /// Which attempt it is.
    pub fn attempt(&self) -> u64 {
        self.state.lock().attempt
    }

    /// So many bytes were read.
    pub fn read(&self, bytes: usize) {
        let mut state = self.state.lock();
        state.ahead += bytes;
        state.probing = false;
    }

    /// The filters are about to see so many of them.
    pub fn passing(&self, bytes: usize) {
        let mut state = self.state.lock();
        state.ahead = state.ahead.saturating_sub(bytes);
        state.probing = false;
    }

    /// So many bytes go to the client.
    pub fn passed(&self, bytes: usize) {
        self.state.lock().unsent += bytes;
    }

    /// The client has taken so many bytes, of whatever part of its response.
    pub fn taken(&self, bytes: usize) {
        let mut state = self.state.lock();
        state.unsent = state.unsent.saturating_sub(bytes);
        state.handed = state.handed.saturating_sub(bytes);
        state.shrink();
        drop(state);
        self.reader.wake();
        self.writer.wake();
    }

    /// How many bytes are held.
    pub fn held(&self) -> usize {
        self.state.lock().held()
    }

    /// How many bytes have passed the filters that the client has not taken.
    pub fn unsent(&self) -> usize {
        let state = self.state.lock();
        if state.unpaced { 0 } else { state.unsent }
    }

    /// Is there no client that could be slow?
    pub(super) fn is_unpaced(&self) -> bool {
        self.state.lock().unpaced
    }

    /// The reader waits for the client to take something, and is woken then.
    pub fn watch(&self, cx: &Context<'_>) {
        self.reader.register(cx.waker());
    }

    /// Resolves when a writer may hand more to the library that sends it.
    pub fn poll_turn(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.writer.register(cx.waker());
        let mut state = self.state.lock();
        let handed = if state.unpaced { 0 } else { state.handed };
        let most = state.most();
        let limit = state.share.as_mut().map_or(most, |share| share.limit(handed, most));
        if handed < limit { Poll::Ready(()) } else { Poll::Pending }
    }

    /// So many bytes were handed over: [`Window::taken`] tells of them when they have left.
    pub fn handed(&self, bytes: usize) {
        self.state.lock().handed += bytes;
    }

    /// May the response use the larger window of an HTTP/2 endpoint?
    pub fn is_large(&self) -> bool {
        self.state.lock().share.as_ref().is_none_or(Share::is_large)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::pace::Allowance;

    fn room(window: &Window) -> Option<usize> {
        match window.poll_room(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(room) => Some(room),
            Poll::Pending => None,
        }
    }

    #[test]
    fn what_the_client_has_not_taken_is_not_read_beyond() {
        let window = Window::default();
        assert_eq!(room(&window), Some(MOST));
        window.read(MOST);
        window.passing(MOST);
        window.passed(MOST);
        assert_eq!((room(&window), room(&window), room(&window)), (None, None, None));
        window.taken(MOST - FEW - 1);
        assert_eq!(room(&window), None, "the piece is in memory still");
        window.taken(1);
        assert_eq!(room(&window), Some(2 * FEW));
        window.taken(FEW);
        assert_eq!(room(&window), Some(MOST));
        window.read(MOST);
        window.passing(MOST);
        window.passed(FEW);
        assert_eq!(room(&window), Some(2 * FEW), "compressed");
    }

    #[test]
    fn more_may_wait_of_a_response_that_is_in_memory_once() {
        let window = Window::default();
        window.widen();
        assert_eq!(room(&window), Some(MOST_ONCE));
        window.passed(MOST_ONCE);
        window.handed(MOST_ONCE - 1);
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(room(&window).is_none() && window.poll_turn(cx).is_ready());
        window.handed(1);
        assert!(window.poll_turn(cx).is_pending());
    }

    #[test]
    fn bytes_that_are_in_no_piece_do_not_stop_the_reader() {
        let window = Window::default();
        window.read(MOST);
        window.passing(MOST - 500);
        window.passed(MOST - 500);
        window.taken(MOST - 500 + 20);
        assert_eq!(room(&window), Some(2 * FEW));
        window.read(2 * FEW);
        assert_eq!(room(&window), None, "they may be on their way");
        assert_eq!(room(&window), Some(MOST), "they are not");
    }

    #[test]
    fn what_is_not_held_is_there_for_the_other_responses_of_the_connection() {
        let allowance = Allowance::new();
        let windows: Vec<_> = (0..20).map(|_| Window::sharing(Share::new(&allowance))).collect();
        for window in &windows {
            let room = room(window).unwrap();
            window.read(room);
            window.passing(room);
            window.passed(room);
        }
        let held: usize = windows.iter().map(Window::held).sum();
        assert_eq!(held, 20 * 4096 + 96 * 1024);
        windows[0].taken(MOST);
        windows[19].taken(4096);
        assert_eq!(room(&windows[19]), Some(MOST));
    }
}
