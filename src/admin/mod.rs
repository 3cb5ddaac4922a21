//! Layer 8: the admin listener. Health, metrics, state, and the commands of an operator.
//!
//! Reading goes through [`Metrics`] and a [`StateSource`], changing through [`Commands`]; nothing here touches the
//! proxy itself. Who may do what is one file, `access.rs`, ahead of every page. No page shows a secret: what is
//! served is made of names, numbers and addresses.

mod access;
mod answer;
mod commands;
mod pages;
mod serve;
mod stats;
mod token;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use arc_swap::ArcSwap;
pub use commands::{Applied, Change, Commands, Guard, Override, Probation, Refused, Running, Target};
pub use serve::{Accept, serve};
pub use token::Token;

use crate::{
    observe::{Metrics, StateSource},
    types::Address,
};

/// What the pages are made from.
pub struct AdminState {
    /// The metrics of this process.
    pub metrics: Arc<Metrics>,
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

impl AdminState {
    fn is_ready(&self) -> bool {
        self.ready.load(Relaxed)
    }
}

#[cfg(test)]
mod tests;
