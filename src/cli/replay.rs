//! `weir replay`: where the requests of an access log would go by another configuration.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::SystemTime,
};

use anyhow::Context;
use clap::Args;

use super::{
    diff::{Format, load},
    remote,
};
use crate::{
    explain::replay::Replay,
    snapshot::{self, Registries},
    types::Problems,
};

/// Say where the requests of an access log (in JSON) would go by another configuration.
///
/// Nothing is sent anywhere. Exit codes are those of diff(1): 0 when every request would go the same way, 1 when some
/// would not, 2 when that cannot be told.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// The configuration to route by.
    #[arg(short, long, value_name = "NEW")]
    config: PathBuf,
    /// The access log; `-` for standard input.
    #[arg(required = true, value_name = "LOG")]
    logs: Vec<PathBuf>,
    /// How many examples of each difference to show.
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=100))]
    examples: u16,
    /// How to show it.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

const SAME: u8 = 0;
const DIFFERENT: u8 = 1;
const TROUBLE: u8 = 2;

/// Longer lines are of something else: Weir's own have at most some 10 kB.
const MAX_LINE: u64 = 1 << 20;

/// Runs `weir replay`.
pub(super) fn run(args: &ReplayArgs) -> ExitCode {
    let Some(spec) = load(&args.config).and_then(|loaded| loaded.spec) else { return ExitCode::from(TROUBLE) };
    // Upstreams live in a runtime; nothing of them runs here.
    remote::block_on(TROUBLE, async {
        let (problems, registries) = (Problems::default(), Registries::default());
        let snapshot = snapshot::compile(spec, 0, &registries, SystemTime::now(), &problems);
        let snapshot = snapshot.context("the configuration has errors")?;
        let mut replay = Replay::new(&snapshot, args.examples.into());
        for log in &args.logs {
            read(log, &mut replay).with_context(|| format!("cannot read {}", log.display()))?;
        }
        let report = replay.report();
        let text = match args.format {
            Format::Text => report.to_string(),
            Format::Json => format!("{:#}\n", serde_json::to_value(&report)?),
        };
        // A reader that went away (`| head`) is no reason to fail.
        let _ = io::stdout().write_all(text.as_bytes());
        if report.lines > 0 && report.lines == report.foreign {
            anyhow::bail!("no line is of an access log with `format: json`");
        }
        Ok(ExitCode::from(if report.different == 0 { SAME } else { DIFFERENT }))
    })
}

fn read(log: &Path, replay: &mut Replay<'_>) -> io::Result<()> {
    match log.as_os_str() == "-" {
        true => lines(io::stdin().lock(), replay),
        false => lines(BufReader::with_capacity(1 << 16, File::open(log)?), replay),
    }
}

/// Line by line, in the memory of one.
fn lines(mut log: impl BufRead, replay: &mut Replay<'_>) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        line.clear();
        if log.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        if line.last() == Some(&b'\n') || (line.len() as u64) < MAX_LINE {
            replay.line(&line);
        } else {
            replay.too_long();
            skip_line(&mut log)?;
        }
    }
}

/// The rest of a line that is too long.
fn skip_line(log: &mut impl BufRead) -> io::Result<()> {
    loop {
        let ahead = log.fill_buf()?;
        let (used, over) = match memchr::memchr(b'\n', ahead) {
            Some(end) => (end + 1, true),
            None => (ahead.len(), ahead.is_empty()),
        };
        log.consume(used);
        if over {
            return Ok(());
        }
    }
}
