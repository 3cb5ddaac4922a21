//! One engine, followed by everyone who needs it over one stream of events.
//!
//! Nobody owns the loop that does so: whoever follows an engine also moves it along, one at a time, and when that one
//! stops (an upstream that a reload removed) the next one goes on from what is known. So nothing has to be
//! started or ended for the loop's sake, and an engine that nobody follows has no connection.

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use parking_lot::Mutex;
use rand::Rng;
use tokio::sync::watch;

use super::{
    Container, Diagnostic, Diagnostics, EngineHost, EngineTlsSpec,
    client::{Client, EngineTls},
    container::{Inspected, own_id},
    known::Known,
};

/// Containers that are asked about at a time: enough for a thousand within a second, and no storm.
const PARALLEL: usize = 8;
/// Until a container is asked about again that the engine gave no answer for.
const AGAIN: Duration = Duration::from_secs(5);
/// The first pause after the connection broke; it doubles up to [`LONGEST`].
const SHORTEST: Duration = Duration::from_millis(250);
/// An engine that is back should not be waited for long.
const LONGEST: Duration = Duration::from_secs(10);

/// Is the engine being followed?
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Link {
    /// It was not reached yet, nor was there a failure.
    #[default]
    Untried,
    /// Yes.
    Up,
    /// No, and why. What was seen last is kept.
    Down(Arc<str>),
}

/// What was seen of an engine last.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Is it being followed?
    pub link: Link,
    /// Its containers that name an upstream, the oldest first.
    pub containers: Arc<[Arc<Container>]>,
    /// The networks of the container that Weir runs in.
    pub(super) own_networks: Option<Arc<[String]>>,
}

/// An engine that is followed by whoever needs it.
pub struct Engine {
    host: EngineHost,
    client: Client,
    seen: watch::Sender<Seen>,
    /// Held by the one who moves it along.
    known: tokio::sync::Mutex<Known>,
    diagnostics: Diagnostics,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("host", &self.host).finish_non_exhaustive()
    }
}

impl Engine {
    fn new(host: EngineHost, tls: Option<EngineTls>, diagnostics: Diagnostics) -> Self {
        let client = Client::new(host.clone(), tls);
        Self { host, client, seen: watch::Sender::default(), known: tokio::sync::Mutex::default(), diagnostics }
    }

    /// Where it answers.
    pub fn host(&self) -> &EngineHost {
        &self.host
    }

    /// Shows what is seen, now and after each change, until the future is dropped.
    pub async fn follow(&self, mut look: impl FnMut(&Seen)) -> Infallible {
        let mut seen = self.seen.subscribe();
        let watching = async {
            loop {
                let now = seen.borrow_and_update().clone();
                look(&now);
                // The sender is our own, so it is there.
                if seen.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::select! {
            never = watching => never,
            never = self.drive() => never,
        }
    }

    async fn drive(&self) -> Infallible {
        let mut known = self.known.lock().await;
        let mut failures = 0;
        loop {
            let Err(reason) = self.session(&mut known).await;
            let reason: Arc<str> = reason.into();
            let mut was_up = false;
            self.seen.send_modify(|seen| {
                was_up = seen.link == Link::Up;
                if !matches!(seen.link, Link::Down(_)) {
                    log::warn!("docker: {}: {reason}; keeping what was found last", self.host);
                }
                seen.link = Link::Down(reason);
            });
            failures = if was_up { 0 } else { failures + 1 };
            let pause = pause(failures, &mut rand::rng());
            tokio::time::sleep(pause).await;
        }
    }

    /// Follows the engine until the connection breaks.
    async fn session(&self, known: &mut Known) -> Result<Infallible, String> {
        // First the events, then the list, so that nothing happens in between unseen.
        let mut events = self.client.events().await?;
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        known.begin(self.client.list().await?, own_id(&mounts))?;
        let source = self.diagnostics.source();
        // Containers that the engine gives no answer for, which take no place among the others.
        let mut stuck = BTreeMap::new();
        let mut asked = FuturesUnordered::new();
        let mut changed = true;
        loop {
            while asked.len() < PARALLEL + stuck.len()
                && let Some(id) = known.question()
            {
                asked.push(self.ask(id, Duration::ZERO));
            }
            if changed && known.is_settled() {
                self.publish(known);
                changed = false;
            }
            tokio::select! {
                event = events.next() => changed |= known.heard(&event?),
                Some((id, answer)) = asked.next() => match answer {
                    Ok(answer) => {
                        changed |= known.answered(&id, answer)?;
                        if stuck.remove(&id).is_some() {
                            source.replace(stuck.values().cloned().collect());
                        }
                    }
                    Err(reason) => {
                        let again = known.unanswered(&id);
                        let message = format!("the engine does not say how it is: {reason}");
                        match again {
                            true => stuck.insert(id.clone(), Diagnostic::new(&id, None, message)),
                            false => stuck.remove(&id),
                        };
                        source.replace(stuck.values().cloned().collect());
                        if again {
                            asked.push(self.ask(id, AGAIN));
                        }
                    }
                },
            }
        }
    }

    async fn ask(&self, id: String, after: Duration) -> (String, Result<Option<Inspected>, String>) {
        if !after.is_zero() {
            tokio::time::sleep(after).await;
        }
        let answer = self.client.inspect(&id).await;
        (id, answer)
    }

    fn publish(&self, known: &Known) {
        self.seen.send_modify(|seen| {
            if matches!(seen.link, Link::Down(_)) {
                log::info!("docker: {} answers again", self.host);
            }
            seen.link = Link::Up;
            known.show(seen);
        });
    }
}

/// Doubles with each failure, and differs from one edge to the next, so that a fleet does not come back at once.
fn pause(failures: u32, random: &mut impl Rng) -> Duration {
    let full = (SHORTEST * 2_u32.saturating_pow(failures.min(16))).min(LONGEST);
    full.mul_f64(random.random_range(0.5..=1.0))
}

/// Where an engine answers, and how.
pub type EnginePlace = (EngineHost, Option<EngineTlsSpec>);

/// The engines of one process, by where they answer, and what is wrong with their containers.
#[derive(Debug, Default)]
pub struct Engines {
    known: Mutex<HashMap<EnginePlace, Weak<Engine>>>,
    diagnostics: Diagnostics,
}

impl Engines {
    /// The engine that answers there, made with these TLS settings if it is new.
    pub(super) fn get(&self, place: &EnginePlace, tls: Option<EngineTls>) -> Arc<Engine> {
        if let Some(engine) = self.known(place) {
            return engine;
        }
        let engine = Arc::new(Engine::new(place.0.clone(), tls, self.diagnostics.clone()));
        self.known.lock().insert(place.clone(), Arc::downgrade(&engine));
        engine
    }

    /// The engine that answers there, if an upstream looks for containers on it.
    pub fn known(&self, place: &EnginePlace) -> Option<Arc<Engine>> {
        let mut known = self.known.lock();
        known.retain(|_, engine| engine.strong_count() > 0);
        known.get(place).and_then(Weak::upgrade)
    }

    /// What is wrong with containers and their labels now.
    pub fn diagnostics(&self) -> &Diagnostics {
        &self.diagnostics
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::SmallRng};

    use super::*;

    #[test]
    fn pauses_double_up_to_ten_seconds_and_differ() {
        let random = &mut SmallRng::seed_from_u64(1);
        for (failures, least, most) in
            [(0, 125, 250), (1, 250, 500), (3, 1000, 2000), (6, 5000, 10_000), (u32::MAX, 5000, 10_000)]
        {
            let pauses: Vec<u128> = (0..50).map(|_| pause(failures, random).as_millis()).collect();
            assert!(pauses.iter().all(|pause| (least..=most).contains(pause)), "{failures}: {pauses:?}");
            assert!(pauses.iter().any(|pause| *pause != pauses[0]));
        }
    }

    #[test]
    fn one_engine_for_all_who_name_it() {
        let engines = Engines::default();
        let place = EnginePlace::default();
        let one = engines.get(&place, None);
        assert!(Arc::ptr_eq(&one, &engines.get(&place, None)));
        let other = ("tcp://engine:2375".parse().unwrap(), None);
        assert!(!Arc::ptr_eq(&one, &engines.get(&other, None)));
        drop(one);
        assert!(engines.known(&place).is_none());
    }
}
