//! A bound UDP socket, and the connections on it.

use std::{
    fmt, io,
    net::{SocketAddr, UdpSocket},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use log::Level;
use parking_lot::Mutex;
use quinn::{
    EndpointConfig, Runtime, ServerConfig, TokioRuntime, TransportConfig, VarInt,
    crypto::rustls::{NoInitialCipherSuite, QuicServerConfig},
};
use socket2::{SockRef, Socket as RawSocket, Type};
use tokio::sync::watch;

use super::{
    ids::{Ids, Tag},
    relay::Link,
    socket::{Before, Socket},
    streams::FIRST_SEND_WINDOW,
};
use crate::{observe::process_log, wire};

/// Bytes of packets that may wait in the kernel: some 30 ms of 1 Gbit/s.
const BUFFER: usize = 4 * 1024 * 1024;

/// A socket and its connections.
pub struct Endpoint {
    quic: quinn::Endpoint,
    socket: Arc<Socket>,
    /// Another handle of the same socket.
    descriptor: OwnedFd,
    address: SocketAddr,
    /// Our end of a link to a process that may take over.
    offered: Mutex<Option<Link>>,
    /// Who accepts: the last one that has begun to.
    turns: watch::Sender<u64>,
}

/// The right to accept connections, until somebody else takes it.
#[derive(Debug)]
pub struct Turn {
    mine: u64,
    turns: watch::Receiver<u64>,
}

impl Turn {
    /// Resolves when somebody else accepts.
    pub async fn over(&mut self) {
        let mine = self.mine;
        let _ = self.turns.wait_for(|turn| *turn != mine).await;
    }
}

/// What a next process needs beside the socket.
#[derive(Debug)]
pub struct Handed {
    /// Its end of the link.
    pub link: OwnedFd,
    /// Whose connections it must pass on.
    pub tags: Vec<Tag>,
}

impl Endpoint {
    /// Binds the address; `beside` another socket of ours that has it, too. Within a runtime.
    ///
    /// # Errors
    /// When the system does not allow it.
    pub fn bind(address: SocketAddr, beside: bool) -> io::Result<Self> {
        let socket = wire::unbound(address, Type::DGRAM)?;
        socket.set_reuse_port(beside)?;
        socket.bind(&address.into())?;
        // Nobody else may join later.
        socket.set_reuse_port(false)?;
        size(&socket, address);
        Self::new(socket.into(), None)
    }

    /// A socket that another process has bound.
    ///
    /// # Errors
    /// When it is none of UDP.
    pub fn adopt(descriptor: OwnedFd, before: Option<Handed>) -> io::Result<Self> {
        let socket = RawSocket::from(descriptor);
        if socket.r#type()? != Type::DGRAM {
            return Err(io::Error::other("an inherited descriptor is no socket of UDP"));
        }
        let link = |handed: Handed| io::Result::Ok(Before::new(Link::new(handed.link)?, handed.tags));
        Self::new(socket.into(), before.map(link).transpose()?)
    }

    fn new(socket: UdpSocket, before: Option<Before>) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let (address, descriptor) = (socket.local_addr()?, socket.as_fd().try_clone_to_owned()?);
        let tag = Tag::new();
        let socket = Arc::new(Socket::new(TokioRuntime.wrap_udp_socket(socket)?, tag, before));
        let mut config = EndpointConfig::default();
        config.cid_generator(move || Box::new(Ids(tag)));
        let quic = quinn::Endpoint::new_with_abstract_socket(config, None, socket.clone(), Arc::new(TokioRuntime))?;
        Ok(Self { quic, socket, descriptor, address, offered: Mutex::default(), turns: watch::Sender::new(0) })
    }

    /// The connections.
    pub fn quic(&self) -> &quinn::Endpoint {
        &self.quic
    }

    /// Takes the right to accept: whoever had it only waits for connections to end, and need not any more.
    pub fn take_turn(&self) -> Turn {
        self.turns.send_modify(|turn| *turn += 1);
        let turns = self.turns.subscribe();
        let mine = *turns.borrow();
        Turn { mine, turns }
    }

    /// The address, with the real port when 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The socket, for another process to inherit.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    /// Lets another socket of ours be bound to an address that includes or is included in this one's.
    ///
    /// # Errors
    /// When the system refuses it.
    pub fn share_port(&self) -> io::Result<()> {
        SockRef::from(&self.descriptor).set_reuse_port(true)
    }

    /// Offers the socket to another process. Nothing changes before [`Endpoint::leave`].
    ///
    /// # Errors
    /// When there is no link to be had.
    pub fn offer(&self) -> io::Result<Handed> {
        let (ours, link) = Link::pair()?;
        *self.offered.lock() = Some(ours);
        Ok(Handed { link, tags: self.socket.tags() })
    }

    /// The process that it was offered to last reads the socket from now on.
    pub fn leave(&self) {
        if let Some(link) = self.offered.lock().take() {
            self.socket.leave_to(link);
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Asks for large buffers, and says so when the system gives less: what does not fit is lost, and sent again more slowly.
fn size(socket: &RawSocket, address: SocketAddr) {
    let _ = socket.set_send_buffer_size(BUFFER);
    let _ = socket.set_recv_buffer_size(BUFFER);
    // Linux counts its own structures in, and doubles what is asked for.
    let Ok(got) = socket.recv_buffer_size().map(|size| size / 2) else { return };
    if got < BUFFER {
        let message = format!(
            "HTTP/3 on {address}: the receive buffer is {} KiB, not {}: `sysctl -w net.core.rmem_max={BUFFER}` and the same for \
             `net.core.wmem_max` allow more, and bursts lose less",
            got / 1024,
            BUFFER / 1024
        );
        let facts = process_log::facts([("address", address.to_string().into()), ("bytes", got.into())]);
        process_log::event(Level::Info, module_path!(), &message, &facts);
    }
}

/// How connections of a listener are served: with this TLS, so many requests at a time, and at most so long in silence.
///
/// # Errors
/// When the TLS has no cipher that the protocol needs.
pub fn server_config(
    tls: Arc<rustls::ServerConfig>,
    requests: u32,
    silence: Duration,
) -> Result<ServerConfig, NoInitialCipherSuite> {
    // As over HTTP/2: what one client can make us buffer of a request's body, and of all of them.
    const STREAM_WINDOW: u32 = 256 * 1024;
    const WINDOW: u32 = 1024 * 1024;
    // Settings, and two of header compression; the others are grease.
    const ONE_WAY: u32 = 8;
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(requests.into())
        .max_concurrent_uni_streams(ONE_WAY.into())
        .stream_receive_window(STREAM_WINDOW.into())
        .receive_window(WINDOW.into())
        .send_window(FIRST_SEND_WINDOW)
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(VarInt::from_u64(silence.as_millis() as u64).ok().map(Into::into));
    let mut config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    config.transport_config(Arc::new(transport));
    Ok(config)
}
