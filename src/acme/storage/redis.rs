//! A Redis, for edges on several machines.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use redis::{AsyncConnectionConfig, Client, Cmd, FromRedisValue, Script, aio::MultiplexedConnection};
use tokio::{sync::Mutex, time::timeout};
use uuid::Uuid;

use super::{BEAT, LOOK, LOST, Lock, Marks, Shelf, Storage, StorageError};
use crate::{types::Secret, wire::redis_client};

/// For a connection with its handshakes, and for one answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Answers to authorities are of no use longer than this.
const CHALLENGE_SECONDS: u64 = 3600;

/// KEYS: a lock. ARGV: its holder, and the milliseconds that it may hold it still.
const KEEP: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0";

/// KEYS: a lock. ARGV: its holder.
const RELEASE: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";

/// A Redis that several edges share.
#[derive(Clone)]
pub(crate) struct Redis {
    client: Client,
    /// Host and port, for the log: the address has a password in it.
    name: String,
    connection: Arc<Mutex<Option<MultiplexedConnection>>>,
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redis({})", self.name)
    }
}

impl Redis {
    /// The Redis at this address. Nothing is connected yet.
    pub(crate) fn new(address: &Secret) -> Result<Self, StorageError> {
        let (client, name) =
            redis_client(address).map_err(|reason| StorageError(format!("the address is no Redis: {reason}")))?;
        Ok(Self { client, name, connection: Arc::default() })
    }

    /// Runs something on the connection, and opens one if there is none.
    async fn run<T, F>(&self, work: impl FnOnce(MultiplexedConnection) -> F) -> Result<T, StorageError>
    where
        F: Future<Output = Result<T, redis::RedisError>>,
    {
        let working = async {
            let mut held = self.connection.lock().await;
            let connection = match &*held {
                Some(connection) => connection.clone(),
                None => {
                    let config = AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE));
                    let opened = self.client.get_multiplexed_async_connection_with_config(&config).await?;
                    held.insert(opened).clone()
                }
            };
            drop(held);
            work(connection).await
        };
        let reason = match timeout(PATIENCE, working).await {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(error)) => error.category().to_owned(),
            Err(_) => "it does not answer in time".to_owned(),
        };
        // The next one connects again.
        *self.connection.lock().await = None;
        Err(StorageError(format!("the Redis {}: {reason}", self.name)))
    }

    async fn command<T: FromRedisValue>(&self, command: Cmd) -> Result<T, StorageError> {
        self.run(|mut connection| async move { command.query_async(&mut connection).await }).await
    }

    async fn script(&self, script: &str, key: &str, arguments: &[&str]) -> Result<u64, StorageError> {
        let script = Script::new(script);
        self.run(|mut connection| async move {
            let mut call = script.key(key);
            for argument in arguments {
                call.arg(*argument);
            }
            call.invoke_async(&mut connection).await
        })
        .await
    }
}

fn key(shelf: Shelf, name: &str) -> String {
    format!("weir:acme:{}:{name}", shelf.name())
}

/// A hash of how often each value was written.
fn marks(shelf: Shelf) -> String {
    format!("weir:acme:{}", shelf.name())
}

#[async_trait]
impl Storage for Redis {
    async fn read(&self, shelf: Shelf, name: &str) -> Result<Option<Vec<u8>>, StorageError> {
        self.command(Cmd::get(key(shelf, name))).await
    }

    async fn write(&self, shelf: Shelf, name: &str, value: Vec<u8>) -> Result<(), StorageError> {
        let (key, marks, name) = (key(shelf, name), marks(shelf), name.to_owned());
        self.run(|mut connection| async move {
            let mut both = redis::pipe();
            both.atomic();
            match shelf {
                Shelf::Challenges => both.set_ex(key, value, CHALLENGE_SECONDS).ignore(),
                _ => both.set(key, value).ignore().hincr(marks, name, 1).ignore(),
            };
            both.query_async(&mut connection).await
        })
        .await
    }

    async fn remove(&self, shelf: Shelf, name: &str) -> Result<(), StorageError> {
        let (key, marks, name) = (key(shelf, name), marks(shelf), name.to_owned());
        self.run(|mut connection| async move {
            redis::pipe().atomic().del(key).ignore().hdel(marks, name).ignore().query_async(&mut connection).await
        })
        .await
    }

    async fn list(&self, shelf: Shelf) -> Result<Marks, StorageError> {
        let marks: HashMap<String, u64> = self.command(Cmd::hgetall(marks(shelf))).await?;
        Ok(marks.into_iter().collect())
    }

    async fn lock(&self, name: &str) -> Result<Lock, StorageError> {
        let (me, key) = (Uuid::new_v4().to_string(), format!("weir:acme:lock:{name}"));
        let lost = LOST.as_millis().to_string();
        loop {
            let mut take = redis::cmd("SET");
            take.arg(&key).arg(&me).arg("NX").arg("PX").arg(&lost);
            if self.command::<Option<String>>(take).await?.is_some() {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        let (this, holder, at) = (self.clone(), me.clone(), key.clone());
        let beat = async move {
            loop {
                tokio::time::sleep(BEAT).await;
                // One that fails is made up for by the next.
                let _ = this.script(KEEP, &at, &[&holder, &lost]).await;
            }
        };
        let this = self.clone();
        let release = move || {
            // Without a runtime the process ends, and the lock with it after a while.
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(async move { drop(this.script(RELEASE, &key, &[&me]).await) });
            }
        };
        Ok(Lock::held(beat, release))
    }
}
