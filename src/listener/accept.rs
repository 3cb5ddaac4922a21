//! Binding and accepting.

use std::{
    io,
    net::{Ipv6Addr, SocketAddr},
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use socket2::{Domain, Protocol, SockRef, Socket as RawSocket, TcpKeepalive, Type};
use tokio::{
    net::{TcpListener, UnixListener},
    sync::watch,
};

use super::{ConnectionLimit, Shared, connection, socket::Socket, tcp, turned};
use crate::types::{Address, Name};

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
    Unix(UnixListener, #[expect(dead_code, reason = "removes the socket's file when dropped")] SocketFile),
}

#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Binds and listens. The error names the address.
pub fn bind(address: &Address) -> io::Result<Bound> {
    let in_context = |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"));
    match address {
        Address::Tcp(wanted) => {
            let socket = bind_tcp(*wanted).map_err(in_context)?;
            let address = Address::Tcp(socket.local_addr()?);
            Ok(Bound { socket: Listening::Tcp(socket), address })
        }
        Address::Unix(path) => {
            let socket = bind_unix(path).map_err(in_context)?;
            Ok(Bound { socket: Listening::Unix(socket, SocketFile(path.clone())), address: address.clone() })
        }
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = RawSocket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // `[::]` takes IPv4 too, as on every other edge; a specific address does not.
        socket.set_only_v6(address.ip() != Ipv6Addr::UNSPECIFIED)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
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
    /// The address, with the real port when 0 was asked for.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Accepts until the drain begins or `stop` turns true, then closes the socket. Who waits in the backlog when the
    /// drain begins is still let in: the client is connected, and closing the socket would reset it.
    ///
    /// `open` counts the connections of the listener, over all of its addresses.
    pub async fn run(self, name: Name, open: ConnectionLimit, shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
        let mut draining = shared.draining.clone();
        loop {
            let accepted = tokio::select! {
                biased;
                _ = turned(&mut stop) => return,
                accepted = self.accept() => accepted,
                _ = turned(&mut draining) => return,
            };
            let (socket, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(_) if *draining.borrow() => return,
                Err(error) => {
                    // Out of descriptors or memory: those who wait in the backlog are served when it is over.
                    log::warn!("accepting on {} failed: {error}", self.address);
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            // The listener as it is configured now: a reload reaches new connections.
            let Some(listener) = shared.store.load().listeners.get(&name).cloned() else { return };
            let Some(place) = shared.open.enter(shared.max_connections) else {
                shared.observer.metrics().rejected("connection_limit");
                continue;
            };
            let Some(place_in_listener) = open.enter(listener.max_connections.unwrap_or(usize::MAX)) else {
                shared.observer.metrics().rejected("listener_connection_limit");
                continue;
            };
            // Boxed, as in `spawn`: it is held by the block below.
            let task: Pin<Box<dyn Future<Output = ()> + Send>> = match listener.tcp {
                None => Box::pin(connection::serve(socket, peer, listener, shared.clone())),
                Some(_) => Box::pin(tcp::serve(socket, peer, listener, shared.clone())),
            };
            shared.spawn(async move {
                task.await;
                drop((place, place_in_listener));
            });
        }
    }

    async fn accept(&self) -> io::Result<(Socket, Option<SocketAddr>)> {
        match &self.socket {
            Listening::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                // A socket that died between accept and here fails its first read soon enough.
                let _ = stream.set_nodelay(true);
                let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15));
                let _ = SockRef::from(&stream).set_tcp_keepalive(&keepalive);
                Ok((stream.into(), Some(peer)))
            }
            Listening::Unix(listener, _) => Ok((listener.accept().await?.0.into(), None)),
        }
    }
}
