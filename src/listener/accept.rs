//! Binding and accepting.

use std::{
    io,
    net::SocketAddr,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::{FileTypeExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use socket2::{SockRef, Socket as RawSocket, Type};
use tokio::{
    net::{TcpListener, UnixListener},
    sync::watch,
};

use super::{ConnectionLimit, Shared, connection, limit::Place, quic, tcp, turned};
use crate::{
    exchange::Door,
    quic::{Endpoint, Handed},
    snapshot::Listener,
    types::Address,
    wire::{self, Socket},
};

/// Connections that wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 65535;

/// A socket that listens.
#[derive(Debug)]
pub struct Bound {
    socket: Listening,
    address: Address,
}

#[derive(Debug)]
enum Listening {
    Tcp(TcpListener),
    /// The file goes when this is dropped.
    Unix(UnixListener, SocketFile),
    /// HTTP/3.
    Quic(Endpoint),
}

#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    owned: AtomicBool,
}

impl SocketFile {
    fn new(path: PathBuf) -> Self {
        Self { path, owned: AtomicBool::new(true) }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if *self.owned.get_mut() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// What connections of a bound socket come in by, now: a reload may change it while the socket goes on accepting.
#[derive(Debug)]
pub struct Slot {
    opening: ArcSwap<Opening>,
    retired: watch::Sender<bool>,
}

#[derive(Debug, Clone)]
pub(super) struct Opening {
    pub(super) listener: Arc<Listener>,
    pub(super) door: Arc<Door>,
    /// Counts the connections of the listener, over all of its addresses.
    open: ConnectionLimit,
}

impl Opening {
    /// A place for one more connection, if there is one: otherwise it is counted as refused.
    pub(super) fn enter(&self, shared: &Shared) -> Option<(Place, Place)> {
        let refused = |reason| {
            shared.observer.metrics().rejected(reason);
            None
        };
        let Some(place) = shared.open.enter(shared.max_connections) else { return refused("connection_limit") };
        let Some(in_listener) = self.open.enter(self.listener.max_connections.unwrap_or(usize::MAX)) else {
            return refused("listener_connection_limit");
        };
        Some((place, in_listener))
    }
}

impl Slot {
    /// A slot of this listener.
    pub fn new(listener: Arc<Listener>, door: Arc<Door>, open: ConnectionLimit) -> Self {
        Self { opening: ArcSwap::from_pointee(Opening { listener, door, open }), retired: watch::Sender::new(false) }
    }
    /// New connections come in by this from now on.
    pub fn set(&self, listener: Arc<Listener>, door: Arc<Door>, open: ConnectionLimit) {
        self.opening.store(Arc::new(Opening { listener, door, open }));
    }
    /// What a connection that comes now comes in by.
    pub(super) fn opening(&self) -> Opening {
        Opening::clone(&self.opening.load())
    }
    /// Turns true once, when no new connections are let in.
    pub(super) fn retired(&self) -> watch::Receiver<bool> {
        self.retired.subscribe()
    }
    /// No new connections: the socket is closed when its backlog is empty.
    pub fn retire(&self) {
        self.retired.send_replace(true);
    }
}

/// Binds and listens. The error names the address.
pub fn bind(address: &Address) -> io::Result<Bound> {
    bind_beside(address, &[])
}

/// As [`bind`], and beside sockets of ours that will be closed: from `0.0.0.0:80` to `127.0.0.1:80` and back, a port is
/// never without a listener.
pub fn bind_beside(address: &Address, leaving: &[&Bound]) -> io::Result<Bound> {
    let in_context = |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"));
    match address {
        Address::Tcp(wanted) => {
            let socket = beside(leaving, |beside| bind_tcp(*wanted, beside)).map_err(in_context)?;
            let address = Address::Tcp(socket.local_addr()?);
            Ok(Bound { socket: Listening::Tcp(socket), address })
        }
        Address::Unix(path) => {
            let socket = bind_unix(path).map_err(in_context)?;
            Ok(Bound { socket: Listening::Unix(socket, SocketFile::new(path.clone())), address: address.clone() })
        }
    }
}

/// Binds, if need be beside sockets of ours that will be closed.
fn beside<T>(leaving: &[&Bound], bind: impl Fn(bool) -> io::Result<T>) -> io::Result<T> {
    match bind(false) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && !leaving.is_empty() => {
            leaving.iter().try_for_each(|socket| socket.share_port())?;
            bind(true)
        }
        bound => bound,
    }
}

/// Binds for HTTP/3, likewise. The error names the address.
pub fn bind_datagrams(address: &Address, leaving: &[&Bound]) -> io::Result<Bound> {
    let Address::Tcp(wanted) = address else { return Err(io::Error::other("a unix socket has no UDP")) };
    let endpoint = beside(leaving, |beside| Endpoint::bind(*wanted, beside))
        .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address} over UDP, for HTTP/3: {error}")))?;
    Ok(Bound { socket: Listening::Quic(endpoint), address: address.clone() })
}

fn bind_tcp(address: SocketAddr, beside: bool) -> io::Result<TcpListener> {
    let socket = wire::unbound(address, Type::STREAM)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(beside)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    // Nobody else may join later: a second edge that is started by mistake is told so.
    socket.set_reuse_port(false)?;
    TcpListener::from_std(socket.into())
}

/// Replaces a stale socket file (nobody listens on it), and nothing else.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    if let Ok(found) = std::fs::symlink_metadata(path)
        && found.file_type().is_socket()
        && std::os::unix::net::UnixStream::connect(path).is_err()
    {
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    // Who may connect is decided by the directory; a reverse proxy's clients are rarely of its own group.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
    Ok(listener)
}

impl Bound {
    /// A socket that another process has bound.
    ///
    /// # Errors
    /// When it does not listen, or for something else than streams over TCP or a unix socket with a path.
    pub fn adopt(descriptor: OwnedFd) -> io::Result<Self> {
        let socket = RawSocket::from(descriptor);
        let other = || io::Error::other("an inherited descriptor is no listening socket of TCP or with a path");
        if !socket.is_listener()? {
            return Err(other());
        }
        socket.set_nonblocking(true)?;
        let local = socket.local_addr()?;
        if let Some(address) = local.as_socket() {
            let socket = TcpListener::from_std(socket.into())?;
            return Ok(Self { socket: Listening::Tcp(socket), address: Address::Tcp(address) });
        }
        let path = local.as_pathname().ok_or_else(other)?.to_owned();
        let socket = UnixListener::from_std(OwnedFd::from(socket).into())?;
        Ok(Self { socket: Listening::Unix(socket, SocketFile::new(path.clone())), address: Address::Unix(path) })
    }

    /// Is it a socket of UDP?
    ///
    /// # Errors
    /// When it is no socket.
    pub fn is_datagrams(descriptor: &OwnedFd) -> io::Result<bool> {
        Ok(SockRef::from(descriptor).r#type()? == Type::DGRAM)
    }

    /// A socket for HTTP/3 that another process has bound, and how to reach that process if it has connections.
    ///
    /// # Errors
    /// When it is none of UDP.
    pub fn adopt_datagrams(descriptor: OwnedFd, before: Option<Handed>) -> io::Result<Self> {
        let endpoint = Endpoint::adopt(descriptor, before)?;
        let address = Address::Tcp(endpoint.address());
        Ok(Self { socket: Listening::Quic(endpoint), address })
    }

    /// What a next process needs beside a socket for HTTP/3.
    ///
    /// # Errors
    /// When the system refuses it.
    pub fn offer(&self) -> io::Result<Option<Handed>> {
        match &self.socket {
            Listening::Quic(endpoint) => endpoint.offer().map(Some),
            Listening::Tcp(_) | Listening::Unix(..) => Ok(None),
        }
    }

    /// The socket, for another process to inherit.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Listening::Tcp(socket) => socket.as_fd(),
            Listening::Unix(socket, _) => socket.as_fd(),
            Listening::Quic(endpoint) => endpoint.descriptor(),
        }
    }

    /// The file of a unix socket, and the packets of UDP, belong to another process from now on.
    pub fn disown(&self) {
        match &self.socket {
            Listening::Tcp(_) => {}
            Listening::Unix(_, file) => file.owned.store(false, Relaxed),
            Listening::Quic(endpoint) => endpoint.leave(),
        }
    }

    /// The address, with the real port when 0 was asked for.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Lets another socket of this process be bound to an address that includes or is included in this one's, which
    /// the system refuses otherwise. For one that is about to be closed.
    pub fn share_port(&self) -> io::Result<()> {
        match &self.socket {
            Listening::Tcp(listener) => SockRef::from(listener).set_reuse_port(true),
            Listening::Quic(endpoint) => endpoint.share_port(),
            Listening::Unix(..) => Ok(()),
        }
    }

    /// Accepts until the drain begins, the slot is retired or `stop` turns true, then closes the socket. Who waits in
    /// the backlog when the drain begins is still let in: the client is connected, and closing the socket would reset it.
    pub async fn run(self: Arc<Self>, slot: Arc<Slot>, shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
        if let Listening::Quic(endpoint) = &self.socket {
            return quic::run(endpoint, &slot, &shared, stop).await;
        }
        let (mut draining, mut retired) = (shared.draining.clone(), slot.retired());
        loop {
            let accepted = tokio::select! {
                biased;
                _ = turned(&mut stop) => return,
                accepted = self.accept() => accepted,
                _ = turned(&mut draining) => return,
                _ = turned(&mut retired) => return,
            };
            let (socket, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(_) if *draining.borrow() || *retired.borrow() => return,
                Err(error) => {
                    // Out of descriptors or memory: those who wait in the backlog are served when it is over.
                    log::warn!("accepting on {} failed: {error}", self.address);
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            // The listener as it is configured now: a reload reaches new connections.
            let opening = slot.opening();
            let Some(places) = opening.enter(&shared) else { continue };
            let Opening { listener, door, .. } = opening;
            // Boxed, as in `spawn`: it is held by the block below.
            let task: Pin<Box<dyn Future<Output = ()> + Send>> = match listener.tcp {
                None => Box::pin(connection::serve(socket, peer, listener, door, shared.clone())),
                Some(_) => Box::pin(tcp::serve(socket, peer, listener, shared.clone())),
            };
            shared.spawn(async move {
                task.await;
                drop(places);
            });
        }
    }

    async fn accept(&self) -> io::Result<(Socket, Option<SocketAddr>)> {
        match &self.socket {
            Listening::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                wire::set_options(&stream);
                Ok((stream.into(), Some(peer)))
            }
            Listening::Unix(listener, _) => Ok((listener.accept().await?.0.into(), None)),
            Listening::Quic(_) => Err(io::Error::other("HTTP/3 has no stream of bytes")),
        }
    }
}
