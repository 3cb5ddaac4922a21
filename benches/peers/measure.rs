//! How each workload is measured.

use std::{
    collections::BTreeMap,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use tokio::time::sleep;

use super::{
    Options,
    beside::{Contender as _, Process},
    client::{Client, Target, request},
    cores::Cores,
    load::{Exchange, Load},
    open_loop::{self, OpenLoop},
    origin::{Origin, SMALL},
    programs::{Kind, Program, Setup},
    workloads::{Half, Quantity, Scene, Way, Workload},
};

type Values = Vec<(Quantity, f64)>;

/// Until connections are open and everything is warm.
const WARM_UP: Duration = Duration::from_secs(1);
/// The same, where a connection to each of many endpoints is to be opened.
const LONG_WARM_UP: Duration = Duration::from_secs(4);
/// A program that had less of its processor waited for the load or the origin.
const BUSY: f64 = 0.9;
/// A median latency beyond this is a queue that grows, in seconds.
const OVERLOADED: f64 = 0.1;
/// The tracepoint at which every system call passes.
const SYSTEM_CALLS: &str = "raw_syscalls:sys_enter";
const GET: Exchange = Exchange::Get("/small", SMALL);

/// What every measurement needs.
pub struct Bench {
    pub options: Options,
    pub cores: Cores,
    pub origin: Origin,
    pub client: Client,
    /// Half of the requests per second that each program answers.
    pub half: BTreeMap<Kind, f64>,
    /// Whose half is the same rate for all.
    pub paced_by: Kind,
}

/// Between two moments.
struct Busy {
    cpu: Duration,
    answers: u64,
    took: Duration,
}

impl Busy {
    /// In seconds.
    fn cpu_of_each(&self) -> f64 {
        self.cpu.as_secs_f64() / self.answers as f64
    }

    fn rate(&self) -> f64 {
        self.answers as f64 / self.took.as_secs_f64()
    }

    /// Of one processor.
    fn share(&self) -> f64 {
        self.cpu.as_secs_f64() / self.took.as_secs_f64()
    }

    /// The processor time counts in any case: the kernel counts it whoever waits. A rate counts if the program was the bottleneck.
    fn values(&self) -> Values {
        let rate = if self.share() < BUSY { Quantity::AtLeast } else { Quantity::Rate };
        if rate == Quantity::AtLeast {
            let share = self.share() * 100.0;
            eprintln!("  the program was busy for {share:.0} % of the time, so it was not the bottleneck: the rate is dropped");
        }
        vec![(Quantity::Cpu, self.cpu_of_each()), (rate, self.rate())]
    }
}

impl Bench {
    pub async fn run(&self, workload: &Workload, kind: Kind) -> anyhow::Result<Values> {
        match &workload.way {
            Way::Requests(scene) | Way::Scaling(scene) => self.requests(scene, kind).await,
            Way::Memory { tls } => self.memory(*tls, kind).await,
            Way::Latency(half) => self.latency(*half, kind).await,
            Way::Syscalls => self.system_calls(kind).await,
            Way::Workers => self.workers(kind).await,
        }
    }

    async fn start(&self, kind: Kind, setup: Setup) -> anyhow::Result<Program> {
        Program::start(kind, setup, &self.origin, &self.cores).await
    }

    fn load(&self, target: Target) -> Load {
        Load::start(&self.client, target, GET, self.options.connections)
    }

    /// What the process takes for the answers within so many seconds, while load goes on before and after.
    async fn busy(&self, process: &Process, load: &Load, warm_up: Duration) -> anyhow::Result<Busy> {
        sleep(warm_up).await;
        let (cpu, answers, started) = (process.cpu(), load.answers(), Instant::now());
        sleep(Duration::from_secs(self.options.seconds())).await;
        let took = started.elapsed();
        // A thread that ended meanwhile takes its time with it.
        let busy = Busy { cpu: process.cpu().saturating_sub(cpu), answers: load.answers() - answers, took };
        ensure!(busy.answers > 0, "no answers");
        Ok(busy)
    }

    async fn requests(&self, scene: &Scene, kind: Kind) -> anyhow::Result<Values> {
        let program = self.start(kind, scene.setup).await?;
        let connections = scene.connections.unwrap_or(self.options.connections);
        let asked = self.origin.asked();
        let load = Load::start(&self.client, scene.target(&program), scene.exchange, connections);
        let warm_up = if scene.setup.endpoints > 100 { LONG_WARM_UP } else { WARM_UP };
        let busy = self.busy(&program.process, &load, warm_up).await;
        // Why there were no answers is known to the load.
        let answers = load.stop().await?;
        let busy = busy?;
        let asked = self.origin.asked() - asked;
        match scene.exchange {
            // All connections may ask before the first answer is stored.
            Exchange::Get("/kept", _) => ensure!(asked <= connections as u64, "{asked} hits went to the origin"),
            Exchange::Get("/files/small", _) => ensure!(asked == 0, "{asked} files came from the origin"),
            _ => {}
        }
        if scene.setup.access_log {
            check_log(&program, answers).await?;
        }
        Ok(busy.values())
    }

    /// With as many connections as asked for, and with a tenth of them.
    async fn memory(&self, tls: bool, kind: Kind) -> anyhow::Result<Values> {
        let program = self.start(kind, Setup::USUAL).await?;
        let (target, request) = (if tls { program.tls } else { program.cleartext }, request("/small", ""));
        let mut values = vec![(Quantity::Memory(0), program.process.memory() as f64)];
        let mut connections = Vec::new();
        let mut after_first = 0;
        for wanted in [1, self.options.open / 10, self.options.open] {
            while connections.len() < wanted {
                let mut connection = self.client.open(target).await?;
                connection.ask(&request, SMALL).await?;
                connections.push(connection.with_small_buffer());
            }
            sleep(Duration::from_millis(1000)).await;
            let memory = program.process.memory();
            match wanted {
                // What only the first connection takes is not counted for each.
                1 => after_first = memory,
                _ => values.push((Quantity::Memory(wanted), memory as f64)),
            }
        }
        let more = program.process.memory().saturating_sub(after_first);
        values.push((Quantity::PerConnection, more as f64 / (connections.len() - 1).max(1) as f64));
        for connection in &mut connections {
            connection.ask(&request, SMALL).await.context("a connection is not open any more")?;
        }
        Ok(values)
    }

    async fn latency(&self, half: Half, kind: Kind) -> anyhow::Result<Values> {
        let program = match kind {
            Kind::Origin => None,
            _ => Some(self.start(kind, Setup::USUAL).await?),
        };
        let origin = Target { address: self.origin.endpoints(Setup::USUAL.protocol, 1)[0], tls: false };
        let of = if half == Half::OfOne { self.paced_by } else { kind };
        let load = OpenLoop {
            path: "/small",
            length: SMALL,
            per_second: *self.half.get(&of).with_context(|| format!("the rate of {} is not known", of.name()))?,
            connections: self.options.connections,
            duration: Duration::from_secs(self.options.seconds()),
        };
        let latencies = open_loop::run(&self.client, program.as_ref().map_or(origin, |program| program.cleartext), load).await?;
        let quantile = |share: u32| latencies.value_at_quantile(f64::from(share) / 1e3) as f64 / 1e9;
        let overloaded = quantile(500) > OVERLOADED;
        let shown = |share| (Quantity::Latency(share), if overloaded { f64::INFINITY } else { quantile(share) });
        Ok([500, 990, 999].map(shown).into())
    }

    /// Half of what this program answers per second in a closed loop.
    pub async fn half_load(&self, kind: Kind) -> anyhow::Result<f64> {
        let program = self.start(kind, Setup::USUAL).await?;
        let load = self.load(program.cleartext);
        let busy = self.busy(&program.process, &load, WARM_UP).await;
        load.stop().await?;
        Ok(busy?.rate() / 2.0)
    }

    /// Counted from before the first connection until after the last answer.
    async fn system_calls(&self, kind: Kind) -> anyhow::Result<Values> {
        let program = self.start(kind, Setup::USUAL).await?;
        let processes: Vec<String> = program.process.all().iter().map(u32::to_string).collect();
        let mut perf = Command::new("perf");
        perf.args(["stat", "-x", ",", "-e", SYSTEM_CALLS, "-p", &processes.join(",")]);
        let perf = perf.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        // It does not say when it has begun.
        sleep(Duration::from_secs(1)).await;
        let load = self.load(program.cleartext);
        sleep(Duration::from_secs(self.options.seconds())).await;
        let answers = load.stop().await;
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(perf.id() as i32), nix::sys::signal::Signal::SIGINT)?;
        let said = perf.wait_with_output()?.stderr;
        let said = String::from_utf8_lossy(&said);
        let line = said.lines().find(|line| line.contains(SYSTEM_CALLS)).context("perf said nothing of system calls")?;
        let count: f64 = line.split(',').next().unwrap_or_default().parse().with_context(|| format!("perf said {line:?}"))?;
        Ok(vec![(Quantity::Syscalls, count / answers?.max(1) as f64)])
    }

    /// With one worker and with two, where nothing has a processor for itself.
    async fn workers(&self, kind: Kind) -> anyhow::Result<Values> {
        self.cores.unpin()?;
        let both = async { anyhow::Ok((self.unpinned(kind, 1).await?, self.unpinned(kind, 2).await?)) };
        let both = both.await;
        self.cores.pin()?;
        let (one, two) = both?;
        let mut values = Values::new();
        for (workers, busy) in [(1, &one), (2, &two)] {
            values.extend([(Quantity::UnpinnedCpu(workers), busy.cpu_of_each()), (Quantity::UnpinnedRate(workers), busy.rate())]);
        }
        values.push((Quantity::Speedup, two.rate() / one.rate()));
        Ok(values)
    }

    async fn unpinned(&self, kind: Kind, workers: usize) -> anyhow::Result<Busy> {
        let program = self.start(kind, Setup { workers, pinned: false, ..Setup::USUAL }).await?;
        let load = self.load(program.cleartext);
        let busy = self.busy(&program.process, &load, WARM_UP).await;
        load.stop().await?;
        busy
    }
}

/// Says so if lines are missing.
async fn check_log(program: &Program, answers: u64) -> anyhow::Result<()> {
    // Envoy writes its lines after ten seconds at the latest.
    let patience = Instant::now() + Duration::from_secs(12);
    while program.logged()? < answers && Instant::now() < patience {
        sleep(Duration::from_millis(250)).await;
    }
    let lines = program.logged()?;
    if lines < answers {
        eprintln!("  the access log has {lines} lines of {answers} requests: what is not written costs nothing");
    }
    Ok(())
}

/// Whether `perf` may count here. An error says why not.
pub fn counts_system_calls() -> anyhow::Result<()> {
    let tried =
        Command::new("perf").args(["stat", "-x", ",", "-e", SYSTEM_CALLS, "true"]).output().context("cannot start perf")?;
    if !tried.status.success() {
        bail!("perf cannot count here: {}", String::from_utf8_lossy(&tried.stderr).lines().next().unwrap_or_default());
    }
    Ok(())
}
