//! The sockets that listen: bound before they are needed, kept as long as their address is configured.

use std::{collections::BTreeMap, io, sync::Arc};

use crate::{
    listener::{self, Bound},
    snapshot::Snapshot,
    types::{Address, Name},
};

/// What makes a socket the same across configurations: its address, whatever its listener is called. Port 0 is another
/// port each time, so there the listener counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Fixed(Address),
    /// A listener, and which of its addresses.
    Any(Name, usize),
}

/// Bound sockets.
#[derive(Debug, Default, Clone)]
pub(crate) struct Sockets(pub(super) BTreeMap<Key, Arc<Bound>>);

/// The sockets that a configuration wants, with their listeners.
pub(super) fn wanted(snapshot: &Snapshot) -> impl Iterator<Item = (Key, &Name, &Address)> {
    snapshot.listeners.iter().flat_map(|(name, listener)| {
        listener.addresses.iter().enumerate().map(move |(index, address)| {
            let any = address.tcp().is_some_and(|address| address.port() == 0);
            let key = if any { Key::Any(name.clone(), index) } else { Key::Fixed(address.clone()) };
            (key, name, address)
        })
    })
}

impl Sockets {
    /// The sockets of a configuration: those that are bound already, and new ones. On an error nothing stays bound that
    /// was not.
    pub(crate) fn bind(&self, snapshot: &Snapshot) -> io::Result<Self> {
        let wanted: Vec<_> = wanted(snapshot).collect();
        let stays = |key: &Key| wanted.iter().any(|(wanted, ..)| wanted == key);
        let leaving: Vec<&Bound> = self.0.iter().filter(|(key, _)| !stays(key)).map(|(_, bound)| &**bound).collect();
        let mut bound = BTreeMap::new();
        for (key, _, address) in wanted {
            let socket = match self.0.get(&key) {
                Some(socket) => socket.clone(),
                None => Arc::new(listener::bind_beside(address, &leaving)?),
            };
            bound.insert(key, socket);
        }
        Ok(Self(bound))
    }

    /// The addresses of sockets that a configuration has no use for.
    pub(super) fn unused<'a>(&'a self, snapshot: &Snapshot) -> impl Iterator<Item = &'a Address> {
        let wanted: Vec<Key> = wanted(snapshot).map(|(key, ..)| key).collect();
        self.0.iter().filter(move |(key, _)| !wanted.contains(key)).map(|(_, bound)| bound.address())
    }

    /// Where each listener accepts, with real ports, in the order of the configuration.
    pub(crate) fn addresses(&self, snapshot: &Snapshot) -> BTreeMap<Name, Vec<Address>> {
        let mut addresses = BTreeMap::<Name, Vec<Address>>::new();
        for (key, name, _) in wanted(snapshot) {
            let bound = self.0.get(&key).map(|socket| socket.address().clone());
            addresses.entry(name.clone()).or_default().extend(bound);
        }
        addresses
    }

    /// A redirect to a TLS listener on port 0 points at the port that it got.
    pub(crate) fn resolve_redirects(&self, snapshot: &mut Snapshot) {
        let addresses = self.addresses(snapshot);
        let mut tls = snapshot.listeners.values().filter(|listener| listener.tls.is_some() && listener.tcp.is_none());
        let port =
            tls.find_map(|listener| addresses.get(&listener.name)?.iter().find_map(Address::tcp)).map(|found| found.port());
        for listener in snapshot.listeners.values_mut() {
            if listener.redirect_to_https == Some(0)
                && let Some(listener) = Arc::get_mut(listener)
            {
                listener.redirect_to_https = port;
            }
        }
    }
}
