//! Weir beside nginx, HAProxy and Envoy, over HTTP/3 beside Caddy too, the scoreboard of the project: processor time for each request, requests per second, latency
//! at half load, memory of idle connections, system calls. `make bench-peers`.
//!
//! Each program is a process of its own with one worker, on a processor that nothing else uses. The load and the origin are in this
//! process, on the other processors. Processor time is what the kernel says that the program's processes took, so that it hardly
//! matters whether the load could have been higher; a rate counts only if the program was busy all the time. Rounds take turns
//! between the programs.

#[path = "../beside/mod.rs"]
mod beside;
mod client;
mod cores;
#[path = "../beside/descriptors.rs"]
mod descriptors;
mod grpc;
mod load;
mod measure;
mod open_loop;
mod origin;
mod programs;
mod report;
mod workloads;

use std::{collections::BTreeMap, fs, process::ExitCode, time::Instant};

use anyhow::Context;
use clap::Parser;

use beside::Contender as _;
use client::Client;
use cores::Cores;
use measure::Bench;
use programs::Kind;
use report::Results;
use workloads::{Half, Way, Workload};

/// Files that this process has open besides those of idle connections, or of connections to many endpoints.
const OTHER_FILES: usize = 4000;

#[derive(Debug, Clone, Parser)]
struct Options {
    /// Only workloads whose names contain one of these: small, logged, tls, close, fields, large, download, upload, file, hit,
    /// websocket, h2, h2-large, grpc, h3, h3-one, h3-large, h3-download, handshake, resumed; connections-64, connections-1000, endpoints-3, endpoints-10000,
    /// routes-10, routes-10000; idle, idle-tls, latency, latency-own, syscalls, workers.
    names: Vec<String>,
    /// How often everything is measured: five times, if nothing is said.
    #[arg(long)]
    rounds: Option<usize>,
    /// How long each measurement takes, in seconds: three, if nothing is said.
    #[arg(long)]
    seconds: Option<u64>,
    /// One round of two seconds, of the workloads of the first table only.
    #[arg(long)]
    quick: bool,
    /// Connections that ask at a time, where a workload does not say it.
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// Idle connections whose memory is measured.
    #[arg(long, default_value_t = 10_000, value_parser = at_least_20)]
    open: usize,
    /// Given by `cargo bench`, and meaning nothing here.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    /// Of some figures, which vary little from round to round, no more than three.
    fn rounds(&self, workload: &Workload) -> usize {
        let rounds = self.rounds.unwrap_or(if self.quick { 1 } else { 5 });
        if matches!(workload.way, Way::Memory { .. } | Way::Syscalls | Way::Workers) { rounds.min(3) } else { rounds }
    }

    fn seconds(&self) -> u64 {
        self.seconds.unwrap_or(if self.quick { 2 } else { 3 })
    }

    fn wants(&self, workload: &Workload) -> bool {
        let is_quick = matches!(workload.way, Way::Requests(_));
        workload.is_asked_for(&self.names) && (is_quick || !self.quick)
    }
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

/// A tenth of them is measured too.
fn at_least_20(text: &str) -> anyhow::Result<usize> {
    let number = text.parse()?;
    anyhow::ensure!(number >= 20, "at least 20");
    Ok(number)
}

/// Whether everything could be measured.
fn run() -> anyhow::Result<bool> {
    let mut options = Options::parse();
    let files = descriptors::raise((options.open + OTHER_FILES) as u64) as usize;
    if files < options.open + OTHER_FILES {
        options.open = files.saturating_sub(OTHER_FILES).max(20);
        eprintln!("memory is measured with {} connections", options.open);
    }
    let wanted: Vec<&Workload> = workloads::ALL.iter().filter(|it| options.wants(it)).collect();
    anyhow::ensure!(!wanted.is_empty(), "no workload has a name like {}", options.names.join(" or "));
    let there: Vec<Kind> = beside::installed("bench-peers");
    let cores = Cores::split()?;
    let paced_by = if there.contains(&report::BASE) { report::BASE } else { Kind::Weir };
    let bench = Bench { options, cores, origin: origin::start()?, client: Client::new()?, half: BTreeMap::new(), paced_by };
    print_conditions(&there);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(measure_all(bench, &wanted, &there))
}

/// What a reader needs to repeat the run.
fn print_conditions(there: &[Kind]) {
    let profile = std::env::current_exe().ok().and_then(|path| {
        // target/PROFILE/deps/peers-HASH
        Some(path.ancestors().nth(2)?.file_name()?.to_string_lossy().into_owned())
    });
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    println!("`make bench-peers PROFILE={} ARGS='{}'`\n", profile.as_deref().unwrap_or("release"), arguments.join(" "));
    for kind in there.iter().filter(|kind| !matches!(kind, Kind::WeirPingora | Kind::Origin)) {
        println!("- {}: {}", kind.name(), kind.version());
    }
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let processors = read("/proc/cpuinfo");
    let mut models = processors.lines().filter_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = models.next().map_or("unknown", |(_, model)| model);
    println!("- Processors: {} of {model}", models.count() + 1);
    println!("- Kernel: Linux {}", read("/proc/sys/kernel/osrelease").trim());
    println!("- Load average at the start: {}", read("/proc/loadavg").trim());
}

/// In rounds, and prints the tables. Whether everything could be measured.
async fn measure_all(mut bench: Bench, wanted: &[&Workload], there: &[Kind]) -> anyhow::Result<bool> {
    let (mut results, started) = (Results::default(), Instant::now());
    find_half_loads(&mut bench, wanted, there).await?;
    for workload in wanted.iter().copied() {
        if matches!(workload.way, Way::Syscalls)
            && let Err(error) = measure::counts_system_calls()
        {
            eprintln!("system calls are left out: {error:#}");
            continue;
        }
        let rounds = bench.options.rounds(workload);
        for round in 1..=rounds {
            for kind in there.iter().copied().filter(|kind| workload.has(*kind)) {
                eprintln!("{}, round {round} of {rounds}: {}", workload.name, kind.name());
                match bench.run(workload, kind).await {
                    Ok(values) => {
                        let shown: Vec<String> = values.iter().map(|(of, value)| report::show(*of, *value)).collect();
                        eprintln!("  {}", shown.join(", "));
                        results.add(workload, kind, &values);
                    }
                    Err(error) => {
                        // The others are still worth their figures.
                        eprintln!("  failed: {error:#}");
                        results.fail(workload, kind);
                    }
                }
            }
        }
    }
    println!("- {} minutes, rounds of {} seconds", started.elapsed().as_secs().div_ceil(60), bench.options.seconds());
    results.print();
    Ok(!results.has_failed())
}

/// The rates of the open loop.
async fn find_half_loads(bench: &mut Bench, wanted: &[&Workload], there: &[Kind]) -> anyhow::Result<()> {
    let wants = |half: Half| wanted.iter().any(|it| matches!(it.way, Way::Latency(of) if of == half));
    for kind in there.iter().copied().filter(|kind| !matches!(kind, Kind::Caddy | Kind::Origin)) {
        if wants(Half::OfItsOwn) || (wants(Half::OfOne) && kind == bench.paced_by) {
            let half = bench.half_load(kind).await.context("half load")?;
            bench.half.insert(kind, half);
            println!("- Half load of {}: {half:.0} requests per second", kind.name());
        }
    }
    Ok(())
}
