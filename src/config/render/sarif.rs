//! For code review tools: SARIF 2.1.0 (OASIS).

use serde_json::{Value, json};

use crate::{
    config::{Diagnostic, Place, Source},
    types::{Code, Severity},
};

/// One run with one result for each diagnostic.
pub fn sarif(sources: &[Source], diagnostics: &[Diagnostic]) -> Value {
    let rules: Vec<&Code> = Code::ALL.iter().filter(|code| diagnostics.iter().any(|d| d.code == **code)).collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "weir",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules.iter().map(|code| json!({
                    "id": code.as_str(),
                    "shortDescription": {"text": code.meaning()},
                    "defaultConfiguration": {"level": level(code.severity())},
                })).collect::<Vec<_>>(),
            }},
            "columnKind": "unicodeCodePoints",
            "results": diagnostics.iter().map(|diagnostic| result(sources, &rules, diagnostic)).collect::<Vec<_>>(),
        }],
    })
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}

fn result(sources: &[Source], rules: &[&Code], diagnostic: &Diagnostic) -> Value {
    let text = match &diagnostic.hint {
        Some(hint) => format!("{}: {hint}", diagnostic.message),
        None => diagnostic.message.clone(),
    };
    let mut value = json!({
        "ruleId": diagnostic.code.as_str(),
        "ruleIndex": rules.iter().position(|code| **code == diagnostic.code),
        "level": level(diagnostic.severity()),
        "message": {"text": text},
        "locations": [location(sources, &diagnostic.place)],
    });
    if let Some((place, label)) = &diagnostic.also {
        let mut related = location(sources, place);
        related["id"] = 1.into();
        related["message"] = json!({"text": label});
        value["relatedLocations"] = json!([related]);
    }
    value
}

fn location(sources: &[Source], place: &Place) -> Value {
    let width = sources.get(place.file).and_then(|source| source.text.get(place.span.clone())).map_or(0, |t| t.chars().count());
    let mut value = json!({
        "physicalLocation": {
            "artifactLocation": {"uri": uri(&place.name)},
            "region": {"startLine": place.line, "startColumn": place.column, "endColumn": place.column + width},
        },
    });
    if !place.path.is_empty() {
        value["logicalLocations"] = json!([{"fullyQualifiedName": place.path}]);
    }
    value
}

/// A path as a relative or `file:` reference (RFC 3986): what is not allowed in a path is percent-encoded.
fn uri(path: &str) -> String {
    let mut uri = String::from(if path.starts_with('/') { "file://" } else { "" });
    for byte in path.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => uri.push(byte as char),
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri
}
