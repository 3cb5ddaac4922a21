//! What was carried over, what was not, and why: for the comments in the file and for the summary.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// A line of a source.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file, as it was named.
    pub file: std::rc::Rc<str>,
    /// The line, from 1.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// Why nothing could be imported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {message}")]
pub struct ImportError {
    /// Where.
    pub place: String,
    /// What is wrong, and what to do about it.
    pub message: String,
}

impl ImportError {
    /// Something wrong at this place.
    pub fn at(place: &Place, message: impl Into<String>) -> Self {
        Self { place: place.to_string(), message: message.into() }
    }
}

/// One thing that is not as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// Where it stands in the source.
    pub place: Place,
    /// What stands there, shortened.
    pub words: String,
    /// Why it could not be carried over, or what is different now.
    pub why: String,
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.place, self.words, self.why)
    }
}

/// The account of one import.
#[derive(Debug, Default)]
pub struct Report {
    /// Directives that are understood. One that is in `left` for what is in it does not count.
    carried: BTreeSet<(Place, String)>,
    /// What was not, in the order of the source.
    pub left: Vec<Left>,
    /// What was, with a difference.
    pub differs: Vec<Left>,
    /// What needs nothing here, and how often it was there.
    pub unneeded: BTreeMap<String, usize>,
}

/// So much of a line is enough to know it by.
const SHOWN: usize = 90;

fn shortened(words: &str) -> String {
    let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
    match words.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{} ...", &words[..end]),
        None => words,
    }
}

impl Report {
    /// Something that could not be carried over; the comment to write in its place.
    #[must_use = "the comment belongs in the file"]
    pub fn left(&mut self, place: &Place, words: &str, why: impl Into<String>) -> String {
        let left = Left { place: place.clone(), words: shortened(words), why: why.into() };
        let comment = format!("not carried over: {left}");
        if !self.left.contains(&left) {
            self.left.push(left);
        }
        comment
    }

    /// Something that was carried over with a difference; the comment to write beside it.
    #[must_use = "the comment belongs in the file"]
    pub fn differs(&mut self, place: &Place, words: &str, how: impl Into<String>) -> String {
        let left = Left { place: place.clone(), words: shortened(words), why: how.into() };
        let comment = format!("differs: {left}");
        if !self.differs.contains(&left) {
            self.differs.push(left);
        }
        comment
    }

    /// Something that is understood.
    pub fn carried(&mut self, place: &Place, words: &str) {
        self.carried.insert((place.clone(), shortened(words)));
    }

    /// How many directives were carried over.
    pub fn carried_count(&self) -> usize {
        let left = |(place, words): &&(Place, String)| self.left.iter().any(|left| left.place == *place && left.words == *words);
        self.carried.iter().filter(|known| !left(known)).count()
    }

    /// Something that needs nothing here.
    pub fn unneeded(&mut self, word: &str) {
        *self.unneeded.entry(word.to_owned()).or_default() += 1;
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unneeded: usize = self.unneeded.values().sum();
        writeln!(f, "carried over: {}, not carried over: {}, not needed: {unneeded}", self.carried_count(), self.left.len())?;
        for (title, list) in [("not carried over", &self.left), ("with a difference", &self.differs)] {
            if !list.is_empty() {
                writeln!(f, "{title}:")?;
            }
            for left in list {
                writeln!(f, "  {left}")?;
            }
        }
        if !self.unneeded.is_empty() {
            let words = self.unneeded.iter().map(|(word, count)| match count {
                1 => word.clone(),
                count => format!("{word} ({count})"),
            });
            writeln!(f, "not needed: {}", words.collect::<Vec<_>>().join(", "))?;
        }
        Ok(())
    }
}
