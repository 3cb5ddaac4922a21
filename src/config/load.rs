//! From a path or a text to a [`Spec`] and the diagnostics.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    Spec, decode,
    diagnostic::{Diagnostic, MAX_REPORTS, Place},
    document::{Document, Scalar},
    fault::shortened,
    include::{Disk, Files, directory},
    interpolate::{Interpolation, Variables},
    semantics,
};
use crate::types::{Code, Problem, Problems, Severity, YamlPath};

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

/// The texts of a configuration as they were when it was read, with the paths of their files; the root file first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle(Vec<(PathBuf, String)>);

impl Bundle {
    /// The texts, by the paths of their files.
    pub fn into_texts(self) -> BTreeMap<PathBuf, String> {
        self.0.into_iter().collect()
    }

    /// What this was read from.
    pub fn of(loaded: &Loaded) -> Self {
        Self(loaded.document.sources().iter().map(|source| source.file()).collect())
    }
}

/// Reads a configuration from texts that were kept. Certificates and other files that it names are read from where they are.
pub fn load_bundle(bundle: Bundle, variables: Variables<'_>) -> Loaded {
    let root = bundle.0.first().map(|(path, _)| path.clone()).unwrap_or_default();
    load_from(&root, Disk::Bundle(bundle.0.into_iter().collect()), variables)
}

/// Reads a configuration from a file and decodes it.
pub fn load(path: &Path, variables: Variables<'_>) -> Loaded {
    load_from(path, Disk::System, variables)
}

fn load_from(path: &Path, disk: Disk, variables: Variables<'_>) -> Loaded {
    match disk.read(path) {
        Ok(text) => parse(path.display().to_string(), text, directory(path), variables, path.canonicalize().ok(), disk),
        Err(refused) => {
            let place = Place { file: 0, name: path.display().to_string(), line: 1, column: 1, span: 0..0, path: String::new() };
            let diagnostics = vec![Diagnostic::new(refused.code, refused.reason, place)];
            Loaded { spec: None, document: Document::default(), diagnostics }
        }
    }
}

/// Decodes a configuration that is at hand as text. Relative paths in it are relative to `dir`.
pub fn parse_str(name: &str, text: &str, dir: &Path, variables: Variables<'_>) -> Loaded {
    parse(name.into(), text.into(), dir.into(), variables, None, Disk::System)
}

fn parse(name: String, text: String, dir: PathBuf, variables: Variables<'_>, real: Option<PathBuf>, disk: Disk) -> Loaded {
    let mut files = Files {
        document: Document::default(),
        interpolation: Interpolation::new(variables),
        disk,
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

impl Loaded {
    /// True when nothing stands against using the Spec.
    pub fn is_ok(&self) -> bool {
        self.spec.is_some() && self.diagnostics.iter().all(|diagnostic| diagnostic.severity() == Severity::Warning)
    }

    /// What stands against using the Spec.
    pub fn errors(&self) -> impl Iterator<Item = &Diagnostic> {
        self.diagnostics.iter().filter(|diagnostic| diagnostic.severity() == Severity::Error)
    }

    /// What is probably not meant.
    pub fn warnings(&self) -> impl Iterator<Item = &Diagnostic> {
        self.diagnostics.iter().filter(|diagnostic| diagnostic.severity() == Severity::Warning)
    }

    /// Adds problems that were found in the Spec, each at the place that its path has in the text.
    ///
    /// What only follows from something reported already is dropped: problems of a section in which something could
    /// not be read, and of a place that has one of at least this severity from an earlier stage.
    pub fn add(&mut self, problems: Vec<Problem>) {
        let more: Vec<_> = problems.into_iter().filter_map(|problem| self.placed(problem)).collect();
        let known = |new: &Diagnostic| {
            let there = |old: &Diagnostic| (old.place.file, &old.place.span) == (new.place.file, &new.place.span);
            self.diagnostics.iter().any(|old| there(old) && old.severity() <= new.severity())
        };
        // A match that could not be read matches everything, which shadows what it does not mean to.
        let broken = self.facts().broken();
        let about_others = |code| broken && matches!(code, Code::Shadowed | Code::Unused | Code::UncoveredHost);
        let more: Vec<_> = more.into_iter().filter(|new| !known(new) && !about_others(new.code)).collect();
        self.diagnostics.extend(more);
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
        // The root loses something whenever a route does, and that says nothing about what is absent from it.
        let lost_part = self.document.has_lost_something(node) && self.document.root() != Some(node);
        if exact && (self.document.is_poisoned(node) || lost_key) || lost_part {
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

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "
listeners: {web: {address: 127.0.0.1:0}}
routes:
- {name: one, match: {pth: /}, respond: {}}
- {name: two, timeout: soon, respond: {}}
- {nmae: three, upstream: u}
- {name: four, upstream: u}
upstreams: {u: {endpoints: ['127.0.0.1:${PORT}'], strategy: '${NAME}'}}
";

    fn loaded() -> Loaded {
        let variables = |name: &str| match name {
            "PORT" => Some("99".to_owned()),
            "NAME" => Some("random".to_owned()),
            _ => None,
        };
        parse_str("x.yaml", TEXT, Path::new("/"), &variables).check()
    }

    fn added(report: impl Fn(&crate::types::At)) -> Vec<(String, String)> {
        let mut loaded = loaded();
        let before: Vec<_> = loaded.diagnostics.clone();
        assert_eq!(before.len(), 3, "{before:#?}");
        let problems = Problems::default();
        report(&problems.root());
        loaded.add(problems.take());
        let new = loaded.diagnostics.into_iter().filter(|diagnostic| !before.contains(diagnostic));
        new.map(|diagnostic| (diagnostic.place.path, diagnostic.message)).collect()
    }

    #[test]
    fn a_problem_of_what_survived_is_placed_in_the_source() {
        // The third route could not be read, so the fourth is the third of the Spec.
        let new = added(|at| {
            at.key("routes").index(2).key("upstream").problem(Code::UndefinedReference, "no");
        });
        assert_eq!(new, [("routes[3].upstream".to_owned(), "no".to_owned())]);
    }

    #[test]
    fn a_problem_of_something_absent_is_placed_at_its_parent() {
        let new = added(|at| {
            at.key("routes").index(2).key("respond").key("status").problem(Code::BadValue, "no");
        });
        assert_eq!(new[0].0, "routes[3]");
    }

    #[test]
    fn what_only_follows_is_not_said() {
        let new = added(|at| {
            at.key("routes").index(1).problem(Code::MissingKey, "the timeout was unreadable, so its section may lack it");
            at.key("routes").index(1).key("timeout").problem(Code::BadValue, "reported already");
            at.key("routes").index(2).problem(Code::Shadowed, "by a match that was unreadable");
        });
        assert_eq!(new, []);
    }

    #[test]
    fn a_value_from_a_variable_is_shown_as_it_was_written() {
        let new = added(|at| {
            let at = at.key("upstreams").key("u");
            at.key("endpoints").index(0).problem(Code::BadAddress, "`127.0.0.1:99` is in use");
            at.key("strategy").problem(Code::BadValue, "not with random endpoints");
        });
        assert_eq!(new[0].1, "`127.0.0.1:${PORT}` is in use");
        assert_eq!(new[1].1, "not with ${NAME} endpoints");
    }
}
