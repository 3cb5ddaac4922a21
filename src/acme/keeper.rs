//! The loop that looks what is due, orders it, and serves it.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    net::IpAddr,
    sync::{Arc, Weak},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, Semaphore, watch},
    task::AbortHandle,
    time::{sleep, timeout},
};

use super::{
    demand::{self, Demands, Denied},
    desk::{Desk, Failure, Wish, renewal_id},
    plan::{OnDemand, Plan, issuable, wildcard_for},
    proof,
    schedule::{pause, renew_at, share_of},
    spec::Place,
    standing::{Failed, Phase, Standing, Stored},
    storage::{Directory, Marks, Redis, Shelf, Storage, StorageError, read_json, write_json},
    tickets,
};
use crate::{
    observe::Observer,
    tls::{Issued, Issuer, Pair},
    types::Name,
};

/// How often the storage is looked at, for what other edges have obtained, and the clock, for what is due.
const LOOK: Duration = Duration::from_secs(2);

/// How often the secrets of session tickets are looked at.
const TICKETS: Duration = Duration::from_secs(20);

/// How long a start waits for certificates that are in the storage.
const LOADING: Duration = Duration::from_secs(5);

/// Orders under way at a time.
const AT_A_TIME: usize = 8;

/// Handshakes that wait for a certificate at a time, and answers to authorities that are looked up at a time.
const WAITING: usize = 256;
const LOOKUPS: usize = 32;

/// An authority that says nothing about renewals is asked again after this, and no answer counts for longer.
const ASK_AGAIN: Duration = Duration::from_secs(6 * 3600);
const ASK_SOONEST: Duration = Duration::from_secs(60);

/// Between two renewals that only the authority wants.
const HURRY: Duration = Duration::from_secs(3600);

/// Where authorities ask for proofs by http-01: RFC 8555 section 8.3.
const PROOF_PATH: &str = "/.well-known/acme-challenge/";

/// Does an authority ask for a proof at this path?
pub fn is_proof_path(path: &str) -> bool {
    path.starts_with(PROOF_PATH)
}

/// Certificates by themselves. It outlives configurations; clones share it.
#[derive(Clone)]
pub struct Acme(Arc<Inner>);

struct Inner {
    me: Weak<Inner>,
    issued: Issued,
    standings: Mutex<BTreeMap<String, Standing>>,
    /// What is wanted, and what it is obtained with.
    work: watch::Sender<Option<Work>>,
    orders: Mutex<HashMap<String, AbortHandle>>,
    turns: Semaphore,
    lookups: Semaphore,
    waiting: Semaphore,
    demands: Demands,
    /// What was wrong with the storage when it was last used.
    trouble: Mutex<Option<StorageError>>,
    /// When the secrets of tickets are looked at again.
    tickets_due: Mutex<Option<Instant>>,
    /// Somebody wants the clock to be looked at now.
    wake: Notify,
    /// Counts changes of standings, for handshakes that wait.
    moved: watch::Sender<u64>,
    observer: std::sync::OnceLock<Arc<Observer>>,
}

#[derive(Clone)]
struct Work {
    plan: Arc<Plan>,
    desk: Arc<Desk>,
}

impl Default for Acme {
    fn default() -> Self {
        let inner = Arc::new_cyclic(|me: &Weak<Inner>| Inner {
            me: me.clone(),
            issued: Issued::default(),
            standings: Mutex::default(),
            work: watch::Sender::new(None),
            orders: Mutex::default(),
            turns: Semaphore::new(AT_A_TIME),
            lookups: Semaphore::new(LOOKUPS),
            waiting: Semaphore::new(WAITING),
            demands: Demands::default(),
            trouble: Mutex::default(),
            tickets_due: Mutex::default(),
            wake: Notify::new(),
            moved: watch::Sender::new(0),
            observer: std::sync::OnceLock::new(),
        });
        inner.issued.answer_by(Arc::new(Handshakes(Arc::downgrade(&inner))));
        Self(inner)
    }
}

impl fmt::Debug for Acme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Acme").field(&self.0.issued).finish()
    }
}

/// A storage that can be used: found out before a configuration is put into service.
#[derive(Clone)]
pub struct Opened(Option<Arc<dyn Storage>>);

impl Acme {
    /// Where the certificates are that it serves.
    pub fn issued(&self) -> &Issued {
        &self.0.issued
    }

    /// Opens what a plan needs. It is made if it is not there.
    pub async fn open(&self, plan: Option<&Plan>) -> Result<Opened, StorageError> {
        let Some(plan) = plan else { return Ok(Opened(None)) };
        if let Some(work) = &*self.0.work.borrow()
            && work.plan.settings.place == plan.settings.place
        {
            return Ok(Opened(Some(work.desk.storage.clone())));
        }
        let storage: Arc<dyn Storage> = match plan.settings.place.clone() {
            Place::Redis(address) => Arc::new(Redis::new(&address)?),
            Place::Directory(path) => {
                let opened = tokio::task::spawn_blocking(move || Directory::open(&path)).await;
                Arc::new(opened.map_err(|error| StorageError(error.to_string()))??)
            }
        };
        Ok(Opened(Some(storage)))
    }

    /// Wants what this plan says from now on. Certificates that are stored are served when it returns.
    pub async fn follow(&self, plan: Option<Arc<Plan>>, Opened(storage): Opened) {
        let work = plan.zip(storage).map(|(plan, storage)| {
            // Another one each time: what the settings name may have changed, as the file of `ca`.
            let before = self.0.work.borrow().as_ref().map(|work| work.desk.clone());
            let desk = Arc::new(Desk::new(plan.settings.clone(), storage, before.as_deref()));
            Work { plan, desk }
        });
        let names = work.as_ref().map(|work| work.plan.names.clone()).unwrap_or_default();
        let on_demand = work.as_ref().is_some_and(|work| !work.plan.on_demand.is_empty());
        {
            let mut standings = self.0.standings.lock();
            standings.retain(|name, standing| names.contains(name) || (standing.on_demand && on_demand));
            for name in names {
                standings.entry(name.clone()).or_insert_with(|| Standing::new(&name)).on_demand = false;
            }
            let kept = |name: &str| standings.contains_key(name);
            self.0.issued.retain(kept);
            self.0.orders.lock().retain(|name, order| {
                let keep = kept(name);
                if !keep {
                    order.abort();
                }
                keep
            });
        }
        self.0.work.send_replace(work.clone());
        if let Some(work) = work
            && timeout(LOADING, async { tokio::join!(self.0.read_storage(&work), self.0.read_tickets(&work)) }).await.is_err()
        {
            log::warn!("acme: the storage has not answered in time; certificates that are in it are served as soon as it does");
        }
        self.0.wake.notify_one();
    }

    /// Obtains and renews, for as long as the process serves.
    pub async fn run(self, observer: Arc<Observer>) {
        let _ = self.0.observer.set(observer);
        let mut work = self.0.work.subscribe();
        loop {
            let now = work.borrow_and_update().clone();
            match now {
                None => {
                    if work.changed().await.is_err() {
                        return;
                    }
                }
                Some(now) => {
                    self.0.look(&now).await;
                    tokio::select! {
                        () = sleep(LOOK) => {}
                        () = self.0.wake.notified() => {}
                        _ = work.changed() => {}
                    }
                }
            }
        }
    }

    /// What answers an authority that asks for this path on this host, if an order waits for that.
    pub async fn http_proof(&self, path: &str, host: &str) -> Option<String> {
        let token = path.strip_prefix(PROOF_PATH).filter(|token| proof::is_token(token))?;
        let work = self.0.work.borrow().clone()?;
        let _turn = self.0.lookups.try_acquire().ok()?;
        proof::by_token(&work.desk.storage, token, host).await
    }

    /// What is known of every name.
    pub fn standings(&self) -> Vec<Standing> {
        self.0.standings.lock().values().cloned().collect()
    }

    /// What is known of a name, or of the wildcard that covers it.
    pub fn standing(&self, host: &str) -> Option<Standing> {
        let standings = self.0.standings.lock();
        let wildcard = || standings.get(&wildcard_for(host)?);
        standings.get(host).or_else(wildcard).cloned()
    }

    /// Renews a certificate now, or tries again to obtain one. False where no certificate is wanted for the name.
    pub fn renew(&self, name: &str) -> bool {
        let mut standings = self.0.standings.lock();
        let Some(standing) = standings.get_mut(name) else { return false };
        standing.next = Some(UNIX_EPOCH);
        drop(standings);
        self.0.wake.notify_one();
        true
    }
}

impl Inner {
    /// One look: what others have obtained, and what is due.
    async fn look(&self, work: &Work) {
        self.read_storage(work).await;
        self.read_tickets(work).await;
        let now = SystemTime::now();
        let (due, asked): (Vec<Standing>, Vec<Standing>) = {
            let mut standings = self.standings.lock();
            let before = standings.len();
            standings.retain(|_, standing| !standing.is_given_up(now));
            if standings.len() != before {
                self.issued.retain(|name| standings.contains_key(name));
            }
            let due: Vec<Standing> = standings.values().filter(|standing| standing.is_due(now)).cloned().collect();
            for standing in &due {
                if let Some(known) = standings.get_mut(&standing.name) {
                    known.phase = Phase::Ordering;
                }
            }
            let asked = standings
                .values_mut()
                .filter(|standing| standing.phase == Phase::Held && standing.ask_again.is_some_and(|at| at <= now));
            let asked = asked.map(|standing| {
                // While it is being asked.
                standing.ask_again = Some(now + ASK_AGAIN);
                standing.clone()
            });
            (due, asked.collect())
        };
        for standing in due {
            self.start(work.clone(), standing);
        }
        for standing in asked {
            self.ask_about(work.clone(), standing);
        }
        if let Some(observer) = self.observer.get() {
            let failing = self.standings.lock().values().filter(|standing| standing.failures > 0).count();
            observer.metrics().certificates_failing(failing);
        }
    }

    /// Serves what has come into the storage or changed there.
    async fn read_storage(&self, work: &Work) {
        let marks = match work.desk.storage.list(Shelf::Certificates).await {
            Ok(marks) => marks,
            Err(error) => return self.tell_storage(&error),
        };
        for name in self.changed(&marks) {
            match read_json::<Stored>(&work.desk.storage, Shelf::Certificates, &name).await {
                Ok(Some(stored)) => self.serve(&name, &stored, marks.get(&name).copied()),
                Ok(None) => {}
                Err(error) => self.tell_storage(&error),
            }
        }
        // What was tried before counts, by others or by a process that is gone.
        let news = |standing: &Standing| standing.phase != Phase::Ordering && standing.next.is_none();
        let unknown: Vec<String> = {
            let standings = self.standings.lock();
            standings.values().filter(|standing| news(standing)).map(|standing| standing.name.clone()).collect()
        };
        for name in unknown {
            match read_json::<Failed>(&work.desk.storage, Shelf::Failures, &name).await {
                Ok(Some(failed)) => self.note_failed(&name, &failed),
                Ok(None) => {}
                Err(error) => self.tell_storage(&error),
            }
        }
        if self.trouble.lock().take().is_some() {
            log::info!("acme: the storage can be used again");
        }
    }

    async fn read_tickets(&self, work: &Work) {
        {
            let mut due = self.tickets_due.lock();
            if due.is_some_and(|due| due > Instant::now()) {
                return;
            }
            *due = Some(Instant::now() + TICKETS);
        }
        if let Err(error) = tickets::follow(&work.desk.storage, self.issued.tickets()).await {
            self.tell_storage(&error);
        }
    }

    /// Once for each reason: the storage is looked at every other second.
    fn tell_storage(&self, error: &StorageError) {
        let mut trouble = self.trouble.lock();
        if trouble.as_ref() != Some(error) {
            log::warn!("acme: the storage cannot be used: {error}");
            *trouble = Some(error.clone());
        }
    }

    /// The names that are wanted and written otherwise than is known.
    fn changed(&self, marks: &Marks) -> Vec<String> {
        let standings = self.standings.lock();
        let changed = |standing: &&Standing| marks.get(&standing.name).is_some_and(|mark| standing.mark != Some(*mark));
        standings.values().filter(changed).map(|standing| standing.name.clone()).collect()
    }

    /// Serves a certificate from now on.
    fn serve(&self, name: &str, stored: &Stored, mark: Option<u64>) {
        let put = self.issued.put(name, Pair { chain: &stored.chain, key: &stored.key }, &stored.authority);
        let mut standings = self.standings.lock();
        let Some(standing) = standings.get_mut(name) else { return };
        standing.mark = mark.or(standing.mark);
        let facts = match put {
            Ok(facts) => facts,
            Err(reason) => {
                drop(standings);
                return log::error!("acme: what is stored for {name} cannot be served: {reason}");
            }
        };
        let id = renewal_id(&stored.chain);
        if standing.id != id || standing.not_after != Some(facts.not_after) {
            standing.window = None;
            standing.ask_again = id.as_ref().map(|_| SystemTime::now());
        }
        standing.id = id;
        standing.authority = Some(stored.authority.clone());
        (standing.not_before, standing.not_after) = (Some(facts.not_before), Some(facts.not_after));
        (standing.failures, standing.last_error) = (0, None);
        standing.next = Some(renew_at(facts.not_before, facts.not_after, standing.window, share_of(&facts.fingerprint)));
        if standing.phase != Phase::Ordering {
            standing.phase = Phase::Held;
        }
        drop(standings);
        self.moved.send_modify(|count| *count += 1);
    }

    fn note_failed(&self, name: &str, failed: &Failed) {
        let mut standings = self.standings.lock();
        let Some(standing) = standings.get_mut(name) else { return };
        standing.failures = failed.failures;
        standing.last_error = Some(failed.reason.clone());
        standing.next = Some(UNIX_EPOCH + Duration::from_secs(failed.next));
        drop(standings);
        self.moved.send_modify(|count| *count += 1);
    }

    /// Orders a certificate beside.
    fn start(&self, work: Work, standing: Standing) {
        let Some(me) = self.me.upgrade() else { return };
        let name = standing.name.clone();
        // Held until it is entered: one that is quick must find itself there.
        let mut orders = self.orders.lock();
        let order = tokio::spawn(async move {
            let _over = Over { inner: &me, name: &standing.name };
            let Ok(_turn) = me.turns.acquire().await else { return };
            me.order(&work, &standing).await;
        });
        orders.insert(name, order.abort_handle());
    }

    async fn order(&self, work: &Work, standing: &Standing) {
        let (name, storage) = (&standing.name, &work.desk.storage);
        let tried = async {
            let _lock = storage.lock(name).await?;
            // Another edge may have done it while this one waited.
            let marks = storage.list(Shelf::Certificates).await?;
            if let Some(mark) = marks.get(name).filter(|mark| standing.mark != Some(**mark))
                && let Some(stored) = read_json::<Stored>(storage, Shelf::Certificates, name).await?
            {
                self.serve(name, &stored, Some(*mark));
                return Ok(None);
            }
            let failed = read_json::<Failed>(storage, Shelf::Failures, name).await?.unwrap_or_default();
            if failed.failures > standing.failures {
                self.note_failed(name, &failed);
                return Ok(None);
            }
            let previous = read_json::<Stored>(storage, Shelf::Certificates, name).await?;
            let wish = Wish {
                name: name.clone(),
                failures: failed.failures,
                replaces: standing.window.and(standing.id.clone()).zip(previous.map(|stored| stored.directory)),
                cleartext: work.plan.cleartext,
            };
            match work.desk.obtain(&wish).await {
                Ok(stored) => {
                    let _ = storage.remove(Shelf::Failures, name).await;
                    let mark = storage.list(Shelf::Certificates).await?.get(name).copied();
                    Ok::<_, StorageError>(Some(Ok((stored, mark))))
                }
                Err(failure) => {
                    let failed = next_attempt(failed, &failure);
                    write_json(storage, Shelf::Failures, name, &failed).await?;
                    Ok(Some(Err(failed)))
                }
            }
        };
        match tried.await {
            Ok(None) => {}
            Ok(Some(Ok((stored, mark)))) => {
                self.serve(name, &stored, mark);
                let until = self.standings.lock().get(name).and_then(|standing| standing.not_after);
                let until =
                    until.map_or_else(String::new, |at| format!(", valid until {}", humantime::format_rfc3339_seconds(at)));
                log::info!("acme: a certificate for {name} from {}{until}", stored.authority);
                self.count(&stored.authority, true);
            }
            Ok(Some(Err(failed))) => {
                self.note_failed(name, &failed);
                let next = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(failed.next));
                let kept = if standing.not_after.is_some() { "; the one before is still served" } else { "" };
                log::warn!(
                    "acme: no certificate for {name} ({} in a row){kept}; next try at {next}: {}",
                    failed.failures,
                    failed.reason
                );
                self.count(work.desk.settings.authorities[0].name(), false);
            }
            Err(error) => {
                self.tell_storage(&error);
                self.note_failed(
                    name,
                    &next_attempt(Failed { failures: standing.failures, ..Failed::default() }, &Failure::new(error.to_string())),
                );
            }
        }
    }

    fn count(&self, authority: &str, obtained: bool) {
        if let Some(observer) = self.observer.get() {
            observer.metrics().certificate_ordered(authority, obtained);
        }
    }

    /// Asks the authority beside when it wants a certificate to be renewed.
    fn ask_about(&self, work: Work, standing: Standing) {
        let Some(me) = self.me.upgrade() else { return };
        tokio::spawn(async move {
            let storage = &work.desk.storage;
            let Some(id) = &standing.id else { return };
            let Ok(Some(stored)) = read_json::<Stored>(storage, Shelf::Certificates, &standing.name).await else { return };
            let Some((window, again)) = work.desk.window(&stored.directory, id).await else { return };
            let now = SystemTime::now();
            let mut standings = me.standings.lock();
            let Some(known) = standings.get_mut(&standing.name).filter(|known| known.id == standing.id) else { return };
            known.window = Some(window);
            known.ask_again = Some(now + again.clamp(ASK_SOONEST, ASK_AGAIN));
            if let (Phase::Held, 0, Some(from), Some(until)) = (known.phase, known.failures, known.not_before, known.not_after) {
                let share = share_of(id);
                let mut next = renew_at(from, until, Some(window), share);
                if next <= now && renew_at(from, until, None, share) > now {
                    // One that wants every certificate to be renewed at once would have us order for ever.
                    next = known.hurried.map_or(next, |last| next.max(last + HURRY));
                    if next <= now {
                        known.hurried = Some(now);
                    }
                }
                known.next = Some(next);
            }
            drop(standings);
            me.wake.notify_one();
        });
    }

    /// A client asks for a name that there is no certificate for. True when there is one now.
    async fn demand(&self, name: &str, client: IpAddr, listener: &Name) -> bool {
        let Some(work) = self.work.borrow().clone() else { return false };
        let Some(limits) = work.plan.on_demand.get(listener) else { return false };
        // An address is never asked for by name, and a wildcard by nobody.
        let Some(name) = issuable(name).filter(|name| !name.starts_with('*') && work.plan.settings.fits(name).is_ok()) else {
            return false;
        };
        let Ok(_place) = self.waiting.try_acquire() else { return false };
        let mut moved = self.moved.subscribe();
        if !self.standings.lock().contains_key(&name) && !self.admit(&work, limits, &name, client, listener).await {
            return false;
        }
        let is_there = || self.standings.lock().get(&name).is_some_and(|standing| standing.not_after.is_some());
        let is_decided = |_: &u64| is_there() || self.standings.lock().get(&name).is_none_or(|standing| standing.failures > 0);
        let _ = timeout(limits.wait, moved.wait_for(is_decided)).await;
        is_there()
    }

    /// Wants a name from now on, if whoever decides allows it.
    async fn admit(&self, work: &Work, limits: &OnDemand, name: &str, client: IpAddr, listener: &Name) -> bool {
        let stored = work.desk.storage.read(Shelf::Certificates, name).await.is_ok_and(|stored| stored.is_some());
        if !stored {
            match self.demands.count(name, client, limits, Instant::now()) {
                Ok(()) => {}
                Err(Denied::Again) => return false,
                Err(Denied::Client) => {
                    log::info!("acme: no certificate on demand for {name}: {client} has asked for too many");
                    return false;
                }
                Err(Denied::Domain(domain)) => {
                    log::info!("acme: no certificate on demand for {name}: too many were asked for below {domain}");
                    return false;
                }
            }
        }
        if let Err(reason) = demand::allowed(limits, name, client, listener).await {
            log::info!("acme: no certificate on demand for {name}, which {client} asked {listener} for: {reason}");
            self.demands.refuse(name, Instant::now());
            return false;
        }
        let mut standings = self.standings.lock();
        standings.entry(name.to_owned()).or_insert_with(|| Standing { on_demand: true, ..Standing::new(name) });
        drop(standings);
        self.wake.notify_one();
        true
    }
}

/// An order that is over when this is dropped, however that comes about: the next one may begin.
struct Over<'a> {
    inner: &'a Inner,
    name: &'a str,
}

impl Drop for Over<'_> {
    fn drop(&mut self) {
        if let Some(known) = self.inner.standings.lock().get_mut(self.name) {
            known.phase = if known.not_after.is_some() { Phase::Held } else { Phase::Waiting };
        }
        self.inner.orders.lock().remove(self.name);
        self.inner.moved.send_modify(|count| *count += 1);
    }
}

/// What is stored of an attempt that failed.
fn next_attempt(before: Failed, failure: &Failure) -> Failed {
    let now = SystemTime::now();
    let failures = before.failures.saturating_add(1);
    let next = now + pause(failures, rand::random());
    let next = failure.not_before.map_or(next, |not_before| next.max(not_before));
    Failed { failures, reason: failure.reason.clone(), next: next.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() }
}

/// What handshakes ask.
struct Handshakes(Weak<Inner>);

#[async_trait]
impl Issuer for Handshakes {
    async fn proof(&self, name: &str) -> Option<[u8; 32]> {
        let inner = self.0.upgrade()?;
        let work = inner.work.borrow().clone()?;
        let _turn = inner.lookups.try_acquire().ok()?;
        let name = crate::tls::reverse_address(name).map_or_else(|| name.to_owned(), |address| address.to_string());
        proof::by_name(&work.desk.storage, &name).await
    }

    async fn demand(&self, name: &str, client: IpAddr, listener: &Name) -> bool {
        match self.0.upgrade() {
            Some(inner) => inner.demand(name, client, listener).await,
            None => false,
        }
    }
}
