//! What the gate knows of a request, on its way into the context that Pingora makes for it.

use std::{cell::RefCell, future::Future, sync::Arc};

use crate::{
    gate::Admitted,
    listener::{Began, Connection, Link},
    pace::{Deadlines, Pace},
    tunnel::Tunnel,
};

tokio::task_local! {
    /// Pingora calls `new_ctx` without the session, in the task that serves it: the arrival waits here.
    static ARRIVAL: RefCell<Option<Arrival>>;
}

/// A request that the gate has admitted.
#[derive(Debug)]
pub struct Arrival {
    /// The connection it came on.
    pub connection: Arc<Connection>,
    /// What the gate found.
    pub admitted: Admitted,
    /// When it began.
    pub began: Began,
    /// The HTTP/1 stream it came on.
    pub link: Option<Arc<Link>>,
    /// How much of it may be in this process.
    pub pace: Arc<Pace>,
    /// The connection closes after it.
    pub last: bool,
}

impl Arrival {
    /// A request on an HTTP/1 connection.
    pub fn h1(connection: Arc<Connection>, admitted: Admitted, began: Began, link: Arc<Link>, last: bool) -> Self {
        let pace = link.pace().clone();
        Self { connection, admitted, began, link: Some(link), pace, last }
    }

    /// A request on an HTTP/2 stream.
    pub fn h2(connection: Arc<Connection>, admitted: Admitted, began: Began, pace: Arc<Pace>) -> Self {
        Self { connection, admitted, began, link: None, pace, last: false }
    }

    /// The limits of the exchange.
    pub(super) fn deadlines(&self) -> &Deadlines {
        &self.pace.deadlines
    }

    /// The tunnel that it asks for.
    pub(super) fn tunnel(&self) -> Option<&Arc<Tunnel>> {
        self.link.as_ref()?.tunnel()
    }

    /// The same request once more, from now, for no connection that would wait for it.
    pub(super) fn again(&self) -> Self {
        Self {
            connection: self.connection.clone(),
            admitted: self.admitted.clone(),
            began: Began::now(),
            link: None,
            pace: Pace::unpaced(),
            last: false,
        }
    }

    /// Runs the future with this arrival waiting for `new_ctx`.
    pub async fn scope<F: Future>(self, future: F) -> F::Output {
        let pace = self.pace.clone();
        pace.scope(ARRIVAL.scope(RefCell::new(Some(self)), future)).await
    }

    /// The arrival of the request that this task serves.
    pub(super) fn current() -> Self {
        // Only `listener` hands requests to the proxy, and always within `scope`.
        ARRIVAL.with(|arrival| arrival.borrow_mut().take()).expect("requests come through the listener")
    }
}
