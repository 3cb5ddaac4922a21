//! What is wrong with labels, for the log and for whoever asks.

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    sync::Arc,
};

use parking_lot::Mutex;

/// Diagnostics that one source may have at a time: beyond a page nobody reads on, and the first ones are fixed first.
const MAX_EACH: usize = 100;
/// What was logged is remembered, so that a container that starts again and again is not logged each time. When
/// so much has come together, it is forgotten, and what is still wrong may be logged a second time.
const MAX_TOLD: usize = 2_000;
/// Characters of a label that are shown.
const MAX_SHOWN: usize = 80;

/// Something about a container, or about its labels, that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Diagnostic {
    /// The container's name.
    pub container: Arc<str>,
    /// The label, if it is about one.
    pub label: Option<Arc<str>>,
    /// What is wrong, and what to do about it.
    pub message: String,
}

impl Diagnostic {
    /// About a container, and a label of it.
    pub fn new(container: &str, label: Option<&str>, message: impl Into<String>) -> Self {
        Self { container: container.into(), label: label.map(|label| shown(label).into()), message: message.into() }
    }
}

impl Diagnostic {
    /// What is wrong, where the container is told elsewhere.
    pub fn without_container(&self) -> String {
        match &self.label {
            Some(label) => format!("label {label}: {}", self.message),
            None => self.message.clone(),
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "container {}: {}", self.container, self.without_container())
    }
}

/// Text that somebody else wrote, on one line and of a readable length.
pub fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(MAX_SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().nth(MAX_SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

/// What is wrong now, by who found it. Clones share everything.
#[derive(Debug, Clone, Default)]
pub struct Diagnostics(Arc<Mutex<Listed>>);

#[derive(Debug, Default)]
struct Listed {
    next: u64,
    sources: BTreeMap<u64, Vec<Diagnostic>>,
    told: HashSet<Diagnostic>,
}

impl Diagnostics {
    /// Everything that is wrong now, each once.
    pub fn list(&self) -> Vec<Diagnostic> {
        let mut all: Vec<Diagnostic> = self.0.lock().sources.values().flatten().cloned().collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Somebody who finds diagnostics, and takes them along when dropped.
    pub fn source(&self) -> Source {
        let mut listed = self.0.lock();
        listed.next += 1;
        Source { diagnostics: self.clone(), id: listed.next }
    }
}

/// Whose diagnostics these are.
#[derive(Debug)]
pub struct Source {
    diagnostics: Diagnostics,
    id: u64,
}

impl Source {
    /// These are wrong now, and nothing else of this source. What was not said before is logged.
    pub fn replace(&self, mut found: Vec<Diagnostic>) {
        found.truncate(MAX_EACH);
        let mut listed = self.diagnostics.0.lock();
        let new: Vec<Diagnostic> = found.iter().filter(|found| !listed.told.contains(found)).cloned().collect();
        if listed.told.len() + new.len() > MAX_TOLD {
            listed.told.clear();
        }
        listed.told.extend(new.iter().cloned());
        listed.sources.insert(self.id, found);
        drop(listed);
        new.iter().for_each(|new| log::warn!("docker: {new}"));
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.diagnostics.0.lock().sources.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_listed_once_and_as_long_as_its_source_says_so() {
        let all = Diagnostics::default();
        let (one, other) = (all.source(), all.source());
        let diagnostic = |container: &str| Diagnostic::new(container, Some("weir.port"), "no");
        one.replace(vec![diagnostic("b"), diagnostic("a")]);
        other.replace(vec![diagnostic("a")]);
        let names = || all.list().iter().map(|found| found.container.to_string()).collect::<Vec<_>>();
        assert_eq!(names(), ["a", "b"]);
        one.replace(Vec::new());
        assert_eq!(names(), ["a"]);
        drop(other);
        assert_eq!(names(), [""; 0]);
        one.replace((0..500).map(|number| diagnostic(&number.to_string())).collect());
        assert_eq!(names().len(), MAX_EACH);
        (0..50).for_each(|turn| one.replace((0..100).map(|number| diagnostic(&format!("{turn}-{number}"))).collect()));
        assert!(all.0.lock().told.len() <= MAX_TOLD);
    }

    #[test]
    fn what_others_wrote_is_shown_on_one_line() {
        assert_eq!(shown("a\nb\u{1b}[31m"), "a\\nb\\u{1b}[31m");
        assert_eq!(shown(&"é".repeat(100)), format!("{}…", "é".repeat(80)));
        let diagnostic = Diagnostic::new("app-1", Some("weir.port"), "`x` is not a port");
        assert_eq!(diagnostic.to_string(), "container app-1: label weir.port: `x` is not a port");
    }
}
