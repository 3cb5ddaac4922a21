//! Hits beside nginx (`proxy_cache`) and Varnish: processor time for a hit, hits per second and their p99, for bodies of 1 KiB and of
//! 100 KiB; memory with ten thousand small ones; and beside nginx, files (`sendfile`)
//! and what small ones wait for pages that are being compressed. `make bench-cache`.
//!
//! Each cache is a process of its own in front of one origin in this process, which counts what it is asked: a round in which hits
//! came from there is no round. Weir and nginx have one thread for traffic; Varnish has a thread for each connection, and no setting
//! that would change that. Processor time is what the kernel says that process took, so that a busy machine disturbs it least. Rounds
//! take turns between the caches, and the middle one of the values is reported.

#[path = "../beside/mod.rs"]
mod beside;
mod caches;
mod client;
mod origin;
mod scenes;
#[path = "../beside/table.rs"]
mod table;

use std::process::ExitCode;

use clap::Parser;

use caches::Kind;
use scenes::Figure;
use table::Table;

#[derive(Debug, Clone, Parser)]
struct Options {
    /// How often everything is measured.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Only this: small, large, files, compress, memory.
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
        Ok(table) => table.print(),
        Err(error) => {
            eprintln!("cache: {error:#}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

async fn measure(options: &Options) -> anyhow::Result<Table<Figure, Kind>> {
    let origin = origin::start().await?;
    let mut table = Table::new();
    table
        .rounds(&beside::installed("bench-cache"), options.rounds, async |kind| scenes::all(kind, &origin, options).await)
        .await?;
    Ok(table)
}
