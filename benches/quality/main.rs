//! What clients notice of a bad endpoint: latency, errors and where the traffic goes, per strategy.
//!
//! A whole edge in this process, ten endpoints of which one is ten times slower and one fails every fifth request,
//! open-loop load at 60 % of what the endpoints can work on. Then ten endpoints that lose most of their workers in the middle, with
//! and without adaptive limits. `make bench-balance`; it fails when a promise of the documentation does not hold.
//!
//! A bench and not an example, because examples are built by every `cargo test`; with a `main` of its own, because the
//! result is a distribution under load and not the time of a function.

mod load;
mod report;
mod scene;

use std::{process::ExitCode, time::Duration};

use clap::Parser;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::time::sleep;

use load::Sample;
use report::{Latency, Promises};
use scene::{Cast, ENDPOINTS, FAILS, SLOW, SLOWNESS, Scene};

/// All but `weighted_round_robin`, which is `round_robin`.
const STRATEGIES: &[&str] = &[
    "round_robin",
    "random",
    "least_connections",
    "least_response_time",
    "power_of_two",
    "peak_ewma",
    "ip_hash",
    "consistent_hash",
    "maglev",
];
/// These go by load, and so must leave the slow endpoint alone: by Little's law, equal numbers in flight give it 1.1 % of the requests
/// instead of its tenth.
const STARVING: &[&str] = &["least_connections", "peak_ewma"];

/// The share of the capacity that is asked for.
const UTILISATION: f64 = 0.6;
/// For connections to open and averages to form.
const WARM_UP: Duration = Duration::from_millis(1500);
/// An adaptive limit starts at 32 and takes longer to find out what is possible.
const ADAPTIVE_WARM_UP: Duration = Duration::from_secs(4);
/// What is left of the workers of each endpoint when the upstream slows down: a quarter of the capacity, and less than half of what is asked for.
const WORKERS_LEFT: u32 = 1;
/// A gradient takes a window of 100 ms per step.
const ADAPTATION: Duration = Duration::from_secs(2);
/// The fixed limit is higher than the requests that can come, so that it is none. Nobody queues at the edge with the adaptive one, so
/// that the latencies are those of the endpoints.
const LIMITS: [(&str, &str, bool); 2] = [
    ("`{max_requests: 100000}`", "{max_requests: 100000}", false),
    ("`{adaptive: true, max_queue: 0}`", "{adaptive: true, max_queue: 0}", true),
];

#[derive(Debug, Parser)]
struct Options {
    /// How long each row measures, after its warm-up.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Only the rows of this strategy, or `adaptive`.
    #[arg(long)]
    only: Option<String>,
    /// Cargo says this to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    fn wants(&self, row: &str) -> bool {
        self.only.as_deref().is_none_or(|only| only == row)
    }
    fn measure(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

/// What the edge does about failures.
const CARES: [(&str, &str, &str); 2] = [
    ("off", "circuit_breaker: off", "retry: {attempts: 0}"),
    ("on", "circuit_breaker: {}", "retry: {attempts: 2, on: [connect, reset, 500, 502, 503, 504]}"),
];

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let options = Options::parse();
    // An overloaded endpoint holds thousands of requests, each with its sockets at the client, the edge and the endpoint.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let mut promises = Promises::default();
    strategies(&options, &mut promises).await?;
    if options.wants("adaptive") {
        slowdown(&options, &mut promises).await?;
    }
    Ok(promises.verdict())
}

async fn strategies(options: &Options, promises: &mut Promises) -> anyhow::Result<()> {
    if !STRATEGIES.iter().any(|strategy| options.wants(strategy)) {
        return Ok(());
    }
    let cast = Cast::OneSlowOneFailing;
    let rate = cast.capacity() * UTILISATION;
    println!(
        "{ENDPOINTS} endpoints, one {SLOWNESS}x slower, one failing {FAILS} %; capacity {:.0}/s, load {rate:.0}/s",
        cast.capacity()
    );
    println!();
    println!("| strategy | breaker, retries | p50 ms | p99 ms | p99.9 ms | to the slow endpoint | errors | no answer yet |");
    println!("|---|---|---|---|---|---|---|---|");
    for strategy in STRATEGIES.iter().filter(|strategy| options.wants(strategy)) {
        for (care, upstream, route) in CARES {
            let scene = Scene::start(cast, &format!("strategy: {strategy}, {upstream}"), route).await?;
            let load = tokio::spawn(load::run(scene.address()?, rate, WARM_UP + options.measure()));
            sleep(WARM_UP).await;
            let before = scene.received();
            sleep(options.measure()).await;
            let after = scene.received();
            let samples: Vec<Sample> = load.await?.into_iter().filter(|sample| sample.due >= WARM_UP).collect();
            scene.stop().await;

            let received: Vec<u64> = after.iter().zip(&before).map(|(after, before)| after - before).collect();
            let slow = received[SLOW] as f64 / received.iter().sum::<u64>().max(1) as f64;
            let (errors, waiting) = (report::errors(&samples), report::waiting(&samples));
            println!("| `{strategy}` | {care} | {} | {:.1} % | {} | {} |", Latency::of(&samples), slow * 100.0, errors, waiting);
            if STARVING.contains(strategy) {
                promises.keep(slow < 0.03, || format!("{strategy} ({care}) sends {:.1} % to the slow endpoint", slow * 100.0));
            }
            if care == "on" {
                promises
                    .keep(errors.share() <= 0.0001, || format!("{strategy}: clients see errors in spite of retries: {errors}"));
            }
        }
    }
    Ok(())
}

async fn slowdown(options: &Options, promises: &mut Promises) -> anyhow::Result<()> {
    let cast = Cast::Alike;
    let rate = cast.capacity() * UTILISATION;
    let half = options.measure() / 2;
    let slows_down = ADAPTIVE_WARM_UP + half;
    let phases = [
        ("before", ADAPTIVE_WARM_UP, half),
        ("the first 2 s after", slows_down, ADAPTATION),
        ("then", slows_down + ADAPTATION, half),
    ];
    println!();
    println!("{ENDPOINTS} endpoints alike, {} workers each and then {WORKERS_LEFT}; load {rate:.0}/s", cast.workers());
    println!();
    println!("| `limits` | when | p50 ms | p99 ms | p99.9 ms | served/s | errors | no answer yet |");
    println!("|---|---|---|---|---|---|---|---|");
    for (name, limits, adaptive) in LIMITS {
        let upstream = format!("strategy: least_connections, limits: {limits}");
        let scene = Scene::start(cast, &upstream, CARES[1].2).await?;
        let load = tokio::spawn(load::run(scene.address()?, rate, slows_down + ADAPTATION + half));
        sleep(slows_down).await;
        scene.endpoints.iter().for_each(|endpoint| endpoint.set_workers(WORKERS_LEFT));
        let samples = load.await?;
        scene.stop().await;

        let [before, _, after] = phases.map(|(when, from, length)| {
            let due = from..from + length;
            let samples: Vec<Sample> = samples.iter().filter(|sample| due.contains(&sample.due)).copied().collect();
            let (latency, served) = (Latency::of(&samples), report::served(&samples) as f64 / length.as_secs_f64());
            let (errors, waiting) = (report::errors(&samples), report::waiting(&samples));
            println!("| {name} | {when} | {latency} | {served:.0} | {errors} | {waiting} |");
            latency.p99
        });
        if adaptive {
            promises.keep(after < before * 4, || format!("adaptive limits let p99 rise from {before:?} to {after:?}"));
        } else {
            promises.keep(after > before * 4, || format!("nothing slowed down: p99 from {before:?} to {after:?}"));
        }
    }
    Ok(())
}
