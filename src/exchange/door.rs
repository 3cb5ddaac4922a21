//! Whether connections go on: until the process drains, or the settings that they came by are no more.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Waker},
};

use parking_lot::Mutex;
use slab::Slab;
use tokio::sync::watch;

/// What connections came in by: one for each configuration of a listener. When it closes, they finish what is in
/// flight and end; nothing is cut.
#[derive(Debug)]
pub struct Door {
    open: AtomicBool,
    closing: watch::Sender<bool>,
    /// For everyone who waits: made once.
    closed: watch::Receiver<bool>,
    /// Tasks of connections that wait for their next request.
    attending: Mutex<Slab<Waker>>,
}

impl Door {
    fn new(open: bool) -> Arc<Self> {
        let (closing, closed) = watch::channel(!open);
        Arc::new(Self { open: AtomicBool::new(open), closing, closed, attending: Mutex::default() })
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
        // Who comes after this sees that it is closed.
        let attending: Vec<Waker> = self.attending.lock().iter().map(|(_, waker)| waker.clone()).collect();
        attending.into_iter().for_each(Waker::wake);
    }

    /// For a connection that asks again and again, which costs it one look.
    pub fn attend(self: &Arc<Self>) -> Attendance {
        Attendance { door: self.clone(), place: None }
    }
}

/// A connection that is woken when its door closes, whatever it waits for then.
#[derive(Debug)]
pub struct Attendance {
    door: Arc<Door>,
    /// Where its waker is kept, and which one that is.
    place: Option<(usize, Waker)>,
}

impl Attendance {
    /// Has the door closed? If not, the task is woken when it does.
    pub fn poll_closed(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.door.is_open() {
            return true;
        }
        match &mut self.place {
            Some((_, known)) if known.will_wake(cx.waker()) => return false,
            Some((place, known)) => {
                known.clone_from(cx.waker());
                self.door.attending.lock()[*place] = known.clone();
            }
            None => {
                let place = self.door.attending.lock().insert(cx.waker().clone());
                self.place = Some((place, cx.waker().clone()));
            }
        }
        // It may have closed just before.
        !self.door.is_open()
    }
}

impl Drop for Attendance {
    fn drop(&mut self) {
        if let Some((place, _)) = self.place.take() {
            let mut attending = self.door.attending.lock();
            attending.remove(place);
            if attending.is_empty() {
                attending.shrink_to_fit();
            }
        }
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

    #[tokio::test]
    async fn a_connection_that_attends_is_woken_once_its_door_closes() {
        let doors = Doors::default();
        let door = doors.open();
        let mut attendance = door.attend();
        let (asked, was_asked) = tokio::sync::oneshot::channel();
        let mut asked = Some(asked);
        let task = tokio::spawn(std::future::poll_fn(move |cx| {
            if attendance.poll_closed(cx) {
                return std::task::Poll::Ready(());
            }
            let _ = asked.take().map(|asked| asked.send(()));
            std::task::Poll::Pending
        }));
        was_asked.await.unwrap();
        assert_eq!(door.attending.lock().len(), 1);
        doors.close();
        tokio::time::timeout(std::time::Duration::from_secs(10), task).await.expect("woken").unwrap();
        assert!(door.attending.lock().is_empty(), "it has left with its connection");
        assert!(door.attend().poll_closed(&mut Context::from_waker(Waker::noop())), "who comes late is told at once");
    }

    #[test]
    fn doors_that_nobody_uses_take_no_room() {
        let doors = Doors::default();
        (0..100).for_each(|_| drop(doors.open()));
        assert!(doors.0.lock().doors.len() <= 1);
    }
}
