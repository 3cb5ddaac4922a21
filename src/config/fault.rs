//! Why a value could not be decoded, kept apart from how that is said.

use std::fmt;

use serde::de::{self, Expected, Unexpected};

use super::{
    document::{Document, NodeId},
    elsewhere,
};
use crate::types::{Code, nearest};

/// A failure to decode. It learns its node on the way up, from the innermost value that is being decoded.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) what: What,
    pub(super) node: Option<NodeId>,
}

#[derive(Debug)]
pub(super) enum What {
    /// A key that the struct does not have.
    UnknownKey { key: String, known: &'static [&'static str] },
    /// A word that names none of the kinds; `of` is the enum.
    UnknownKind { kind: String, known: &'static [&'static str], of: Option<&'static str> },
    /// A required key that is not there.
    Missing(&'static str),
    /// A value of another type or out of range. `keys` are those of the mapping that belongs in its place.
    Mismatch { found: String, expected: String, keys: &'static [&'static str] },
    /// What the parser of a word said.
    Refused(String),
    /// A value below was reported and poisoned; the next try will find it absent.
    Again,
    /// All of it was reported already, or there are too many reports.
    Silent,
}

impl Fault {
    pub(super) fn new(what: What) -> Self {
        Self { what, node: None }
    }
    /// Placed, unless a place further in is known.
    pub(super) fn at(mut self, node: NodeId) -> Self {
        self.node.get_or_insert(node);
        self
    }
    pub(super) fn one_kind() -> Self {
        Self::new(What::Refused("one kind is expected here; make each kind an item of its own".into()))
    }
    pub(super) fn mismatch(found: impl Into<String>, expected: &dyn Expected) -> Self {
        Self::new(What::Mismatch { found: found.into(), expected: in_plain_words(&expected.to_string()), keys: &[] })
    }
    /// The same for a value in the place of a mapping with these keys.
    pub(super) fn with_keys(mut self, known: &'static [&'static str]) -> Self {
        if let What::Mismatch { keys, .. } = &mut self.what {
            *keys = known;
        }
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.what)
    }
}
impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Fault::new(What::Refused(message.to_string()))
    }
    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let found = match unexpected {
            Unexpected::Unit | Unexpected::Option => "nothing".into(),
            Unexpected::Map => "a mapping".into(),
            Unexpected::Seq => "a list".into(),
            Unexpected::Str(text) => format!("`{text}`"),
            Unexpected::Bool(value) => format!("`{value}`"),
            Unexpected::Unsigned(value) => format!("`{value}`"),
            Unexpected::Signed(value) => format!("`{value}`"),
            Unexpected::Float(value) => format!("`{value}`"),
            _ => "something else".into(),
        };
        Fault::mismatch(found, expected)
    }
    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(unexpected, expected)
    }
    fn unknown_variant(variant: &str, known: &'static [&'static str]) -> Self {
        Fault::new(What::UnknownKind { kind: variant.into(), known, of: None })
    }
    fn unknown_field(key: &str, known: &'static [&'static str]) -> Self {
        Fault::new(What::UnknownKey { key: key.into(), known })
    }
    fn missing_field(key: &'static str) -> Self {
        Fault::new(What::Missing(key))
    }
}

/// What serde expects, in the words of someone who writes YAML and not Rust.
fn in_plain_words(expected: &str) -> String {
    let range = |bits: u32, signed: bool, least: u8| {
        let most = if signed { (1i128 << (bits - 1)) - 1 } else { (1i128 << bits) - 1 };
        let least = if signed { -(1i128 << (bits - 1)) } else { i128::from(least) };
        format!("a whole number from {least} to {most}")
    };
    let integer = |word: &str| -> Option<(u32, bool)> {
        let signed = word.starts_with('i');
        match word.strip_prefix(['u', 'i'])? {
            "size" => Some((64, signed)),
            bits => Some((bits.parse().ok().filter(|bits| matches!(bits, 8 | 16 | 32 | 64))?, signed)),
        }
    };
    match expected {
        "a boolean" => "`true` or `false`".into(),
        "a string" => "a word or text".into(),
        "a sequence" => "a list".into(),
        "a map" => "a mapping".into(),
        "f32" | "f64" => "a number".into(),
        "enum" => "a kind".into(),
        _ => {
            let nonzero = expected.strip_prefix("a nonzero ");
            if let Some((bits, signed)) = integer(nonzero.unwrap_or(expected)) {
                return range(bits, signed, u8::from(nonzero.is_some()));
            }
            if expected.starts_with("struct ") || expected.starts_with("enum ") || expected.contains("variant ") {
                return "a mapping".into();
            }
            expected.into()
        }
    }
}

/// A fault in words: code, message, hint.
pub(super) struct Words {
    pub(super) code: Code,
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

impl Fault {
    /// `None` when there is nothing to say.
    pub(super) fn words(&self, document: &Document, node: NodeId) -> Option<Words> {
        let written =
            document.scalar(node).and_then(|scalar| Some((shortened(scalar.written.as_deref()?), scalar.text.as_str())));
        let say = |code, message: String, hint| Some(Words { code, message, hint });
        match &self.what {
            What::Silent | What::Again => None,
            What::UnknownKey { key, .. } if key == "<<" => {
                let hint = "write an alias for a whole value (`tls: *tls`), or the keys themselves";
                say(Code::UnknownKey, "merge keys are not part of YAML 1.2".into(), Some(hint.into()))
            }
            What::UnknownKey { key, known: [] } => {
                say(Code::UnknownKey, format!("unknown key `{key}`"), Some("nothing can be set here".into()))
            }
            What::UnknownKey { key, known } => {
                let hint = elsewhere::key(key, known).map(str::to_owned);
                say(Code::UnknownKey, format!("unknown key `{key}`"), hint.or_else(|| nearest(key, known.iter().copied())))
            }
            What::UnknownKind { kind, known, of } => {
                let registered = of.is_none_or(|of| of.ends_with("Spec"));
                let code = if registered { Code::UnknownKind } else { Code::BadValue };
                let hint = of.and_then(|of| elsewhere::kind(kind, of)).map(str::to_owned);
                let hint = hint.or_else(|| nearest(kind, known.iter().copied()));
                match (&written, of.filter(|_| registered)) {
                    // A near miss would give the value away.
                    (Some((written, _)), _) => {
                        let hint = format!("allowed here: {}", listed(known));
                        say(code, format!("the value of `{written}` is none of those allowed here"), Some(hint))
                    }
                    (None, Some(of)) => say(code, format!("unknown {} `{kind}`", in_snake_case(of)), hint),
                    (None, None) if registered => say(code, format!("unknown kind `{kind}`"), hint),
                    (None, None) => say(code, format!("`{kind}` is none of the values allowed here"), hint),
                }
            }
            What::Missing(key) => say(Code::MissingKey, format!("the key `{key}` is missing"), None),
            What::Mismatch { found, expected, keys } => {
                let hint = written.is_none().then(|| shape(found, expected, keys)).flatten();
                let found = written.map_or_else(|| found.clone(), |(written, _)| format!("the value of `{written}`"));
                let hint = hint.or_else(|| (!keys.is_empty()).then(|| format!("allowed here: {}", listed(keys))));
                // A word in quotes is text.
                let quoted = matches!(found.as_str(), "`true`" | "`false`") && expected == "`true` or `false`";
                let found = if quoted { format!("the text \"{}\"", found.trim_matches('`')) } else { found };
                say(Code::BadValue, format!("expected {expected}, found {found}"), hint)
            }
            What::Refused(message) => match written {
                None => {
                    let (message, hint) = split_hint(message);
                    say(Code::BadValue, message, hint)
                }
                Some((written, value)) => {
                    let what =
                        what_it_is_not(message, value).map_or("cannot be used here".into(), |what| format!("is not {what}"));
                    say(Code::BadValue, format!("the value of `{written}` {what}"), None)
                }
            },
        }
    }
}

/// What to write where the shape is wrong.
fn shape(found: &str, expected: &str, keys: &[&str]) -> Option<String> {
    let word = found.strip_prefix('`').and_then(|rest| rest.strip_suffix('`'));
    match (expected, word) {
        ("a list", Some(word)) => Some(format!("put it in brackets: `[\"{word}\"]`")),
        ("a list", None) if found == "a mapping" => Some("begin each item with `- `".into()),
        ("a mapping", None) if found == "a list" && keys.is_empty() => {
            Some("each has a name here: write `NAME: {...}` instead of `- {...}`".into())
        }
        ("`true` or `false`", Some("true" | "false")) => Some("remove the quotes".into()),
        // What most people set, in the place of the mapping that it belongs into.
        ("a mapping", Some(word)) => {
            let key = keys.iter().find(|key| matches!(**key, "to" | "max" | "attempts" | "rate" | "root"))?;
            Some(format!("write `{{{key}: {word}}}`"))
        }
        _ => None,
    }
}

/// A parser says what is wrong and, behind a semicolon, what to do about it.
fn split_hint(message: &str) -> (String, Option<String>) {
    match message.split_once("; ") {
        Some((message, hint)) => (message.into(), Some(hint.into())),
        None => (message.into(), None),
    }
}

/// `a duration`, from "`x` is not a duration; write ...": only words of the parser, nothing of the value.
fn what_it_is_not(message: &str, value: &str) -> Option<String> {
    let rest = message.strip_prefix('`')?.strip_prefix(value)?.strip_prefix("` is not ")?;
    let end = rest.find(|c: char| !c.is_ascii_alphabetic() && c != ' ').unwrap_or(rest.len());
    let what = rest[..end].trim();
    (what.starts_with("a ") || what.starts_with("an ")).then(|| what.to_owned())
}

fn listed(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

/// `FilterSpec` is about a `filter`.
fn in_snake_case(of: &str) -> String {
    let mut words = String::new();
    for c in of.trim_end_matches("Spec").chars() {
        if c.is_ascii_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.push(c.to_ascii_lowercase());
    }
    words
}

/// For messages: what does not fit on a line says nothing on two.
pub(super) fn shortened(text: &str) -> String {
    let text = text.lines().next().unwrap_or_default();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.into(),
    }
}
