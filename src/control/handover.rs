//! Sockets that go from one process to the next, so that a new binary serves without a refused connection: an upgrade,
//! and socket activation by systemd.
//!
//! An upgrade starts the binary anew as a child, which inherits the listening sockets: there is no path by which another
//! process could ask for them. When the child serves it says so through a pipe, and this process drains; a child that
//! fails to start changes nothing. Both accept meanwhile, on the same sockets.

use std::{
    env, io,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd},
    path::PathBuf,
    process::Stdio,
    sync::OnceLock,
    time::Duration,
};

use log::Level;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use serde::{Deserialize, Serialize};
use tokio::{io::AsyncReadExt, net::unix::pipe, process::Command, time::timeout};

use super::{
    Control,
    sockets::{Key, Sockets},
};
use crate::{
    admin::Refused,
    listener::Bound,
    observe::process_log,
    quic::{self, Tag},
    snapshot::Snapshot,
    types::{Address, Name},
};

/// How long a new process may take from its start to serving.
const PATIENCE: Duration = Duration::from_secs(60);

/// Tells a new process which of its descriptors are what, as JSON.
const SOCKETS: &str = "WEIR_INHERITED_SOCKETS";
/// Tells it where to say that it serves.
const READY: &str = "WEIR_INHERITED_READY";

/// The first descriptor that systemd passes (sd_listen_fds(3)).
const FIRST_ACTIVATED: RawFd = 3;
/// More than anybody has, and what comes of a variable that holds something else is bounded.
const MOST_ACTIVATED: RawFd = 1024;

/// The binary as it was called at the start: after an upgrade of the package another one is there.
static BINARY: OnceLock<PathBuf> = OnceLock::new();

/// An inherited socket.
#[derive(Debug, Serialize, Deserialize)]
struct Handed {
    descriptor: RawFd,
    purpose: Purpose,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Purpose {
    /// A listener's, by its own address.
    Address,
    /// A listener's that asked for any port: its name, and which of its addresses.
    Listener(Name, usize),
    /// The one for HTTP/3 beside another: the descriptor of the link to this process, and whose connections it has.
    Datagrams { beside: Box<Purpose>, link: RawFd, tags: Vec<Tag> },
    /// The admin API's.
    Admin,
}

impl Purpose {
    /// Of a socket with this key.
    fn of(key: &Key) -> Self {
        match key {
            Key::Fixed(_) => Purpose::Address,
            Key::Any(name, index) => Purpose::Listener(name.clone(), *index),
            Key::Datagrams(beside) => Purpose::of(beside),
        }
    }

    /// The key of such a socket at this address.
    fn key(self, address: &Address) -> Key {
        match self {
            Purpose::Listener(name, index) => Key::Any(name, index),
            Purpose::Datagrams { beside, .. } => Key::Datagrams(Box::new(beside.key(address))),
            Purpose::Address | Purpose::Admin => Key::Fixed(address.clone()),
        }
    }
}

/// The descriptors that a process was given by the one before it, or by systemd, and what each is.
#[derive(Debug, Default)]
pub struct Descriptors {
    sockets: Vec<(OwnedFd, Purpose)>,
    /// They come from systemd.
    activated: bool,
    ready: Option<OwnedFd>,
}

impl Descriptors {
    /// Takes what was inherited. To be called once, before this process opens anything: it owns the descriptors from then on.
    ///
    /// # Errors
    /// When the environment names something that is not open.
    pub fn claim() -> io::Result<Self> {
        if let Ok(binary) = env::current_exe() {
            let _ = BINARY.set(binary);
        }
        let mut claimed = Self::default();
        if let Ok(text) = env::var(SOCKETS) {
            let handed: Vec<Handed> =
                serde_json::from_str(&text).map_err(|error| io::Error::other(format!("{SOCKETS}: {error}")))?;
            for Handed { descriptor, purpose } in handed {
                claimed.sockets.push((own(descriptor)?, purpose));
            }
            claimed.ready = env::var(READY).ok().and_then(|text| text.parse().ok()).map(own).transpose()?;
        } else if env::var("LISTEN_PID").is_ok_and(|pid| pid == std::process::id().to_string()) {
            claimed.activated = true;
            let count: RawFd = env::var("LISTEN_FDS").ok().and_then(|count| count.parse().ok()).unwrap_or_default();
            for descriptor in FIRST_ACTIVATED..FIRST_ACTIVATED + count.clamp(0, MOST_ACTIVATED) {
                claimed.sockets.push((own(descriptor)?, Purpose::Address));
            }
        }
        Ok(claimed)
    }
}

/// What a process has inherited, to be used instead of binding anew.
#[derive(Debug, Default)]
pub struct Inherited {
    pub(super) sockets: Sockets,
    pub(super) admin: Option<std::net::TcpListener>,
    activated: bool,
    ready: Option<OwnedFd>,
}

impl Inherited {
    /// Looks at what was claimed. Within a runtime.
    ///
    /// # Errors
    /// When something of it is no listening socket.
    pub fn adopt(claimed: Descriptors) -> io::Result<Self> {
        let mut inherited = Self { ready: claimed.ready, activated: claimed.activated, ..Self::default() };
        claimed.sockets.into_iter().try_for_each(|(descriptor, purpose)| inherited.add(descriptor, purpose))?;
        Ok(inherited)
    }

    fn add(&mut self, descriptor: OwnedFd, purpose: Purpose) -> io::Result<()> {
        if let Purpose::Admin = purpose {
            self.admin = Some(std::net::TcpListener::from(descriptor));
            return Ok(());
        }
        let (purpose, bound) = match purpose {
            Purpose::Datagrams { beside, link, tags } => {
                let bound = Bound::adopt_datagrams(descriptor, Some(quic::Handed { link: own(link)?, tags }))?;
                (Purpose::Datagrams { beside, link, tags: Vec::new() }, bound)
            }
            // From systemd: `ListenDatagram`.
            Purpose::Address if Bound::is_datagrams(&descriptor)? => (
                Purpose::Datagrams { beside: Box::new(Purpose::Address), link: -1, tags: Vec::new() },
                Bound::adopt_datagrams(descriptor, None)?,
            ),
            purpose => (purpose, Bound::adopt(descriptor)?),
        };
        self.sockets.0.insert(purpose.key(bound.address()), bound.into());
        Ok(())
    }

    /// Tells the process before this one that this one serves.
    pub(crate) fn tell_ready(ready: Option<OwnedFd>) {
        if let Some(ready) = ready
            && let Err(error) = nix::unistd::write(ready, b"1")
        {
            log::warn!("the process before this one cannot be told that this one serves: {error}");
        }
    }
    /// Says which sockets will be closed because no listener has their address. Before binding: it explains why an address is
    /// in use.
    pub(crate) fn tell_unused(&self, snapshot: &Snapshot) {
        for address in self.sockets.unused(snapshot) {
            let facts = process_log::facts([("address", address.to_string().into())]);
            let (level, message) = match self.activated {
                true => (
                    Level::Warn,
                    format!(
                        "socket activation: no listener has the address {address}, so the socket from systemd is not used and is \
                         closed: `ListenStream` and a listener's `address` must be the same"
                    ),
                ),
                // A listener that an upgrade removes.
                false => (Level::Info, format!("upgrade: no listener has the address {address} any more: its socket is closed")),
            };
            process_log::event(level, module_path!(), &message, &facts);
        }
    }
    pub(crate) fn sockets(&self) -> &Sockets {
        &self.sockets
    }
    pub(crate) fn take_ready(&mut self) -> Option<OwnedFd> {
        self.ready.take()
    }
}

/// A descriptor that the environment names, closed in children of this process.
fn own(descriptor: RawFd) -> io::Result<OwnedFd> {
    let wrong = || io::Error::other(format!("descriptor {descriptor}, which the environment names, is not open"));
    if descriptor < FIRST_ACTIVATED {
        return Err(wrong());
    }
    // SAFETY: it is beyond the standard streams, this process has opened nothing yet, and that it is open is what the next
    // line finds out, before it is used for anything else.
    let owned = unsafe { OwnedFd::from_raw_fd(descriptor) };
    match fcntl(&owned, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)) {
        Ok(_) => Ok(owned),
        Err(_) => {
            // It owns nothing that could be closed.
            std::mem::forget(owned);
            Err(wrong())
        }
    }
}

/// A copy of a descriptor that children inherit.
fn inheritable(socket: impl AsFd) -> io::Result<OwnedFd> {
    let copy = socket.as_fd().try_clone_to_owned()?;
    fcntl(&copy, FcntlArg::F_SETFD(FdFlag::empty()))?;
    Ok(copy)
}

impl Control {
    /// Starts the binary that is installed now, with the arguments of this process, and lets it take over. The answer is
    /// its process id, once it serves; this process drains then.
    pub(super) async fn hand_over(&self) -> Result<u32, Refused> {
        let failed = |what: &str, error: io::Error| Refused::Failed(format!("{what}: {error}"));
        let mut writer = self.writer().lock().await;
        let mut draining = self.switches().draining.subscribe();
        if *draining.borrow() {
            return Err(Refused::Conflict("the process is draining".to_owned()));
        }
        let binary = BINARY.get().ok_or_else(|| Refused::Conflict("this process was not started as `weir run`".to_owned()))?;
        let (kept, handed) = writer.live.handed().map_err(|error| failed("a socket cannot be handed over", error))?;
        let sockets = serde_json::to_string(&handed).map_err(|error| Refused::Failed(error.to_string()))?;
        let (ours, theirs) = nix::unistd::pipe().map_err(|error| failed("no pipe", error.into()))?;
        let ours = pipe::Receiver::from_owned_fd(ours).map_err(|error| failed("no pipe", error))?;
        let theirs = inheritable(theirs).map_err(|error| failed("no pipe", error))?;
        let mut command = Command::new(binary);
        command
            .args(env::args_os().skip(1))
            .env(SOCKETS, sockets)
            .env(READY, theirs.as_raw_fd().to_string())
            .stdin(Stdio::null());
        log::info!("upgrade: starting {}", binary.display());
        let mut child = command.spawn().map_err(|error| failed(&format!("cannot start {}", binary.display()), error))?;
        drop((kept, theirs));
        let serves = timeout(PATIENCE, serves(ours));
        let outcome = tokio::select! {
            biased;
            serves = serves => serves,
            ended = child.wait() => {
                let status = ended.map_or_else(|error| error.to_string(), |status| status.to_string());
                return Err(self.not_taken_over(format!("it ended ({status})")));
            }
            // Whoever ends this process means the service, and the drain waits for the writer.
            () = async { _ = draining.wait_for(|draining| *draining).await; } => {
                let _ = child.kill().await;
                return Err(Refused::Conflict("the process is draining; the new one was ended".to_owned()));
            }
        };
        match outcome {
            Ok(true) => {}
            late => {
                let _ = child.kill().await;
                let why = if late.is_err() { format!("it did not serve within {PATIENCE:?}") } else { "it ended".to_owned() };
                return Err(self.not_taken_over(why));
            }
        }
        let process = child.id().unwrap_or_default();
        log::info!("upgrade: process {process} serves; this one drains");
        writer.live.leave_to_successor();
        drop(writer);
        self.succeeded(process);
        Ok(process)
    }

    fn not_taken_over(&self, why: String) -> Refused {
        log::error!("upgrade: the new process does not take over, {why}; this one goes on serving");
        Refused::Failed(format!("the new process does not take over: {why}; its log says more. The old one goes on serving"))
    }
}

/// Did the new process say that it serves? False when it closed the pipe, as it does when it ends.
async fn serves(mut pipe: pipe::Receiver) -> bool {
    let mut word = [0; 1];
    matches!(pipe.read(&mut word).await, Ok(1))
}

impl super::Live {
    /// Copies of all listening sockets for a child, and what each is.
    fn handed(&self) -> io::Result<(Vec<OwnedFd>, Vec<Handed>)> {
        let mut copies = Vec::new();
        let mut handed = Vec::new();
        for (key, bound) in &self.bound().0 {
            let mut purpose = Purpose::of(key);
            if let Some(quic::Handed { link, tags }) = bound.offer()? {
                let link = inheritable(link)?;
                purpose = Purpose::Datagrams { beside: Box::new(purpose), link: link.as_raw_fd(), tags };
                copies.push(link);
            }
            let copy = inheritable(bound.descriptor())?;
            handed.push(Handed { descriptor: copy.as_raw_fd(), purpose });
            copies.push(copy);
        }
        if let Some(descriptor) = self.admin().and_then(|admin| admin.descriptor()) {
            let copy = inheritable(descriptor)?;
            handed.push(Handed { descriptor: copy.as_raw_fd(), purpose: Purpose::Admin });
            copies.push(copy);
        }
        Ok((copies, handed))
    }

    /// The files of unix sockets are the successor's now, and the admin API answers there.
    fn leave_to_successor(&mut self) {
        self.bound().0.values().for_each(|bound| bound.disown());
        self.close_admin();
    }
}

/// The address of an inherited admin socket is the one that the configuration asks for.
pub(super) fn fits(listener: &std::net::TcpListener, wanted: &Address) -> bool {
    let Address::Tcp(wanted) = wanted else { return false };
    listener.local_addr().is_ok_and(|local| local.ip() == wanted.ip() && (wanted.port() == 0 || local.port() == wanted.port()))
}
