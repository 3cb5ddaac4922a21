//! `weir import`: the configuration of another program as ours.

use std::{io::Write, path::PathBuf, process::ExitCode};

use clap::Args;

use crate::import::{self, Kind};

/// Read the configuration of nginx, HAProxy, Caddy or Traefik and write it as ours.
///
/// The result goes to standard output, a summary of what was and was not carried over to standard error. In the result, a comment
/// stands in each place where something is left or is different: look at them, then run `weir check`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Whose configuration it is.
    #[arg(value_enum)]
    from: Kind,
    /// The file.
    file: PathBuf,
    /// Write the result to this file, which must not exist yet. Best in the directory of the original, since relative paths stay as they are.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Runs `weir import`.
pub fn run(args: &ImportArgs) -> ExitCode {
    let imported = match import::import(args.from, &args.file) {
        Ok(imported) => imported,
        Err(error) => {
            eprintln!("weir: {error}");
            return ExitCode::FAILURE;
        }
    };
    let config = imported.config();
    if let Some(output) = &args.output {
        let written = std::fs::File::create_new(output).and_then(|mut file| file.write_all(config.as_bytes()));
        if let Err(error) = written {
            eprintln!("weir: cannot write `{}`: {error}", output.display());
            return ExitCode::FAILURE;
        }
    } else {
        // A reader that went away (`| head`) is no reason to fail.
        let _ = std::io::stdout().write_all(config.as_bytes());
    }
    eprint!("{}", imported.report);
    ExitCode::SUCCESS
}
