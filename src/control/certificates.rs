//! Certificates that are renewed while running.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::{
    observe::Observer,
    snapshot::{Snapshot, Store},
    tls::{self, ServerTls},
    types::Name,
};

/// How often certificate files are looked at.
const EVERY: Duration = Duration::from_secs(10);

/// One loop per listener with TLS, which serves its certificates anew when their files change.
#[derive(Default)]
pub(super) struct Watches(BTreeMap<Name, (Arc<ServerTls>, watch::Sender<()>)>);

impl Watches {
    /// Watches the certificates of this configuration, and no others.
    pub(super) fn follow(&mut self, snapshot: &Snapshot, tasks: &TaskTracker, store: &Arc<Store>, observer: &Arc<Observer>) {
        let now = snapshot.listeners.values().filter_map(|listener| Some((listener.name.clone(), listener.tls.clone()?)));
        let mut before = std::mem::take(&mut self.0);
        for (name, tls) in now {
            let known = before.remove(&name).filter(|(known, _)| Arc::ptr_eq(known, &tls));
            let watched = known.unwrap_or_else(|| {
                let (going_on, mut gone) = watch::channel(());
                let (tls_watched, store, observer) = (tls.clone(), store.clone(), observer.clone());
                tasks.spawn(async move {
                    let renewed = |_: &ServerTls| tell(&store.load(), &observer);
                    tokio::select! {
                        _ = tls::watch(tls_watched, EVERY, renewed) => {}
                        _ = gone.changed() => {}
                    }
                });
                (tls, going_on)
            });
            self.0.insert(name, watched);
        }
        tell(snapshot, observer);
    }

    /// Stops watching.
    pub(super) fn stop(&mut self) {
        self.0.clear();
    }
}

/// The metrics say when each certificate expires.
fn tell(snapshot: &Snapshot, observer: &Observer) {
    let tls = snapshot.listeners.values().filter_map(|listener| listener.tls.as_ref());
    let certificates: Vec<_> = tls.flat_map(|tls| tls.certificates()).collect();
    observer.metrics().certificates(certificates.iter().map(|certificate| (certificate.name.as_str(), certificate.not_after)));
}
