//! Weir beside nginx, HAProxy and Envoy: processor time for each request, memory for each idle connection, latency at half load,
//! system calls. `make bench-peers`.
//!
//! Each program is a process of its own with one worker, on a processor that nothing else uses. The load and the origin are in this
//! process, on the other processors. Processor time is what the kernel says that the program's processes took, so that it does not
//! matter whether the load could have been higher. Rounds take turns between the programs, and the middle one of the values is
//! reported; in brackets, its ratio to that of nginx.

#[path = "../beside/mod.rs"]
mod beside;
mod client;
mod cores;
#[path = "../beside/descriptors.rs"]
mod descriptors;
mod load;
mod measure;
mod open_loop;
mod origin;
mod programs;
mod workloads;

use std::{fs, process::ExitCode};

use anyhow::Context;
use clap::Parser;

use beside::{Contender, Figure as _, Table};
use client::Client;
use cores::Cores;
use measure::Bench;
use programs::Kind;
use workloads::{Figure, Workload};

#[derive(Debug, Clone, Parser)]
struct Options {
    /// Only workloads whose names contain one of these: small, logged, tls, close, large, file, hit, websocket, idle, idle-tls,
    /// latency, syscalls, workers; and h2, which is left out otherwise.
    names: Vec<String>,
    /// How often everything is measured.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long each measurement takes, in seconds.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Connections that ask at a time.
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// Idle connections whose memory is measured.
    #[arg(long, default_value_t = 2000)]
    open: usize,
    /// Given by `cargo bench`, and meaning nothing here.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("peers: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether everything could be measured.
fn run() -> anyhow::Result<bool> {
    let options = Options::parse();
    descriptors::raise(options.open as u64 * 2 + 6000);
    let wanted: Vec<Workload> = Workload::ALL.iter().copied().filter(|it| it.is_asked_for(&options.names)).collect();
    anyhow::ensure!(!wanted.is_empty(), "no workload has a name like {}", options.names.join(" or "));
    let there: Vec<Kind> = beside::installed("bench-peers");
    let cores = Cores::split()?;
    let bench = Bench { options, cores, origin: origin::start()?, client: Client::new()?, per_second: 0.0 };
    print_conditions(&there);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (table, complete) = runtime.block_on(measure_all(bench, &wanted, &there))?;
    table.print(Some(Kind::Nginx));
    Ok(complete)
}

/// What a reader needs to repeat the run.
fn print_conditions(there: &[Kind]) {
    let profile = std::env::current_exe().ok().and_then(|path| {
        // target/PROFILE/deps/peers-HASH
        Some(path.ancestors().nth(2)?.file_name()?.to_string_lossy().into_owned())
    });
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    println!("`make bench-peers PROFILE={} ARGS='{}'`\n", profile.as_deref().unwrap_or("release"), arguments.join(" "));
    for kind in there.iter().filter(|kind| **kind != Kind::Origin) {
        println!("- {}: {}", kind.name(), kind.version());
    }
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let processors = read("/proc/cpuinfo");
    let mut models = processors.lines().filter_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = models.next().map_or("unknown", |(_, model)| model);
    println!("- Processors: {} of {model}", models.count() + 1);
    println!("- Kernel: Linux {}", read("/proc/sys/kernel/osrelease").trim());
    println!("- Load average at the start: {}\n", read("/proc/loadavg").trim());
}

async fn measure_all(mut bench: Bench, wanted: &[Workload], there: &[Kind]) -> anyhow::Result<(Table<Figure, Kind>, bool)> {
    let (mut table, mut complete) = (Table::new(), true);
    for workload in wanted.iter().copied() {
        if workload == Workload::Syscalls
            && let Err(error) = measure::counts_system_calls()
        {
            eprintln!("system calls are left out: {error:#}");
            continue;
        }
        if workload == Workload::Latency {
            let base = if there.contains(&Kind::Nginx) { Kind::Nginx } else { Kind::Weir };
            bench.per_second = bench.half_load(base).await.context("half load")?;
            println!("- Half load: {:.0} requests per second, half of what {} answers\n", bench.per_second, base.name());
        }
        eprintln!("{}", workload.name());
        let there: Vec<Kind> = there.iter().copied().filter(|kind| workload.has(*kind)).collect();
        let measure = async |kind| match bench.run(workload, kind).await {
            Ok(values) => {
                let shown: Vec<String> = values.iter().map(|(figure, value)| figure.show(*value)).collect();
                eprintln!("  {}", shown.join(", "));
                Ok(values)
            }
            Err(error) => {
                // The others are still worth their figures.
                eprintln!("  failed: {error:#}");
                complete = false;
                Ok(Vec::new())
            }
        };
        table.rounds(&there, bench.options.rounds, measure).await?;
    }
    Ok((table, complete))
}
