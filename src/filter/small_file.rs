//! Files that are kept in memory whole: pages, lists of keys.

use std::{
    fs::File,
    io::{self, ErrorKind, Read},
    os::unix::fs::MetadataExt,
    path::Path,
    time::SystemTime,
};

use crate::types::{At, Code, ConfigPath, unreadable};

/// The content of a regular file of at most `max` bytes, or why there is none, in words for users.
///
/// Anything else than a regular file is refused before it is read: a pipe would wait for a writer.
pub fn read(path: &Path, max: u64) -> Result<Vec<u8>, String> {
    let kind = |error: io::Error| unreadable(&error);
    if !std::fs::metadata(path).map_err(kind)?.is_file() {
        return Err("it is not a file".into());
    }
    let mut content = Vec::new();
    // One byte more than is allowed tells a file that is too long, whatever its metadata say.
    File::open(path).map_err(kind)?.take(max + 1).read_to_end(&mut content).map_err(kind)?;
    if content.len() as u64 > max { Err(format!("it is over {} MiB", max >> 20)) } else { Ok(content) }
}

/// The same for text that `at` names. What keeps it from being read is reported there.
pub fn read_text(file: &ConfigPath, max: u64, at: &At) -> Option<String> {
    let text = read(file, max).and_then(|bytes| String::from_utf8(bytes).map_err(|_| "it is not text".into()));
    text.map_err(|reason| at.problem(Code::UnreadableFile, format!("cannot read `{file}`: {reason}"))).ok()
}

/// What tells that a file is another one: it is not read again while these are the same.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    inode: u64,
}

impl Stamp {
    /// The file as it is now; `None` when there is none.
    ///
    /// # Errors
    /// It cannot be told, which is not the same.
    pub(super) fn of(path: &Path) -> io::Result<Option<Self>> {
        match std::fs::metadata(path) {
            Ok(found) => Ok(Some(Self { modified: found.modified().ok(), length: found.len(), inode: found.ino() })),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
