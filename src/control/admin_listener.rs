//! The admin listener, which a reload may move, close and give another token.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use tokio::{net::TcpListener, sync::watch};
use tokio_util::task::TaskTracker;

use super::{Inherited, handover};
use crate::{
    admin::{self, AdminState, Token},
    config::{AdminSpec, Spec},
    types::{Address, Secret},
};

/// A bound socket for the admin API.
pub(crate) struct AdminSocket {
    listener: TcpListener,
    address: Address,
}

impl AdminSocket {
    /// A socket that was inherited.
    pub(crate) fn adopt(socket: std::net::TcpListener) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let address = Address::Tcp(socket.local_addr()?);
        Ok(Self { listener: TcpListener::from_std(socket)?, address })
    }

    /// Binds the admin address. The error names it.
    pub(crate) async fn bind(options: &AdminSpec) -> io::Result<Self> {
        let Address::Tcp(address) = &options.address else {
            return Err(io::Error::other("the admin address must be IP:port"));
        };
        let in_context =
            |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {address} for the admin API: {error}"));
        let listener = TcpListener::bind(address).await.map_err(in_context)?;
        let address = Address::Tcp(listener.local_addr()?);
        Ok(Self { listener, address })
    }
}

/// The admin listener of a running edge.
pub(crate) struct AdminListener {
    options: AdminSpec,
    state: Arc<AdminState>,
    /// A second handle on the socket that accepts.
    socket: Option<OwnedFd>,
    /// Closes it when dropped.
    _going_on: watch::Sender<()>,
}

impl AdminListener {
    /// Binds what a configuration asks for beyond what is there: `None` if that is nothing.
    pub(crate) async fn prepare(now: Option<&Self>, spec: &Spec, inherited: &mut Inherited) -> io::Result<Option<AdminSocket>> {
        match spec.admin.on() {
            Some(options) if inherited.admin.as_ref().is_some_and(|socket| handover::fits(socket, &options.address)) => {
                inherited.admin.take().map(AdminSocket::adopt).transpose()
            }
            Some(options) if now.is_none_or(|now| now.options.address != options.address) => {
                AdminSocket::bind(options).await.map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Becomes what a configuration asks for. `socket` is what [`AdminListener::prepare`] gave, `state` makes what its
    /// pages are made from.
    pub(crate) fn apply(
        now: Option<Self>,
        spec: &Spec,
        socket: Option<AdminSocket>,
        tasks: &TaskTracker,
        state: impl FnOnce(Token, Address) -> AdminState,
    ) -> Option<Self> {
        let options = spec.admin.on()?.clone();
        let token = match &now {
            // A token that was made stays, as long as none is configured.
            Some(now) if options.token == now.options.token => Token::clone(&now.state.token.load()),
            _ => Token::new(&options.token),
        };
        match (now, socket) {
            (_, Some(AdminSocket { listener, address })) => {
                let state = Arc::new(state(token, address));
                let socket = listener.as_fd().try_clone_to_owned().ok();
                let (going_on, mut gone) = watch::channel(());
                let closed = async move {
                    let _ = gone.changed().await;
                };
                tasks.spawn(admin::serve(listener, state.clone(), closed));
                Some(Self { options, state, socket, _going_on: going_on })
            }
            (Some(now), None) => {
                now.state.token.store(Arc::new(token));
                Some(Self { options, ..now })
            }
            (None, None) => None,
        }
    }

    /// Its socket, for another process to inherit.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }
    /// Where it answers.
    pub(crate) fn address(&self) -> &Address {
        &self.state.address
    }
    /// The bearer token, configured or made.
    pub(crate) fn token(&self) -> Secret {
        let token = self.state.token.load();
        token.made().cloned().unwrap_or_else(|| self.options.token.clone())
    }
    /// Was the token made for lack of a configured one?
    pub(crate) fn is_token_made(&self) -> bool {
        self.state.token.load().made().is_some()
    }
}
