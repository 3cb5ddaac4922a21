//! Secrets of sessions in a file, for those who record their own traffic and want to read it (Wireshark).

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    sync::OnceLock,
};

use parking_lot::Mutex;
use rustls::KeyLog;

use crate::types::hex;

/// Lines in the NSS format. The file is made when the first handshake needs it, readable by its owner alone.
pub(super) struct KeyLogFile {
    path: PathBuf,
    file: OnceLock<Option<Mutex<File>>>,
}

impl KeyLogFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, file: OnceLock::new() }
    }

    fn open(&self) -> Option<Mutex<File>> {
        let opened = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path);
        match opened {
            Ok(file) => {
                log::warn!(
                    "the secrets of TLS sessions are written to {}: whoever reads it can read the traffic",
                    self.path.display()
                );
                Some(Mutex::new(file))
            }
            Err(error) => {
                log::error!("the secrets of TLS sessions cannot be written to {}: {error}", self.path.display());
                None
            }
        }
    }
}

impl fmt::Debug for KeyLogFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeyLogFile").field(&self.path).finish()
    }
}

impl KeyLog for KeyLogFile {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let Some(file) = self.file.get_or_init(|| self.open()) else { return };
        // A disk that is full is no reason to serve nobody.
        let _ = writeln!(file.lock(), "{label} {} {}", hex(client_random), hex(secret));
    }
}
