//! When passwords are verified: few at a time beside the threads that serve requests, and not again for a while.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use aws_lc_rs::{
    hmac,
    rand::{SecureRandom, SystemRandom},
};
use http::HeaderValue;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{OnceCell, Semaphore};

use super::users::Users;

/// So many credentials that were right are remembered; beyond, the oldest are verified again. Half a megabyte.
const MAX_KNOWN: usize = 4096;

/// So many different credentials wait for their turn. The last of them waits for seconds already.
const MAX_WAITING: usize = 64;

/// Who waits longer is told to come again: the queue is drained slower than it fills.
const PATIENCE: Duration = Duration::from_secs(5);

/// What stands for a pair of name and password, and tells nothing of it.
pub(super) type Tag = [u8; 32];

/// How many verifications run and wait, over all filters of the process: what they share is the machine.
#[derive(Debug)]
pub(super) struct Turns {
    /// Who runs or waits.
    places: Arc<Semaphore>,
    /// Who runs.
    running: Arc<Semaphore>,
}

impl Turns {
    /// Half of the processors, so that requests which need no verification are served meanwhile.
    pub(super) fn of_this_machine() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self::new((processors / 2).max(1), MAX_WAITING)
    }

    pub(super) fn new(running: usize, waiting: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(running + waiting)), running: Arc::new(Semaphore::new(running)) }
    }

    /// Runs this on another thread when its turn has come. It runs to its end even if nobody waits for it any more, so
    /// it keeps its place that long. `None`: too many wait already, or it took too long for the turn to come.
    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let place = self.places.clone().try_acquire_owned().ok()?;
        let turn = tokio::time::timeout(PATIENCE, self.running.clone().acquire_owned()).await.ok()?.ok()?;
        let work = move || {
            let done = work();
            drop((turn, place));
            done
        };
        tokio::task::spawn_blocking(work).await.ok()
    }
}

/// The users of one filter, with what was verified lately.
pub(super) struct Verifier {
    users: Users,
    turns: Arc<Turns>,
    /// Of this configuration only: who knows a tag cannot try passwords on it.
    secret: hmac::Key,
    keep: Duration,
    known: RwLock<HashMap<Tag, Known>>,
    /// What is being verified, so that the many requests of one page are one verification.
    asked: Mutex<HashMap<Tag, Weak<Asked>>>,
}

type Asked = OnceCell<Option<HeaderValue>>;

struct Known {
    user: HeaderValue,
    until: Instant,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.users.fmt(f)
    }
}

impl Verifier {
    /// `None` when the system gives no random numbers.
    pub(super) fn new(users: Users, turns: Arc<Turns>, keep: Duration) -> Option<Self> {
        let mut secret = [0; 32];
        SystemRandom::new().fill(&mut secret).ok()?;
        let secret = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        Some(Self { users, turns, secret, keep, known: RwLock::default(), asked: Mutex::default() })
    }

    /// What stands for these credentials. The colon cannot be in a name, so no two pairs are written alike.
    pub(super) fn tag(&self, name: &str, password: &[u8]) -> Tag {
        let mut context = hmac::Context::with_key(&self.secret);
        context.update(name.as_bytes());
        context.update(b":");
        context.update(password);
        let mut tag = Tag::default();
        tag.copy_from_slice(context.sign().as_ref());
        tag
    }

    /// The user of credentials that were right a short while ago.
    pub(super) fn known(&self, tag: &Tag) -> Option<HeaderValue> {
        let known = self.known.read();
        known.get(tag).filter(|known| Instant::now() < known.until).map(|known| known.user.clone())
    }

    /// The user of these credentials; `Err` when too many others are asked about.
    pub(super) async fn verify(self: Arc<Self>, tag: Tag, name: String, password: Vec<u8>) -> Result<Option<HeaderValue>, ()> {
        let asked = self.asked(tag);
        let verified = asked
            .get_or_try_init(|| async {
                let this = self.clone();
                let user = self.turns.run(move || this.users.verify(&name, &password, this.stranger(&name))).await.ok_or(())?;
                if let Some(user) = &user {
                    self.remember(tag, user.clone());
                }
                Ok(user)
            })
            .await;
        verified.cloned()
    }

    /// A number that a name always has, and that nobody can foretell.
    fn stranger(&self, name: &str) -> u64 {
        let sign = hmac::sign(&self.secret, name.as_bytes());
        sign.as_ref().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// The verification under way of these credentials, or a new one. Each is held by the requests that wait for it, and
    /// those that nobody holds make room: so there are no more than requests, twice.
    fn asked(&self, tag: Tag) -> Arc<Asked> {
        let asked = &mut self.asked.lock();
        if let Some(asked) = asked.get(&tag).and_then(Weak::upgrade) {
            return asked;
        }
        if asked.len() == asked.capacity() {
            asked.retain(|_, asked| asked.strong_count() > 0);
        }
        let new = Arc::new(Asked::new());
        asked.insert(tag, Arc::downgrade(&new));
        new
    }

    pub(super) fn remember(&self, tag: Tag, user: HeaderValue) {
        if self.keep.is_zero() {
            return;
        }
        let (now, known) = (Instant::now(), &mut self.known.write());
        if known.len() >= MAX_KNOWN {
            known.retain(|_, known| now < known.until);
        }
        // It takes as long as a look at each, which is nothing beside the verification that went before.
        let oldest = (known.len() >= MAX_KNOWN).then(|| known.iter().min_by_key(|(_, known)| known.until)).flatten();
        if let Some(oldest) = oldest.map(|(tag, _)| *tag) {
            known.remove(&oldest);
        }
        known.insert(tag, Known { user, until: now + self.keep });
    }

    #[cfg(test)]
    pub(super) fn known_count(&self) -> usize {
        self.known.read().len()
    }
}
