//! Reading files, and the files that they include, into one tree.
//!
//! `include` names paths or globs, relative to the file it stands in. Listeners, routes, filter chains and upstreams of
//! the included files are added to the root's; a name that two files declare is reported with both places.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use super::{
    diagnostic::{Diagnostic, MAX_REPORTS},
    document::{Document, Kind, MAX_BYTES, NodeId},
    interpolate::Interpolation,
};
use crate::types::{Code, nearest};

/// Files of one configuration. More than one for each of a thousand services.
const MAX_FILES: usize = 1000;
/// Files that include files that include files.
const MAX_INCLUDE_DEPTH: usize = 8;
/// What an included file may hold.
const INCLUDED_KEYS: [&str; 5] = ["include", "listeners", "routes", "filter_chains", "upstreams"];

/// Why a file was not read.
pub(super) struct Refused {
    pub(super) code: Code,
    pub(super) reason: String,
}

/// A file's text, if it is a regular file of at most `limit` bytes in UTF-8.
pub(super) fn read(path: &Path, limit: usize) -> Result<String, Refused> {
    let unreadable = |error: std::io::Error| Refused { code: Code::UnreadableFile, reason: format!("cannot be read: {error}") };
    let file = File::open(path).map_err(unreadable)?;
    if file.metadata().is_ok_and(|meta| meta.is_dir()) {
        return Err(Refused { code: Code::UnreadableFile, reason: "is a directory, not a file".into() });
    }
    let mut bytes = Vec::new();
    file.take(limit as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > limit {
        return Err(Refused { code: Code::TooLarge, reason: format!("has more than {limit} bytes") });
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Refused { code: Code::Syntax, reason: format!("is not UTF-8 text: the first bad byte is number {}", at + 1) }
    })
}

/// Where files are read from.
#[derive(Debug, Default)]
pub(super) enum Disk {
    /// The file system.
    #[default]
    System,
    /// Texts that were read before, by the paths that they had.
    Bundle(BTreeMap<PathBuf, String>),
}

impl Disk {
    /// A file's text.
    pub(super) fn read(&self, path: &Path) -> Result<String, Refused> {
        let missing = || Refused { code: Code::UnreadableFile, reason: "was not kept".to_owned() };
        match self {
            Disk::System => read(path, MAX_BYTES),
            Disk::Bundle(texts) => texts.get(path).cloned().ok_or_else(missing),
        }
    }

    /// The files that a pattern of absolute paths matches.
    fn matching(&self, pattern: &str) -> Result<Vec<PathBuf>, glob::PatternError> {
        match self {
            Disk::System => Ok(glob::glob(pattern)?.filter_map(Result::ok).take(MAX_FILES + 1).collect()),
            Disk::Bundle(texts) => {
                let pattern = glob::Pattern::new(pattern)?;
                let separators = glob::MatchOptions { require_literal_separator: true, ..glob::MatchOptions::new() };
                Ok(texts.keys().filter(|path| pattern.matches_path_with(path, separators)).cloned().collect())
            }
        }
    }
}

/// The directory of a file, absolute: the process may go elsewhere before a path in it is used.
pub(super) fn directory(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.into());
    absolute.parent().map(Path::to_owned).unwrap_or_default()
}

/// The files that were read, as one tree.
pub(super) struct Files<'v> {
    pub(super) document: Document,
    pub(super) interpolation: Interpolation<'v>,
    pub(super) found: Vec<Diagnostic>,
    /// Where files are.
    pub(super) disk: Disk,
    /// The files being included, the outermost first.
    pub(super) stack: Vec<PathBuf>,
    pub(super) count: usize,
}

impl Files<'_> {
    /// Parses a file and replaces its variables.
    pub(super) fn add(&mut self, name: String, dir: &Path, text: String) -> Option<NodeId> {
        let before = self.document.ids().count();
        let root = self.document.add(name, dir, text, &mut self.found);
        self.interpolation.run(&mut self.document, before, &mut self.found);
        root
    }

    /// Follows the `include` of `file` and joins what it finds to `root`.
    pub(super) fn include(&mut self, root: NodeId, file: NodeId, depth: usize) {
        let Some((_, list)) = self.document.entry(file, "include") else { return };
        let items = match self.document.kind(list) {
            Kind::List(items) => items.clone(),
            Kind::Scalar(_) | Kind::Map(_) | Kind::Alias(_) => vec![list],
        };
        for item in items {
            if self.document.is_poisoned(item) {
                continue;
            }
            let Some(pattern) = self.document.scalar(item).map(|scalar| scalar.text.clone()) else {
                self.refuse(item, Code::BadValue, "expected the path of a file, or a pattern of paths".into());
                continue;
            };
            if depth >= MAX_INCLUDE_DEPTH {
                self.refuse(item, Code::TooLarge, format!("files include files more than {MAX_INCLUDE_DEPTH} deep"));
                return;
            }
            let full = self.document.source(item).dir.join(&pattern).to_string_lossy().into_owned();
            let paths = match self.disk.matching(&full) {
                Ok(paths) => paths,
                Err(error) => {
                    self.refuse(item, Code::BadValue, format!("`{pattern}` is not a pattern of paths: {}", error.msg));
                    continue;
                }
            };
            if paths.is_empty() && !pattern.contains(['*', '?', '[']) {
                self.refuse(item, Code::UnreadableFile, format!("there is no file `{pattern}`"));
            }
            for path in paths {
                if !self.file(root, item, &path, depth) {
                    return;
                }
            }
        }
    }

    fn refuse(&mut self, item: NodeId, code: Code, message: String) {
        self.found.push(Diagnostic::new(code, message, self.document.place(item)));
        self.document.poison(item);
    }

    /// Includes one file. False when no more can be.
    fn file(&mut self, root: NodeId, item: NodeId, path: &Path, depth: usize) -> bool {
        self.count += 1;
        if self.count > MAX_FILES {
            self.refuse(item, Code::TooLarge, format!("more than {MAX_FILES} files"));
            return false;
        }
        let real = path.canonicalize().unwrap_or_else(|_| path.into());
        if self.stack.contains(&real) {
            self.refuse(item, Code::Conflict, format!("`{}` would include itself", self.shown(path)));
            return true;
        }
        let text = match self.disk.read(path) {
            Ok(text) => text,
            Err(refused) => {
                self.refuse(item, refused.code, format!("`{}` {}", self.shown(path), refused.reason));
                return true;
            }
        };
        let name = self.shown(path);
        let Some(included) = self.add(name, &directory(path), text) else { return true };
        self.join(root, included);
        self.stack.push(real);
        self.include(root, included, depth + 1);
        self.stack.pop();
        true
    }

    /// A path below the root file's directory is shown as the root file was: relative to where the user is.
    fn shown(&self, path: &Path) -> String {
        let root = &self.document.sources()[0];
        let beside = Path::new(&root.name).parent().unwrap_or(Path::new(""));
        match path.strip_prefix(&root.dir) {
            Ok(below) => beside.join(below).display().to_string(),
            Err(_) => path.display().to_string(),
        }
    }

    fn join(&mut self, root: NodeId, included: NodeId) {
        if !matches!(self.document.kind(included), Kind::Map(_)) {
            let message = "an included file holds `listeners`, `routes`, `filter_chains` and `upstreams`";
            return self.found.push(Diagnostic::new(Code::BadValue, message, self.document.place(included)));
        }
        for (key, value) in self.document.entries(included).to_vec() {
            let name = self.document.key_text(key).to_owned();
            if self.document.is_poisoned(key) || name == "include" {
                continue;
            }
            if !INCLUDED_KEYS.contains(&name.as_str()) {
                let message = format!("an included file cannot set `{name}`");
                let hint = nearest(&name, INCLUDED_KEYS);
                self.found.push(Diagnostic::new(Code::UnknownKey, message, self.document.place(key)).hint(hint));
                continue;
            }
            let Some((_, into)) = self.document.entry(root, &name).filter(|(key, _)| !self.document.is_poisoned(*key)) else {
                self.document.adopt(root, key, value);
                continue;
            };
            match (self.document.kind(into), self.document.kind(value)) {
                (Kind::Map(_), Kind::Map(_)) => {
                    for (twice, first) in self.document.join_maps(into, value).into_iter().take(MAX_REPORTS) {
                        let (here, there) = (self.document.place(twice), self.document.place(first));
                        let what = self.document.what_keys_are(into);
                        let message = format!("the {what} `{}` is there twice", self.document.key_text(twice));
                        self.found.push(Diagnostic::new(Code::Duplicate, message, here).also(there, "first here"));
                        self.document.poison(twice);
                    }
                }
                (Kind::List(_), Kind::List(_)) => self.document.join_lists(into, value),
                (_, Kind::Scalar(scalar)) if scalar.plain && scalar.text.is_empty() => {}
                (Kind::Scalar(scalar), _) if scalar.plain && scalar.text.is_empty() => {
                    self.document.replace(root, into, key, value)
                }
                _ => {
                    let wanted = if name == "routes" { "a list" } else { "a mapping" };
                    let message = format!("expected {wanted}, as in the other files");
                    self.found.push(Diagnostic::new(Code::BadValue, message, self.document.place(value)));
                }
            }
        }
    }
}
