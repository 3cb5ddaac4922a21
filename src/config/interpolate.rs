//! `${VAR}`, `${VAR:-default}` and `${file:/run/secrets/token}` inside values.
//!
//! Replaced in the finished tree, so a variable can change a value and never the structure. `$${` stands for `${`.
//! What was put in never shows in a message: a value remembers how it was written, and the document remembers
//! what it must not show.

use std::{
    collections::HashMap,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use super::{
    diagnostic::{Diagnostic, MAX_REPORTS},
    document::{Document, Kind, Scalar},
    fault::shortened,
};
use crate::types::Code;

/// Looks up an environment variable. A parameter, so that a test has its own environment.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Tokens, passwords, keys: a secret file above this is a mistake.
const MAX_SECRET: u64 = 64 << 10;
/// What variables add, as against the 10 MiB of the files: a long variable may be named often.
const MAX_TOTAL: usize = 32 << 20;

type Refused = (String, Option<String>);

/// Replaces variables. Each variable and each secret is read once, so that it is the same everywhere.
pub(super) struct Interpolation<'v> {
    variables: Variables<'v>,
    values: HashMap<(PathBuf, String), Result<String, Refused>>,
    total: usize,
}

impl<'v> Interpolation<'v> {
    pub(super) fn new(variables: Variables<'v>) -> Self {
        Self { variables, values: HashMap::new(), total: 0 }
    }

    /// Replaces the variables in every value that was added at or after `from`.
    pub(super) fn run(&mut self, document: &mut Document, from: usize, found: &mut Vec<Diagnostic>) {
        for node in document.ids().skip(from) {
            let written = match document.own_scalar(node) {
                Some(Scalar { text, .. }) if text.contains("${") && !document.is_key(node) => text.clone(),
                _ => continue,
            };
            if found.len() >= MAX_REPORTS {
                return;
            }
            let dir = document.source(node).dir.clone();
            match self.replaced(&written, &dir, &mut document.hidden) {
                Ok((text, any)) => {
                    // An escape alone hides nothing.
                    let written = any.then(|| written.clone());
                    if let Kind::Scalar(scalar) = document.kind_mut(node) {
                        (scalar.text, scalar.written) = (text, written);
                    }
                }
                Err((message, hint)) => {
                    let code = if self.total > MAX_TOTAL { Code::TooLarge } else { Code::Variable };
                    found.push(Diagnostic::new(code, message, document.place(node)).hint(hint));
                    document.poison(node);
                    if code == Code::TooLarge {
                        return;
                    }
                }
            }
        }
        // The longest first, so that no part of a value is replaced before the whole.
        document.hidden.sort_by(|a, b| b.0.len().cmp(&a.0.len()).then_with(|| a.cmp(b)));
        document.hidden.dedup();
    }

    /// The text with its variables replaced, and whether there were any. New values go to `hidden`.
    fn replaced(&mut self, written: &str, dir: &Path, hidden: &mut Vec<(String, String)>) -> Result<(String, bool), Refused> {
        let mut text = String::with_capacity(written.len());
        let (mut rest, mut any) = (written, false);
        while let Some(at) = rest.find("${") {
            if rest[..at].ends_with('$') {
                text.push_str(&rest[..at - 1]);
                text.push_str("${");
                rest = &rest[at + 2..];
                continue;
            }
            text.push_str(&rest[..at]);
            let Some(end) = rest[at..].find('}') else {
                return Err(("`${` has no closing `}`".into(), Some("write `$${` for a literal `${`".into())));
            };
            let whole = &rest[at..=at + end];
            let value = self.value(whole, dir, hidden)?;
            self.total += value.len();
            if self.total > MAX_TOTAL {
                return Err((format!("variables put more than {MAX_TOTAL} bytes into the configuration"), None));
            }
            text.push_str(&value);
            any = true;
            rest = &rest[at + end + 1..];
        }
        text.push_str(rest);
        Ok((text, any))
    }

    fn value(&mut self, whole: &str, dir: &Path, hidden: &mut Vec<(String, String)>) -> Result<String, Refused> {
        let inside = &whole[2..whole.len() - 1];
        let dir = if inside.starts_with("file:") { dir.to_owned() } else { PathBuf::new() };
        let variables = self.variables;
        self.values
            .entry((dir, inside.to_owned()))
            .or_insert_with_key(|(dir, inside)| {
                let (value, given) = look_up(inside, dir, variables)?;
                if given && !value.is_empty() {
                    hidden.push((value.clone(), whole.to_owned()));
                }
                Ok(value)
            })
            .clone()
    }
}

/// The value of what stands between the braces, and whether it was given from outside (a default was not).
fn look_up(inside: &str, dir: &Path, variables: Variables<'_>) -> Result<(String, bool), Refused> {
    if let Some(path) = inside.strip_prefix("file:") {
        let refused = |reason| (format!("`${{{inside}}}`: the secret cannot be read: {reason}"), None);
        return secret(&dir.join(path)).map(|value| (value, true)).map_err(refused);
    }
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if name.is_empty() || !name.bytes().all(word) || name.starts_with(|c: char| c.is_ascii_digit()) {
        let hint = "write `${NAME}`, `${NAME:-default}` or `${file:/path}`, and `$${` for a literal `${`";
        return Err((format!("`${{{}}}` is not a variable", shortened(inside)), Some(hint.into())));
    }
    match (variables(name), default) {
        (Some(value), Some(default)) if value.is_empty() => Ok((default.into(), false)),
        (Some(value), _) => Ok((value, true)),
        (None, Some(default)) => Ok((default.into(), false)),
        (None, None) => {
            Err((format!("the variable `{name}` is not set"), Some(format!("set it, or write `${{{name}:-default}}`"))))
        }
    }
}

/// The text of a secret file, without the line end that editors and `echo` leave.
fn secret(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    if !file.metadata().is_ok_and(|meta| meta.is_file()) {
        return Err("it is not a file".into());
    }
    let read = file.take(MAX_SECRET + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if read as u64 > MAX_SECRET {
        return Err(format!("it has more than {MAX_SECRET} bytes"));
    }
    text.truncate(text.trim_end_matches(['\r', '\n']).len());
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replace(written: &str) -> Result<String, Refused> {
        let variables = |name: &str| match name {
            "PORT" => Some("80".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        Interpolation::new(&variables).replaced(written, Path::new("/nonexistent"), &mut Vec::new()).map(|(text, _)| text)
    }

    #[test]
    fn a_variable_is_replaced_where_it_stands() {
        assert_eq!(replace("127.0.0.1:${PORT}").unwrap(), "127.0.0.1:80");
        assert_eq!(replace("${PORT}${PORT}").unwrap(), "8080");
        assert_eq!(replace("${NONE:-9}${EMPTY:-8}${EMPTY}").unwrap(), "98");
        assert_eq!(replace("a$${PORT}b$c").unwrap(), "a${PORT}b$c");
    }

    #[test]
    fn what_cannot_be_replaced_is_named_by_its_source() {
        assert_eq!(replace("${NONE}").unwrap_err().0, "the variable `NONE` is not set");
        assert!(replace("${").unwrap_err().0.contains("closing"));
        for bad in ["${}", "${1A}", "${A B}", "${a.b}"] {
            assert!(replace(bad).unwrap_err().0.contains("is not a variable"), "{bad}");
        }
        assert!(replace("${file:secret}").unwrap_err().0.starts_with("`${file:secret}`: the secret cannot be read"));
    }
}
