//! Hits beside nginx (`proxy_cache`) and Varnish: processor time for a hit, hits per second and their p99, for bodies of 1 KiB and of
//! 100 KiB; memory with ten thousand small ones. `make bench-cache`.
//!
//! Each cache is a process of its own in front of one origin in this process, which counts what it is asked: a round in which hits
//! came from there is no round. Weir and nginx have one thread for traffic; Varnish has a thread for each connection, and no setting
//! that would change that. Processor time is what the kernel says that process took, so that a busy machine disturbs it least. Rounds
//! take turns between the caches, and the middle one of the values is reported.

mod caches;
mod client;
mod origin;
mod process;
mod scenes;

use std::{collections::BTreeMap, process::ExitCode};

use clap::Parser;

use caches::Kind;
use scenes::Figure;

#[derive(Debug, Clone, Parser)]
struct Options {
    /// How often everything is measured.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Only this: small, large, memory.
    #[arg(long)]
    only: Option<String>,
    /// How long hits are asked for, in seconds.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Connections that ask at a time.
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// Objects in the scene of memory.
    #[arg(long, default_value_t = 10_000)]
    objects: usize,
    /// Given by `cargo bench`, and meaning nothing here.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(3).enable_all().build().expect("a runtime");
    match runtime.block_on(measure(&options)) {
        Ok(figures) => print(&figures),
        Err(error) => {
            eprintln!("cache: {error:#}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

type Figures = BTreeMap<(Figure, Kind), Vec<f64>>;

async fn measure(options: &Options) -> anyhow::Result<Figures> {
    let origin = origin::start().await?;
    let mut figures = Figures::new();
    let (there, missing): (Vec<Kind>, Vec<Kind>) = Kind::ALL.into_iter().partition(|kind| kind.is_installed());
    for kind in missing {
        eprintln!("{} is not installed, so it is left out; `make bench-cache` installs it where it may", kind.name());
    }
    for round in 1..=options.rounds {
        for kind in there.iter().copied() {
            eprintln!("round {round} of {}: {}", options.rounds, kind.name());
            for (figure, value) in scenes::all(kind, &origin, options).await? {
                figures.entry((figure, kind)).or_default().push(value);
            }
        }
    }
    Ok(figures)
}

/// A table in Markdown: a row for each figure, a column for each cache.
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
