//! `weir schema`: the JSON Schema of a configuration, for editors.
//!
//! Derived from the Spec, then widened to what the decoder takes beside: a kind written bare, a number where a
//! word is wanted, a variable where a number is. An editor must not underline what `weir check` accepts.

use std::{io::Write, process::ExitCode};

use clap::Args;
use serde_json::{Value, json};

use crate::config::Spec;

/// Print the JSON Schema of the configuration.
#[derive(Debug, Args)]
pub struct SchemaArgs {}

/// Prints the schema.
pub fn run(_: &SchemaArgs) -> ExitCode {
    let _ = std::io::stdout().write_all(schema().as_bytes());
    ExitCode::SUCCESS
}

/// The schema as text.
pub fn schema() -> String {
    let mut schema = schemars::schema_for!(Spec).to_value();
    let definitions = schema["$defs"].clone();
    widen(&mut schema, &definitions);
    format!("{schema:#}\n")
}

fn widen(schema: &mut Value, definitions: &Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(|item| widen(item, definitions)),
        Value::Object(object) => {
            let plain = !object.contains_key("pattern") && !object.contains_key("enum") && !object.contains_key("const");
            match object.get("type").and_then(Value::as_str) {
                // A pattern applies to strings only.
                Some(number @ ("integer" | "number")) => {
                    object.insert("type".into(), json!([number, "string"]));
                    object.insert("pattern".into(), r"\$\{".into());
                }
                Some("boolean") => {
                    object.insert("type".into(), json!(["boolean", "string"]));
                    object.insert("pattern".into(), r"^(on|off)$|\$\{".into());
                }
                Some("string") if plain => {
                    object.insert("type".into(), json!(["string", "number", "boolean"]));
                }
                _ => {}
            }
            if let Some(Value::Array(choices)) = object.get_mut("oneOf") {
                let bare: Vec<String> = choices.iter().filter_map(|choice| bare_kind(choice, definitions)).collect();
                if !bare.is_empty() {
                    choices.push(json!({"enum": bare, "description": "A kind without options."}));
                }
            }
            object.values_mut().for_each(|value| widen(value, definitions));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The kind of a choice that may be written without options: one key, whose value is a mapping with nothing required.
fn bare_kind(choice: &Value, definitions: &Value) -> Option<String> {
    let [kind] = choice["required"].as_array()?.as_slice() else { return None };
    let kind = kind.as_str()?;
    let options = choice["properties"][kind]["$ref"].as_str()?.strip_prefix("#/$defs/")?;
    let options = &definitions[options];
    (options["type"] == "object" && options.get("required").is_none()).then(|| kind.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_takes_what_the_decoder_takes() {
        let schema: Value = serde_json::from_str(&schema()).unwrap();
        let definitions = &schema["$defs"];
        let strategies = definitions["StrategySpec"]["oneOf"].as_array().unwrap();
        let bare = strategies.iter().find_map(|choice| choice["enum"].as_array()).unwrap();
        assert!(bare.contains(&json!("round_robin")), "{bare:?}");
        assert_eq!(definitions["Threads"]["type"], json!(["string", "number", "boolean"]));
        assert_eq!(definitions["HttpSpec"]["properties"]["h2"]["type"], json!(["boolean", "string"]));
        assert_eq!(definitions["Duration"]["type"], json!("string"));
        assert_eq!(schema["additionalProperties"], json!(false));
    }
}
