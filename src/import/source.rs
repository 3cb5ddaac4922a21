//! The files of another program's configuration: read with bounds, since they are somebody else's.

use std::{
    fs,
    path::{Path, PathBuf},
    rc::Rc,
};

use super::report::{ImportError, Place};

/// Files of one configuration.
const MAX_FILES: usize = 1000;
/// How deep they may include each other.
const MAX_DEPTH: usize = 16;
/// Bytes of all files together.
const MAX_BYTES: usize = 16 << 20;

/// The files that were read.
#[derive(Debug)]
pub struct Sources {
    /// The directory of the first file, from which the others are named.
    pub root: PathBuf,
    count: usize,
    bytes: usize,
    /// The files that are being read: one that includes itself is never done.
    stack: Vec<PathBuf>,
}

/// One file.
#[derive(Debug, Clone)]
pub struct Source {
    /// How it is named in messages.
    pub name: Rc<str>,
    /// What is in it.
    pub text: String,
}

impl Sources {
    /// Nothing yet. `first` is the file that was asked for.
    pub fn new(first: &Path) -> Self {
        let root = first.parent().map(Path::to_owned).unwrap_or_default();
        Self { root, count: 0, bytes: 0, stack: Vec::new() }
    }

    /// Reads a file. [`Sources::done`] says that all of it has been used.
    pub fn open(&mut self, path: &Path, from: Option<&Place>) -> Result<Source, ImportError> {
        let name: Rc<str> =
            path.strip_prefix(&self.root).ok().filter(|_| from.is_some()).unwrap_or(path).display().to_string().into();
        let fail = |message: String| match from {
            Some(place) => ImportError::at(place, message),
            None => ImportError { place: path.display().to_string(), message },
        };
        let bytes = fs::read(path).map_err(|error| fail(format!("cannot read `{}`: {error}", path.display())))?;
        self.count += 1;
        self.bytes += bytes.len();
        if self.count > MAX_FILES || self.bytes > MAX_BYTES {
            return Err(fail(format!("more than {MAX_FILES} files or {} MiB are included", MAX_BYTES >> 20)));
        }
        if self.stack.len() >= MAX_DEPTH {
            return Err(fail(format!("files include each other more than {MAX_DEPTH} deep")));
        }
        let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        if self.stack.contains(&real) {
            return Err(fail(format!("`{}` includes itself", path.display())));
        }
        self.stack.push(real);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Ok(Source { name, text: text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text) })
    }

    /// The file that was opened last is done.
    pub fn done(&mut self) {
        self.stack.pop();
    }

    /// The files that a pattern names, in order. A path is taken as the program takes it: as it is, or below the
    /// directory of the first file, or of one of the two above it, for a file of `conf.d`. What is in `home` on the machine that
    /// runs the program may be a copy here.
    pub fn find(&self, pattern: &str, home: &str) -> Vec<PathBuf> {
        let below = pattern.strip_prefix(home).map(|rest| rest.trim_start_matches('/'));
        let roots = [self.root.clone(), self.root.join(".."), self.root.join("../..")];
        let copied = roots.iter().filter_map(|root| Some(root.join(below?)));
        let relative = Path::new(pattern).is_relative();
        let places = roots.iter().take(if relative { 3 } else { 1 }).map(|root| root.join(pattern)).chain(copied);
        for place in places {
            let Some(place) = place.to_str() else { continue };
            let mut found: Vec<PathBuf> = glob::glob(place).map(|paths| paths.flatten().collect()).unwrap_or_default();
            found.retain(|path| path.is_file());
            if !found.is_empty() {
                return found;
            }
        }
        Vec::new()
    }
}
