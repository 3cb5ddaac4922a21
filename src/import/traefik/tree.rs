//! YAML and labels as one tree, in which keys are found in any case, and the lines in which they stand.

use serde_yaml::{Mapping, Value};

/// Where keys stand: the text itself is searched for them, since a parsed tree knows no lines.
#[derive(Debug, Default)]
pub struct Lines {
    lines: Vec<String>,
}

impl Lines {
    /// Of a text.
    pub fn of(text: &str) -> Self {
        Self { lines: text.lines().map(str::to_ascii_lowercase).collect() }
    }

    /// The line that has this text.
    pub fn find_text(&self, text: &str) -> Option<usize> {
        let text = text.to_ascii_lowercase();
        self.lines.iter().position(|line| line.contains(&text)).map(|at| at + 1)
    }

    /// The line of the last of these keys, each below the one before it; of the last that was found where one is missing.
    pub fn find(&self, keys: &[&str]) -> usize {
        let mut at = 0;
        for key in keys {
            let key = key.to_ascii_lowercase();
            let forms = [format!("{key}:"), format!("\"{key}\":"), format!("'{key}':"), format!(".{key}."), format!("{key}=")];
            let found = |line: &String| {
                let line = line.trim_start().trim_start_matches("- ");
                line.starts_with(&forms[0]) || forms[1..].iter().any(|form| line.contains(form.as_str()))
            };
            if let Some(next) = self.lines[at..].iter().position(found) {
                at += next;
            }
        }
        at + 1
    }
}

/// The value behind a key, whatever its case.
pub fn get<'v>(value: &'v Value, key: &str) -> Option<&'v Value> {
    let map = value.as_mapping()?;
    map.get(key).or_else(|| {
        map.iter().find(|(known, _)| known.as_str().is_some_and(|known| known.eq_ignore_ascii_case(key))).map(|(_, value)| value)
    })
}

/// The value at the end of these keys.
pub fn at<'v>(value: &'v Value, keys: &[&str]) -> Option<&'v Value> {
    keys.iter().try_fold(value, |value, key| get(value, key))
}

/// A scalar as a text.
pub fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

/// The text behind a key.
pub fn text_at(value: &Value, key: &str) -> Option<String> {
    text(get(value, key)?)
}

/// A list of texts, or one with commas.
pub fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Sequence(items) => items.iter().filter_map(text).collect(),
        other => text(other)
            .map(|text| text.split(',').map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect())
            .unwrap_or_default(),
    }
}

/// The texts behind a key.
pub fn texts_at(value: &Value, key: &str) -> Vec<String> {
    get(value, key).map(texts).unwrap_or_default()
}

/// True, or `true`.
pub fn is_true(value: &Value, key: &str) -> bool {
    text_at(value, key).as_deref() == Some("true")
}

/// The entries of a mapping with texts as keys.
pub fn entries(value: Option<&Value>) -> Vec<(String, &Value)> {
    let map = value.and_then(Value::as_mapping);
    map.map(|map| map.iter().filter_map(|(key, value)| Some((text(key)?, value))).collect()).unwrap_or_default()
}

/// Labels are deeper than this nowhere.
const MAX_DEPTH: usize = 24;

/// Puts a text at the end of a path of keys, as labels and arguments have it: `http.routers.a.rule`.
pub fn put(tree: &mut Value, path: &str, held: &str) {
    let mut place = tree;
    for key in path.split('.').take(MAX_DEPTH) {
        let key = key.split('[').next().unwrap_or_default();
        if !place.is_mapping() {
            *place = Value::Mapping(Mapping::new());
        }
        let Value::Mapping(map) = place else { return };
        let known =
            map.iter().find_map(|(known, _)| known.as_str().filter(|known| known.eq_ignore_ascii_case(key)).map(str::to_owned));
        let key = Value::String(known.unwrap_or_else(|| key.to_owned()));
        place = map.entry(key).or_insert(Value::Null);
    }
    if !place.is_mapping() {
        *place = Value::String(held.to_owned());
    }
}
