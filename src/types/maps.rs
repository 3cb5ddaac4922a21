//! Header maps that serve one message after another: a new one takes two allocations before it holds anything.

use std::cell::RefCell;

use http::HeaderMap;

/// Maps that a thread keeps. As many as it has messages in its hands at a time, in most cases.
const KEPT: usize = 32;

/// The largest that is kept, in fields: a message of an unusual size must not stay in memory.
const LARGEST: usize = 32;

thread_local! {
    static SPARE: RefCell<Vec<HeaderMap>> = const { RefCell::new(Vec::new()) };
}

/// An empty map with room for so many fields.
pub fn header_map(room: usize) -> HeaderMap {
    match SPARE.with_borrow_mut(Vec::pop) {
        Some(mut map) => {
            map.reserve(room);
            map
        }
        None => HeaderMap::with_capacity(room),
    }
}

/// Keeps a map for the next message, without what it holds.
pub fn give_back(mut map: HeaderMap) {
    if map.capacity() > LARGEST || map.capacity() == 0 {
        return;
    }
    map.clear();
    SPARE.with_borrow_mut(|spare| {
        if spare.len() < KEPT {
            spare.push(map);
        }
    });
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn a_map_comes_back_empty_and_a_large_one_does_not() {
        let mut map = header_map(8);
        map.insert("secret", HeaderValue::from_static("of another"));
        let room = map.capacity();
        give_back(map);
        let again = header_map(1);
        assert_eq!((again.len(), again.capacity()), (0, room));
        give_back(HeaderMap::with_capacity(LARGEST * 2));
        assert!(header_map(1).capacity() <= LARGEST, "not the large one");
    }

    #[test]
    fn only_so_many_are_kept() {
        (0..KEPT + 8).for_each(|_| give_back(HeaderMap::with_capacity(4)));
        assert_eq!(SPARE.with_borrow(Vec::len), KEPT);
        let mut map = header_map(64);
        (0..64).for_each(|number| drop(map.insert(HeaderName::try_from(format!("x-{number}")).unwrap(), HeaderValue::from(1))));
        assert_eq!(map.len(), 64);
    }
}
