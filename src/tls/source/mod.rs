//! Where the certificates of a listener come from: one file each, and one line in [`KINDS`].

mod automatic;
mod files;
mod issued;
mod self_signed;

use std::{fmt, path::PathBuf, sync::Arc, time::SystemTime};

use rustls::crypto::CryptoProvider;
use tokio::sync::watch;

use super::{certificate::Certificate, spec::ServerTlsSpec};
use crate::types::At;

pub use issued::{Issued, Issuer, Pair};

/// The kinds, in the order in which their certificates are served.
const KINDS: [Compile; 3] = [files::compile, self_signed::compile, automatic::compile];

/// Makes a source of what the user wrote. `None` where nothing of it is written. Problems are added below `At`; `Err` when one of
/// them is an error.
type Compile = fn(&ServerTlsSpec, &Given<'_>, &At) -> Result<Option<Found>, ()>;

/// Certificates that are served to clients of one listener.
pub(super) trait CertificateSource: fmt::Debug + Send + Sync {
    /// The certificates as they are now, best first. The error has a line for each fault.
    ///
    /// Blocks on the disk where there are files.
    fn load(&self) -> Result<Vec<Arc<Certificate>>, Vec<String>>;

    /// What `load` reads, to watch.
    fn files(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// Counts the changes of a source that changes by itself, and whose `load` reads no file.
    fn changes(&self) -> Option<watch::Receiver<u64>> {
        None
    }
}

/// What sources are made with.
pub(super) struct Given<'a> {
    pub(super) provider: &'a Arc<CryptoProvider>,
    pub(super) issued: &'a Issued,
    pub(super) now: SystemTime,
}

/// A source with its first certificates, each with the place where it is written.
pub(super) struct Found {
    pub(super) source: Box<dyn CertificateSource>,
    pub(super) certificates: Vec<Arc<Certificate>>,
    pub(super) places: Vec<At>,
}

/// Every source of a listener. `Err` when a problem was reported that is an error.
pub(super) fn sources(spec: &ServerTlsSpec, given: &Given<'_>, at: &At) -> Result<Vec<Found>, ()> {
    // All of them before the first error counts, so that every problem is reported.
    let made: Vec<_> = KINDS.iter().map(|compile| compile(spec, given, at)).collect();
    Ok(made.into_iter().collect::<Result<Vec<_>, ()>>()?.into_iter().flatten().collect())
}
