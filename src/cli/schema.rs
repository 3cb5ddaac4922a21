//! `weir schema`: the JSON Schema of a configuration, for editors.

use std::{io::Write, process::ExitCode};

use clap::Args;

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
    format!("{:#}\n", schemars::schema_for!(Spec).to_value())
}
