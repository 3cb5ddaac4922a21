//! Where the keys come from, and how they stay current.
//!
//! A file is looked at again and again. A URL is asked now and then, and at once when a token comes that names a key which
//! is not there: by one loop, so that however many requests want to know, one question is under way. What was
//! fetched last stays while nothing better can be had.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use arc_swap::{ArcSwapOption, Guard};
use parking_lot::Mutex;
use rand::Rng;
use rustls::ClientConfig;
use tokio::sync::{self, watch};

use super::{fetch, keys::KeySet};
use crate::{
    filter::small_file::{self, Stamp},
    observe::Sample,
    types::ConfigPath,
    wire::Url,
};

/// The longest file.
const MAX_FILE: u64 = 1 << 20;

/// How often a file is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Between attempts to fetch what could not be fetched: doubled each time, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// An answer may ask to be fetched again earlier than `refresh`, and not earlier than this.
const LEAST_AGE: Duration = Duration::from_secs(300);

/// The keys that filters with the same URL share, over reloads, too.
pub(super) struct Shared {
    keys: ArcSwapOption<KeySet>,
    /// Counts what was asked for, from the first fetch on.
    asked: watch::Sender<u64>,
    /// The last of those that was done, well or not.
    done: watch::Sender<u64>,
    /// When a request asked last.
    asked_at: Mutex<Option<Instant>>,
    /// When to fetch again without being asked, and how often it failed since it last went well.
    plan: Mutex<Plan>,
    /// Held by the one filter that fetches.
    turn: sync::Mutex<()>,
    /// Trust in the authorities of the system, which takes milliseconds to read.
    pub(super) system: OnceLock<Arc<ClientConfig>>,
}

#[derive(Debug)]
struct Plan {
    due: Instant,
    failures: u32,
    /// Why it failed last, so that the log says it once.
    reason: String,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            keys: ArcSwapOption::empty(),
            asked: watch::Sender::new(1),
            done: watch::Sender::new(0),
            asked_at: Mutex::new(None),
            plan: Mutex::new(Plan { due: Instant::now(), failures: 0, reason: String::new() }),
            turn: sync::Mutex::new(()),
            system: OnceLock::new(),
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.keys.load().fmt(f)
    }
}

/// Where the keys of one filter come from.
#[derive(Debug)]
pub(super) struct Source {
    shared: Arc<Shared>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Fixed,
    File(ConfigPath, Option<Stamp>),
    Url(Remote),
}

/// What is asked of an issuer, and when.
pub(super) struct Remote {
    /// For the log and the metrics.
    pub(super) name: String,
    pub(super) address: Url,
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) refresh: Duration,
    pub(super) min_refresh: Duration,
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Source {
    /// Keys that stay as they are.
    pub(super) fn fixed(keys: KeySet) -> Self {
        Self::known(keys, Kind::Fixed)
    }

    /// The keys of a file, which is read again when it changes.
    pub(super) fn file(path: &ConfigPath) -> Result<Self, String> {
        // Before it is read: what changes meanwhile is seen later.
        let stamp = stamp(path);
        Ok(Self::known(read(path)?, Kind::File(path.clone(), stamp)))
    }

    /// The keys behind a URL, which are not there yet if `shared` is new.
    pub(super) fn url(remote: Remote, shared: Arc<Shared>) -> Self {
        Self { shared, kind: Kind::Url(remote) }
    }

    fn known(keys: KeySet, kind: Kind) -> Self {
        let shared = Shared::default();
        shared.keys.store(Some(Arc::new(keys)));
        Self { shared: Arc::new(shared), kind }
    }

    /// The keys as they are now; `None` while none has been fetched.
    pub(super) fn keys(&self) -> Guard<Option<Arc<KeySet>>> {
        self.shared.keys.load()
    }

    /// Has the keys fetched, for a request that they do not serve. The future ends when that was tried. `None` where
    /// there is nothing to fetch, or it was tried a moment ago.
    pub(super) fn ask(&self) -> Option<impl Future<Output = ()> + Send + 'static> {
        let Kind::Url(remote) = &self.kind else { return None };
        let mut done = self.shared.done.subscribe();
        let wanted = {
            let mut asked_at = self.shared.asked_at.lock();
            let asked = *self.shared.asked.borrow();
            match asked > *done.borrow() {
                true => asked,
                false if asked_at.is_some_and(|at| at.elapsed() < remote.min_refresh) => return None,
                false => {
                    *asked_at = Some(Instant::now());
                    self.shared.asked.send_replace(asked + 1);
                    asked + 1
                }
            }
        };
        Some(async move {
            // Somewhat longer than a fetch takes at most, for a loop that has to begin first.
            let _ = tokio::time::timeout(fetch::PATIENCE.time + FIRST_PAUSE, done.wait_for(|done| *done >= wanted)).await;
        })
    }

    /// Is there anything to do beside requests?
    pub(super) fn changes(&self) -> bool {
        !matches!(self.kind, Kind::Fixed)
    }

    /// Keeps the keys current. Never returns.
    pub(super) async fn follow(&self) {
        match &self.kind {
            Kind::Fixed => std::future::pending().await,
            Kind::File(path, stamp) => self.follow_file(path, *stamp).await,
            Kind::Url(remote) => self.follow_url(remote).await,
        }
    }

    async fn follow_file(&self, path: &ConfigPath, mut known: Option<Stamp>) {
        loop {
            tokio::time::sleep(LOOK).await;
            let at = path.clone();
            let look = move || {
                let now = stamp(&at);
                (now, (now != known).then(|| read(&at)))
            };
            let Ok((now, read)) = tokio::task::spawn_blocking(look).await else { continue };
            known = now;
            match read {
                None => {}
                Some(Ok(keys)) => self.replace(keys, &path.to_string()),
                Some(Err(reason)) => drop(self.failed(&path.to_string(), reason)),
            }
        }
    }

    async fn follow_url(&self, remote: &Remote) {
        let shared = &self.shared;
        let _turn = shared.turn.lock().await;
        let mut asked = shared.asked.subscribe();
        loop {
            let due = shared.plan.lock().due;
            let done = *shared.done.borrow();
            tokio::select! {
                () = tokio::time::sleep_until(due.into()) => {}
                _ = asked.wait_for(|asked| *asked > done) => {}
            }
            let wanted = *asked.borrow();
            let pause = match self.fetch(remote).await {
                Ok(pause) => pause,
                Err(reason) => self.failed(&remote.name, reason),
            };
            shared.plan.lock().due = Instant::now() + jittered(pause);
            shared.done.send_replace(wanted);
        }
    }

    /// Fetches the keys. Returns when to do so again.
    async fn fetch(&self, remote: &Remote) -> Result<Duration, String> {
        let answer = fetch::fetch(&remote.address, remote.tls.clone()).await?;
        let keys = KeySet::of_jwks(&answer.body, false)?;
        self.replace(keys, &remote.name);
        Ok(again(remote.refresh, answer.max_age))
    }

    /// Tells that there are no keys to be had, once for each reason. Returns when to try again.
    fn failed(&self, from: &str, reason: String) -> Duration {
        let kept = self.keys().as_ref().map_or_else(|| "nobody is admitted".to_owned(), |keys| format!("{keys:?} kept"));
        let mut plan = self.shared.plan.lock();
        if plan.reason != reason {
            log::warn!("jwt: no keys from {from}, {kept}: {reason}");
            plan.reason = reason;
        }
        plan.failures = plan.failures.saturating_add(1);
        FIRST_PAUSE.saturating_mul(1 << (plan.failures - 1).min(6)).min(LONGEST_PAUSE)
    }

    fn replace(&self, keys: KeySet, from: &str) {
        let mut plan = self.shared.plan.lock();
        let failures = std::mem::take(&mut plan.failures);
        plan.reason.clear();
        let same = self.keys().as_ref().is_some_and(|known| known.digest == keys.digest);
        if !same || failures > 0 {
            log::info!("jwt: {keys:?} from {from}");
        }
        if !same {
            for skipped in &keys.skipped {
                log::warn!("jwt: of {from}, {skipped}");
            }
            self.shared.keys.store(Some(Arc::new(keys)));
        }
    }

    /// How many keys there are, and whether they are current.
    pub(super) fn samples(&self) -> Vec<Sample> {
        let source = match &self.kind {
            Kind::Fixed => return Vec::new(),
            Kind::File(path, _) => path.to_string(),
            Kind::Url(remote) => remote.name.clone(),
        };
        let count = self.keys().as_ref().map_or(0, |keys| keys.count);
        let failing = self.shared.plan.lock().failures > 0;
        let sample = |metric, value| Sample { metric, labels: vec![source.clone()], value };
        vec![sample("weir_jwt_keys", count as f64), sample("weir_jwt_keys_failing", f64::from(u8::from(failing)))]
    }
}

/// What cannot be looked at is not there: reading it says why.
fn stamp(path: &ConfigPath) -> Option<Stamp> {
    Stamp::of(path).ok().flatten()
}

fn read(path: &ConfigPath) -> Result<KeySet, String> {
    KeySet::of_file(&small_file::read(path, MAX_FILE)?)
}

/// When to fetch again what says that it lasts so long.
fn again(refresh: Duration, max_age: Option<Duration>) -> Duration {
    max_age.map_or(refresh, |age| age.max(LEAST_AGE).min(refresh))
}

/// Up to a tenth earlier, so that edges that were started together do not ask together.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::rng().random_range(0.9..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_may_ask_for_another_within_bounds() {
        let pause = |refresh, age| again(Duration::from_secs(refresh), Option::map(age, Duration::from_secs)).as_secs();
        assert_eq!((pause(3600, None), pause(3600, Some(600)), pause(3600, Some(86_400))), (3600, 600, 3600));
        assert_eq!((pause(3600, Some(0)), pause(60, Some(0))), (300, 60));
        let jittered = jittered(Duration::from_secs(100));
        assert!((Duration::from_secs(90)..=Duration::from_secs(100)).contains(&jittered));
    }
}
