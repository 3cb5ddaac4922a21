//! Session tickets that several edges understand: their keys come from a storage that the edges share.
//!
//! A secret of the storage is no key of a ticket. Each listener derives its own from it, by what it demands of clients, so that a session of
//! one listener, or of one with other authorities for clients, resumes on no other (RFC 5869 for the derivation, RFC 5077 section 4 for
//! what a ticket looks like).

use std::{fmt, sync::Arc, time::Duration};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, KeyType, Salt},
    rand,
};
use parking_lot::Mutex;
use rustls::server::ProducesTickets;
use tokio::sync::watch;

/// Bytes of a secret.
pub const SECRET: usize = 32;

/// How long a ticket is taken, as the client is told.
pub const LIFETIME: Duration = Duration::from_secs(12 * 3600);

/// Bytes that name the key of a ticket.
const ID: usize = 8;

/// A secret that keys of tickets are derived from.
pub type TicketSecret = [u8; SECRET];

/// The secrets, the one that new tickets are made with first. Clones share them.
#[derive(Clone)]
pub struct TicketSecrets(Arc<watch::Sender<Vec<TicketSecret>>>);

impl Default for TicketSecrets {
    /// One of this process alone.
    fn default() -> Self {
        let mut own = [0; SECRET];
        // Without random numbers there is no TLS either, and whoever makes that says so.
        let _ = rand::fill(&mut own);
        Self(Arc::new(watch::Sender::new(vec![own])))
    }
}

impl fmt::Debug for TicketSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TicketSecrets({})", self.0.borrow().len())
    }
}

impl TicketSecrets {
    /// Uses these from now on.
    pub fn replace(&self, secrets: Vec<TicketSecret>) {
        self.0.send_if_modified(|known| {
            let changed = !secrets.is_empty() && *known != secrets;
            if changed {
                *known = secrets;
            }
            changed
        });
    }
}

/// The tickets of one listener.
pub(super) struct SharedTickets {
    /// What the keys of this listener are told apart by.
    purpose: Vec<u8>,
    secrets: Mutex<watch::Receiver<Vec<TicketSecret>>>,
    keys: Mutex<Arc<Vec<Key>>>,
}

struct Key {
    id: [u8; ID],
    key: LessSafeKey,
}

impl SharedTickets {
    pub(super) fn new(secrets: &TicketSecrets, purpose: Vec<u8>) -> Self {
        let mut secrets = secrets.0.subscribe();
        let keys = derive(&secrets.borrow_and_update(), &purpose);
        Self { purpose, secrets: Mutex::new(secrets), keys: Mutex::new(Arc::new(keys)) }
    }

    fn keys(&self) -> Arc<Vec<Key>> {
        let mut secrets = self.secrets.lock();
        let mut keys = self.keys.lock();
        if secrets.has_changed().unwrap_or(false) {
            *keys = Arc::new(derive(&secrets.borrow_and_update(), &self.purpose));
        }
        keys.clone()
    }
}

/// So many bytes.
struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

fn derive(secrets: &[TicketSecret], purpose: &[u8]) -> Vec<Key> {
    let one = |secret: &TicketSecret| {
        let mut derived = [0; ID + 32];
        let from = Salt::new(HKDF_SHA256, b"weir session tickets").extract(secret);
        from.expand(&[purpose], Length(derived.len())).ok()?.fill(&mut derived).ok()?;
        let (id, key) = derived.split_at(ID);
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).ok()?);
        Some(Key { id: id.try_into().ok()?, key })
    };
    secrets.iter().filter_map(one).collect()
}

impl fmt::Debug for SharedTickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedTickets")
    }
}

impl ProducesTickets for SharedTickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        LIFETIME.as_secs() as u32
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let keys = self.keys();
        let Key { id, key } = keys.first()?;
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).ok()?;
        let mut sealed = plain.to_vec();
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(id), &mut sealed).ok()?;
        Some([&id[..], &nonce, &sealed].concat())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (id, rest) = ticket.split_at_checked(ID)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN)?;
        let keys = self.keys();
        let key = keys.iter().find(|key| key.id == id)?;
        let mut sealed = sealed.to_vec();
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let length = key.key.open_in_place(nonce, Aad::from(&key.id), &mut sealed).ok()?.len();
        sealed.truncate(length);
        Some(sealed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_taken_by_those_who_have_the_secret_and_the_purpose() {
        let (one, other) = (TicketSecrets::default(), TicketSecrets::default());
        let edge = SharedTickets::new(&one, b"edge".to_vec());
        let ticket = edge.encrypt(b"a session").unwrap();
        assert_ne!(ticket, edge.encrypt(b"a session").unwrap(), "no two are the same");
        let taken = |secrets: &TicketSecrets, purpose: &str| SharedTickets::new(secrets, purpose.into()).decrypt(&ticket);
        assert_eq!(taken(&one, "edge").as_deref(), Some(&b"a session"[..]));
        assert_eq!((taken(&one, "internal"), taken(&other, "edge")), (None, None));
        for end in 0..ticket.len() {
            assert_eq!(edge.decrypt(&ticket[..end]), None, "cut after {end}");
        }
        let mut broken = ticket.clone();
        broken[ID + NONCE_LEN] ^= 1;
        assert_eq!(edge.decrypt(&broken), None);
        // Another secret comes, and the one before is still taken for a while.
        let before = one.0.borrow()[0];
        one.replace(vec![[7; SECRET], before]);
        assert_eq!(edge.decrypt(&ticket).as_deref(), Some(&b"a session"[..]));
        let next = edge.encrypt(b"the next").unwrap();
        one.replace(vec![[7; SECRET]]);
        assert_eq!((edge.decrypt(&ticket), edge.decrypt(&next).as_deref()), (None, Some(&b"the next"[..])));
    }
}
