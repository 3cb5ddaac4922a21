//! `weir diff`: what changes in meaning.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, ValueEnum};
use http::{HeaderValue, Method, header};

use super::{
    remote::{self, AdminArgs, Body, Remote},
    run,
};
use crate::{
    config::{self, Loaded},
    snapshot::{self, Diff, diff::View},
};

/// Say what changes in meaning from one configuration to another.
///
/// Exit codes are those of diff(1): 0 when nothing changes, 1 when something does, 2 when that cannot be told.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// The configuration before and the one after; with one file, the running edge is the one before.
    #[arg(required = true, num_args = 1..=2, value_names = ["OLD", "NEW"])]
    files: Vec<PathBuf>,
    /// How to show it.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    admin: AdminArgs,
}

/// How to show an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For reading.
    Text,
    /// One JSON document.
    Json,
}

const SAME: u8 = 0;
const DIFFERENT: u8 = 1;
const TROUBLE: u8 = 2;

/// Runs `weir diff`.
pub fn run(args: &DiffArgs) -> ExitCode {
    match &args.files[..] {
        [old, new] => {
            let (Some(old), Some(new)) = (load(old), load(new)) else { return ExitCode::from(TROUBLE) };
            let (Some(old), Some(new)) = (View::of_loaded(&old), View::of_loaded(&new)) else {
                return ExitCode::from(TROUBLE);
            };
            show(args.format, &Diff::between(&old, &new))
        }
        [new] => {
            let Some(new) = load(new).as_ref().and_then(View::of_written) else { return ExitCode::from(TROUBLE) };
            remote::block_on(TROUBLE, against_running(args, new))
        }
        _ => ExitCode::from(super::USAGE),
    }
}

async fn against_running(args: &DiffArgs, new: View) -> anyhow::Result<ExitCode> {
    let as_yaml = [(header::ACCEPT, HeaderValue::from_static("application/yaml"))];
    let answer = Remote::new(&args.admin)?.send(Method::GET, "/api/v1/config", Body::none(), &as_yaml).await?;
    let old = View::of_effective(answer.text()?).map_err(|reason| anyhow::anyhow!("the running configuration: {reason}"))?;
    let code = show(args.format, &Diff::between(&old, &new));
    // Said where it does not disturb what reads the answer.
    eprintln!("note: the running edge tells no secrets, and of variables their names: a change of these alone is not seen");
    Ok(code)
}

/// What is wrong goes to standard error; warnings are no hindrance.
pub(super) fn load(file: &Path) -> Option<Loaded> {
    let loaded = snapshot::check(config::load(file, &|name| std::env::var(name).ok()));
    run::usable(&loaded).then_some(loaded)
}

fn show(format: Format, diff: &Diff) -> ExitCode {
    let text = match format {
        Format::Text => diff.to_string(),
        Format::Json => format!("{:#}\n", serde_json::to_value(diff).unwrap_or_default()),
    };
    // A reader that went away (`| head`) is no reason to fail.
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::from(if diff.is_empty() { SAME } else { DIFFERENT })
}
