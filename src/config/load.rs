//! From a path or a text to a [`Spec`] and the diagnostics.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use super::{
    Spec, decode,
    diagnostic::{Diagnostic, MAX_REPORTS, Place},
    document::{Document, Kind, MAX_BYTES, NodeId, Scalar},
    fault::shortened,
    interpolate::{Interpolation, Variables},
    semantics,
};
use crate::types::{Code, Problem, Problems, Severity, YamlPath, nearest};

/// Files of one configuration. More than one for each of a thousand services.
const MAX_FILES: usize = 1000;
/// Files that include files that include files.
const MAX_INCLUDE_DEPTH: usize = 8;
/// What an included file may hold.
const INCLUDED_KEYS: [&str; 4] = ["include", "listeners", "routes", "upstreams"];

/// What came of reading a configuration.
#[derive(Debug)]
pub struct Loaded {
    /// The Spec: without everything that was reported, and `None` when too little is left.
    pub spec: Option<Spec>,
    /// The text it came from.
    pub document: Document,
    /// Everything found, in the order of the text. At most 50 errors.
    pub diagnostics: Vec<Diagnostic>,
}

/// Reads a configuration from a file and decodes it.
pub fn load(path: &Path, variables: Variables<'_>) -> Loaded {
    match read(path, MAX_BYTES) {
        Ok(text) => parse(path.display().to_string(), text, directory(path), variables, path.canonicalize().ok()),
        Err(refused) => {
            let place = Place { file: 0, name: path.display().to_string(), line: 1, column: 1, span: 0..0, path: String::new() };
            let diagnostics = vec![Diagnostic::new(refused.code, refused.reason, place)];
            Loaded { spec: None, document: Document::default(), diagnostics }
        }
    }
}

/// Decodes a configuration that is at hand as text. Relative paths in it are relative to `dir`.
pub fn parse_str(name: &str, text: &str, dir: &Path, variables: Variables<'_>) -> Loaded {
    parse(name.into(), text.into(), dir.into(), variables, None)
}

fn parse(name: String, text: String, dir: PathBuf, variables: Variables<'_>, real: Option<PathBuf>) -> Loaded {
    let mut files = Files {
        document: Document::default(),
        interpolation: Interpolation::new(variables),
        found: Vec::new(),
        stack: real.into_iter().collect(),
        count: 1,
    };
    let root = files.add(name, &dir, text);
    files.document.set_root(root);
    if let Some(root) = root {
        files.include(root, root, 0);
    }
    let Files { document, found: mut diagnostics, .. } = files;
    let spec = match document.root() {
        Some(_) => decode::decode(&document, &mut diagnostics),
        None if diagnostics.is_empty() => {
            diagnostics.push(
                Diagnostic::new(Code::MissingKey, "the file is empty", document.start())
                    .hint(Some("at least `listeners` and `routes` are needed".to_owned())),
            );
            None
        }
        None => None,
    };
    let mut loaded = Loaded { spec, document, diagnostics };
    loaded.settle();
    loaded
}

/// Why a file was not read.
struct Refused {
    code: Code,
    reason: String,
}

/// A file's text, if it is a regular file of at most `limit` bytes in UTF-8.
fn read(path: &Path, limit: usize) -> Result<String, Refused> {
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

/// The directory of a file, absolute: the process may go elsewhere before a path in it is used.
fn directory(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.into());
    absolute.parent().map(Path::to_owned).unwrap_or_default()
}

struct Files<'v> {
    document: Document,
    interpolation: Interpolation<'v>,
    found: Vec<Diagnostic>,
    /// The files being included, the outermost first.
    stack: Vec<PathBuf>,
    count: usize,
}

impl Files<'_> {
    fn add(&mut self, name: String, dir: &Path, text: String) -> Option<NodeId> {
        let before = self.document.ids().count();
        let root = self.document.add(name, dir, text, &mut self.found);
        self.interpolation.run(&mut self.document, before, &mut self.found);
        root
    }

    /// Follows the `include` of `file` and joins what it finds to `root`.
    fn include(&mut self, root: NodeId, file: NodeId, depth: usize) {
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
            let paths = match glob::glob(&full) {
                Ok(paths) => paths.filter_map(Result::ok).take(MAX_FILES + 1).collect::<Vec<_>>(),
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
        let text = match read(path, MAX_BYTES) {
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
            let message = "an included file holds `listeners`, `routes` and `upstreams`";
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

impl Loaded {
    /// True when nothing stands against using the Spec.
    pub fn is_ok(&self) -> bool {
        self.spec.is_some() && self.diagnostics.iter().all(|diagnostic| diagnostic.severity() == Severity::Warning)
    }

    /// Adds problems that were found in the Spec, each at the place that its path has in the text.
    ///
    /// What only follows from something reported already is dropped.
    pub fn add(&mut self, problems: Vec<Problem>) {
        for problem in problems {
            if let Some(diagnostic) = self.placed(problem) {
                self.diagnostics.push(diagnostic);
            }
        }
        self.settle();
    }

    /// Runs the checks that need no more than the Spec.
    pub fn check(mut self) -> Self {
        let Some(spec) = &self.spec else { return self };
        if self.diagnostics.len() >= MAX_REPORTS {
            return self;
        }
        let problems = Problems::default();
        semantics::check(spec, &self.facts(), &problems.root());
        self.add(problems.take());
        self
    }

    /// What the text says beside the Spec.
    pub fn facts(&self) -> Facts<'_> {
        Facts { document: &self.document, broken: self.diagnostics.iter().any(|d| d.severity() == Severity::Error) }
    }

    fn placed(&self, problem: Problem) -> Option<Diagnostic> {
        let Some((node, exact)) = self.document.find(&problem.path) else {
            return Some(Diagnostic::new(problem.code, problem.message, self.document.start()).hint(problem.hint));
        };
        let lost_key = problem.at_key && self.document.key_of(node).is_some_and(|key| self.document.is_poisoned(key));
        if exact && (self.document.is_poisoned(node) || lost_key)
            || problem.code == Code::Conflict && self.document.has_lost_something(node)
        {
            return None;
        }
        let node = if problem.at_key { self.document.key_of(node).unwrap_or(node) } else { node };
        let mut message = problem.message;
        let (mut hint, mut also) = (problem.hint, problem.also);
        if let Some(Scalar { text, written: Some(written), .. }) = self.document.scalar(node) {
            message = message.replace(&format!("`{text}`"), &format!("`{}`", shortened(written)));
            if problem.code == Code::UndefinedReference {
                // A near miss would give the value away.
                (hint, also) = (None, None);
            }
        }
        let mut diagnostic = Diagnostic::new(problem.code, message, self.document.place(node)).hint(hint);
        if let Some((path, label)) = also
            && let Some((other, _)) = self.document.find(&path)
        {
            diagnostic = diagnostic.also(self.document.place(other), label);
        }
        Some(diagnostic)
    }

    /// Order, cap, and nothing hidden shown.
    fn settle(&mut self) {
        for diagnostic in &mut self.diagnostics {
            self.document.hide(diagnostic);
        }
        self.diagnostics.sort_by_key(|d| (d.severity(), d.place.file, d.place.span.start));
        self.diagnostics.truncate(MAX_REPORTS);
        self.diagnostics.sort_by_key(|d| (d.place.file, d.place.span.start, d.severity()));
    }
}

/// What the text says beside the Spec: for checks that must not take something unreadable for something absent.
pub struct Facts<'d> {
    document: &'d Document,
    broken: bool,
}

impl Facts<'_> {
    /// True when errors were reported, so that what is missing may only be unreadable.
    pub fn broken(&self) -> bool {
        self.broken
    }
    /// Is this key written in this section of the root, readable or not?
    pub fn declares(&self, section: &str, key: &str) -> bool {
        let Some((_, map)) = self.document.root().and_then(|root| self.document.entry(root, section)) else { return false };
        self.document.entry(map, key).is_some()
    }
    /// Was the value of this key unreadable?
    pub fn lost(&self, path: &YamlPath, key: &str) -> bool {
        self.document.find(path).is_some_and(|(map, _)| self.document.lost(map, key))
    }
    /// Is there anything at this path?
    pub fn has(&self, path: &YamlPath) -> bool {
        self.document.find(path).is_some_and(|(_, exact)| exact)
    }
}
