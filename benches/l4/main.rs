//! Layer 4 beside HAProxy (`mode tcp`) and nginx (`stream`): processor time for a connection, for a small echo and for a GiB;
//! memory with many open connections; what each adds to the time of an echo. `make bench-l4`.
//!
//! Each proxy is a process of its own with one thread for traffic, in front of one endpoint in this process. Processor
//! time is what the kernel says that process took, so that a busy machine disturbs it least. Rounds take turns between the proxies,
//! and the middle one of the values is reported.

mod endpoint;
mod proxies;
mod scenes;

use std::{collections::BTreeMap, process::ExitCode};

use clap::Parser;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use proxies::Kind;
use scenes::Figure;

#[derive(Debug, Clone, Parser)]
struct Options {
    /// How often everything is measured.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Only this: connections, echo, latency, bulk, memory.
    #[arg(long)]
    only: Option<String>,
    /// How long an echo is repeated, in seconds.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Open connections in the larger of the memory scenes.
    #[arg(long, default_value_t = 9_000)]
    open: usize,
    /// Given by `cargo bench`, and meaning nothing here.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    raise_descriptors(options.open as u64 * 2 + 1000);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(3).enable_all().build().expect("a runtime");
    match runtime.block_on(measure(&options)) {
        Ok(figures) => print(&figures),
        Err(error) => {
            eprintln!("l4: {error:#}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

type Figures = BTreeMap<(Figure, Kind), Vec<f64>>;

async fn measure(options: &Options) -> anyhow::Result<Figures> {
    let endpoint = endpoint::start().await?;
    let mut figures = Figures::new();
    let (there, missing): (Vec<Kind>, Vec<Kind>) = Kind::ALL.into_iter().partition(|kind| kind.is_installed());
    for kind in missing {
        eprintln!("{} is not installed, so it is left out; `make bench-l4` installs it where it may", kind.name());
    }
    for round in 1..=options.rounds {
        for kind in there.iter().copied() {
            eprintln!("round {round} of {}: {}", options.rounds, kind.name());
            for (figure, value) in scenes::all(kind, endpoint, options).await? {
                figures.entry((figure, kind)).or_default().push(value);
            }
        }
    }
    Ok(figures)
}

/// A table in Markdown: a row for each figure, a column for each proxy.
fn print(figures: &Figures) {
    let names: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
    println!("| | {} |", names.join(" | "));
    println!("|---|{}", "---|".repeat(names.len()));
    for figure in Figure::ALL {
        let cells: Vec<String> = Kind::ALL.iter().map(|kind| cell(figures.get(&(figure, *kind)), figure)).collect();
        if cells.iter().any(|cell| !cell.is_empty()) {
            println!("| {} | {} |", figure.name(), cells.join(" | "));
        }
    }
}

fn cell(values: Option<&Vec<f64>>, figure: Figure) -> String {
    let Some(values) = values else { return String::new() };
    let mut values = values.clone();
    values.sort_by(f64::total_cmp);
    figure.show(values[values.len() / 2])
}

fn raise_descriptors(wanted: u64) {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    // The proxies inherit it; root may go beyond the hard limit.
    if soft < wanted && setrlimit(Resource::RLIMIT_NOFILE, wanted, hard.max(wanted)).is_err() {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
        eprintln!("l4: only {hard} files may be open at a time; ask for fewer connections with --open, or raise `ulimit -Hn`");
    }
}
