//! A buffer for each thread, through which bytes pass: no connection holds one.

use std::cell::RefCell;

/// What is read at once of a side that has little to say, as of most.
pub(super) const SMALL: usize = 16 * 1024;
/// What is read at once of a response under way. What its client does not take of it waits in memory, so it must not be large.
pub(super) const LARGE: usize = 48 * 1024;

thread_local! {
    static SPACE: RefCell<Box<[u8]>> = RefCell::new(vec![0; LARGE].into_boxed_slice());
}

/// Lends so much of it, for one poll. What it holds before is left over from somebody else.
pub(super) fn with<T>(size: usize, use_it: impl FnOnce(&mut [u8]) -> T) -> T {
    SPACE.with(|space| match space.try_borrow_mut() {
        Ok(mut space) => use_it(&mut space[..size]),
        // Within another use of it.
        Err(_) => use_it(&mut vec![0; size]),
    })
}
