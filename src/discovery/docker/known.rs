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
        let is_labelled = is_container && event.attribute(UPSTREAM).is_some();
        if !known && !is_own && !is_labelled {
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::container::tests::answer, *};

    fn event(id: &str, action: &str, attributes: &[(&str, &str)]) -> Event {
        let attributes: BTreeMap<_, _> = attributes.iter().copied().collect();
        let json = json!({"Type": "container", "Action": action, "Actor": {"ID": id, "Attributes": attributes}});
        serde_json::from_value(json).unwrap()
    }

    fn running(id: &str) -> Option<Inspected> {
        serde_json::from_value(answer(id, &[(UPSTREAM, "app")], &[])).unwrap()
    }

    fn phases(known: &Known) -> Vec<(String, Phase)> {
        let mut seen = Seen::default();
        known.show(&mut seen);
        seen.containers.iter().map(|container| (container.name.clone(), container.phase)).collect()
    }

    /// One that runs.
    fn with(id: &str) -> Known {
        let mut known = Known::default();
        known.begin(vec![id.into()], None).unwrap();
        assert!(!known.is_settled());
        assert_eq!(known.question().as_deref(), Some(id));
        assert!(known.answered(id, running(id)).unwrap());
        assert!(known.is_settled());
        known
    }

    #[test]
    fn what_happens_is_asked_about_once() {
        let mut known = with("a");
        let label = [(UPSTREAM, "app")];
        assert!(!known.heard(&event("b", "start", &label)) && !known.heard(&event("b", "health_status: healthy", &label)));
        assert!(!known.heard(&event("c", "start", &[])), "not one of ours");
        assert_eq!((known.question().as_deref(), known.question()), (Some("b"), None));
        assert!(known.answered("b", running("b")).unwrap());
        known.heard(&event("b", "rename", &label));
        known.question();
        assert!(!known.answered("b", running("b")).unwrap(), "nothing is different");
        assert_eq!(phases(&known), [("a".into(), Phase::Ready), ("b".into(), Phase::Ready)]);
    }

    #[test]
    fn an_answer_that_was_overtaken_counts_for_nothing() {
        let mut known = with("a");
        known.heard(&event("a", "unpause", &[]));
        assert_eq!(known.question().as_deref(), Some("a"));
        assert!(known.heard(&event("a", "die", &[])));
        assert!(!known.answered("a", running("a")).unwrap());
        assert!(phases(&known).is_empty() && known.question().is_none());

        known.heard(&event("a", "start", &[(UPSTREAM, "app")]));
        known.question();
        known.heard(&event("a", "die", &[]));
        known.heard(&event("a", "start", &[(UPSTREAM, "app")]));
        assert!(!known.answered("a", running("a")).unwrap());
        assert_eq!(known.question().as_deref(), Some("a"), "it has been started again");
        assert!(known.answered("a", running("a")).unwrap());
    }

    #[test]
    fn one_that_was_told_to_stop_leaves_until_it_is_started_again() {
        let mut known = with("a");
        assert!(!known.heard(&event("a", "kill", &[("signal", "1")])), "that is a reload, not the end");
        assert!(known.heard(&event("a", "kill", &[("signal", "15")])));
        assert!(!known.heard(&event("a", "kill", &[("signal", "9")])), "it is leaving already");
        assert!(!known.heard(&event("a", "pause", &[])));
        known.heard(&event("a", "health_status: healthy", &[]));
        known.question();
        assert!(!known.answered("a", running("a")).unwrap());
        assert_eq!(phases(&known), [("a".into(), Phase::Leaving)]);
        // The connection breaks, and it has been started again meanwhile.
        known.begin(vec!["a".into()], None).unwrap();
        known.question();
        let mut again = answer("a", &[(UPSTREAM, "app")], &[]);
        again["State"]["StartedAt"] = "2026-02-02T00:00:00Z".into();
        assert!(known.answered("a", serde_json::from_value(again).unwrap()).unwrap());
        assert_eq!(phases(&known), [("a".into(), Phase::Ready)]);
    }

    #[test]
    fn without_an_answer_it_stays_as_it_was_and_is_asked_about_again() {
        let mut known = with("a");
        known.begin(vec!["a".into(), "b".into()], None).unwrap();
        let (first, second) = (known.question().unwrap(), known.question().unwrap());
        assert!(known.unanswered(&first) && !known.is_settled());
        assert!(known.unanswered(&second) && known.is_settled(), "nobody waits for what the engine is stuck on");
        assert_eq!(phases(&known).len(), 1);
        known.heard(&event("a", "die", &[]));
        assert!(!known.unanswered("a"), "it is gone");
    }

    #[test]
    fn weirs_own_container_only_tells_of_its_networks() {
        let mut known = Known::default();
        known.begin(Vec::new(), Some("me")).unwrap();
        assert_eq!(known.question().as_deref(), Some("me"));
        let own = |networks: &[(&str, &str)]| serde_json::from_value(answer("me", &[(UPSTREAM, "app")], networks)).unwrap();
        assert!(known.answered("me", own(&[("front", "10.0.0.2")])).unwrap());
        assert!(phases(&known).is_empty());
        let network = json!({"Type": "network", "Action": "connect", "Actor": {"ID": "n", "Attributes": {"container": "me"}}});
        known.heard(&serde_json::from_value(network).unwrap());
        assert_eq!(known.question().as_deref(), Some("me"));
        assert!(known.answered("me", own(&[("front", "10.0.0.2"), ("back", "10.0.1.2")])).unwrap());
        assert!(known.begin(vec![String::new(); MAX_FOUND + 1], None).is_err(), "there is an end to it");
    }
}
