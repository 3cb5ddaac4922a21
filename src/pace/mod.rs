//! Layer 1: the slow side sets the pace. How much of one exchange may be in this process, whichever versions its two sides speak.
//!
//! Both directions pass through queues that are not ours: Pingora's, the library's for HTTP/2, the kernel's. What bounds the memory of
//! an exchange is therefore counted at the two ends. The side that reads asks here before it reads, the side that writes tells here
//! what the other machine has taken: [`Window`] for the response, [`Upload`] for the request towards an HTTP/2 endpoint.
//!
//! Both ends run in the task of the request, which finds its [`Pace`] by [`Pace::current`].

mod allowance;
mod clock;
mod deadlines;
mod sending;
mod upload;
mod window;

pub use allowance::{Allowance, Share};
pub use clock::Clock;
pub use deadlines::{Deadlines, Limit, Watch};
pub use sending::{Sending, Sent, SentFrames};
pub use upload::{Progress, Upload};
pub use window::Window;

use std::{future::Future, sync::Arc, time::Duration};

/// How long an endpoint may be silent where nothing else says it.
const ORPHANED: Duration = Duration::from_secs(30);

tokio::task_local! {
    static CURRENT: Arc<Pace>;
}

/// The flow of one exchange.
#[derive(Debug, Default)]
pub struct Pace {
    /// Of the response.
    pub window: Window,
    /// Of the request, where it goes to an HTTP/2 endpoint.
    pub upload: Upload,
    /// How long it may wait.
    pub deadlines: Deadlines,
}

impl Pace {
    /// Of a request whose client has one response at a time on its connection.
    pub fn alone() -> Arc<Self> {
        Arc::default()
    }

    /// Of a request whose client has several responses at a time on its connection.
    pub fn sharing(share: Share) -> Arc<Self> {
        Arc::new(Self { window: Window::sharing(share), ..Self::default() })
    }

    /// Of a request that is made for no client.
    pub fn unpaced() -> Arc<Self> {
        Arc::new(Self { window: Window::unpaced(), deadlines: Deadlines::unwatched(), ..Self::default() })
    }

    /// How long an endpoint may be silent, where nobody reads from the client any more and could see to the limits.
    pub fn orphaned(&self) -> Option<Duration> {
        (self.deadlines.is_watched() && self.window.is_unpaced()).then(|| self.deadlines.silence().unwrap_or(ORPHANED))
    }

    /// Runs the future as the task of this exchange.
    pub fn scope<F: Future>(self: Arc<Self>, future: F) -> impl Future<Output = F::Output> {
        CURRENT.scope(self, future)
    }

    /// The exchange that this task serves; `None` outside of one, as for an idle connection in a pool.
    pub fn current() -> Option<Arc<Self>> {
        CURRENT.try_with(Arc::clone).ok()
    }

    /// The same, without another reference to it.
    pub fn with<R>(look: impl FnOnce(&Self) -> R) -> Option<R> {
        CURRENT.try_with(|pace| look(pace)).ok()
    }
}
