//! Buckets that several edges share, in a Redis.
//!
//! One script there does the same sums as [`Limit::take`](super::bucket::Limit::take), by the clock of Redis, so that edges
//! need not agree on the time. A request waits for it [`PATIENCE`] at most. After a few failures the store is
//! taken for gone, nobody asks it any more, and each edge limits by its own buckets, which have counted along; a
//! loop beside requests connects again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use aws_lc_rs::digest;
use redis::{AsyncConnectionConfig, Client, Script, aio::MultiplexedConnection};
use tokio::{
    sync::{Mutex, Notify, watch},
    time::{sleep, timeout},
};

use super::bucket::{Limit, Taken};
use crate::{
    filter::Scope,
    observe::Sample,
    types::{Secret, hex},
    wire::redis_client,
};

/// How long a request waits for the store. With the granularity of the timer (1 ms) that stays below 5 ms.
const PATIENCE: Duration = Duration::from_millis(3);
/// Failures in a row until it is taken for gone.
const FAILURES: u32 = 3;
/// For a connection, its handshakes and one answer.
const CONNECTING: Duration = Duration::from_secs(2);
/// Between attempts to connect: often enough for operators, and no load.
const PAUSE: Duration = Duration::from_millis(500);

/// KEYS: the bucket. ARGV: microseconds that one request takes to be given back, and the burst. Returns whether it is
/// admitted, and the microseconds until the bucket is full.
const TAKE: &str = "\
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval, whole = tonumber(ARGV[1]), ARGV[1] * ARGV[2]
local before = tonumber(redis.call('GET', KEYS[1]) or now)
before = math.min(math.max(before, now), now + whole)
local after = before + interval
-- A number holds the microseconds of today to a quarter of one.
if after > now + whole + 0.5 then
  return {0, math.ceil(before - now)}
end
redis.call('SET', KEYS[1], string.format('%.3f', after), 'PX', math.ceil((after - now) / 1000) + 1)
return {1, math.ceil(after - now)}";

/// A Redis that keeps buckets.
pub(super) struct Store {
    client: Client,
    /// Host and port, for the log: the address has a password in it.
    name: String,
    script: Script,
    connection: ArcSwapOption<MultiplexedConnection>,
    failures: AtomicU32,
    lost: Notify,
    /// Held by the one of its filters that keeps it connected.
    turn: Mutex<()>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({})", self.name)
    }
}

/// The name of a bucket: the filter's, and a hash of what is the client's, which may be a token and is not for everybody
/// who reads the store.
pub(super) fn key(filter: &str, feed: impl FnOnce(&mut dyn FnMut(&[u8]))) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    feed(&mut |bytes| context.update(bytes));
    // Half of it: two that meet are not to be found.
    format!("weir:{filter}:{}", hex(&context.finish().as_ref()[..16]))
}

impl Store {
    /// The store at this address, which all filters that name it share.
    pub(super) fn new(address: &Secret, scope: &Scope<'_>) -> Result<Arc<Self>, String> {
        let (client, name) = redis_client(address)?;
        let make = || Self {
            client,
            name,
            script: Script::new(TAKE),
            connection: ArcSwapOption::empty(),
            failures: AtomicU32::new(0),
            lost: Notify::new(),
            turn: Mutex::new(()),
        };
        // The address has a password in it, and names may be printed.
        Ok(scope.shared_by_all(&key("redis", |see| see(address.expose().as_bytes())), make))
    }

    /// Is it worth asking?
    pub(super) fn is_there(&self) -> bool {
        self.connection.load().is_some()
    }

    /// Whether it is there, for the metrics.
    pub(super) fn sample(&self) -> Sample {
        let value = f64::from(u8::from(self.is_there()));
        Sample { metric: "weir_rate_limit_store_up", labels: vec![self.name.clone()], value }
    }

    /// Takes one from a bucket, within [`PATIENCE`]. `None` when the store does not say.
    pub(super) async fn take(&self, key: &str, limit: Limit) -> Option<Taken> {
        let mut connection = MultiplexedConnection::clone(&*self.connection.load_full()?);
        let mut call = self.script.prepare_invoke();
        call.key(key).arg(limit.interval().as_nanos() as f64 / 1000.0).arg(limit.burst());
        match timeout(PATIENCE, call.invoke_async::<(u8, u64)>(&mut connection)).await {
            Ok(Ok((admitted, full_in))) => {
                if self.failures.load(Relaxed) > 0 {
                    self.failures.store(0, Relaxed);
                }
                Some(limit.told(admitted == 1, Duration::from_micros(full_in)))
            }
            Ok(Err(error)) => {
                self.failed(error.category());
                None
            }
            Err(_) => {
                self.failed("it does not answer in time");
                None
            }
        }
    }

    fn failed(&self, reason: &str) {
        // The one that reaches the number says so.
        if self.failures.fetch_add(1, Relaxed) + 1 == FAILURES {
            self.connection.store(None);
            log::warn!("rate limits: the store {} is gone ({reason}); this edge limits by itself until it is back", self.name);
            self.lost.notify_one();
        }
    }

    /// Connects, and connects again whenever the store is gone. Of several that call this, one does it.
    pub(super) async fn keep_connected(&self, mut stopping: watch::Receiver<bool>) {
        let keep = async {
            let _turn = self.turn.lock().await;
            loop {
                if !self.is_there() {
                    self.connect().await;
                }
                self.lost.notified().await;
                // One that is only slow now and then is not worth a line in the log every few milliseconds.
                sleep(PAUSE).await;
            }
        };
        tokio::select! {
            () = keep => {}
            _ = stopping.wait_for(|stopping| *stopping) => {}
        }
    }

    /// Connects, however long that takes. What is wrong is logged once.
    async fn connect(&self) {
        let mut said = self.failures.load(Relaxed) >= FAILURES;
        loop {
            match self.try_connect().await {
                Ok(connection) => {
                    self.failures.store(0, Relaxed);
                    self.connection.store(Some(Arc::new(connection)));
                    return log::info!("rate limits: connected to the store {}", self.name);
                }
                Err(reason) if !said => {
                    let name = &self.name;
                    log::warn!(
                        "rate limits: the store {name} cannot be used ({reason}); this edge limits by itself until it can"
                    );
                    said = true;
                }
                Err(_) => {}
            }
            sleep(PAUSE).await;
        }
    }

    /// A connection over which the script has been run once, as slowly as that may be: it is loaded, then.
    async fn try_connect(&self) -> Result<MultiplexedConnection, String> {
        let connecting = async {
            // No time of its own: requests have theirs, and this has one around it.
            let config = AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(None);
            let mut connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
            let mut call = self.script.prepare_invoke();
            call.key("weir:probe").arg(1).arg(1);
            call.invoke_async::<(u8, u64)>(&mut connection).await?;
            Ok::<_, redis::RedisError>(connection)
        };
        match timeout(CONNECTING, connecting).await {
            Ok(connected) => connected.map_err(|error| error.category().to_owned()),
            Err(_) => Err("it does not answer in time".to_owned()),
        }
    }
}
