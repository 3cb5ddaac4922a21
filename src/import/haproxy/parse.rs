//! HAProxy's own syntax: lines of words in sections.

use super::super::report::{ImportError, Place};
use super::super::source::Sources;

/// A line.
#[derive(Debug, Clone)]
pub struct Line {
    /// Its words.
    pub words: Vec<String>,
    /// Where it stands.
    pub place: Place,
}

impl Line {
    /// A word, or nothing.
    pub fn word(&self, index: usize) -> &str {
        self.words.get(index).map_or("", String::as_str)
    }

    /// All of it.
    pub fn text(&self) -> String {
        self.words.join(" ")
    }

    /// The word behind this one.
    pub fn after(&self, word: &str) -> Option<&str> {
        let at = self.words.iter().position(|known| known == word)?;
        self.words.get(at + 1).map(String::as_str)
    }

    /// Is this one of its words?
    pub fn has(&self, word: &str) -> bool {
        self.words.iter().any(|known| known == word)
    }
}

/// A section and its lines; those of the `defaults` that hold for it come first.
#[derive(Debug, Clone)]
pub struct Section {
    /// `frontend`, `backend` and so on.
    pub kind: String,
    /// Its name, or nothing.
    pub name: String,
    /// Where it begins.
    pub head: Line,
    /// Its own lines.
    pub lines: Vec<Line>,
    /// The lines of its `defaults`.
    pub defaults: Vec<Line>,
}

const SECTIONS: [&str; 21] = [
    "global",
    "defaults",
    "frontend",
    "backend",
    "listen",
    "userlist",
    "resolvers",
    "peers",
    "mailers",
    "cache",
    "program",
    "http-errors",
    "ring",
    "log-forward",
    "fcgi-app",
    "crt-store",
    "traces",
    "log-profile",
    "crt-list",
    "dynamic-update",
    "acme",
];

/// The sections of a file.
pub fn read(path: &std::path::Path) -> Result<Vec<Section>, ImportError> {
    let mut sources = Sources::new(path);
    let source = sources.open(path, None)?;
    let mut sections: Vec<Section> = Vec::new();
    let mut defaults: Vec<(String, Vec<Line>)> = Vec::new();
    for (index, text) in source.text.lines().enumerate() {
        let place = Place { file: source.name.clone(), line: index + 1 };
        let words = words(text, &place)?;
        let Some(first) = words.first() else { continue };
        let line = Line { words: words.clone(), place: place.clone() };
        if SECTIONS.contains(&first.as_str()) && !text.starts_with([' ', '\t']) {
            if let Some(last) = sections.last().filter(|last| last.kind == "defaults") {
                defaults.push((last.name.clone(), last.lines.clone()));
            }
            let named = line.after("from").and_then(|name| defaults.iter().rev().find(|(known, _)| known == name));
            let inherited = named.or(defaults.last()).map(|(_, lines)| lines.clone()).unwrap_or_default();
            sections.push(Section {
                kind: first.clone(),
                name: line.word(1).to_owned(),
                head: line,
                lines: Vec::new(),
                defaults: inherited,
            });
        } else if let Some(section) = sections.last_mut() {
            section.lines.push(line);
        } else if first.starts_with('.') {
            // `.if`, `.notice`: what they choose between is taken as it stands.
        } else {
            return Err(ImportError::at(
                &place,
                format!("`{first}` stands in no section: `frontend`, `backend`, `listen` and so on begin one"),
            ));
        }
    }
    Ok(sections)
}

/// The words of a line: quotes, backslashes, a comment at the end.
fn words(text: &str, place: &Place) -> Result<Vec<String>, ImportError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    let mut quote = None;
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None | Some('"'), '\\') => {
                let next = chars.next();
                let word = word.get_or_insert_default();
                match next {
                    Some(c @ (' ' | '#' | '\\' | '"' | '\'')) => word.push(c),
                    Some(c) => word.extend(['\\', c]),
                    None => word.push('\\'),
                }
            }
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#') => break,
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    if let Some(quote) = quote {
        return Err(ImportError::at(place, format!("a text that begins with {quote} is not closed on its line")));
    }
    words.extend(word);
    Ok(words)
}
