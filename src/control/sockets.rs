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
    /// The socket for HTTP/3 beside that one.
    Datagrams(Box<Key>),
}

impl Key {
    /// Is it that of a socket for HTTP/3?
    pub(super) fn is_datagrams(&self) -> bool {
        matches!(self, Key::Datagrams(_))
    }
}

/// Bound sockets.
#[derive(Debug, Default, Clone)]
pub(crate) struct Sockets(pub(super) BTreeMap<Key, Arc<Bound>>);

/// Ports that the system may give for TCP before one is free for UDP, too.
const TRIES: usize = 16;

/// The sockets that a configuration wants, with their listeners: the one for HTTP/3 right behind the one that it is beside.
pub(super) fn wanted(snapshot: &Snapshot) -> impl Iterator<Item = (Key, &Name, &Address)> {
    snapshot.listeners.iter().flat_map(|(name, listener)| {
        listener.addresses.iter().enumerate().flat_map(move |(index, address)| {
            let any = address.tcp().is_some_and(|address| address.port() == 0);
            let key = if any { Key::Any(name.clone(), index) } else { Key::Fixed(address.clone()) };
            let datagrams = (listener.speaks_h3() && address.tcp().is_some()).then(|| Key::Datagrams(Box::new(key.clone())));
            std::iter::once(key).chain(datagrams).map(move |key| (key, name, address))
        })
    })
}

/// Two sockets on the same port, which the system chooses.
fn any_pair(address: &Address) -> io::Result<(Bound, Bound)> {
    let mut tries = 0;
    loop {
        let tcp = listener::bind_beside(address, &[])?;
        match listener::bind_datagrams(tcp.address(), &[]) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries < TRIES => tries += 1,
            datagrams => return Ok((tcp, datagrams?)),
        }
    }
}

impl Sockets {
    /// The sockets of a configuration: those that are bound already, and new ones. On an error nothing stays bound that
    /// was not.
    pub(crate) fn bind(&self, snapshot: &Snapshot) -> io::Result<Self> {
        let wanted: Vec<_> = wanted(snapshot).collect();
        let stays = |key: &Key| wanted.iter().any(|(wanted, ..)| wanted == key);
        let leaving: Vec<&Bound> = self.0.iter().filter(|(key, _)| !stays(key)).map(|(_, bound)| &**bound).collect();
        let mut bound = BTreeMap::<Key, Arc<Bound>>::new();
        for (key, _, address) in wanted {
            if let Some(socket) = self.0.get(&key) {
                bound.insert(key, socket.clone());
                continue;
            }
            let Key::Datagrams(beside) = &key else {
                bound.insert(key, listener::bind_beside(address, &leaving)?.into());
                continue;
            };
            let Some(tcp) = bound.get(beside) else { continue };
            let socket = match (listener::bind_datagrams(tcp.address(), &leaving), &**beside) {
                // The port was the system's choice, and is taken for UDP: another one, unless it is in use already.
                (Err(error), Key::Any(..)) if error.kind() == io::ErrorKind::AddrInUse && !self.0.contains_key(beside) => {
                    let (tcp, datagrams) = any_pair(address)?;
                    bound.insert(Key::clone(beside), tcp.into());
                    datagrams
                }
                (socket, _) => socket?,
            };
            bound.insert(key, socket.into());
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
        for (key, name, _) in wanted(snapshot).filter(|(key, ..)| !key.is_datagrams()) {
            let bound = self.0.get(&key).map(|socket| socket.address().clone());
            addresses.entry(name.clone()).or_default().extend(bound);
        }
        addresses
    }

    /// What names the port of a listener on port 0 names the one that it got: redirects to TLS, and where HTTP/3 is.
    pub(crate) fn resolve_ports(&self, snapshot: &mut Snapshot) {
        let addresses = self.addresses(snapshot);
        let mut tls = snapshot.listeners.values().filter(|listener| listener.tls.is_some() && listener.tcp.is_none());
        let port =
            tls.find_map(|listener| addresses.get(&listener.name)?.iter().find_map(Address::tcp)).map(|found| found.port());
        for (name, listener) in &mut snapshot.listeners {
            if listener.alt_svc.is_some()
                && let Some(address) = addresses.get(name).and_then(|addresses| addresses.iter().find_map(Address::tcp))
                && let Some(listener) = Arc::get_mut(listener)
            {
                listener.advertise(address.port());
            }
            if listener.redirect_to_https == Some(0)
                && let Some(listener) = Arc::get_mut(listener)
            {
                listener.redirect_to_https = port;
            }
        }
    }
}
