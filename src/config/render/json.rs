//! For scripts: one JSON document.

use serde_json::{Value, json as object};

use crate::{
    config::{Diagnostic, Place},
    types::Severity,
};

/// `{"errors": n, "warnings": n, "diagnostics": [...]}`.
pub fn json(diagnostics: &[Diagnostic]) -> Value {
    let errors = diagnostics.iter().filter(|d| d.severity() == Severity::Error).count();
    object!({
        "errors": errors,
        "warnings": diagnostics.len() - errors,
        "diagnostics": diagnostics.iter().map(one).collect::<Vec<_>>(),
    })
}

fn one(diagnostic: &Diagnostic) -> Value {
    let mut value = object!({
        "code": diagnostic.code.as_str(),
        "severity": match diagnostic.severity() { Severity::Error => "error", Severity::Warning => "warning" },
        "message": diagnostic.message,
        "file": diagnostic.place.name,
        "line": diagnostic.place.line,
        "column": diagnostic.place.column,
        "path": diagnostic.place.path,
    });
    if let Some(hint) = &diagnostic.hint {
        value["hint"] = hint.as_str().into();
    }
    if let Some((Place { name, line, column, path, .. }, label)) = &diagnostic.also {
        value["related"] = object!({"file": name, "line": line, "column": column, "path": path, "message": label});
    }
    value
}
