//! Layer 10: the single writer. Everything that changes a running edge goes through [`Control`], one after the other.
//!
//! A change is a new configuration: the file's (or a posted one), with what operators changed at runtime and what
//! discovery adds to it. It is compiled; what it needs of the system is prepared (sockets bound, logs opened); then it is
//! published, all of it or nothing.

mod admin_listener;
mod certificates;
mod file_watch;
mod handover;
mod labels;
mod last_good;
mod live;
mod observers;
mod orders;
mod overrides;
mod probation;
mod sockets;
mod story;
mod writer;

pub use file_watch::watch;
pub use handover::{Descriptors, Inherited};
pub use last_good::load as load_last_good;
pub use writer::{Control, Origin, Overlay};

pub(crate) use admin_listener::AdminListener;
pub(crate) use live::{Live, Ready, open_storage};
pub(crate) use observers::LiveState;
pub(crate) use writer::Switches;
