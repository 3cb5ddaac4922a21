//! A problem with its place in the text.

use std::ops::Range;

use log::Level;
use serde_json::Value;

use crate::{
    observe::process_log,
    types::{Code, Severity},
};

/// Errors reported in one run. Who has more will run again.
pub const MAX_REPORTS: usize = 50;

/// A place in a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Which of the document's sources.
    pub file: usize,
    /// The name of the file, as it was given.
    pub name: String,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// The bytes to underline.
    pub span: Range<usize>,
    /// The path within the file: `routes[2].upstream`. Empty for the file itself.
    pub path: String,
}

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// What kind of thing.
    pub code: Code,
    /// What is wrong, in one sentence.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Where.
    pub place: Place,
    /// The other end, when there are two, and what is there.
    pub also: Option<(Place, String)>,
}

impl Diagnostic {
    pub(super) fn new(code: Code, message: impl Into<String>, place: Place) -> Self {
        Self { code, message: message.into(), hint: None, place, also: None }
    }
    pub(super) fn hint(mut self, hint: impl Into<Option<String>>) -> Self {
        self.hint = hint.into();
        self
    }
    pub(super) fn also(mut self, place: Place, label: impl Into<String>) -> Self {
        self.also = Some((place, label.into()));
        self
    }
    /// The same, when other sources come first.
    pub fn after(mut self, sources: usize) -> Self {
        self.place.file += sources;
        if let Some((place, _)) = &mut self.also {
            place.file += sources;
        }
        self
    }
    /// In one line: `weir.yaml:3:7: E0102: unknown key`.
    pub fn line(&self) -> String {
        let Place { name, line, column, .. } = &self.place;
        format!("{name}:{line}:{column}: {}: {}", self.code.as_str(), self.message)
    }
    /// Error or warning.
    pub fn severity(&self) -> Severity {
        self.code.severity()
    }
    /// Writes it to the process log: one line, with the place as facts.
    pub fn log(&self) {
        let level = match self.severity() {
            Severity::Error => Level::Error,
            Severity::Warning => Level::Warn,
        };
        let hint = self.hint.as_ref().map_or_else(String::new, |hint| format!(" ({hint})"));
        let Place { name, line, column, path, .. } = &self.place;
        let facts = process_log::facts([
            ("code", self.code.as_str().into()),
            ("file", name.as_str().into()),
            ("line", (*line).into()),
            ("column", (*column).into()),
            ("path", if path.is_empty() { Value::Null } else { path.as_str().into() }),
        ]);
        process_log::event(level, module_path!(), &(self.line() + &hint), &facts);
    }
}
