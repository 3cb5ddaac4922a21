//! Layer 8: the admin listener. Health, metrics, state, and the commands of an operator.
//!
//! Reading goes through [`Metrics`] and a [`StateSource`], changing through [`Commands`]; nothing here touches the
//! proxy itself. Who may do what is one file, `access.rs`, ahead of every page. No page shows a secret: what is
//! served is made of names, numbers and addresses.

mod access;
mod answer;
mod api;
mod dashboard;
mod live;
mod pages;
mod serve;
mod stats;
mod token;
mod verdict;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

pub use serve::{Accept, serve};
pub use token::Token;

use live::Live;

use crate::{
    observe::{Metrics, Observer, StateSource},
    snapshot::Store,
    types::Address,
};

/// What an operator can order. The process decides how it is done.
pub trait Commands: Send + Sync {
    /// Stop being ready, finish what is in flight, exit. Returns at once; saying it twice changes nothing.
    fn drain(&self);
}

/// What the pages are made from.
pub struct Sources {
    /// The metrics, the last errors and the last changes of this process.
    pub observer: Arc<Observer>,
    /// The running configuration.
    pub store: Arc<Store>,
    /// Upstreams and endpoints as they are now.
    pub state: Arc<dyn StateSource>,
    /// Where orders go.
    pub commands: Arc<dyn Commands>,
    /// True while new traffic is welcome: not while starting, not while draining.
    pub ready: Arc<AtomicBool>,
    /// Who may change things.
    pub token: Token,
    /// Where this listener is bound, with the real port.
    pub address: Address,
    /// The dashboard is served.
    pub dashboard: bool,
}

/// What the pages share.
struct AdminState {
    sources: Sources,
    live: Live,
}

impl std::ops::Deref for AdminState {
    type Target = Sources;
    fn deref(&self) -> &Sources {
        &self.sources
    }
}

impl AdminState {
    fn metrics(&self) -> &Metrics {
        self.observer.metrics()
    }
    fn is_ready(&self) -> bool {
        self.ready.load(Relaxed)
    }
}

#[cfg(test)]
mod tests;
