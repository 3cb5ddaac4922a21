//! `weir check`: what is wrong with a configuration, without running it.

use std::{
    io::{IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, ValueEnum};

use crate::{
    config::{self, Diagnostic, Loaded, Source, render},
    types::Severity,
};

/// Check configuration files.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The files, each a configuration of its own.
    #[arg(required_unless_present = "config", value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// One more file, as `weir run` takes it.
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// How to show what was found.
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub format: Format,
    /// Exit with 2 when there are warnings and no errors.
    #[arg(long)]
    pub strict: bool,
    /// Print the configuration with every default filled in and secrets hidden.
    #[arg(long, value_name = "WHAT")]
    pub print: Option<Print>,
}

/// How to show diagnostics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Text with snippets, on standard error.
    Human,
    /// One JSON document on standard output.
    Json,
    /// SARIF 2.1.0 on standard output, for code review tools.
    Sarif,
}

/// What to print of a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Print {
    /// The file as it is understood.
    Effective,
}

/// Nothing wrong, or nothing that counts.
const OK: u8 = 0;
/// At least one error.
const ERRORS: u8 = 1;
/// Warnings, when they count.
const WARNINGS: u8 = 2;

/// What checking is: reading, and whatever a reload would find too.
pub type Check<'a> = &'a dyn Fn(Loaded) -> Loaded;

/// Checks the files. `check` is what a reload runs on what was loaded.
pub fn run(args: &CheckArgs, check: Check<'_>) -> ExitCode {
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let report = check_files(args, check, &|name| std::env::var(name).ok(), colour);
    // A reader that went away (`| head`) is no reason to fail.
    let _ = std::io::stdout().write_all(report.out.as_bytes());
    let _ = std::io::stderr().write_all(report.err.as_bytes());
    ExitCode::from(report.exit)
}

/// What a check writes, and its exit code.
#[derive(Debug)]
pub struct Report {
    /// For standard output.
    pub out: String,
    /// For standard error.
    pub err: String,
    /// The exit code.
    pub exit: u8,
}

/// As [`run`], without touching the process.
pub fn check_files(args: &CheckArgs, check: Check<'_>, variables: config::Variables<'_>, colour: bool) -> Report {
    let mut report = Report { out: String::new(), err: String::new(), exit: OK };
    let (mut all, mut sources): (Vec<Diagnostic>, Vec<Source>) = (Vec::new(), Vec::new());
    for file in args.files.iter().chain(&args.config) {
        let loaded = check(config::load(file, variables));
        if args.format == Format::Human {
            report.err.push_str(&render::human(loaded.document.sources(), &loaded.diagnostics, colour));
        }
        match &loaded.spec {
            Some(_) if args.print.is_some() && loaded.is_ok() => report.out.push_str(&config::effective(&loaded)),
            _ if args.format == Format::Human && loaded.diagnostics.is_empty() => {
                report.err.push_str(&format!("{}: ok\n", file.display()));
            }
            _ => {}
        }
        // Places count sources from the first of their own file.
        let before = sources.len();
        all.extend(loaded.diagnostics.into_iter().map(|diagnostic| diagnostic.after(before)));
        sources.extend(loaded.document.into_sources());
    }
    match args.format {
        Format::Human => {}
        // `--print` has standard output for itself.
        _ if args.print.is_some() => report.err.push_str(&machine(args.format, &sources, &all)),
        _ => report.out.push_str(&machine(args.format, &sources, &all)),
    }
    let any = |severity| all.iter().any(|diagnostic| diagnostic.severity() == severity);
    report.exit = match (any(Severity::Error), any(Severity::Warning) && args.strict) {
        (true, _) => ERRORS,
        (false, true) => WARNINGS,
        (false, false) => OK,
    };
    report
}

fn machine(format: Format, sources: &[Source], diagnostics: &[Diagnostic]) -> String {
    let value = match format {
        Format::Sarif => render::sarif(sources, diagnostics),
        _ => render::json(diagnostics),
    };
    format!("{value:#}\n")
}
