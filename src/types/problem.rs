//! What is wrong with a configuration, and where: found anywhere, shown by `config`.
//!
//! Code that turns a Spec into its compiled form holds an [`At`]: a place in the file and the list that
//! problems are added to. It reports and goes on, so that one run shows every problem.

use std::{cell::RefCell, fmt, rc::Rc};

/// One step of a YAML path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Seg {
    /// A key of a mapping.
    Key(String),
    /// An item of a list, among those that could be read.
    Index(usize),
}

/// A place in the file: `routes[2].upstream`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash)]
pub struct YamlPath(pub Vec<Seg>);

impl fmt::Display for YamlPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, seg) in self.0.iter().enumerate() {
            match seg {
                Seg::Key(key) if position == 0 => f.write_str(key)?,
                Seg::Key(key) => write!(f, ".{key}")?,
                Seg::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// Does it stop the file from being used?
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// The file can be used; something in it is probably not meant.
    Warning,
}

/// Stable codes of diagnostics. `docs/diagnostics.md` explains each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Code {
    /// E0101: not YAML.
    Syntax,
    /// E0102: a key that does not exist here.
    UnknownKey,
    /// E0103: a value that is not what the key takes.
    BadValue,
    /// E0104: a kind that does not exist (strategy, filter, probe ...).
    UnknownKind,
    /// E0105: a required key is missing.
    MissingKey,
    /// E0106: a name or a key that is there twice.
    Duplicate,
    /// E0107: a file over the limits of size, depth or aliases.
    TooLarge,
    /// E0108: a variable that is not set, or a secret file that cannot be read.
    Variable,
    /// E0201: a name that is not declared.
    UndefinedReference,
    /// E0202: a file that cannot be read.
    UnreadableFile,
    /// E0203: a certificate or key that cannot be used.
    BadCertificate,
    /// E0204: keys that exclude or need each other.
    Conflict,
    /// E0205: an address that is used twice, or may not be used.
    BadAddress,
    /// W0301: a route that can never match.
    Shadowed,
    /// W0302: something declared and not used.
    Unused,
    /// W0303: a certificate that expires soon, or has expired.
    Expiry,
    /// W0304: a certificate that does not cover the hosts of its routes.
    UncoveredHost,
    /// W0305: a setting that is allowed and weakens security.
    Insecure,
    /// W0306: a setting that cannot work as written, beside others.
    Ineffective,
    /// W0307: a value that means something else than in other proxies.
    Foreign,
}

impl Code {
    /// Every code, in order.
    pub const ALL: &'static [Code] = &[
        Code::Syntax,
        Code::UnknownKey,
        Code::BadValue,
        Code::UnknownKind,
        Code::MissingKey,
        Code::Duplicate,
        Code::TooLarge,
        Code::Variable,
        Code::UndefinedReference,
        Code::UnreadableFile,
        Code::BadCertificate,
        Code::Conflict,
        Code::BadAddress,
        Code::Shadowed,
        Code::Unused,
        Code::Expiry,
        Code::UncoveredHost,
        Code::Insecure,
        Code::Ineffective,
        Code::Foreign,
    ];

    /// What the code stands for, in a few words.
    pub const fn meaning(self) -> &'static str {
        match self {
            Code::Syntax => "the text is not YAML",
            Code::UnknownKey => "a key that does not exist here",
            Code::BadValue => "a value that is not what the key takes",
            Code::UnknownKind => "a kind that does not exist",
            Code::MissingKey => "a required key is missing",
            Code::Duplicate => "a name or a key that is there twice",
            Code::TooLarge => "over the limits of size, depth or aliases",
            Code::Variable => "a variable that is not set, or a secret that cannot be read",
            Code::UndefinedReference => "a name that is not declared",
            Code::UnreadableFile => "a file that cannot be read",
            Code::BadCertificate => "a certificate or key that cannot be used",
            Code::Conflict => "keys that exclude or need each other",
            Code::BadAddress => "an address that is used twice, or may not be used",
            Code::Shadowed => "a route that can never match",
            Code::Unused => "something declared and not used",
            Code::Expiry => "a certificate that expires soon, or has expired",
            Code::UncoveredHost => "a certificate that does not cover the hosts of its routes",
            Code::Insecure => "a setting that is allowed and weakens security",
            Code::Ineffective => "a setting that cannot work as written, beside others",
            Code::Foreign => "a value that means something else than in other proxies",
        }
    }

    /// The code as it is printed.
    pub const fn as_str(self) -> &'static str {
        match self {
            Code::Syntax => "E0101",
            Code::UnknownKey => "E0102",
            Code::BadValue => "E0103",
            Code::UnknownKind => "E0104",
            Code::MissingKey => "E0105",
            Code::Duplicate => "E0106",
            Code::TooLarge => "E0107",
            Code::Variable => "E0108",
            Code::UndefinedReference => "E0201",
            Code::UnreadableFile => "E0202",
            Code::BadCertificate => "E0203",
            Code::Conflict => "E0204",
            Code::BadAddress => "E0205",
            Code::Shadowed => "W0301",
            Code::Unused => "W0302",
            Code::Expiry => "W0303",
            Code::UncoveredHost => "W0304",
            Code::Insecure => "W0305",
            Code::Ineffective => "W0306",
            Code::Foreign => "W0307",
        }
    }

    /// Errors start with E, warnings with W.
    pub fn severity(self) -> Severity {
        if self.as_str().starts_with('E') { Severity::Error } else { Severity::Warning }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What kind of thing.
    pub code: Code,
    /// Where.
    pub path: YamlPath,
    /// Mark the key rather than its value.
    pub at_key: bool,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The other end, when the problem has two: where, and what is there.
    pub also: Option<(YamlPath, String)>,
}

/// Problems in the order they were found.
#[derive(Debug, Default, Clone)]
pub struct Problems(Rc<RefCell<Vec<Problem>>>);

impl Problems {
    /// The top of the file.
    pub fn root(&self) -> At {
        At { problems: self.clone(), path: YamlPath::default() }
    }
    /// Everything found so far, leaving nothing behind.
    pub fn take(&self) -> Vec<Problem> {
        std::mem::take(&mut self.0.borrow_mut())
    }
    /// True when an error (not only warnings) was found.
    pub fn any_error(&self) -> bool {
        self.0.borrow().iter().any(|problem| problem.code.severity() == Severity::Error)
    }
}

/// A place in the file being compiled.
#[derive(Debug, Clone)]
pub struct At {
    problems: Problems,
    path: YamlPath,
}

impl At {
    /// The value behind a key.
    pub fn key(&self, key: impl Into<String>) -> At {
        self.step(Seg::Key(key.into()))
    }
    /// An item of a list.
    pub fn index(&self, index: usize) -> At {
        self.step(Seg::Index(index))
    }
    fn step(&self, seg: Seg) -> At {
        let mut path = self.path.clone();
        path.0.push(seg);
        At { problems: self.problems.clone(), path }
    }
    /// The path itself.
    pub fn path(&self) -> YamlPath {
        self.path.clone()
    }
    /// Adds a problem here.
    pub fn problem(&self, code: Code, message: impl Into<String>) -> Added<'_> {
        self.problems.0.borrow_mut().push(Problem {
            code,
            path: self.path.clone(),
            at_key: false,
            message: message.into(),
            hint: None,
            also: None,
        });
        Added { problems: &self.problems, index: self.problems.0.borrow().len() - 1 }
    }
}

/// A problem just added, to say more about.
pub struct Added<'a> {
    problems: &'a Problems,
    index: usize,
}

impl Added<'_> {
    fn edit(self, edit: impl FnOnce(&mut Problem)) -> Self {
        edit(&mut self.problems.0.borrow_mut()[self.index]);
        self
    }
    /// What to do about it.
    pub fn hint(self, hint: impl Into<String>) -> Self {
        self.edit(|problem| problem.hint = Some(hint.into()))
    }
    /// The other place that takes part in the problem.
    pub fn also(self, path: YamlPath, label: impl Into<String>) -> Self {
        self.edit(|problem| problem.also = Some((path, label.into())))
    }
    /// Mark the key, not its value.
    pub fn at_key(self) -> Self {
        self.edit(|problem| problem.at_key = true)
    }
    /// A hint naming the nearest of `known`, or listing them.
    pub fn nearest<'k>(self, wanted: &str, known: impl IntoIterator<Item = &'k str>) -> Self {
        match nearest(wanted, known) {
            Some(hint) => self.hint(hint),
            None => self,
        }
    }
}

/// Why a file cannot be read, in words for users.
pub fn unreadable(error: &std::io::Error) -> String {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => "there is no such file".into(),
        ErrorKind::IsADirectory => "it is a directory".into(),
        kind => kind.to_string(),
    }
}

/// The most similar known word, if one is similar enough to be meant.
pub fn closest<'k>(wanted: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    // Of two numbers, neither is a misspelling of the other.
    if !wanted.contains(char::is_alphabetic) {
        return None;
    }
    known
        .into_iter()
        .map(|word| (strsim::normalized_damerau_levenshtein(&wanted.to_lowercase(), &word.to_lowercase()), word))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(likeness, _)| *likeness >= 0.6)
        .map(|(_, word)| word)
}

/// "did you mean `x`?" for the most similar known word, else the list of known words (at most 24).
pub fn nearest<'k>(wanted: &str, known: impl IntoIterator<Item = &'k str>) -> Option<String> {
    let known: Vec<&str> = known.into_iter().collect();
    match closest(wanted, known.iter().copied()) {
        Some(word) => Some(format!("did you mean `{word}`?")),
        None if (1..=24).contains(&known.len()) => {
            Some(format!("allowed here: {}", known.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")))
        }
        None => None,
    }
}
