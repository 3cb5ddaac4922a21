//! The last changes of state, for an operator who asks what happened: endpoints that left and came back, pools that
//! panicked, configurations that were put into service or refused.

use std::{collections::VecDeque, fmt, sync::Arc, time::SystemTime};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{
    endpoint::{Change, Condition, Witness},
    types::Name,
};

/// Events kept: some screens to look through. The process log has them all.
const KEPT: usize = 256;
/// Bytes kept of an event's text, so that a long message of somebody else's cannot add up.
const TEXT: usize = 512;

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Topic {
    /// One endpoint.
    Endpoint,
    /// The endpoints of an upstream together.
    Upstream,
    /// The configuration.
    Configuration,
    /// The process.
    Process,
}

/// Is it good news?
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Tone {
    /// Something is well again.
    Good,
    /// Neither.
    Neutral,
    /// Something is not as it should be.
    Bad,
}

/// Something that happened.
#[derive(Debug, Clone)]
pub struct Event {
    /// Counts events from 1.
    pub number: u64,
    /// When it happened.
    pub at: SystemTime,
    /// What it is about.
    pub topic: Topic,
    /// Is it good news?
    pub tone: Tone,
    /// The upstream it is about.
    pub upstream: Option<Name>,
    /// The endpoint it is about.
    pub endpoint: Option<Arc<str>>,
    /// What happened, in a sentence.
    pub text: String,
}

/// A ring of the last events. Clones of its news wake up whoever waits for the next one.
#[derive(Debug)]
pub struct Timeline {
    events: Mutex<VecDeque<Arc<Event>>>,
    last: watch::Sender<u64>,
}

impl Default for Timeline {
    fn default() -> Self {
        Self { events: Mutex::default(), last: watch::Sender::new(0) }
    }
}

impl Timeline {
    /// Something happened that is about no endpoint.
    pub fn add(&self, topic: Topic, tone: Tone, text: impl fmt::Display) {
        self.push(topic, tone, None, None, text.to_string());
    }

    /// Something happened to an upstream.
    pub fn add_of(&self, upstream: &Name, tone: Tone, text: impl fmt::Display) {
        self.push(Topic::Upstream, tone, Some(upstream.clone()), None, text.to_string());
    }

    fn push(&self, topic: Topic, tone: Tone, upstream: Option<Name>, endpoint: Option<Arc<str>>, mut text: String) {
        text.truncate(text.floor_char_boundary(TEXT));
        let mut events = self.events.lock();
        let number = events.back().map_or(1, |last| last.number + 1);
        if events.len() >= KEPT {
            events.pop_front();
        }
        events.push_back(Arc::new(Event { number, at: SystemTime::now(), topic, tone, upstream, endpoint, text }));
        self.last.send_replace(number);
    }

    /// The events after this one that are still kept, the oldest first; all of them after 0.
    pub fn after(&self, number: u64) -> Vec<Arc<Event>> {
        let events = self.events.lock();
        let from = events.partition_point(|event| event.number <= number);
        events.range(from..).cloned().collect()
    }

    /// The number of the last event, to wait for a change of.
    pub fn news(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }
}

impl Witness for Timeline {
    fn saw(&self, change: &Change<'_>) {
        match change {
            Change::Endpoint { upstream, endpoint, before, now } => {
                let (tone, text) = match now.condition {
                    Condition::Disabled => (Tone::Neutral, "is disabled".to_owned()),
                    Condition::Healthy if matches!(before, Condition::Draining | Condition::Disabled) => {
                        (Tone::Good, "takes requests again".to_owned())
                    }
                    Condition::Healthy => (Tone::Good, format!("is healthy again: {}", now.reason)),
                    Condition::HalfOpen => (Tone::Neutral, "is tried again with a few requests".to_owned()),
                    Condition::Draining => (Tone::Neutral, "takes no new requests: it drains".to_owned()),
                    Condition::Open => (Tone::Bad, format!("is left alone: {}", now.reason)),
                    Condition::Unhealthy => (Tone::Bad, format!("is unhealthy: {}", now.reason)),
                };
                self.push(Topic::Endpoint, tone, Some((*upstream).clone()), Some((*endpoint).clone()), text);
            }
            Change::Panic { upstream, panicking, available: (available, all) } => match panicking {
                true => {
                    self.add_of(upstream, Tone::Bad, format_args!("{available} of {all} endpoints are available: all are used"))
                }
                false => self.add_of(upstream, Tone::Good, format_args!("{available} of {all} endpoints are available again")),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_events_are_kept_in_order() {
        let timeline = Timeline::default();
        let news = timeline.news();
        for number in 0..KEPT + 10 {
            timeline.add(Topic::Process, Tone::Neutral, format!("{number} {}", "é".repeat(TEXT)));
        }
        let events = timeline.after(0);
        assert_eq!((events.len(), events[0].number, *news.borrow()), (KEPT, 11, KEPT as u64 + 10));
        assert!(events.iter().all(|event| event.text.len() <= TEXT));
        assert_eq!(timeline.after(KEPT as u64 + 8).iter().map(|event| event.number).collect::<Vec<_>>(), [265, 266]);
        assert!(timeline.after(1000).is_empty());
    }
}
