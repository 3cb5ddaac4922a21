//! What is counted of a scene, and what is not.
//!
//! Callgrind switches between counting and not counting on the way into and out of two functions, which have fixed names for it. The
//! allocator's counter is read in the same places, so that instructions and allocations are those of the same work.

use std::{
    cell::Cell,
    future::poll_fn,
    pin::pin,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

#[path = "../counting/mod.rs"]
mod counting;

use self::counting::allocations;

/// The functions at which callgrind switches.
pub const SWITCHES: [&str; 2] = ["weir_guard_counted", "weir_guard_apart"];

thread_local! {
    static COUNTING: Cell<bool> = const { Cell::new(false) };
}

/// Allocations within counted work that are not its own.
static APART: AtomicUsize = AtomicUsize::new(0);

/// A client or an endpoint of a scene: what it does itself is not counted.
pub async fn apart<T>(work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    poll_fn(|cx| {
        let mut polled = None;
        let mut poll = || polled = Some(work.as_mut().poll(cx));
        if COUNTING.get() {
            weir_guard_apart(&mut poll);
        } else {
            // The switch would begin to count.
            poll();
        }
        polled.expect("it was polled")
    })
    .await
}

/// Does it, counted. Returns how often memory was allocated.
// SAFETY: nothing else has this name.
#[unsafe(no_mangle)]
#[inline(never)]
pub fn weir_guard_counted(work: &mut dyn FnMut()) -> usize {
    let (before, apart) = (allocations(), APART.load(Relaxed));
    COUNTING.set(true);
    work();
    COUNTING.set(false);
    (allocations() - before) - (APART.load(Relaxed) - apart)
}

// Its code must differ from that of the other, or the compiler makes one of them, at which callgrind switches once only.
// SAFETY: nothing else has this name.
#[unsafe(no_mangle)]
#[inline(never)]
fn weir_guard_apart(work: &mut dyn FnMut()) {
    let before = allocations();
    work();
    APART.fetch_add(allocations() - before, Relaxed);
}
