//! `${VAR}`, `${VAR:-default}` and `${file:/run/secrets/token}` inside values.
//!
//! Replaced in the finished tree, so a variable can change a value and never the structure. `$${` stands for `${`.
//! What was put in never shows in a message: a value remembers how it was written, and the document remembers
//! what it must not show.

use std::{fs::File, io::Read, path::Path};

use super::{
    diagnostic::Diagnostic,
    document::{Document, Kind, Scalar},
};
use crate::types::Code;

/// Looks up an environment variable. A parameter, so that a test has its own environment.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Tokens, passwords, keys: a secret file above this is a mistake.
const MAX_SECRET: u64 = 64 << 10;
/// Text of all values after replacing, as against the 10 MiB of the files: a long variable named often.
const MAX_TOTAL: usize = 32 << 20;

/// Replaces the variables in every value that was added at or after `from`.
pub(super) fn interpolate(document: &mut Document, variables: Variables<'_>, from: usize, found: &mut Vec<Diagnostic>) {
    let mut total = 0;
    for node in document.ids().skip(from).collect::<Vec<_>>() {
        let written = match document.own_scalar(node) {
            Some(Scalar { text, .. }) if text.contains("${") && !document.is_key(node) => text.clone(),
            _ => continue,
        };
        let dir = document.source(node).dir.clone();
        let mut hidden = Vec::new();
        match replaced(&written, &dir, variables, &mut hidden) {
            Ok(text) => {
                total += text.len();
                if total > MAX_TOTAL {
                    let message = format!("with its variables, the configuration has more than {MAX_TOTAL} bytes");
                    found.push(Diagnostic::new(Code::TooLarge, message, document.place(node)));
                    return document.poison(node);
                }
                // An escape alone hides nothing.
                let written = (!hidden.is_empty()).then(|| written.trim().to_owned());
                document.hidden.extend(hidden);
                if let Some(written) = &written {
                    document.hidden.push((text.clone(), written.clone()));
                }
                if let Kind::Scalar(scalar) = document.kind_mut(node) {
                    (scalar.text, scalar.written) = (text, written);
                }
            }
            Err((message, hint)) => {
                found.push(Diagnostic::new(Code::Variable, message, document.place(node)).hint(hint));
                document.poison(node);
            }
        }
    }
    // The longest first, so that no part of a value is replaced before the whole.
    document.hidden.retain(|(value, _)| !value.is_empty());
    document.hidden.sort_by(|a, b| b.0.len().cmp(&a.0.len()).then_with(|| a.cmp(b)));
    document.hidden.dedup();
}

type Refused = (String, Option<String>);

/// The text with its variables replaced; what was put in goes to `hidden`, with what stands for it.
fn replaced(written: &str, dir: &Path, variables: Variables<'_>, hidden: &mut Vec<(String, String)>) -> Result<String, Refused> {
    let mut text = String::with_capacity(written.len());
    let mut rest = written;
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
        let value = value(&whole[2..whole.len() - 1], dir, variables)?;
        text.push_str(&value);
        hidden.push((value, whole.to_owned()));
        rest = &rest[at + end + 1..];
    }
    text.push_str(rest);
    Ok(text)
}

fn value(inside: &str, dir: &Path, variables: Variables<'_>) -> Result<String, Refused> {
    if let Some(path) = inside.strip_prefix("file:") {
        return secret(&dir.join(path)).map_err(|reason| (format!("`${{{inside}}}`: the secret cannot be read: {reason}"), None));
    }
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if name.is_empty() || !name.bytes().all(word) || name.starts_with(|c: char| c.is_ascii_digit()) {
        let hint = "write `${NAME}`, `${NAME:-default}` or `${file:/path}`, and `$${` for a literal `${`";
        return Err((format!("`${{{inside}}}` is not a variable"), Some(hint.into())));
    }
    match (variables(name), default) {
        (Some(value), Some(default)) if value.is_empty() => Ok(default.into()),
        (Some(value), _) => Ok(value),
        (None, Some(default)) => Ok(default.into()),
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
        replaced(written, Path::new("/nonexistent"), &variables, &mut Vec::new())
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
