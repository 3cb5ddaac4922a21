//! Where accounts, orders, keys and certificates are kept: a directory, or a Redis. Several edges may share one.
//!
//! Every value is written whole or not at all. Whoever orders holds the [`Lock`] of the name, so that of several edges one orders; one that
//! dies with it loses it within [`LOST`].

mod directory;
mod redis;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::task::JoinHandle;

pub(super) use self::{directory::Directory, redis::Redis};

/// How often the holder of a lock says that it is alive.
const BEAT: Duration = Duration::from_secs(2);

/// Who has said nothing for so long has lost its lock.
const LOST: Duration = Duration::from_secs(8);

/// How often those who wait for a lock look whether it is free.
const LOOK: Duration = Duration::from_millis(250);

/// Why something cannot be read or written. No secret is in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StorageError(pub(super) String);

/// What is kept together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Shelf {
    /// Accounts with authorities, by authority.
    Accounts,
    /// Certificates with their keys, by name.
    Certificates,
    /// Orders under way, by name.
    Orders,
    /// How attempts went that failed, by name.
    Failures,
    /// Answers to authorities that check a name, by token or by name.
    Challenges,
    /// The secrets of session tickets.
    Tickets,
}

impl Shelf {
    const ALL: [Shelf; 6] =
        [Shelf::Accounts, Shelf::Certificates, Shelf::Orders, Shelf::Failures, Shelf::Challenges, Shelf::Tickets];

    const fn name(self) -> &'static str {
        match self {
            Shelf::Accounts => "accounts",
            Shelf::Certificates => "certificates",
            Shelf::Orders => "orders",
            Shelf::Failures => "failures",
            Shelf::Challenges => "challenges",
            Shelf::Tickets => "tickets",
        }
    }
}

/// The values of a shelf by name, each with a mark that is another one when it has been written again.
pub(super) type Marks = BTreeMap<String, u64>;

/// A place to keep things. Names are host names, addresses, or tokens in base64url.
#[async_trait]
pub(super) trait Storage: fmt::Debug + Send + Sync {
    /// `None` when there is none.
    async fn read(&self, shelf: Shelf, name: &str) -> Result<Option<Vec<u8>>, StorageError>;

    /// Replaces what was there.
    async fn write(&self, shelf: Shelf, name: &str, value: Vec<u8>) -> Result<(), StorageError>;

    /// Removing what is not there is no error.
    async fn remove(&self, shelf: Shelf, name: &str) -> Result<(), StorageError>;

    /// Everything on a shelf.
    async fn list(&self, shelf: Shelf) -> Result<Marks, StorageError>;

    /// Waits until nobody else holds the lock of this name.
    async fn lock(&self, name: &str) -> Result<Lock, StorageError>;
}

/// Held until it is dropped.
pub(super) struct Lock {
    beat: JoinHandle<()>,
    release: Option<Box<dyn FnOnce() + Send>>,
}

impl Lock {
    /// `beat` says again and again that the holder is alive, and `release` lets others in.
    fn held(beat: impl Future<Output = ()> + Send + 'static, release: impl FnOnce() + Send + 'static) -> Self {
        Self { beat: tokio::spawn(beat), release: Some(Box::new(release)) }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.beat.abort();
        if let Some(release) = self.release.take() {
            release();
        }
    }
}

/// Values as JSON.
pub(super) async fn read_json<T: serde::de::DeserializeOwned>(
    storage: &Arc<dyn Storage>,
    shelf: Shelf,
    name: &str,
) -> Result<Option<T>, StorageError> {
    let Some(value) = storage.read(shelf, name).await? else { return Ok(None) };
    let read = serde_json::from_slice(&value);
    // Its text may repeat a key of somebody.
    read.map(Some).map_err(|_| StorageError(format!("`{}/{name}` is not what was written there", shelf.name())))
}

pub(super) async fn write_json<T: serde::Serialize>(
    storage: &Arc<dyn Storage>,
    shelf: Shelf,
    name: &str,
    value: &T,
) -> Result<(), StorageError> {
    let value = serde_json::to_vec_pretty(value).map_err(|error| StorageError(error.to_string()))?;
    storage.write(shelf, name, value).await
}
