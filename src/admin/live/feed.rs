//! Who wants to be told what goes on, and what they are told: frames of a server-sent event stream.
//!
//! A frame is made once for all subscribers and shared by them. What a subscriber has not read yet waits in one ring
//! for all: one that falls behind by more than the ring holds is dropped, and may come again.

use std::{fmt::Write, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, broadcast, watch},
    time::{Duration, Instant, sleep_until},
};

use crate::observe::{Event, Timeline};

/// Subscribers at a time: some dashboards, some scripts. A quarter of the connections of the admin listener, so that
/// they cannot keep others out.
const SUBSCRIBERS: usize = 16;
/// Frames that wait for the slowest: some seconds. A frame is about 300 bytes for each endpoint and route.
const WAITING: usize = 8;
/// After this long a stream ends, before the listener ends its connection; whoever is still there asks again.
const LIFETIME: Duration = Duration::from_secs(540);

/// Where subscribers come to.
pub(in crate::admin) struct Feed {
    frames: Mutex<Option<broadcast::Sender<Bytes>>>,
    places: Arc<Semaphore>,
}

/// Why there is no subscription: every place is taken, or the listener closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::admin) struct Full;

impl Default for Feed {
    fn default() -> Self {
        Self { frames: Mutex::new(Some(broadcast::Sender::new(WAITING))), places: Arc::new(Semaphore::new(SUBSCRIBERS)) }
    }
}

impl Feed {
    /// Sends a frame to whoever is there; it is not even made for nobody.
    pub(super) fn send(&self, frame: impl FnOnce() -> Bytes) {
        let sender = self.frames.lock().clone();
        if let Some(sender) = sender.filter(|sender| sender.receiver_count() > 0) {
            // The error is that the last one has left meanwhile.
            let _ = sender.send(frame());
        }
    }

    /// A subscription that begins with the events after `seen`.
    pub(in crate::admin) fn subscribe(&self, timeline: &Arc<Timeline>, seen: u64) -> Result<Subscription, Full> {
        let place = self.places.clone().try_acquire_owned().map_err(|_| Full)?;
        let frames = self.frames.lock().as_ref().ok_or(Full)?.subscribe();
        // Before the events are read, so that none falls between.
        let news = timeline.news();
        let until = Instant::now() + LIFETIME;
        Ok(Subscription { _place: place, frames, news, timeline: timeline.clone(), seen, until })
    }

    /// Ends every stream, and lets nobody in any more.
    pub(in crate::admin) fn close(&self) {
        self.frames.lock().take();
    }
}

/// One subscriber.
pub(in crate::admin) struct Subscription {
    _place: OwnedSemaphorePermit,
    frames: broadcast::Receiver<Bytes>,
    news: watch::Receiver<u64>,
    timeline: Arc<Timeline>,
    seen: u64,
    until: Instant,
}

impl Subscription {
    /// What comes next; `None` at the end.
    pub(in crate::admin) async fn next(&mut self, show: impl Fn(&Event) -> Bytes) -> Option<Bytes> {
        loop {
            self.news.mark_unchanged();
            let events = self.timeline.after(self.seen);
            if let Some(last) = events.last() {
                self.seen = last.number;
                return Some(events.iter().flat_map(|event| show(event)).collect());
            }
            tokio::select! {
                biased;
                changed = self.news.changed() => changed.ok()?,
                // Behind by too much, or closed: that is the end.
                frame = self.frames.recv() => return frame.ok(),
                () = sleep_until(self.until) => return None,
            }
        }
    }
}

/// One event of the stream. JSON has no line breaks, so one line of data is all of it.
pub(in crate::admin) fn frame(event: &str, id: Option<u64>, data: &impl Serialize) -> Bytes {
    let mut text = String::with_capacity(256);
    if let Some(id) = id {
        let _ = writeln!(text, "id: {id}");
    }
    let _ = write!(text, "event: {event}\ndata: ");
    match serde_json::to_string(data) {
        Ok(json) => text.push_str(&json),
        Err(error) => log::error!("admin: an event cannot be written: {error}"),
    }
    text.push_str("\n\n");
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::{Tone, Topic};

    fn show(event: &Event) -> Bytes {
        frame("change", Some(event.number), &event.text)
    }

    #[tokio::test]
    async fn events_come_first_and_then_frames() {
        let (feed, timeline) = (Feed::default(), Arc::<Timeline>::default());
        timeline.add(Topic::Process, Tone::Good, "one");
        let mut subscription = feed.subscribe(&timeline, 0).unwrap();
        feed.send(|| "frame".into());
        timeline.add(Topic::Process, Tone::Good, "two\nlines");
        let first = subscription.next(show).await.unwrap();
        assert_eq!(first, "id: 1\nevent: change\ndata: \"one\"\n\nid: 2\nevent: change\ndata: \"two\\nlines\"\n\n");
        assert_eq!(subscription.next(show).await.unwrap(), "frame");
        feed.close();
        assert_eq!(subscription.next(show).await, None);
        assert!(feed.subscribe(&timeline, 0).is_err());
    }

    #[tokio::test]
    async fn places_are_bounded_and_the_slow_are_dropped() {
        let (feed, timeline) = (Feed::default(), Arc::<Timeline>::default());
        let mut all: Vec<_> = (0..SUBSCRIBERS).map(|_| feed.subscribe(&timeline, 0).unwrap()).collect();
        assert!(matches!(feed.subscribe(&timeline, 0), Err(Full)));
        let mut slow = all.pop().unwrap();
        drop(all.pop());
        assert!(feed.subscribe(&timeline, 0).is_ok(), "a place is free again");
        (0..=WAITING).for_each(|_| feed.send(|| "frame".into()));
        assert_eq!(slow.next(show).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn no_stream_is_for_ever() {
        let (feed, timeline) = (Feed::default(), Arc::<Timeline>::default());
        assert_eq!(feed.subscribe(&timeline, 0).unwrap().next(show).await, None);
    }

    #[test]
    fn nothing_is_made_for_nobody() {
        Feed::default().send(|| unreachable!("there is no subscriber"));
    }
}
