//! Certificates that are obtained while running, for all listeners of the process that want them.

use std::{
    collections::BTreeMap,
    fmt,
    net::IpAddr,
    sync::{Arc, OnceLock},
};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{
    tls::{TicketSecrets, certificate::Certificate, facts::CertificateFacts, provider},
    types::Name,
};

/// Who obtains certificates, as handshakes see it.
#[async_trait]
pub trait Issuer: Send + Sync {
    /// The SHA-256 digest of the key authorisation that proves this name by tls-alpn-01 (RFC 8737), if an order waits for that.
    async fn proof(&self, name: &str) -> Option<[u8; 32]>;

    /// A client of this address asks a listener for a name that there is no certificate for. True when there is one now; false when none
    /// is to be had, or not in time.
    async fn demand(&self, name: &str, client: IpAddr, listener: &Name) -> bool;
}

/// A chain with its key, in PEM, as it is stored.
#[derive(Clone, Copy)]
pub struct Pair<'a> {
    /// The chain, leaf first.
    pub chain: &'a str,
    /// The private key.
    pub key: &'a str,
}

/// The certificates, by the name that each was obtained for. Clones share them.
#[derive(Clone, Default)]
pub struct Issued(Arc<Inner>);

#[derive(Default)]
struct Inner {
    certificates: Mutex<BTreeMap<String, Arc<Certificate>>>,
    changed: watch::Sender<u64>,
    issuer: OnceLock<Arc<dyn Issuer>>,
    tickets: TicketSecrets,
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.certificates.lock().keys()).finish()
    }
}

impl Issued {
    /// Says who answers handshakes from now on. The first one stays.
    pub fn answer_by(&self, issuer: Arc<dyn Issuer>) {
        let _ = self.0.issuer.set(issuer);
    }

    pub(in crate::tls) fn issuer(&self) -> Option<&Arc<dyn Issuer>> {
        self.0.issuer.get()
    }

    /// What the session tickets of these listeners are made with.
    pub fn tickets(&self) -> &TicketSecrets {
        &self.0.tickets
    }

    /// Serves this certificate for a name from now on, in place of the one before. `authority` is who issued it.
    pub fn put(&self, name: &str, pair: Pair<'_>, authority: &str) -> Result<CertificateFacts, String> {
        let certificate = Certificate::issued(pair, authority, &provider())?;
        let facts = certificate.facts.clone();
        self.0.certificates.lock().insert(name.to_owned(), Arc::new(certificate));
        self.0.changed.send_modify(|count| *count += 1);
        Ok(facts)
    }

    /// Serves certificates no more whose names are not wanted.
    pub fn retain(&self, mut wanted: impl FnMut(&str) -> bool) {
        let mut certificates = self.0.certificates.lock();
        let before = certificates.len();
        certificates.retain(|name, _| wanted(name));
        let changed = certificates.len() != before;
        drop(certificates);
        if changed {
            self.0.changed.send_modify(|count| *count += 1);
        }
    }

    pub(super) fn all(&self) -> Vec<Arc<Certificate>> {
        self.0.certificates.lock().values().cloned().collect()
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }
}
