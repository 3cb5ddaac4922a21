//! Layer 9: the admin listener. Health, metrics, state, and the commands of an operator.
//!
//! Reading goes through [`Metrics`] and a [`StateSource`], changing through [`Commands`]; nothing here touches the
//! proxy itself. Who may do what is one file, `access.rs`, ahead of every page. No page shows a secret: what is
//! served is made of names, numbers and addresses.

mod access;
mod answer;
mod api;
mod commands;
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

use arc_swap::ArcSwap;
pub use commands::{Applied, Change, Commands, Guard, Override, Probation, Refused, Running, Target};
pub use serve::{Accept, serve};
pub use token::Token;

use live::Live;

use crate::{
    observe::{Metrics, Observer, StateSource},
    snapshot::Store,
    types::Address,
};

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
    pub token: ArcSwap<Token>,
    /// Where this listener is bound, with the real port.
    pub address: Address,
}

/// What the pages share.
pub struct AdminState {
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
    /// What the pages of one admin listener share.
    pub fn new(sources: Sources) -> Self {
        Self { sources, live: Live::default() }
    }
    fn shows_dashboard(&self) -> bool {
        self.store.load().spec.admin.on().is_none_or(|admin| admin.dashboard)
    }
    fn metrics(&self) -> &Metrics {
        self.observer.metrics()
    }
    fn is_ready(&self) -> bool {
        self.ready.load(Relaxed)
    }
}

#[cfg(test)]
mod tests;
