//! The secrets of session tickets, which edges share that share a storage: whoever comes first after it is time makes the next one.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use std::sync::Arc;

use aws_lc_rs::rand;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

use super::storage::{Shelf, Storage, StorageError, read_json, write_json};
use crate::tls::{TICKET_LIFETIME, TicketSecret, TicketSecrets};

/// How long one is used for new tickets.
const USED: Duration = Duration::from_secs(6 * 3600);

/// A new one is not used before every edge can have read it.
const KNOWN_AFTER: Duration = Duration::from_secs(60);

/// The name that they are stored by.
const NAME: &str = "secrets";

#[derive(Clone, Serialize, Deserialize)]
struct Stored {
    /// In base64.
    secret: String,
    /// Seconds since 1970.
    made: u64,
}

/// Reads the secrets, makes another one if it is time, and uses them.
pub(super) async fn follow(storage: &Arc<dyn Storage>, secrets: &TicketSecrets) -> Result<(), StorageError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut stored = read(storage).await?;
    if is_time(&stored, now) {
        let _lock = storage.lock("tickets").await?;
        stored = read(storage).await?;
        if is_time(&stored, now) {
            stored = next(stored, now)?;
            write_json(storage, Shelf::Tickets, NAME, &stored).await?;
        }
    }
    secrets.replace(usable(&stored, now));
    Ok(())
}

async fn read(storage: &Arc<dyn Storage>) -> Result<Vec<Stored>, StorageError> {
    Ok(read_json(storage, Shelf::Tickets, NAME).await?.unwrap_or_default())
}

fn is_time(stored: &[Stored], now: Duration) -> bool {
    stored.first().is_none_or(|newest| now.as_secs() >= newest.made + USED.as_secs())
}

/// With a new one in front, without those whose tickets nobody takes any more.
fn next(mut stored: Vec<Stored>, now: Duration) -> Result<Vec<Stored>, StorageError> {
    let mut secret = TicketSecret::default();
    rand::fill(&mut secret).map_err(|_| StorageError("there are no random numbers".to_owned()))?;
    stored.insert(0, Stored { secret: STANDARD.encode(secret), made: now.as_secs() });
    let kept = USED + TICKET_LIFETIME + KNOWN_AFTER;
    stored.retain(|one| now.as_secs() < one.made + kept.as_secs());
    Ok(stored)
}

/// Those that can be read, the one that new tickets are made with first.
fn usable(stored: &[Stored], now: Duration) -> Vec<TicketSecret> {
    let read = |one: &Stored| STANDARD.decode(&one.secret).ok()?.try_into().ok();
    let mut secrets: Vec<TicketSecret> = stored.iter().filter_map(read).collect();
    let young = stored.first().is_some_and(|newest| now.as_secs() < newest.made + KNOWN_AFTER.as_secs());
    if young && secrets.len() > 1 {
        secrets.swap(0, 1);
    }
    secrets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_used_for_hours_and_known_before_and_after() {
        let at = |hours: f64| Duration::from_secs_f64(hours * 3600.0 + 1e6);
        let first = next(Vec::new(), at(0.0)).unwrap();
        assert!(is_time(&[], at(0.0)) && !is_time(&first, at(5.9)) && is_time(&first, at(6.0)));
        let both = next(first.clone(), at(6.0)).unwrap();
        assert_eq!(both.len(), 2);
        let (old, new) = (usable(&first, at(6.0))[0], usable(&both, at(7.0))[0]);
        assert_eq!(usable(&both, at(6.0)), [old, new], "other edges may not know it yet");
        assert_eq!(usable(&both, at(6.1)), [new, old]);
        let later = next(next(next(both, at(12.0)).unwrap(), at(18.0)).unwrap(), at(24.0)).unwrap();
        assert_eq!(later.len(), 4, "the first one's tickets are over");
    }
}
