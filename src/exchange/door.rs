//! Whether connections go on: until the process drains, or the settings that they came by are no more.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use parking_lot::Mutex;
use tokio::sync::watch;

/// What connections came in by: one for each configuration of a listener. When it closes, they finish what is in
/// flight and end; nothing is cut.
#[derive(Debug)]
pub struct Door {
    open: AtomicBool,
    closing: watch::Sender<bool>,
    /// For everyone who waits: made once.
    closed: watch::Receiver<bool>,
}

impl Door {
    fn new(open: bool) -> Arc<Self> {
        let (closing, closed) = watch::channel(!open);
        Arc::new(Self { open: AtomicBool::new(open), closing, closed })
    }

    /// May another request follow on a connection? For requests, which look and do not wait.
    pub fn is_open(&self) -> bool {
        self.open.load(Relaxed)
    }

    /// Turns true once, when the door closes.
    pub fn closed(&self) -> &watch::Receiver<bool> {
        &self.closed
    }

    /// Connections that came in here end when what is in flight has finished.
    pub fn close(&self) {
        self.open.store(false, Relaxed);
        self.closing.send_replace(true);
    }
}

/// All doors of a process, which closes them together when it drains.
#[derive(Debug, Default)]
pub struct Doors(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    doors: Vec<Weak<Door>>,
    closed: bool,
}

impl Doors {
    /// A new door; one that is closed already, once the process drains.
    pub fn open(&self) -> Arc<Door> {
        let mut known = self.0.lock();
        let door = Door::new(!known.closed);
        known.doors.retain(|door| door.strong_count() > 0);
        known.doors.push(Arc::downgrade(&door));
        door
    }

    /// Closes all doors, now and later.
    pub fn close(&self) {
        let mut known = self.0.lock();
        known.closed = true;
        known.doors.iter().filter_map(Weak::upgrade).for_each(|door| door.close());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_closes_every_door_and_those_to_come() {
        let doors = Doors::default();
        let (one, other) = (doors.open(), doors.open());
        one.close();
        assert!(!one.is_open() && *one.closed().borrow() && other.is_open() && !*other.closed().borrow());
        doors.close();
        assert!(!other.is_open() && *other.closed().borrow());
        let late = doors.open();
        assert!(!late.is_open() && *late.closed().borrow());
    }

    #[test]
    fn doors_that_nobody_uses_take_no_room() {
        let doors = Doors::default();
        (0..100).for_each(|_| drop(doors.open()));
        assert!(doors.0.lock().doors.len() <= 1);
    }
}
