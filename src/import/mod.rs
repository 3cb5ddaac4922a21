//! Configurations of other programs, read and written as ours: what `weir import` does.
//!
//! Each program has a room that reads its files and fills a [`Draft`]. Nothing is dropped silently: what cannot be carried over is a comment
//! in the place where it would be, and a line of the [`Report`].

mod caddy;
mod directive;
pub mod draft;
mod haproxy;
mod matching;
mod nginx;
mod order;
pub mod report;
mod source;
mod text;
mod traefik;
mod yaml;

use std::path::Path;

pub use draft::Draft;
pub use report::{ImportError, Report};

/// Whose configuration it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// nginx.conf, or a file of sites-enabled.
    Nginx,
    /// haproxy.cfg.
    Haproxy,
    /// A Caddyfile.
    Caddy,
    /// A file of the file provider, a static configuration that names some, or a Compose file with labels.
    Traefik,
}

/// What came of it.
#[derive(Debug)]
pub struct Imported {
    /// The configuration.
    pub draft: Draft,
    /// What was carried over, and what was not.
    pub report: Report,
}

impl Imported {
    /// Our file.
    pub fn config(&self) -> String {
        self.draft.text()
    }
}

/// Reads the configuration at this path, with what it includes.
pub fn import(kind: Kind, path: &Path) -> Result<Imported, ImportError> {
    let mut imported = match kind {
        Kind::Nginx => nginx::import(path),
        Kind::Haproxy => haproxy::import(path),
        Kind::Caddy => caddy::import(path),
        Kind::Traefik => traefik::import(path),
    }?;
    let head = format!(
        "Written by `weir import` from {}. Look at each `not carried over` and `differs`, then run `weir check`.",
        path.display()
    );
    imported.draft.comments.insert(0, head);
    imported.draft.comments.dedup();
    Ok(imported)
}
