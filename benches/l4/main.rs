//! Layer 4 beside HAProxy (`mode tcp`) and nginx (`stream`): processor time for a connection, for a small echo and for a GiB;
//! memory with many open connections; what each adds to the time of an echo. `make bench-l4`.
//!
//! Each proxy is a process of its own with one thread for traffic, in front of one endpoint in this process. Processor
//! time is what the kernel says that process took, so that a busy machine disturbs it least. Rounds take turns between the proxies,
//! and the middle one of the values is reported.

#[path = "../beside/mod.rs"]
mod beside;
#[path = "../beside/descriptors.rs"]
mod descriptors;
mod endpoint;
mod proxies;
mod scenes;
#[path = "../beside/table.rs"]
mod table;

use std::process::ExitCode;

use clap::Parser;

use proxies::Kind;
use scenes::Figure;
use table::Table;

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
    descriptors::raise(options.open as u64 * 2 + 1000);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(3).enable_all().build().expect("a runtime");
    match runtime.block_on(measure(&options)) {
        Ok(table) => table.print(),
        Err(error) => {
            eprintln!("l4: {error:#}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

async fn measure(options: &Options) -> anyhow::Result<Table<Figure, Kind>> {
    let endpoint = endpoint::start().await?;
    let mut table = Table::new();
    table.rounds(&beside::installed("bench-l4"), options.rounds, async |kind| scenes::all(kind, endpoint, options).await).await?;
    Ok(table)
}
