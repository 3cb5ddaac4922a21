//! A configuration as it is understood: includes joined, defaults filled in, secrets hidden.
//!
//! A value that came from a variable or a secret file is printed as it was written: that hides it, and what is
//! printed still means the same.

use serde_yaml::Value;

use super::{Loaded, Spec};
use crate::types::{OneOrMany, Seg, YamlPath};

/// The YAML of what was loaded. Empty when nothing was.
pub fn effective(loaded: &Loaded) -> String {
    let Some(spec) = &loaded.spec else { return String::new() };
    let joined = Spec { include: OneOrMany::default(), ..spec.clone() };
    let printed =
        serde_yaml::with::singleton_map_recursive::serialize(&joined, serde_yaml::value::Serializer).and_then(|mut value| {
            unfold(loaded, &mut value, &mut YamlPath::default());
            serde_yaml::to_string(&value)
        });
    printed.unwrap_or_else(|error| format!("# cannot be printed: {error}\n"))
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
