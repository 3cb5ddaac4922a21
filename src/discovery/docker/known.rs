//! What is known of the containers of an engine, and what must be asked: events and answers in, no I/O.
//!
//! An event says that something happened; what is the case now is asked (`inspect`), since an answer is whole
//! where events would have to be pieced together. Only what must not wait is taken from the event itself: that
//! a container was told to stop, was frozen, or died. An answer that an event overtook counts for nothing.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::Arc,
};

use nix::sys::signal::Signal;

use super::{
    Container, Phase, Seen,
    container::{Event, Inspected},
    endpoints::UPSTREAM,
};
use crate::discovery::MAX_FOUND;

/// The containers of one engine that name an upstream.
#[derive(Debug, Default)]
pub(super) struct Known {
    containers: BTreeMap<String, Arc<Container>>,
    /// Weir's own container, when it runs in one.
    own: Option<String>,
    own_networks: Option<Arc<[String]>>,
    /// To be asked about.
    queue: VecDeque<String>,
    /// Being asked about.
    asked: HashMap<String, Overtaken>,
    /// Of these nothing has been heard since the connection was made.
    unsettled: HashSet<String>,
}

/// What happened to a container while it was being asked about.
#[derive(Debug, Default)]
struct Overtaken {
    /// The answer may be older than what is known.
    stale: bool,
    /// Ask again.
    again: bool,
}

impl Known {
    /// A connection was made, and these run. They are asked about; those that are not among them are forgotten.
    pub(super) fn begin(&mut self, running: Vec<String>, own: Option<&str>) -> Result<(), String> {
        if running.len() > MAX_FOUND {
            return Err(format!("{} containers, {MAX_FOUND} at most are taken", running.len()));
        }
        self.own = own.map(str::to_owned);
        self.own_networks = None;
        self.asked.clear();
        let all: HashSet<String> = running.into_iter().chain(self.own.clone()).collect();
        self.containers.retain(|id, _| all.contains(id));
        self.queue = all.iter().cloned().collect();
        self.unsettled = all;
        Ok(())
    }

    /// Everything has been heard of that ran when the connection was made.
    pub(super) fn is_settled(&self) -> bool {
        self.unsettled.is_empty()
    }

    /// The next one to ask about.
    pub(super) fn question(&mut self) -> Option<String> {
        let id = self.queue.pop_front()?;
        self.asked.insert(id.clone(), Overtaken::default());
        Some(id)
    }

    /// Something happened. True when that alone changes what is known.
    pub(super) fn heard(&mut self, event: &Event) -> bool {
        let Some(id) = event.container() else { return false };
        let known =
            self.containers.contains_key(id) || self.asked.contains_key(id) || self.queue.iter().any(|queued| queued == id);
        let is_own = self.own.as_deref() == Some(id);
        let is_container = event.r#type == "container";
        if !known && !is_own && !(is_container && event.attribute(UPSTREAM).is_some()) {
            return false;
        }
        match &*event.action {
            "die" | "destroy" if is_container => self.forget(id),
            "kill" if is_container => {
                let signal = event.signal();
                self.mark(id, Phase::Leaving, |container| {
                    signal.is_some_and(|signal| {
                        [container.stop_signal, Signal::SIGTERM as i32, Signal::SIGKILL as i32].contains(&signal)
                    })
                })
            }
            "pause" if is_container => self.mark(id, Phase::Paused, |container| container.phase != Phase::Leaving),
            _ => {
                self.want(id);
                false
            }
        }
    }

    /// The answer about a container; nothing when there is none of that id. True when it changes what is known.
    pub(super) fn answered(&mut self, id: &str, answer: Option<Inspected>) -> Result<bool, String> {
        self.unsettled.remove(id);
        let Overtaken { stale, again } = self.asked.remove(id).unwrap_or_default();
        if again {
            self.want(id);
        }
        if stale {
            return Ok(false);
        }
        let mut container = answer.map(Container::from);
        if self.own.as_deref() == Some(id) {
            let networks = container.as_ref().map(|own| own.networks.keys().cloned().collect());
            let changed = self.own_networks != networks;
            self.own_networks = networks;
            return Ok(changed);
        }
        container = container.filter(|container| container.phase != Phase::Down && container.labels.contains_key(UPSTREAM));
        let Some(mut container) = container else { return Ok(self.containers.remove(id).is_some()) };
        let before = self.containers.get(id);
        if before.is_none() && self.containers.len() >= MAX_FOUND {
            return Err(format!("over {MAX_FOUND} containers"));
        }
        // It was told to stop, and nothing has started it again: the engine's answers do not tell.
        if before.is_some_and(|before| before.phase == Phase::Leaving && before.started == container.started) {
            container.phase = Phase::Leaving;
        }
        if before.is_some_and(|before| **before == container) {
            return Ok(false);
        }
        self.containers.insert(id.to_owned(), Arc::new(container));
        Ok(true)
    }

    /// There was no answer about a container: it stays as it was. True when it is to be asked about again.
    pub(super) fn unanswered(&mut self, id: &str) -> bool {
        self.unsettled.remove(id);
        match self.asked.get_mut(id) {
            // It died, and nothing has happened since.
            Some(Overtaken { stale: true, again: false }) | None => {
                self.asked.remove(id);
                false
            }
            Some(overtaken) => {
                *overtaken = Overtaken::default();
                true
            }
        }
    }

    /// Writes down what is known: the oldest container first.
    pub(super) fn show(&self, seen: &mut Seen) {
        let mut containers: Vec<_> = self.containers.values().cloned().collect();
        containers.sort_by(|a, b| (&a.created, &a.id).cmp(&(&b.created, &b.id)));
        seen.containers = containers.into();
        seen.own_networks = self.own_networks.clone();
    }

    fn want(&mut self, id: &str) {
        match self.asked.get_mut(id) {
            Some(overtaken) => *overtaken = Overtaken { stale: true, again: true },
            None if self.queue.iter().any(|queued| queued == id) => {}
            None => self.queue.push_back(id.to_owned()),
        }
    }

    fn forget(&mut self, id: &str) -> bool {
        self.unsettled.remove(id);
        self.queue.retain(|queued| queued != id);
        if let Some(overtaken) = self.asked.get_mut(id) {
            *overtaken = Overtaken { stale: true, again: false };
        }
        self.containers.remove(id).is_some()
    }

    fn mark(&mut self, id: &str, phase: Phase, when: impl Fn(&Container) -> bool) -> bool {
        // An answer under way may be from before.
        if self.asked.contains_key(id) {
            self.want(id);
        }
        let Some(container) = self.containers.get_mut(id).filter(|container| container.phase != phase && when(container)) else {
            return false;
        };
        *container = Arc::new(Container { phase, ..Container::clone(container) });
        true
    }
}
