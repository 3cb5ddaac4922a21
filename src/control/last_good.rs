//! The last configuration that served, on disk: what to start with when the file that should be read is broken.
//!
//! Kept are the texts of its files as they were written, so that variables stay variables. Secrets that are written out
//! in them are as readable here as there, so only the user who runs the edge may read it.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use crate::config::{self, Bundle, Loaded};

const NAME: &str = "last-good.json";

/// Replaces what is kept in this directory, or leaves it as it was.
pub(super) fn keep(directory: &Path, bundle: &Bundle) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let fresh = directory.join(format!(".{NAME}.{}", std::process::id()));
    let mut options = fs::OpenOptions::new();
    let written = options.write(true).create(true).truncate(true).mode(0o600).open(&fresh).and_then(|mut file| {
        serde_json::to_writer(&mut file, bundle)?;
        file.flush()?;
        file.sync_all()?;
        fs::rename(&fresh, directory.join(NAME))
    });
    if written.is_err() {
        let _ = fs::remove_file(&fresh);
    }
    written
}

/// Reads what is kept in this directory.
///
/// # Errors
/// When there is none, or it is something else.
pub fn load(directory: &Path, variables: config::Variables<'_>) -> io::Result<Loaded> {
    let path: PathBuf = directory.join(NAME);
    let in_context = |error: io::Error| io::Error::new(error.kind(), format!("cannot read {}: {error}", path.display()));
    let text = fs::read_to_string(&path).map_err(in_context)?;
    let bundle: Bundle = serde_json::from_str(&text).map_err(|error| in_context(error.into()))?;
    Ok(config::load_bundle(bundle, variables))
}
