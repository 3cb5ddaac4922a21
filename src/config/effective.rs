//! A configuration as it is understood: includes joined, defaults filled in, secrets hidden.
//!
//! A value that came from a variable or a secret file is printed as it was written: that hides it, and what is
//! printed still means the same.

use serde_yaml::Value;

use super::{Loaded, Spec};
use crate::types::{OneOrMany, Seg, YamlPath};

/// The YAML of what was loaded. Empty when nothing was.
pub fn effective(loaded: &Loaded) -> String {
    let printed = match effective_value(loaded) {
        Ok(None) => return String::new(),
        Ok(Some(value)) => serde_yaml::to_string(&value),
        Err(error) => Err(error),
    };
    printed.unwrap_or_else(|error| format!("# cannot be printed: {error}\n"))
}

/// As [`effective`], before it is text. `None` when nothing was loaded.
pub fn effective_value(loaded: &Loaded) -> Result<Option<Value>, serde_yaml::Error> {
    let Some(spec) = &loaded.spec else { return Ok(None) };
    let joined = Spec { include: OneOrMany::default(), ..spec.clone() };
    let mut value = serde_yaml::with::singleton_map_recursive::serialize(&joined, serde_yaml::value::Serializer)?;
    unfold(loaded, &mut value, &mut YamlPath::default());
    Ok(Some(value))
}

/// Puts back the variables, value by value, and escapes what would be taken for one.
fn unfold(loaded: &Loaded, value: &mut Value, path: &mut YamlPath) {
    match value {
        Value::Mapping(entries) => {
            for (key, value) in entries.iter_mut() {
                path.0.push(Seg::Key(key.as_str().unwrap_or_default().into()));
                unfold(loaded, value, path);
                path.0.pop();
            }
        }
        Value::Sequence(items) => {
            for (index, value) in items.iter_mut().enumerate() {
                path.0.push(Seg::Index(index));
                unfold(loaded, value, path);
                path.0.pop();
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Tagged(_) => {
            if let Some(written) = loaded.document.written(path) {
                *value = Value::String(written.to_owned());
            } else if let Value::String(text) = value {
                *text = text.replace("${", "$${");
            }
        }
    }
}
